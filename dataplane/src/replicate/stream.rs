//! The stream of batches that this appliance sends to everyone, and what of it can be repeated.

use super::record::{RECORD_BYTES, Record};

/// A ring of the last batches. Memory is taken once; a batch is written where it stays until its
/// place is needed again.
pub(super) struct Stream {
    /// Records of one batch.
    per_batch: usize,
    slots: Vec<Slot>,
    bytes: Vec<u8>,
    /// The newest complete batch; the one after it is being filled.
    newest: u64,
    /// The newest batch that was sent, or needed not be.
    sent: u64,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    records: u16,
    made_ns: u64,
}

impl Stream {
    /// Keeps `batches`, at least two, of `per_batch` records.
    pub(super) fn new(batches: usize, per_batch: usize) -> Self {
        let batches = batches.max(2);
        Self {
            per_batch,
            slots: vec![Slot::default(); batches],
            bytes: vec![0; batches * per_batch * RECORD_BYTES],
            newest: 0,
            sent: 0,
        }
    }

    fn slot(&self, batch: u64) -> usize {
        (batch % self.slots.len() as u64) as usize
    }

    /// Adds a record to the batch that is being filled.
    #[inline]
    pub(super) fn push(&mut self, record: &Record, now_ns: u64) {
        let place = self.slot(self.newest + 1);
        let slot = &mut self.slots[place];
        if slot.records == 0 {
            slot.made_ns = now_ns;
        }
        let at = (place * self.per_batch + usize::from(slot.records)) * RECORD_BYTES;
        self.bytes[at..at + RECORD_BYTES].copy_from_slice(&record.write());
        slot.records += 1;
        if usize::from(slot.records) == self.per_batch {
            self.complete();
        }
    }

    /// The batch that was filled goes as it is; the next one takes the place of the oldest.
    fn complete(&mut self) {
        self.newest += 1;
        let place = self.slot(self.newest + 1);
        self.slots[place].records = 0;
    }

    /// The next batch to be sent, complete or not.
    pub(super) fn next_unsent(&mut self) -> Option<u64> {
        let open = self.slot(self.newest + 1);
        if self.sent >= self.newest && self.slots[open].records > 0 {
            self.complete();
        }
        self.sent = self.sent.max(self.oldest() - 1);
        (self.sent < self.newest).then(|| {
            self.sent += 1;
            self.sent
        })
    }

    /// Nobody is there who could take what was not sent: it is only kept for repair.
    pub(super) fn pass(&mut self) {
        while self.next_unsent().is_some() {}
    }

    /// The newest batch that was sent, or passed over.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// The oldest batch that can be repeated; one more than the newest when there is none.
    pub(super) fn oldest(&self) -> u64 {
        (self.newest + 2)
            .saturating_sub(self.slots.len() as u64)
            .max(1)
    }

    /// A batch's records, if it is still there.
    pub(super) fn batch(&self, batch: u64) -> Option<&[u8]> {
        if batch < self.oldest() || batch > self.newest {
            return None;
        }
        let place = self.slot(batch);
        let at = place * self.per_batch * RECORD_BYTES;
        let length = usize::from(self.slots[place].records) * RECORD_BYTES;
        self.bytes.get(at..at + length)
    }

    /// When the first record of a batch was made; of one that is gone, when the oldest was.
    pub(super) fn made_ns(&self, batch: u64) -> u64 {
        let batch = batch.clamp(self.oldest(), self.newest.max(1));
        self.slots[self.slot(batch)].made_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u32) -> Record {
        Record {
            incarnation: number,
            ..Record::default()
        }
    }

    fn numbers(batch: &[u8]) -> Vec<u32> {
        let read = |bytes| Record::read(bytes).unwrap().incarnation;
        batch.chunks(RECORD_BYTES).map(read).collect()
    }

    #[test]
    fn what_was_filled_goes_in_order_and_can_be_repeated() {
        let mut stream = Stream::new(4, 2);
        assert_eq!(stream.next_unsent(), None);
        assert_eq!((stream.oldest(), stream.newest), (1, 0));
        for number in 0..3 {
            stream.push(&record(number), u64::from(number));
        }
        assert_eq!(stream.next_unsent(), Some(1));
        assert_eq!(stream.next_unsent(), Some(2));
        assert_eq!(stream.next_unsent(), None);
        assert_eq!(numbers(stream.batch(1).unwrap()), [0, 1]);
        assert_eq!(numbers(stream.batch(2).unwrap()), [2]);
        assert_eq!(stream.batch(3), None);
        assert_eq!((stream.made_ns(1), stream.made_ns(2)), (0, 2));
    }

    #[test]
    fn the_oldest_make_room_and_are_no_longer_offered() {
        let mut stream = Stream::new(4, 2);
        for number in 0..21 {
            stream.push(&record(number), u64::from(number));
        }
        assert_eq!((stream.oldest(), stream.newest), (8, 10));
        assert_eq!(stream.batch(7), None);
        assert_eq!(numbers(stream.batch(8).unwrap()), [14, 15]);
        assert_eq!(stream.next_unsent(), Some(8));
        assert_eq!(stream.made_ns(1), 14);
        stream.pass();
        assert_eq!(stream.newest, 11);
        assert_eq!(numbers(stream.batch(11).unwrap()), [20]);
    }
}
