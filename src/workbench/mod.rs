//! What a gateway is tried with: simulated devices by profile, a reference center, an embedded broker. For `dormgate demo`, `simulate` and
//! `center`, and for the tests; behind the feature `workbench`, which a package is built without. Never part of a decision.

pub mod broker;
pub mod center;
pub mod lines;
pub mod modbus;
pub mod mqtt;
pub mod site;
