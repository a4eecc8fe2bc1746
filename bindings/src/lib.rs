//! The safe layer on DPDK: the only `unsafe` code in the house.
