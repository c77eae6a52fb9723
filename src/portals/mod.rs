//! The links to portals. [`device`] is what a portal does, whatever it is connected to; [`modbus`] and [`mqtt`] are its adapters, and
//! [`parts`] puts portals together from both.

mod counters;
pub mod device;
pub mod modbus;
pub mod mqtt;
pub mod parts;

pub use counters::DeviceCounters;
