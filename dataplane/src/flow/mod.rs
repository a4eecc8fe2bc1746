//! Flows: the table that finds them and the wheel that ends them.

pub mod table;
pub mod wheel;

use std::hint::black_box;
use std::mem::MaybeUninit;

use bindings::memory;

/// Asks for a cache line before it is needed.
#[inline]
fn prefetch<T>(reference: &T) {
    memory::prefetch(reference);
}

/// Asks for huge pages under memory that has not been touched yet. A kernel without them serves
/// as well, only slower.
fn advise_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    let _ = memory::advise_huge_pages(memory);
}

/// A vector on huge pages where there are any, with every page touched: no page fault waits for a
/// packet.
fn filled<T: Copy>(length: usize, mut value: impl FnMut(usize) -> T) -> Vec<T> {
    let mut vector = Vec::with_capacity(length);
    advise_huge_pages(vector.spare_capacity_mut());
    vector.extend((0..length).map(|index| black_box(value(index))));
    vector
}
