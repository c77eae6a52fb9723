//! dormgate: the access gateway of a university dormitory.
#![forbid(unsafe_code)]

pub mod access;
pub mod gateway;
pub mod portals;
pub mod simulate;
pub mod wire;
