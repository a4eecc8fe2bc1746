//! Playing a script.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane::counters::Event;
use dataplane::drop_reason::DropReason;
use dataplane::guard::config::Mode;

use super::language::{ErrorKind, Line, OptionLine, Script, SegmentLine, Value, Who};
use super::matcher::Matcher;
use super::settings::change;
use crate::appliance::{Appliance, ApplianceSettings, Queues};
use crate::frame::{Body, Ends, Frame, Mac, Packet, Segment, Station, TcpOption, icmp_error};
use crate::internet::{Attack, BLIND_MAC, INTERNET_MAC, Internet, Overheard};
use crate::invariant::{Accounting, Bounds, Checksums, Proof, Splice};
use crate::link::LinkSettings;
use crate::puppet::Puppet;
use crate::random::Random;
use crate::site::{self, Family, Layout, Site};
use crate::world::{NodeId, World};

/// In what surroundings a script is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The address family of client and server.
    pub family: Family,
    /// The appliance's workers.
    pub workers: usize,
}

/// How long every line takes: enough for a packet's way through, less than any timer.
const LINE_NS: u64 = 100_000;

const CLIENT_MAC: Mac = [2, 0, 0, 0, 1, 20];
const SERVER_MAC: Mac = [2, 0, 0, 0, 2, 10];

/// Plays a script. Gives the world it was played in, with all its frames recorded.
///
/// # Errors
/// What went otherwise than the script says, with its line and the last frames.
pub fn play(script: &Script, setting: Setting) -> Result<World, String> {
    let (settings, head) = settings_of(script, setting)?;
    let mut player = Player::new(setting, settings);
    player.begin(script)?;
    for (number, line) in &script.lines[head..] {
        if let Err(what) = player.step(line) {
            let failure = player.world.fail("the script", what);
            return Err(format!("line {number} ({setting:?}): {failure}"));
        }
    }
    player.expect_silence().map_err(|what| {
        format!(
            "at the end ({setting:?}): {}",
            player.world.fail("the script", what)
        )
    })?;
    Ok(player.world)
}

struct Player {
    setting: Setting,
    world: World,
    site: Site,
    internet: NodeId,
    /// Client and server.
    puppets: [NodeId; 2],
    names: BTreeMap<String, u32>,
    frames: BTreeMap<String, Vec<u8>>,
    /// What each side has said, to be recognised where it is heard.
    said: [Vec<Vec<u8>>; 2],
    /// What each side heard last.
    heard: [Option<Vec<u8>>; 2],
    random: Random,
}

/// The appliance's settings from the `set` lines before the first packet, and how many they are.
fn settings_of(script: &Script, setting: Setting) -> Result<(ApplianceSettings, usize), String> {
    let mut settings = ApplianceSettings {
        workers: setting.workers,
        queues: Queues::Scattered,
        ..site::appliance_settings(1, 1)
    };
    let mut head = 0;
    for (number, line) in &script.lines {
        let Line::Set(words) = line else {
            break;
        };
        change(&mut settings, words).map_err(|what| format!("line {number}: {what}"))?;
        head += 1;
    }
    Ok((settings, head))
}

impl Player {
    fn new(setting: Setting, settings: ApplianceSettings) -> Self {
        let mut world = World::new(1);
        let mut site = Site::new(&mut world, settings);
        world.require(Accounting::new(site.appliance));
        world.require(Bounds::new(site.appliance));
        world.require(Checksums::new(site.appliance));
        let only = |addresses: Vec<(IpAddr, u8)>| addresses.into_iter().map(|one| one.0).collect();
        let station = |mac, addresses| {
            Puppet::new(Station {
                mac,
                addresses: only(addresses),
            })
        };
        let client = station(CLIENT_MAC, site::outside_addresses(site::CLIENT_HOST));
        let server = station(SERVER_MAC, site::inside_addresses(site::SERVER_HOST));
        let link = LinkSettings::default();
        let targets = vec![(
            site::inside_address(setting.family, site::SERVER_HOST),
            site::SERVICE_PORT,
        )];
        let internet = Internet::new(Vec::new(), targets, Vec::new(), Overheard::default(), 1);
        let puppets = [
            site.add_outside(&mut world, "client", client, link).0,
            site.add_inside(&mut world, "server", server, link).0,
        ];
        let (internet, _) = site.add_outside(&mut world, "internet", internet, link);
        Self {
            setting,
            world,
            site,
            internet,
            puppets,
            names: BTreeMap::new(),
            frames: BTreeMap::new(),
            said: Default::default(),
            heard: Default::default(),
            random: Random::new(7),
        }
    }

    /// Lets the appliance start.
    fn begin(&mut self, script: &Script) -> Result<(), String> {
        let settings = self.appliance().settings().clone();
        let is_reloaded = script.only.contains_key("reloads");
        if settings.mode == Mode::Always && !is_reloaded {
            let services = settings
                .protect
                .iter()
                .map(|(address, ports)| (*address, ports[0]));
            self.world
                .require(Proof::new(self.site.appliance, services, Layout::Hop));
            self.world
                .require(Splice::new(self.site.appliance, [INTERNET_MAC, BLIND_MAC]));
        }
        // The appliance tells its neighbours of itself for some seconds.
        self.run(4_000_000_000)?;
        self.world.trace_mut().record();
        Ok(())
    }

    fn run(&mut self, span_ns: u64) -> Result<(), String> {
        let ran = self.world.run_for(span_ns);
        ran.map_err(|failure| format!("{}: {}", failure.invariant, failure.what))
    }

    fn step(&mut self, line: &Line) -> Result<(), String> {
        match line {
            Line::Say(who, segment) => {
                let frame = self.frame(*who, segment)?;
                if let Some(name) = &segment.name {
                    self.frames.insert(name.clone(), frame.clone());
                }
                self.say(*who, frame)
            }
            Line::SayAgain(who, name) => {
                let frame = self
                    .frames
                    .get(name)
                    .ok_or(format!("nothing was sent as {name}"))?;
                self.say(*who, frame.clone())
            }
            Line::SayError(who, kind, sequence) => {
                let frame = self.error(*who, *kind, sequence.as_ref())?;
                self.say(*who, frame)
            }
            Line::Hear(who, expected) => self.hear(*who, expected),
            Line::HearError(who, kind, sequence) => self.hear_error(*who, *kind, sequence),
            Line::Wait(span_ns) => {
                self.expect_silence()?;
                self.run(*span_ns)
            }
            Line::Flood(count) => self.flood(*count),
            Line::Set(words) => self.set(words),
            Line::Drain => {
                self.world.get_mut::<Appliance>(self.site.appliance).drain();
                self.run(LINE_NS)
            }
            Line::Drops(label, expected) => {
                let reason = DropReason::ALL
                    .iter()
                    .find(|reason| reason.label() == label);
                let reason = reason.ok_or(format!("no drop is called {label}"))?;
                same("drops", *expected, self.appliance().drops(*reason))
            }
            Line::Event(label, expected) => {
                let event = Event::ALL.iter().find(|event| event.label() == label);
                let event = event.ok_or(format!("no event is called {label}"))?;
                same(
                    "events",
                    *expected,
                    self.appliance().counters().event(*event),
                )
            }
            Line::Sessions(expected) => {
                let count: usize = self.appliance().guards().map(|guard| guard.sessions).sum();
                same("sessions", *expected, count as u64)
            }
            Line::Held(expected) => same("packets held", *expected, self.appliance().held() as u64),
        }
    }

    fn appliance(&self) -> &Appliance {
        self.world.get(self.site.appliance)
    }

    fn puppet(&mut self, who: Who) -> &mut Puppet {
        self.world.get_mut(self.puppets[who as usize])
    }

    /// Before anything new happens, all that came must have been expected.
    fn expect_silence(&mut self) -> Result<(), String> {
        for who in [Who::Client, Who::Server] {
            if let Some((packet, _)) = self.puppet(who).hear() {
                return Err(format!("{who:?} was not to hear {packet}"));
            }
        }
        Ok(())
    }

    fn say(&mut self, who: Who, frame: Vec<u8>) -> Result<(), String> {
        self.expect_silence()?;
        self.puppet(who).say(frame);
        self.run(LINE_NS)
    }

    fn flood(&mut self, count: u32) -> Result<(), String> {
        for _ in 0..count {
            self.world
                .get_mut::<Internet>(self.internet)
                .attack(Attack::SynFlood);
            self.run(LINE_NS)?;
            // While protection is off the server does hear it.
            let flood =
                |packet: &Packet| packet.ends().is_some_and(|ends| is_stranger(ends.source));
            while let Some((packet, _)) = self.puppet(Who::Server).hear() {
                if !flood(&packet) {
                    return Err(format!("the server was not to hear {packet}"));
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, words: &[String]) -> Result<(), String> {
        let mut outcome = Ok(());
        let unix_s = site::UNIX_S + self.world.now_ns() / 1_000_000_000;
        self.world
            .get_mut::<Appliance>(self.site.appliance)
            .reconfigure(|settings| {
                outcome = change(settings, words);
                if let Some(newest) = settings.keys.last_mut() {
                    newest.not_before_s = newest.not_before_s.min(unix_s);
                }
            });
        outcome?;
        self.run(LINE_NS)
    }

    /// The ends of a segment that `who` sends.
    fn ends(&self, who: Who, port: u16) -> Ends {
        let ends = Ends {
            source: site::outside_address(self.setting.family, site::CLIENT_HOST),
            source_port: port,
            destination: site::inside_address(self.setting.family, site::SERVER_HOST),
            destination_port: site::SERVICE_PORT,
        };
        if who == Who::Client {
            ends
        } else {
            ends.reversed()
        }
    }

    fn link(&self, who: Who, ends: Ends) -> Frame {
        let (from, to) = match who {
            Who::Client => (CLIENT_MAC, site::OUTSIDE_MAC),
            Who::Server => (SERVER_MAC, site::INSIDE_MAC),
        };
        Frame::between(from, to, ends)
    }

    fn frame(&mut self, who: Who, line: &SegmentLine) -> Result<Vec<u8>, String> {
        let ends = self.ends(who, line.port);
        let payload: Vec<u8> = (0..line.length)
            .map(|_| self.random.next_u64() as u8)
            .collect();
        if !payload.is_empty() {
            self.said[who as usize].push(payload.clone());
        }
        let options = line.options.iter().flatten();
        let segment = Segment {
            source_port: ends.source_port,
            destination_port: ends.destination_port,
            sequence: self.value(&line.sequence)?,
            acknowledgement: self.value(&line.acknowledgement)?,
            flags: line.flags,
            window: match &line.window {
                Value::Any => 0xffff,
                window => self.value(window)? as u16,
            },
            options: options
                .map(|option| self.option(option))
                .collect::<Result<_, _>>()?,
            payload,
        };
        let link = Frame {
            ttl: line.ttl.unwrap_or(64),
            traffic_class: if line.is_marked { 3 } else { 0 },
            ..self.link(who, ends)
        };
        let mut frame = link.tcp(&segment);
        if line.is_corrupt {
            let last = frame.len() - 1;
            frame[last] ^= 0x20;
        }
        Ok(frame)
    }

    fn value(&self, value: &Value) -> Result<u32, String> {
        match value {
            Value::Any => Err("* cannot be sent".into()),
            Value::Number(number) => Ok(*number),
            Value::Name(name, offset) => {
                let base = self
                    .names
                    .get(name)
                    .ok_or(format!("{name} was never heard"))?;
                Ok(base.wrapping_add(*offset))
            }
        }
    }

    fn option(&self, option: &OptionLine) -> Result<TcpOption, String> {
        Ok(match option {
            OptionLine::Nop => TcpOption::Nop,
            OptionLine::End => TcpOption::End,
            OptionLine::Mss(size) => TcpOption::Mss(self.value(size)? as u16),
            OptionLine::WindowScale(shift) => TcpOption::WindowScale(self.value(shift)? as u8),
            OptionLine::SackPermitted => TcpOption::SackPermitted,
            OptionLine::Sack(blocks) => {
                let block =
                    |(left, right): &(Value, Value)| Ok((self.value(left)?, self.value(right)?));
                TcpOption::Sack(blocks.iter().map(block).collect::<Result<_, String>>()?)
            }
            OptionLine::Timestamps(value, echo) => TcpOption::Timestamps {
                value: self.value(value)?,
                echo: self.value(echo)?,
            },
            OptionLine::Raw(octets) => TcpOption::Raw(octets.clone()),
        })
    }

    /// An ICMP error about what `who` heard last, from `who` itself; with another number quoted
    /// if one is given.
    fn error(
        &mut self,
        who: Who,
        kind: ErrorKind,
        sequence: Option<&Value>,
    ) -> Result<Vec<u8>, String> {
        let heard = self.heard[who as usize]
            .clone()
            .ok_or("nothing was heard yet")?;
        let mut packet = heard[14..].to_vec();
        let header = usize::from(self.setting.family.header_bytes());
        if let Some(sequence) = sequence {
            let number = self.value(sequence)?;
            packet[header + 4..header + 8].copy_from_slice(&number.to_be_bytes());
        }
        let ends = self.ends(who, 0);
        let (kinds, rest) = error_numbers(kind);
        Ok(icmp_error(
            &self.link(who, ends),
            kinds,
            rest,
            &packet,
            header + 20,
        ))
    }

    fn hear(&mut self, who: Who, expected: &SegmentLine) -> Result<(), String> {
        let Some((packet, frame)) = self.puppet(who).hear() else {
            return Err(format!("{who:?} heard nothing"));
        };
        let ends = self.ends(who, expected.port).reversed();
        let Some(segment) = packet.segment().filter(|_| packet.ends() == Some(ends)) else {
            return Err(format!("{who:?} heard {packet}"));
        };
        let mut matcher = Matcher {
            names: &mut self.names,
            faults: Vec::new(),
        };
        matcher.segment(expected, segment);
        if expected.ttl.is_some_and(|ttl| ttl != packet.ttl) {
            matcher.faults.push(format!("TTL {}", packet.ttl));
        }
        if expected.is_marked != (packet.traffic_class & 3 == 3) {
            matcher.faults.push("the congestion mark".into());
        }
        let faults = matcher.faults;
        let others = &self.said[1 - who as usize];
        let payload = &segment.payload;
        let was_said = payload.is_empty()
            || others
                .iter()
                .any(|said| said.windows(payload.len()).any(|part| part == payload));
        self.heard[who as usize] = Some(frame);
        if !faults.is_empty() {
            return Err(format!("{who:?} heard {segment}: {}", faults.join(", ")));
        }
        if !was_said {
            return Err(format!("{who:?} heard octets that nobody said: {segment}"));
        }
        Ok(())
    }

    fn hear_error(&mut self, who: Who, kind: ErrorKind, sequence: &Value) -> Result<(), String> {
        let Some((packet, frame)) = self.puppet(who).hear() else {
            return Err(format!("{who:?} heard nothing"));
        };
        let Body::Icmp(message) = &packet.body else {
            return Err(format!("{who:?} heard {packet}"));
        };
        let (kinds, rest) = error_numbers(kind);
        let (number, code) = kinds[usize::from(packet.source.is_ipv6())];
        let header = usize::from(self.setting.family.header_bytes());
        let quoted = message
            .quote
            .get(header + 4..header + 8)
            .ok_or("it quotes too little")?;
        let quoted = u32::from_be_bytes(quoted.try_into().unwrap_or_default());
        let mut matcher = Matcher {
            names: &mut self.names,
            faults: Vec::new(),
        };
        matcher.value("type", &Value::Number(number.into()), message.kind.into());
        matcher.value("code", &Value::Number(code.into()), message.code.into());
        matcher.value("rest", &Value::Number(rest), message.rest);
        matcher.value("quoted sequence", sequence, quoted);
        let faults = matcher.faults;
        self.heard[who as usize] = Some(frame);
        if faults.is_empty() {
            Ok(())
        } else {
            Err(format!("{packet}: {}", faults.join(", ")))
        }
    }
}

fn same(what: &str, expected: u64, found: u64) -> Result<(), String> {
    if expected == found {
        Ok(())
    } else {
        Err(format!("{found} {what}, not {expected}"))
    }
}

fn is_stranger(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..2] == [198, 51],
        IpAddr::V6(address) => address.segments()[2] == 0xbad,
    }
}

/// Types and codes for both families, and the word after them.
fn error_numbers(kind: ErrorKind) -> ([(u8, u8); 2], u32) {
    match kind {
        ErrorKind::PortUnreachable => ([(3, 3), (1, 4)], 0),
        ErrorKind::TooBig(mtu) => ([(3, 4), (2, 0)], mtu),
        ErrorKind::TimeExceeded => ([(11, 0), (3, 0)], 0),
    }
}
