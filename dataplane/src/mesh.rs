//! Rings between workers: one producer, one consumer, one direction each.

use rtrb::{Consumer, Producer, RingBuffer};

use crate::hop::NeighbourUpdate;
use crate::io::{InterfaceId, PortId, WorkerId};
use crate::limits::HAND_OFF_RING;
use crate::shard::Shard;

/// What one worker gives another.
#[derive(Debug)]
pub enum Message<B> {
    /// A frame whose flow the other owns, as it was received.
    Frame(PortId, B),
    /// The first of so many fragments of a whole datagram, which follow at once as
    /// [`Message::Frame`].
    Datagram(PortId, B, u8),
    /// A frame ready to leave by a port whose only transmit queue the other owns.
    Departure(PortId, InterfaceId, B),
    /// A neighbour was resolved.
    Neighbour(NeighbourUpdate),
}

/// One worker's ends of the rings to and from all others.
#[derive(Debug)]
pub struct Mesh<B> {
    own: WorkerId,
    /// Who owns which flow.
    shard: Shard,
    to: Vec<Option<Producer<Message<B>>>>,
    from: Vec<Option<Consumer<Message<B>>>>,
}

impl<B> Mesh<B> {
    /// The rings of `workers` workers, one [`Mesh`] for each; flows are theirs by a key that everybody
    /// knows, as tests want it.
    pub fn new(workers: usize) -> Vec<Self> {
        Self::with(workers, &Shard::new(workers))
    }

    /// The rings of `workers` workers, whose flows are theirs by `shard`.
    pub fn with(workers: usize, shard: &Shard) -> Vec<Self> {
        let mut meshes: Vec<Self> = (0..workers)
            .map(|own| Self {
                own: WorkerId(own as u8),
                shard: shard.clone(),
                to: (0..workers).map(|_| None).collect(),
                from: (0..workers).map(|_| None).collect(),
            })
            .collect();
        for sender in 0..workers {
            for receiver in (0..workers).filter(|&receiver| receiver != sender) {
                let (producer, consumer) = RingBuffer::new(HAND_OFF_RING);
                meshes[sender].to[receiver] = Some(producer);
                meshes[receiver].from[sender] = Some(consumer);
            }
        }
        meshes
    }

    /// Which worker this is.
    pub fn own(&self) -> WorkerId {
        self.own
    }

    /// Who owns which flow.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.to.len()
    }

    /// How many messages `to` can still take.
    pub fn room(&self, to: WorkerId) -> usize {
        self.to[usize::from(to.0)]
            .as_ref()
            .map_or(0, Producer::slots)
    }

    /// Gives `message` to another worker, or back when its ring is full.
    pub fn send(&mut self, to: WorkerId, message: Message<B>) -> Result<(), Message<B>> {
        match &mut self.to[usize::from(to.0)] {
            Some(ring) => ring
                .push(message)
                .map_err(|rtrb::PushError::Full(message)| message),
            None => Err(message),
        }
    }

    /// Gives `count` messages to another worker, who sees all of them or, when its ring lacks
    /// room and they are dropped, none.
    #[must_use]
    pub fn send_together(
        &mut self,
        to: WorkerId,
        count: usize,
        messages: impl Iterator<Item = Message<B>>,
    ) -> bool {
        let ring = self.to[usize::from(to.0)].as_mut();
        match ring.map(|ring| ring.write_chunk_uninit(count)) {
            Some(Ok(chunk)) => chunk.fill_from_iter(messages) == count,
            _ => false,
        }
    }

    /// The next message from worker number `from`.
    pub fn receive(&mut self, from: usize) -> Option<Message<B>> {
        self.from[from].as_mut()?.pop().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_has_its_own_bounded_rings() {
        let mut meshes = Mesh::<u8>::new(3);
        let [first, second, _] = &mut meshes[..] else {
            unreachable!()
        };
        for n in 0..HAND_OFF_RING {
            assert!(
                first
                    .send(WorkerId(1), Message::Frame(PortId(0), n as u8))
                    .is_ok()
            );
        }
        assert!(
            first
                .send(WorkerId(1), Message::Frame(PortId(0), 0))
                .is_err()
        );
        assert_eq!(first.room(WorkerId(2)), HAND_OFF_RING);
        assert!(
            first
                .send(WorkerId(0), Message::Frame(PortId(0), 0))
                .is_err(),
            "not to itself"
        );
        assert!(matches!(second.receive(0), Some(Message::Frame(_, 0))));
        assert!(second.receive(2).is_none());
    }

    #[test]
    fn what_belongs_together_arrives_together_or_not_at_all() {
        let mut meshes = Mesh::<u8>::new(2);
        let [first, second] = &mut meshes[..] else {
            unreachable!()
        };
        let frames = |count: u8| (0..count).map(|n| Message::Frame(PortId(0), n));
        for n in 0..HAND_OFF_RING - 3 {
            assert!(
                first
                    .send(WorkerId(1), Message::Frame(PortId(0), n as u8))
                    .is_ok()
            );
        }
        assert!(!first.send_together(WorkerId(1), 4, frames(4)));
        assert_eq!(first.room(WorkerId(1)), 3);
        assert!(first.send_together(WorkerId(1), 3, frames(3)));
        assert!(
            !first.send_together(WorkerId(0), 1, frames(1)),
            "not to itself"
        );
        let arrived: Vec<_> = std::iter::from_fn(|| second.receive(0)).collect();
        assert_eq!(arrived.len(), HAND_OFF_RING);
        assert!(matches!(arrived[HAND_OFF_RING - 1], Message::Frame(_, 2)));
    }
}
