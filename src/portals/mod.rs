//! The links to portals. [`device`] is what a portal does, whatever it is connected to; the others are its adapters.

pub mod device;
pub mod modbus;
pub mod mqtt;
