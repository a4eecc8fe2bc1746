//! What a peer fetches of our tables: what waits for it here, and nothing else.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use super::item::{PageEnd, Pull};
use super::record::Record;

/// Parts of tables that one peer may fetch at a time.
pub(super) const MAX_SERVED: usize = 16;
/// Records and ends that wait to be sent to one peer.
const MAX_BULK: usize = 32_768;

/// What was asked for and has not ended.
#[derive(Clone, Copy, Debug)]
struct Page {
    request: u32,
    worker: usize,
    records: u32,
    is_whole: bool,
}

/// What goes to the peer, in order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bulk {
    Record(u32, Record),
    End(PageEnd),
}

/// What one peer fetches.
#[derive(Default)]
pub(super) struct Served {
    pages: ArrayVec<Page, MAX_SERVED>,
    pub(super) bulk: VecDeque<Bulk>,
}

impl Served {
    /// Whether one more part can be fetched now.
    pub(super) fn has_room(&self) -> bool {
        !self.pages.is_full() && self.bulk.len() < MAX_BULK / 2
    }

    /// A part was asked for and its worker told. A peer fetches one part of a worker at a time, so
    /// it has given up an earlier one; what still comes of that counts for this one.
    pub(super) fn begin(&mut self, pull: &Pull) {
        let worker = usize::from(pull.worker);
        self.pages.retain(|page| page.worker != worker);
        let _ = self.pages.try_push(Page {
            request: pull.request,
            worker,
            records: 0,
            is_whole: true,
        });
    }

    /// Takes a worker's record, if it belongs to a part that the peer fetches from this worker.
    pub(super) fn take(&mut self, worker: usize, record: &Record) -> bool {
        let Some(page) = self.pages.iter_mut().find(|page| page.worker == worker) else {
            return false;
        };
        if self.bulk.len() < MAX_BULK {
            page.records += 1;
            self.bulk.push_back(Bulk::Record(page.request, *record));
        } else {
            page.is_whole = false;
        }
        true
    }

    /// A part has ended; whether it is whole. One that is not is asked for again.
    pub(super) fn end(&mut self, worker: usize, request: u32, next: Option<u32>) -> bool {
        let is_it = |page: &Page| page.worker == worker && page.request == request;
        let Some(place) = self.pages.iter().position(is_it) else {
            return false;
        };
        let page = self.pages.remove(place);
        if page.is_whole {
            self.bulk.push_back(Bulk::End(PageEnd {
                request,
                records: page.records,
                next,
                newest: 0,
            }));
        }
        page.is_whole
    }

    pub(super) fn clear(&mut self) {
        self.pages.clear();
        self.bulk.clear();
    }
}
