//! Bytes to access types and back. Pure: no I/O, no clock.

pub mod audit;
pub mod document;
pub mod time;
