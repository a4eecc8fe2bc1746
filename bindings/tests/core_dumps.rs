//! F7: a process that holds keys leaves no image of its memory. A process of its own, since it cannot
//! be undone.

use std::fs;

use bindings::system::{effective_user, forbid_core_files, forbid_inspection, may_be_inspected};

#[test]
fn f7_no_image_of_the_memory_is_written() {
    forbid_core_files().expect("a limit");
    let limits = fs::read_to_string("/proc/self/limits").expect("own limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = core.unwrap_or_default().split_whitespace().collect();
    assert!(matches!(words[4..6], ["0" | "1", "0" | "1"]), "{words:?}");
    forbid_core_files().expect("again");
    let user = effective_user();
    forbid_inspection().expect("a flag");
    assert!(!may_be_inspected());
    assert_eq!(effective_user(), user);
}
