//! What TCP's endpoints and splices have in common.

pub mod sequence;
