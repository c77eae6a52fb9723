//! Stand-ins for portals: for the demo, for trials without hardware, and for the tests.

pub mod modbus;
