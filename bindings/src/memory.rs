//! Hints about memory: what will be read soon, and what deserves huge pages.

use crate::error::{Error, system_errno};

const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Asks the processor to bring the cache line that `target` begins in.
#[inline]
pub fn prefetch<T: ?Sized>(target: &T) {
    prefetch_address(std::ptr::from_ref(target).cast());
}

/// The same for an address at which nothing need be.
#[inline]
pub(crate) fn prefetch_address(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, and every x86-64 processor has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch never faults, and changes no register.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

/// Asks the kernel to back a large table with transparent huge pages, as far as whole ones fit
/// in it. A table smaller than one is left alone.
///
/// Best asked before the table is first written: pages that exist are only merged by and by.
pub fn advise_huge_pages<T>(table: &mut [T]) -> Result<(), Error> {
    let bytes = size_of_val(table);
    let begin = table.as_mut_ptr() as usize;
    let first = begin.next_multiple_of(HUGE_PAGE_BYTES);
    let end = (begin + bytes) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    if end <= first {
        return Ok(());
    }
    let start = table.as_mut_ptr().cast::<u8>().wrapping_add(first - begin);
    // SAFETY: the range lies within `table`, which is borrowed for us alone; the advice changes
    // which pages back it, never what it holds.
    let result = unsafe { libc::madvise(start.cast(), end - first, libc::MADV_HUGEPAGE) };
    if result != 0 {
        let doing = format!("asking for huge pages under {} MiB", (end - first) >> 20);
        return Err(Error::new("madvise", system_errno(), doing));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags of the mapping that holds `address`, as the kernel lists them.
    fn mapping_flags(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
        let mut inside = false;
        for line in maps.lines() {
            let range = line
                .split(' ')
                .next()
                .and_then(|range| range.split_once('-'));
            if let Some((Ok(low), Ok(high))) = range.map(|(low, high)| {
                (
                    usize::from_str_radix(low, 16),
                    usize::from_str_radix(high, 16),
                )
            }) {
                inside = (low..high).contains(&address);
            } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
                return format!("{flags} ");
            }
        }
        panic!("no mapping holds {address:x}");
    }

    #[test]
    fn advice_reaches_the_kernel_and_small_tables_are_left_alone() {
        let mut table = vec![0_u64; 4 << 20];
        let middle = table.as_ptr() as usize + (16 << 20);
        assert!(!mapping_flags(middle).contains(" hg "));
        advise_huge_pages(&mut table).expect("madvise");
        assert!(
            mapping_flags(middle).contains(" hg "),
            "{}",
            mapping_flags(middle)
        );

        advise_huge_pages(&mut [0_u8; 100]).expect("nothing to do");
        advise_huge_pages::<u64>(&mut []).expect("nothing to do");
    }

    #[test]
    fn prefetch_takes_any_reference() {
        prefetch(&1_u8);
        prefetch::<[u8]>(&[]);
        prefetch("text");
    }
}
