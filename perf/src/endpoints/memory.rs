//! Two ports in memory, each of which takes what the other sends: the endpoints against each
//! other, with nobody between them.

use std::cell::RefCell;
use std::rc::Rc;

use super::arena::Port;
use super::segment::Sink;

/// Frames one behind the other.
#[derive(Debug, Default)]
pub struct Frames {
    octets: Vec<u8>,
    /// Where each frame ends.
    ends: Vec<usize>,
}

impl Sink for Frames {
    #[inline]
    fn frame(&mut self, bytes: usize) -> Option<&mut [u8]> {
        let begin = self.octets.len();
        self.octets.resize(begin + bytes, 0);
        self.ends.push(begin + bytes);
        Some(&mut self.octets[begin..])
    }
}

impl Frames {
    fn clear(&mut self) {
        self.octets.clear();
        self.ends.clear();
    }

    fn append(&mut self, later: &Self) {
        let begin = self.octets.len();
        self.octets.extend_from_slice(&later.octets);
        self.ends.extend(later.ends.iter().map(|end| begin + end));
    }
}

/// One of the two ports.
#[derive(Debug)]
pub struct MemoryPort {
    out: Frames,
    /// What is being looked at.
    coming: Frames,
    inbox: Rc<RefCell<Frames>>,
    outbox: Rc<RefCell<Frames>>,
}

impl MemoryPort {
    /// Two ports that are joined.
    #[must_use]
    pub fn pair() -> [Self; 2] {
        let boxes = [Rc::default(), Rc::default()];
        [0, 1].map(|own: usize| Self {
            out: Frames::default(),
            coming: Frames::default(),
            inbox: Rc::clone(&boxes[own]),
            outbox: Rc::clone(&boxes[1 - own]),
        })
    }
}

impl Port for MemoryPort {
    type Out = Frames;

    #[inline]
    fn receive(&mut self, mut each: impl FnMut(&[u8], &mut Frames) -> bool) -> usize {
        self.coming.clear();
        std::mem::swap(&mut self.coming, &mut self.inbox.borrow_mut());
        let mut begin = 0;
        for &end in &self.coming.ends {
            each(&self.coming.octets[begin..end], &mut self.out);
            begin = end;
        }
        self.coming.ends.len()
    }

    fn out(&mut self) -> &mut Frames {
        &mut self.out
    }

    #[inline]
    fn flush(&mut self) {
        let mut outbox = self.outbox.borrow_mut();
        if outbox.ends.is_empty() {
            std::mem::swap(&mut self.out, &mut outbox);
        } else {
            outbox.append(&self.out);
        }
        self.out.clear();
    }

    fn lost(&self) -> u64 {
        0
    }
}
