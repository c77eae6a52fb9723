//! The links to portals. Each turns what a device says into inputs, and orders into what the device understands.

pub mod modbus;
pub mod mqtt;
