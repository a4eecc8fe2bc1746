//! The echo by which a guard without addresses carries a client's SYN to its server and back
//! (seed 000 FIG. 6 and 8, seed 001 claims 13–20): an ICMP or ICMPv6 echo request from the client
//! to the server, whose reply any guard with the same key file can verify and answer.
//! `docs/wire/echo.md` tells the layout.

mod message;
mod payload;

pub use message::{EchoMessage, MAX_GROWTH_BYTES, message_of, quoted_is_ours, wrap};
pub use payload::{
    Carried, EchoError, EchoJar, HEADER_BYTES, MAGIC, MAX_AGE_MS, MAX_PAYLOAD_BYTES, VERSION, flag,
};
