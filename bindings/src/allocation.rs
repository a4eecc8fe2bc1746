//! Heap allocations counted, so that a test can hold a thread to none.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Constant and without a destructor, so that reading it never allocates itself.
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { taken: 0, freed: 0 }) };
}

/// What one thread has asked of the heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Blocks taken; one that grows or shrinks counts as taken and freed.
    pub taken: u64,
    /// Blocks given back.
    pub freed: u64,
}

/// The system's allocator, with each thread's requests counted. Make it a program's own by
/// `#[global_allocator] static HEAP: CountingAllocator = CountingAllocator;`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

impl CountingAllocator {
    /// What the calling thread has asked of the heap so far; nothing where this is not the
    /// program's allocator.
    pub fn counts() -> Counts {
        COUNTS.try_with(Cell::get).unwrap_or_default()
    }
}

fn count(taken: u64, freed: u64) {
    // A thread that is ending may have no counts any more.
    let _ = COUNTS.try_with(|cell| {
        let counts = cell.get();
        cell.set(Counts {
            taken: counts.taken + taken,
            freed: counts.freed + freed,
        });
    });
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract;
// counting touches nothing but a thread's own cell and never allocates, unwinds or re-enters.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, 0);
        // SAFETY: the caller keeps GlobalAlloc's contract, which is System's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(1, 1);
        // SAFETY: as above; the block came from System, as every block of ours.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, 1);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}
