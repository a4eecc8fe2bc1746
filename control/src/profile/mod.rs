//! Profiles: the YAML files that say what an appliance is.

mod address;
mod model;

pub use address::{AddressError, InterfaceAddress, Prefix};
pub use model::*;
