//! Bytes to access types and back. Pure: no I/O, no clock.

pub mod document;
pub mod modbus;
pub mod profile;
pub mod time;
