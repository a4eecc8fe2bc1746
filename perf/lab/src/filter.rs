//! Which frames an observer wants, as a program that the kernel runs on each of them, so that a
//! flood costs the observer nothing.

use ipnetwork::{Ipv4Network, Ipv6Network};
use socket2::SockFilter;

const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const LOAD_BYTE_INDEXED: u16 = 0x50;
const LOAD_INDEX_IPV4_HEADER: u16 = 0xb1;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// How much of a frame is kept: every header that is looked at.
pub const KEPT_BYTES: u32 = 192;

/// What an observer sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// TCP packets with SYN, and all packets from spoofed sources: for the server's side.
    SynsAndSpoofed,
    /// SYN-ACKs that are not for spoofed sources: for the clients' side, where the flood passes.
    SynAcksOfClients,
}

/// Where a program goes on: the next step, or its end.
#[derive(Clone, Copy)]
enum To {
    Next,
    Label(&'static str),
}

enum Step {
    Label(&'static str),
    Do(u16, u32),
    Jump(u16, u32, To, To),
}

/// The program for `interest`; spoofed sources lie in `spoofed`.
#[must_use]
pub fn program(interest: Interest, spoofed: (Ipv4Network, Ipv6Network)) -> Vec<SockFilter> {
    use Step::{Do, Jump, Label};
    use To::Next;
    let to = To::Label;
    let mut steps = vec![
        Do(LOAD_HALF, 12),
        Jump(JUMP_EQUAL, 0x0800, Next, to("not IPv4")),
    ];
    let spoofed_at = |offset: (u32, u32)| {
        let v4 = spoofed.0;
        let ipv4 = in_words(offset.0, &[(v4.network().to_bits(), v4.mask().to_bits())]);
        let v6 = spoofed.1;
        let (bits, mask) = (v6.network().to_bits(), v6.mask().to_bits());
        let words: Vec<(u32, u32)> = [96, 64, 32, 0]
            .map(|shift| (word(bits, shift), word(mask, shift)))
            .to_vec();
        (ipv4, in_words(offset.1, &words))
    };
    let ipv4_flags = |accept, reject| ipv4_tcp_flags(interest, accept, reject);
    let ipv6_flags = |accept, reject| ipv6_tcp_flags(interest, accept, reject);
    match interest {
        Interest::SynsAndSpoofed => {
            let (ipv4, ipv6) = spoofed_at((26, 22));
            steps.extend(ipv4(to("accept"), to("TCP of IPv4")));
            steps.push(Label("TCP of IPv4"));
            steps.extend(ipv4_flags(to("accept"), to("reject")));
            steps.push(Label("not IPv4"));
            steps.push(Jump(JUMP_EQUAL, 0x86dd, Next, to("reject")));
            steps.extend(ipv6(to("accept"), to("TCP of IPv6")));
            steps.push(Label("TCP of IPv6"));
            steps.extend(ipv6_flags(to("accept"), to("reject")));
        }
        Interest::SynAcksOfClients => {
            let (ipv4, ipv6) = spoofed_at((30, 38));
            steps.extend(ipv4_flags(to("receiver of IPv4"), to("reject")));
            steps.push(Label("receiver of IPv4"));
            steps.extend(ipv4(to("reject"), to("accept")));
            steps.push(Label("not IPv4"));
            steps.push(Jump(JUMP_EQUAL, 0x86dd, Next, to("reject")));
            steps.extend(ipv6_flags(to("receiver of IPv6"), to("reject")));
            steps.push(Label("receiver of IPv6"));
            steps.extend(ipv6(to("reject"), to("accept")));
        }
    }
    steps.extend([
        Label("accept"),
        Do(RETURN, KEPT_BYTES),
        Label("reject"),
        Do(RETURN, 0),
    ]);
    assemble(&steps)
}

/// The kernel's words for what stands beside the frame (linux/filter.h).
const BESIDE: u32 = 0xffff_f000;
const TAG: u32 = BESIDE + 44;
const TAG_IS_PRESENT: u32 = BESIDE + 48;
const TAG_TYPE: u32 = BESIDE + 60;

/// The program that passes whole frames with this 802.1Q identifier. The kernel takes a tag off
/// the frame before any socket sees it, but keeps it beside.
#[must_use]
pub fn tagged(vlan: u16) -> Vec<SockFilter> {
    assemble(&[
        Step::Do(LOAD_WORD, TAG_IS_PRESENT),
        Step::Jump(JUMP_EQUAL, 0, To::Label("reject"), To::Next),
        Step::Do(LOAD_WORD, TAG),
        Step::Do(AND, 0x0fff),
        Step::Jump(JUMP_EQUAL, vlan.into(), To::Next, To::Label("reject")),
        Step::Do(RETURN, u32::MAX),
        Step::Label("reject"),
        Step::Do(RETURN, 0),
    ])
}

/// The program that passes whole frames whose first tag is this one, EtherType and control information;
/// or that bear none.
#[must_use]
pub fn first_tag(tag: Option<(u16, u16)>) -> Vec<SockFilter> {
    let mut steps = vec![Step::Do(LOAD_WORD, TAG_IS_PRESENT)];
    let reject = To::Label("reject");
    match tag {
        None => steps.push(Step::Jump(JUMP_EQUAL, 0, To::Next, reject)),
        Some((ether_type, information)) => steps.extend([
            Step::Jump(JUMP_EQUAL, 0, reject, To::Next),
            Step::Do(LOAD_WORD, TAG),
            Step::Jump(JUMP_EQUAL, information.into(), To::Next, reject),
            Step::Do(LOAD_WORD, TAG_TYPE),
            Step::Jump(JUMP_EQUAL, ether_type.into(), To::Next, reject),
        ]),
    }
    steps.extend([
        Step::Do(RETURN, u32::MAX),
        Step::Label("reject"),
        Step::Do(RETURN, 0),
    ]);
    assemble(&steps)
}

fn word(bits: u128, shift: u32) -> u32 {
    u32::try_from((bits >> shift) & 0xffff_ffff).unwrap_or_default()
}

/// Whether the words at `offset` have these values under these masks.
fn in_words(offset: u32, words: &[(u32, u32)]) -> impl Fn(To, To) -> Vec<Step> + use<> {
    let words: Vec<_> = words
        .iter()
        .copied()
        .filter(|(_, mask)| *mask != 0)
        .collect();
    move |inside, outside| {
        let mut steps = Vec::new();
        for (number, (value, mask)) in words.iter().enumerate() {
            let then = if number + 1 == words.len() {
                inside
            } else {
                To::Next
            };
            let place = offset + 4 * u32::try_from(number).unwrap_or_default();
            steps.push(Step::Do(LOAD_WORD, place));
            steps.push(Step::Do(AND, *mask));
            steps.push(Step::Jump(JUMP_EQUAL, value & mask, then, outside));
        }
        steps
    }
}

fn ipv4_tcp_flags(interest: Interest, accept: To, reject: To) -> Vec<Step> {
    let mut steps = vec![
        Step::Do(LOAD_BYTE, 23),
        Step::Jump(JUMP_EQUAL, 6, To::Next, reject),
        Step::Do(LOAD_HALF, 20),
        Step::Jump(JUMP_SET, 0x1fff, reject, To::Next),
        Step::Do(LOAD_INDEX_IPV4_HEADER, 14),
        Step::Do(LOAD_BYTE_INDEXED, 14 + 13),
    ];
    steps.extend(flags(interest, accept, reject));
    steps
}

fn ipv6_tcp_flags(interest: Interest, accept: To, reject: To) -> Vec<Step> {
    let mut steps = vec![
        Step::Do(LOAD_BYTE, 20),
        Step::Jump(JUMP_EQUAL, 6, To::Next, reject),
        Step::Do(LOAD_BYTE, 14 + 40 + 13),
    ];
    steps.extend(flags(interest, accept, reject));
    steps
}

fn flags(interest: Interest, accept: To, reject: To) -> Vec<Step> {
    let wanted = match interest {
        Interest::SynsAndSpoofed => 0x02,
        Interest::SynAcksOfClients => 0x12,
    };
    vec![
        Step::Do(AND, wanted),
        Step::Jump(JUMP_EQUAL, wanted, accept, reject),
    ]
}

fn assemble(steps: &[Step]) -> Vec<SockFilter> {
    let mut labels = std::collections::HashMap::new();
    let mut at = 0_usize;
    for step in steps {
        match step {
            Step::Label(name) => {
                labels.insert(*name, at);
            }
            _ => at += 1,
        }
    }
    let mut code = Vec::with_capacity(at);
    for step in steps {
        let here = code.len();
        let distance = |to: &To| match to {
            To::Next => 0,
            To::Label(name) => labels
                .get(name)
                .and_then(|target| target.checked_sub(here + 1))
                .and_then(|distance| u8::try_from(distance).ok())
                .expect("every jump goes forward to a label of the program"),
        };
        match step {
            Step::Label(_) => {}
            Step::Do(operation, value) => code.push(SockFilter::new(*operation, 0, 0, *value)),
            Step::Jump(operation, value, then, otherwise) => code.push(SockFilter::new(
                *operation,
                distance(then),
                distance(otherwise),
                *value,
            )),
        }
    }
    code
}
