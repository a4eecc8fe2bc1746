//! Fuzzing on the stable toolchain: replays the committed corpus, then mutates it for a bounded
//! time. `fuzz/README.md` says how to run it longer and how to add to it.
#![forbid(unsafe_code)]

mod corpus;
mod engine;
mod frame;
mod handshakes;
mod mutate;
mod peers;
#[path = "../rig/mod.rs"]
mod rig;
mod sequence;
mod targets;
mod wire;
mod workers;

use mutate::Shape;

/// One target a line: its name (also its corpus's folder), how its inputs are shaped, and the
/// function that is handed each of them.
macro_rules! targets {
    ($($name:ident: $shape:expr, $target:path;)*) => {
        $(
            #[test]
            fn $name() {
                engine::test(stringify!($name), $shape, $target);
            }
        )*

        #[test]
        fn every_folder_of_the_corpus_has_its_target() {
            assert_eq!(corpus::folders(), [$(stringify!($name)),*]);
        }
    };
}

// In the order of the alphabet, as the folders stand.
targets! {
    echo: Shape::Frame, targets::echo;
    fragments: Shape::Sequence, workers::fragments;
    frame: Shape::Sequence, workers::frame;
    guard: Shape::Sequence, workers::guard;
    icmp_error: Shape::Frame, targets::icmp_error;
    neighbour: Shape::Frame, targets::neighbour;
    parse: Shape::Frame, targets::parse;
    peers: Shape::Bytes, peers::peers;
    tcp_options: Shape::Bytes, targets::tcp_options;
    wire: Shape::Sequence, wire::wire;
}
