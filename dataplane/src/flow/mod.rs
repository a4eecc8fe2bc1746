//! Flows: the table that finds them and the wheel that ends them.

pub mod table;

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
