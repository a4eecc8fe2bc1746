//! Frames on their way out: gathered per port, handed over a burst at a time.

use arrayvec::ArrayVec;

use crate::capture::Tap;
use crate::counters::{Counters, Event};
use crate::drop_reason::DropReason;
use crate::io::{InterfaceId, Io, PortId, WorkerId};
use crate::limits::{BURST, MAX_PASSED_ON, MAX_PORTS};
use crate::packet::{Buffer, Burst};

/// How a worker's frames reach a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitWay {
    /// Through a transmit queue of this worker's own.
    Queue,
    /// Through another worker, which owns the port's only transmit queue.
    Through(WorkerId),
}

/// Frames that wait for one port, each with the interface that it leaves by.
#[derive(Debug)]
struct Stage<B> {
    way: TransmitWay,
    frames: Burst<B>,
    interfaces: ArrayVec<InterfaceId, BURST>,
}

/// One worker's frames on their way out.
///
/// [`Transmit::push`] every frame, whole from its Ethernet header on; [`Transmit::flush`] once a
/// loop. For ports that another worker owns, drain [`Transmit::passed_on`] once a loop into the
/// ring to that worker, which pushes the frames into its own `Transmit`.
#[derive(Debug)]
pub struct Transmit<B> {
    stages: ArrayVec<Stage<B>, MAX_PORTS>,
    /// What other workers must send. More than a burst: one loop takes a burst from each port and
    /// each worker, and all of them may leave by one way.
    passed_on: Vec<(WorkerId, PortId, InterfaceId, B)>,
    /// Copies what comes and what leaves, while somebody looks.
    pub(crate) tap: Option<Box<Tap>>,
}

impl<B: Buffer> Transmit<B> {
    /// Nothing waiting; `ways` has one entry a port, in the order of their identifiers.
    ///
    /// # Panics
    /// When there are more than [`MAX_PORTS`].
    pub fn new(ways: &[TransmitWay]) -> Self {
        let stage = |&way| Stage {
            way,
            frames: Burst::new(),
            interfaces: ArrayVec::new(),
        };
        let is_alone = ways.iter().all(|way| *way == TransmitWay::Queue);
        Self {
            stages: ways.iter().map(stage).collect(),
            passed_on: Vec::with_capacity(if is_alone { 0 } else { MAX_PASSED_ON }),
            tap: None,
        }
    }

    /// Sends `frame` out of `port` with the burst that it belongs to. What the port refuses is
    /// freed and counted.
    #[inline(always)]
    pub fn push<I: Io<Buffer = B>>(
        &mut self,
        port: PortId,
        interface: InterfaceId,
        frame: B,
        io: &mut I,
        counters: &mut Counters,
    ) {
        let Some(stage) = self.stages.get_mut(usize::from(port.0)) else {
            counters.dropped(DropReason::TransmitFull);
            return;
        };
        if let TransmitWay::Through(worker) = stage.way {
            if self.passed_on.len() < MAX_PASSED_ON {
                self.passed_on.push((worker, port, interface, frame));
            } else {
                counters.dropped(DropReason::TransmitFull);
            }
            return;
        }
        if stage.frames.is_full() {
            stage.flush(port, io, self.tap.as_deref_mut(), counters);
        }
        stage.frames.push(frame);
        stage.interfaces.push(interface);
    }

    /// Sends a whole burst out of `port` at once, behind what waits for it. `bytes` is the sum of the
    /// frames' lengths.
    pub(crate) fn push_all<I: Io<Buffer = B>>(
        &mut self,
        port: PortId,
        interface: InterfaceId,
        frames: &mut Burst<B>,
        bytes: u64,
        io: &mut I,
        counters: &mut Counters,
    ) {
        let stage = match self.stages.get_mut(usize::from(port.0)) {
            Some(stage) if stage.way == TransmitWay::Queue && self.tap.is_none() => stage,
            _ => {
                return frames
                    .drain(..)
                    .for_each(|frame| self.push(port, interface, frame, io, counters));
            }
        };
        if !stage.frames.is_empty() {
            stage.flush(port, io, None, counters);
        }
        let wanted = frames.len();
        let sent = io.transmit(port, frames);
        counters.add(Event::Sent, sent as u64);
        let refused: u64 = frames.iter().map(|frame| frame.bytes().len() as u64).sum();
        let traffic = counters.traffic_mut(usize::from(interface.0));
        traffic.sent_packets += sent as u64;
        traffic.sent_bytes += bytes - refused;
        if sent < wanted {
            let reason = io.refusal(port);
            (sent..wanted).for_each(|_| counters.dropped(reason));
        }
        frames.clear();
    }

    /// Hands everything over to the ports that this worker has a queue on.
    pub fn flush<I: Io<Buffer = B>>(&mut self, io: &mut I, counters: &mut Counters) {
        for (port, stage) in self.stages.iter_mut().enumerate() {
            if !stage.frames.is_empty() {
                let tap = self.tap.as_deref_mut();
                stage.flush(PortId(port as u8), io, tap, counters);
            }
        }
    }

    /// Takes the frames that another worker must send: whom to hand each to, the port, the
    /// interface. They are not counted as sent here.
    pub fn passed_on(&mut self) -> impl Iterator<Item = (WorkerId, PortId, InterfaceId, B)> + '_ {
        self.passed_on.drain(..)
    }

    /// How many frames wait.
    pub fn waiting(&self) -> usize {
        let staged: usize = self.stages.iter().map(|stage| stage.frames.len()).sum();
        staged + self.passed_on.len()
    }
}

impl<B: Buffer> Stage<B> {
    fn flush<I: Io<Buffer = B>>(
        &mut self,
        port: PortId,
        io: &mut I,
        tap: Option<&mut Tap>,
        counters: &mut Counters,
    ) {
        if let Some(tap) = tap {
            // Before they are gone; also those that the port will refuse.
            for (frame, interface) in self.frames.iter().zip(&self.interfaces) {
                tap.offer_departure(frame.bytes(), port, *interface, counters);
            }
        }
        for (frame, interface) in self.frames.iter().zip(&self.interfaces) {
            let traffic = counters.traffic_mut(usize::from(interface.0));
            traffic.sent_packets += 1;
            traffic.sent_bytes += frame.bytes().len() as u64;
        }
        let sent = io.transmit(port, &mut self.frames);
        counters.add(Event::Sent, sent as u64);
        for (frame, interface) in self.frames.drain(..).zip(&self.interfaces[sent..]) {
            let traffic = counters.traffic_mut(usize::from(interface.0));
            traffic.sent_packets -= 1;
            traffic.sent_bytes -= frame.bytes().len() as u64;
            counters.dropped(io.refusal(port));
        }
        self.interfaces.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{MemoryBuffer, MemoryIo};

    const PORT: PortId = PortId(1);

    struct Rig {
        transmit: Transmit<MemoryBuffer>,
        io: MemoryIo,
        counters: Counters,
    }

    impl Rig {
        fn new(way: TransmitWay) -> Self {
            Self {
                transmit: Transmit::new(&[TransmitWay::Queue, way]),
                io: MemoryIo::new(2),
                counters: Counters::default(),
            }
        }

        fn push(&mut self, byte: u8) {
            self.transmit.push(
                PORT,
                InterfaceId(3),
                MemoryBuffer::new(&[byte; 60]),
                &mut self.io,
                &mut self.counters,
            );
        }
    }

    #[test]
    fn frames_leave_in_order_when_flushed_or_when_a_burst_is_full() {
        let mut rig = Rig::new(TransmitWay::Queue);
        for byte in 0..=BURST as u8 {
            rig.push(byte);
        }
        assert_eq!(rig.counters.event(Event::Sent), BURST as u64);
        assert_eq!(rig.transmit.waiting(), 1);
        rig.transmit.flush(&mut rig.io, &mut rig.counters);
        for byte in 0..=BURST as u8 {
            assert_eq!(rig.io.departed(PORT).unwrap().bytes()[0], byte);
        }
        let traffic = rig.counters.traffic(3);
        assert_eq!(
            (traffic.sent_packets, traffic.sent_bytes),
            (BURST as u64 + 1, 60 * (BURST as u64 + 1))
        );
    }

    #[test]
    fn what_the_port_refuses_is_freed_and_counted() {
        let mut rig = Rig::new(TransmitWay::Queue);
        rig.io.transmit_room = Some(2);
        (0..5).for_each(|byte| rig.push(byte));
        rig.transmit.flush(&mut rig.io, &mut rig.counters);
        assert_eq!(rig.counters.event(Event::Sent), 2);
        assert_eq!(rig.counters.drops(DropReason::TransmitFull), 3);
        assert_eq!(rig.counters.traffic(3).sent_bytes, 120);
        assert_eq!(rig.transmit.waiting(), 0);
    }

    // H1
    #[test]
    fn what_a_lost_port_does_not_take_has_a_reason_of_its_own() {
        let mut rig = Rig::new(TransmitWay::Queue);
        rig.io.is_lost = true;
        (0..5).for_each(|byte| rig.push(byte));
        rig.transmit.flush(&mut rig.io, &mut rig.counters);
        let (mut burst, bytes) = (Burst::new(), 60);
        burst.push(MemoryBuffer::new(&[7; 60]));
        let (io, counters) = (&mut rig.io, &mut rig.counters);
        let interface = InterfaceId(3);
        rig.transmit
            .push_all(PORT, interface, &mut burst, bytes, io, counters);
        assert_eq!(rig.counters.drops(DropReason::PortLost), 6);
        assert_eq!(rig.counters.drops(DropReason::TransmitFull), 0);
        assert_eq!(rig.counters.traffic(3).sent_bytes, 0);
    }

    #[test]
    fn a_port_of_another_worker_gets_its_frames_through_it() {
        let mut rig = Rig::new(TransmitWay::Through(WorkerId(7)));
        for number in 0..MAX_PASSED_ON + 2 {
            rig.push(number as u8);
        }
        rig.transmit.flush(&mut rig.io, &mut rig.counters);
        assert_eq!(rig.counters.drops(DropReason::TransmitFull), 2);
        assert_eq!(rig.transmit.waiting(), MAX_PASSED_ON);
        let passed: Vec<_> = rig.transmit.passed_on().collect();
        assert_eq!(passed.len(), MAX_PASSED_ON);
        let (worker, port, interface, frame) = &passed[1];
        assert_eq!(
            (*worker, *port, *interface, frame.bytes()[0]),
            (WorkerId(7), PORT, InterfaceId(3), 1)
        );
        assert_eq!(rig.counters.event(Event::Sent), 0);
        assert_eq!(rig.transmit.passed_on().count(), 0);
    }
}
