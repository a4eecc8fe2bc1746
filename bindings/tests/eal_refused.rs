//! A start of EAL that fails says what was asked for and why it was refused.

mod common;

use bindings::{Eal, EalConfig};
use common::config;

#[test]
fn a_refused_start_names_its_cause() {
    let config = EalConfig {
        virtual_devices: vec!["net_no_such_driver0".into()],
        ..config("refused")
    };
    let error = Eal::init(&config).err().expect("there is no such driver");
    let text = error.to_string();
    assert_eq!(error.call(), "rte_eal_init");
    assert!(
        text.contains("--vdev=net_no_such_driver0"),
        "what was asked for: {text}"
    );
    assert!(
        error
            .said()
            .iter()
            .any(|line| line.contains("net_no_such_driver0")),
        "why: {text}"
    );
}
