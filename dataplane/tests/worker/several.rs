//! Several workers.
