//! Stand-ins for what a gateway talks to: for the demo, `dormgate simulate` and the tests. Never part of a decision.

#[cfg(feature = "demo")]
pub mod broker;
pub mod center;
pub mod lines;
pub mod modbus;
pub mod mqtt;
pub mod site;
