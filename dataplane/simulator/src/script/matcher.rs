//! Comparing what was heard with what was expected.

use std::collections::BTreeMap;

use super::language::{OptionLine, SegmentLine, Value};
use crate::frame::{Segment, TcpOption, flag};

/// Compares what was heard with what was expected, and binds names.
pub(super) struct Matcher<'a> {
    /// What names stand for.
    pub(super) names: &'a mut BTreeMap<String, u32>,
    /// What differs.
    pub(super) faults: Vec<String>,
}

impl Matcher<'_> {
    pub(super) fn value(&mut self, what: &str, expected: &Value, heard: u32) {
        let wanted = match expected {
            Value::Any => return,
            Value::Number(number) => *number,
            Value::Name(name, offset) => {
                let base = self.names.entry(name.clone());
                base.or_insert(heard.wrapping_sub(*offset))
                    .wrapping_add(*offset)
            }
        };
        if wanted != heard {
            self.faults.push(format!("{what} is {heard}, not {wanted}"));
        }
    }

    pub(super) fn segment(&mut self, expected: &SegmentLine, heard: &Segment) {
        // Whether data was pushed is its sender's affair.
        let counts = |flags: u8| flags & !flag::PSH;
        if counts(expected.flags) != counts(heard.flags) {
            self.faults.push("the flags".into());
        }
        self.value("sequence", &expected.sequence, heard.sequence);
        self.value(
            "length",
            &Value::Number(expected.length),
            heard.payload.len() as u32,
        );
        if heard.has(flag::ACK) {
            self.value("ack", &expected.acknowledgement, heard.acknowledgement);
        }
        self.value("win", &expected.window, heard.window.into());
        if let Some(options) = &expected.options {
            self.options(options, &heard.options);
        }
    }

    fn options(&mut self, expected: &[OptionLine], heard: &[TcpOption]) {
        if expected.len() != heard.len() {
            self.faults.push("the options".into());
        }
        for (expected, heard) in expected.iter().zip(heard) {
            match (expected, heard) {
                (OptionLine::Nop, TcpOption::Nop)
                | (OptionLine::End, TcpOption::End)
                | (OptionLine::SackPermitted, TcpOption::SackPermitted) => {}
                (OptionLine::Mss(wanted), TcpOption::Mss(size)) => {
                    self.value("mss", wanted, (*size).into());
                }
                (OptionLine::WindowScale(wanted), TcpOption::WindowScale(shift)) => {
                    self.value("wscale", wanted, (*shift).into());
                }
                (OptionLine::Timestamps(val, ecr), TcpOption::Timestamps { value, echo }) => {
                    self.value("TS val", val, *value);
                    self.value("TS ecr", ecr, *echo);
                }
                (OptionLine::Sack(wanted), TcpOption::Sack(blocks))
                    if wanted.len() == blocks.len() =>
                {
                    for ((left, right), block) in wanted.iter().zip(blocks) {
                        self.value("sack left", left, block.0);
                        self.value("sack right", right, block.1);
                    }
                }
                (OptionLine::Raw(wanted), TcpOption::Raw(octets)) if wanted == octets => {}
                (_, heard) => self.faults.push(format!("the option {heard}")),
            }
        }
    }
}
