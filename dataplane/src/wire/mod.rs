//! Header views: bytes in place, and a meaning beside them.

pub mod address;
