//! Taps on the workers: opened and closed for one client at a time.

use std::sync::Arc;

use dataplane::capture::Tap;
use dataplane::classify::{Condition, Filter};
use dataplane::command::Command;
use dataplane::counters::Event;
use dataplane::io::PortId;

use super::control_loop::{CaptureFeed, Control, RunningCapture};
use crate::capture::filter;
use crate::profile::Link;

impl Control {
    /// Has every worker copy the packets that are wanted.
    pub(super) fn begin_capture(
        &mut self,
        port: Option<&str>,
        text: Option<&str>,
    ) -> Result<CaptureFeed, String> {
        self.end_abandoned_capture();
        if self.capture.is_some() {
            return Err("another capture is running; end it first".into());
        }
        let condition = text.map(filter::parse).transpose()?;
        let (port, condition) = match port {
            Some(name) => self.only_port(name, condition)?,
            None => (None, condition),
        };
        let filter = condition.as_ref().map(Filter::new).transpose();
        let filter = filter.map_err(|error| format!("the filter cannot be used: {error}"))?;
        let mut rings = Vec::new();
        for worker in 0..self.crew.members.len() {
            let (tap, copies) = Tap::new(port, filter.clone());
            if let Err(text) = self.crew.ask(worker, Command::Capture(tap)) {
                self.close_taps();
                return Err(text);
            }
            rings.push(copies);
        }
        self.captures += 1;
        let alive = Arc::new(());
        self.capture = Some(RunningCapture {
            number: self.captures,
            lost_before: self.captures_lost(),
            alive: Arc::downgrade(&alive),
        });
        let devices = self.layout.devices.iter();
        Ok(CaptureFeed {
            number: self.captures,
            rings,
            ports: devices
                .map(|&index| self.profile.ports[index].name.clone())
                .collect(),
            wall: Arc::clone(&self.wall),
            alive,
        })
    }

    /// The device to listen on, and the condition that leaves only this port's frames of it.
    fn only_port(
        &self,
        name: &str,
        condition: Option<Condition>,
    ) -> Result<(Option<PortId>, Option<Condition>), String> {
        let ports = &self.profile.ports;
        let index = self.profile.port_index(name).ok_or_else(|| {
            let names: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
            format!(
                "there is no port {name}; the ports are {}",
                names.join(", ")
            )
        })?;
        let id = self.layout.ports[index];
        let is_shared = ports
            .iter()
            .any(|port| matches!(port.link, Link::Parent(_)))
            && self
                .layout
                .ports
                .iter()
                .filter(|&&other| other == id)
                .count()
                > 1;
        let condition = match (is_shared || ports[index].vlan.is_some(), condition) {
            (false, condition) => condition,
            (true, condition) => {
                let vlan = Condition::Vlan(ports[index].vlan.unwrap_or(0));
                Some(Condition::All(
                    condition.into_iter().chain([vlan]).collect(),
                ))
            }
        };
        Ok((Some(id), condition))
    }

    /// Ends capture `number`, if it is still the one that runs; gives how many copies were lost.
    pub(super) fn end_capture(&mut self, number: u64) -> u64 {
        let Some(capture) = self.capture.take_if(|running| running.number == number) else {
            return 0;
        };
        self.close_taps();
        self.captures_lost().saturating_sub(capture.lost_before)
    }

    /// Ends a capture whose client is gone without a word.
    pub(super) fn end_abandoned_capture(&mut self) {
        let is_abandoned = |running: &mut RunningCapture| running.alive.strong_count() == 0;
        if self.capture.take_if(is_abandoned).is_some() {
            self.close_taps();
        }
    }

    fn close_taps(&mut self) {
        for worker in 0..self.crew.members.len() {
            if let Err(text) = self.crew.ask(worker, Command::EndCapture) {
                tracing::warn!("a capture was not ended: {text}");
            }
        }
    }

    fn captures_lost(&self) -> u64 {
        let counters = self.crew.counters();
        counters
            .iter()
            .map(|worker| worker.event(Event::CapturesLost))
            .sum()
    }
}
