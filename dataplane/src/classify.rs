//! The ordered-rule engine: a tree of AND, OR and NOT for each rule, the first that matches
//! decides, a default at the end.
//!
//! Rules are compiled once into a flat list of tests, each of which says where to go on when it
//! holds and when not. Every step goes down the list, so that an evaluation ends after at most as
//! many steps as there are tests, and needs no stack.

use std::ops::RangeInclusive;

use crate::io::InterfaceId;
use crate::limits::{MAX_CONDITION_DEPTH, MAX_CONDITIONS, MAX_RULES};
use crate::parse::{Fragment, Kind, Parsed, protocol};
use crate::wire::address::{Family, Prefix};

#[cfg(test)]
mod tests;

/// What a packet is asked. Where nothing else is said, only an IP packet can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Every one of these; with none, always.
    All(Vec<Self>),
    /// At least one of these; with none, never.
    Any(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// The source address lies in this block.
    Source(Prefix),
    /// The destination address lies in this block.
    Destination(Prefix),
    /// TCP or UDP, and the source port lies in this range. A later fragment has no ports.
    SourcePort(RangeInclusive<u16>),
    /// TCP or UDP, and the destination port lies in this range. A later fragment has no ports.
    DestinationPort(RangeInclusive<u16>),
    /// The transport protocol's number, past IPv6 extension headers.
    Protocol(u8),
    /// The frame came in on this interface, whatever it carries.
    Interface(InterfaceId),
    /// The frame's 802.1Q identifier, whatever it carries; 0 for none.
    Vlan(u16),
    /// Whether the packet is a fragment, the first one included.
    Fragment(bool),
    /// TCP, no later fragment, and the flags under the mask are these.
    TcpFlags {
        /// The flags that count.
        mask: u8,
        /// What they are.
        value: u8,
    },
    /// The address family.
    Family(Family),
    /// The frame carries an ARP message.
    Arp,
}

/// Why rules cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// There are more than [`MAX_RULES`].
    #[error("there are more than {MAX_RULES} rules")]
    TooManyRules,
    /// They ask more than [`MAX_CONDITIONS`] things in all.
    #[error("the rules have more than {MAX_CONDITIONS} conditions")]
    TooManyConditions,
    /// A condition is nested more than [`MAX_CONDITION_DEPTH`] deep.
    #[error("conditions are nested more than {MAX_CONDITION_DEPTH} deep")]
    TooDeep,
}

/// Where an evaluation goes on: at the instruction of this number, or, with [`END`] set, nowhere
/// any more, because the rule of this number has decided.
type Target = u16;

const END: Target = 1 << 15;

const _: () = assert!(MAX_CONDITIONS < END as usize);
const _: () = assert!(MAX_RULES < END as usize);

/// One test of a packet.
#[derive(Clone, Copy, Debug)]
enum Test {
    Source(Prefix),
    Destination(Prefix),
    SourcePort { first: u16, last: u16 },
    DestinationPort { first: u16, last: u16 },
    Protocol(u8),
    Interface(InterfaceId),
    Vlan(u16),
    Fragment(bool),
    TcpFlags { mask: u8, value: u8 },
    Family(Family),
    Arp,
}

impl Test {
    #[inline]
    fn holds(self, interface: InterfaceId, parsed: &Parsed) -> bool {
        let is_ip = parsed.kind == Kind::Ip;
        match self {
            Self::Source(prefix) => is_ip && prefix.contains(parsed.source),
            Self::Destination(prefix) => is_ip && prefix.contains(parsed.destination),
            Self::SourcePort { first, last } => {
                has_ports(parsed) && (first..=last).contains(&parsed.source_port)
            }
            Self::DestinationPort { first, last } => {
                has_ports(parsed) && (first..=last).contains(&parsed.destination_port)
            }
            Self::Protocol(number) => is_ip && parsed.protocol == number,
            Self::Interface(expected) => interface == expected,
            Self::Vlan(vlan) => parsed.vlan == vlan,
            Self::Fragment(expected) => is_ip && (parsed.fragment != Fragment::Whole) == expected,
            Self::TcpFlags { mask, value } => {
                is_ip
                    && parsed.protocol == protocol::TCP
                    && parsed.fragment != Fragment::Later
                    && parsed.tcp_flags & mask == value
            }
            Self::Family(family) => is_ip && parsed.family == family,
            Self::Arp => parsed.kind == Kind::Arp,
        }
    }
}

#[inline]
fn has_ports(parsed: &Parsed) -> bool {
    parsed.kind == Kind::Ip
        && matches!(parsed.protocol, protocol::TCP | protocol::UDP)
        && parsed.fragment != Fragment::Later
}

#[derive(Clone, Copy, Debug)]
struct Instruction {
    test: Test,
    holds: Target,
    fails: Target,
}

/// What a rule decides, and which one it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<T> {
    /// The place of the rule that matched; for the default, the number of rules. Counters of hits
    /// therefore take [`Rules::counters`] places.
    pub rule: usize,
    /// What it says.
    pub outcome: T,
}

/// Ordered rules with outcomes of any kind.
#[derive(Clone, Debug)]
pub struct Rules<T> {
    program: Program,
    /// Each rule's outcome, and the default's.
    outcomes: Vec<T>,
}

impl<T: Copy> Rules<T> {
    /// Compiles `rules`, of which the first that matches decides, else `default`.
    ///
    /// # Errors
    /// When the rules are beyond a bound.
    pub fn new(rules: &[(Condition, T)], default: T) -> Result<Self, RulesError> {
        if rules.len() > MAX_RULES {
            return Err(RulesError::TooManyRules);
        }
        let mut program = Program {
            instructions: Vec::new(),
            entry: END | rules.len() as Target,
        };
        for (rule, (condition, _)) in rules.iter().enumerate().rev() {
            let matched = END | rule as Target;
            program.entry = program.compile(condition, matched, program.entry, 0)?;
        }
        let outcomes = rules.iter().map(|&(_, outcome)| outcome);
        Ok(Self {
            program,
            outcomes: outcomes.chain([default]).collect(),
        })
    }

    /// Every packet meets the default.
    pub fn all(default: T) -> Self {
        Self {
            program: Program {
                instructions: Vec::new(),
                entry: END,
            },
            outcomes: vec![default],
        }
    }

    /// What they say of every packet, where they say the same of all.
    #[inline]
    pub(crate) fn outcome_of_all(&self) -> Option<T> {
        let rule = self.program.entry & !END;
        (self.program.entry & END != 0).then(|| self.outcomes[rule as usize])
    }

    /// The outcome of [`Self::evaluate`], for who need not know the rule.
    #[inline]
    pub(crate) fn outcome(&self, interface: InterfaceId, parsed: &Parsed) -> T {
        match self.outcome_of_all() {
            Some(outcome) => outcome,
            None => self.evaluate(interface, parsed).outcome,
        }
    }

    /// Places that counters of hits take: one for each rule, and the last for the default.
    pub fn counters(&self) -> usize {
        self.outcomes.len()
    }

    /// What the rules say of a packet that came in on `interface`.
    #[inline]
    pub fn evaluate(&self, interface: InterfaceId, parsed: &Parsed) -> Decision<T> {
        let rule = self.program.run(interface, parsed);
        Decision {
            rule,
            outcome: self.outcomes[rule],
        }
    }
}

/// One condition that packets match or not.
#[derive(Clone, Debug)]
pub struct Filter(Program);

impl Filter {
    /// Compiles `condition`.
    ///
    /// # Errors
    /// When it is beyond a bound.
    pub fn new(condition: &Condition) -> Result<Self, RulesError> {
        let mut program = Program::default();
        program.entry = program.compile(condition, MATCHED, NOT_MATCHED, 0)?;
        Ok(Self(program))
    }

    /// Whether a packet that came in on `interface` matches.
    #[inline]
    pub fn matches(&self, interface: InterfaceId, parsed: &Parsed) -> bool {
        END | self.0.run(interface, parsed) as Target == MATCHED
    }
}

const MATCHED: Target = END;
const NOT_MATCHED: Target = END | 1;

/// Instructions, built from the last test to the first: each leads only to earlier ones.
#[derive(Clone, Debug, Default)]
struct Program {
    instructions: Vec<Instruction>,
    entry: Target,
}

impl Program {
    /// Adds the tests of `condition`, which go on at `holds` or `fails`; gives where to begin.
    fn compile(
        &mut self,
        condition: &Condition,
        holds: Target,
        fails: Target,
        depth: usize,
    ) -> Result<Target, RulesError> {
        if depth > MAX_CONDITION_DEPTH {
            return Err(RulesError::TooDeep);
        }
        let deeper = depth + 1;
        let test = match condition {
            Condition::All(conditions) => {
                return conditions.iter().rev().try_fold(holds, |next, inner| {
                    self.compile(inner, next, fails, deeper)
                });
            }
            Condition::Any(conditions) => {
                return conditions.iter().rev().try_fold(fails, |next, inner| {
                    self.compile(inner, holds, next, deeper)
                });
            }
            Condition::Not(inner) => return self.compile(inner, fails, holds, deeper),
            Condition::Source(prefix) => Test::Source(*prefix),
            Condition::Destination(prefix) => Test::Destination(*prefix),
            Condition::SourcePort(range) => Test::SourcePort {
                first: *range.start(),
                last: *range.end(),
            },
            Condition::DestinationPort(range) => Test::DestinationPort {
                first: *range.start(),
                last: *range.end(),
            },
            Condition::Protocol(number) => Test::Protocol(*number),
            Condition::Interface(interface) => Test::Interface(*interface),
            Condition::Vlan(vlan) => Test::Vlan(*vlan),
            Condition::Fragment(is_fragment) => Test::Fragment(*is_fragment),
            Condition::TcpFlags { mask, value } => Test::TcpFlags {
                mask: *mask,
                value: *value,
            },
            Condition::Family(family) => Test::Family(*family),
            Condition::Arp => Test::Arp,
        };
        self.push(Instruction { test, holds, fails })
    }

    fn push(&mut self, instruction: Instruction) -> Result<Target, RulesError> {
        if self.instructions.len() == MAX_CONDITIONS {
            return Err(RulesError::TooManyConditions);
        }
        self.instructions.push(instruction);
        Ok(self.instructions.len() as Target - 1)
    }

    /// The number of the end that is reached.
    #[inline]
    fn run(&self, interface: InterfaceId, parsed: &Parsed) -> usize {
        let mut at = self.entry;
        while at & END == 0 {
            let instruction = &self.instructions[usize::from(at)];
            at = if instruction.test.holds(interface, parsed) {
                instruction.holds
            } else {
                instruction.fails
            };
        }
        usize::from(at & !END)
    }
}
