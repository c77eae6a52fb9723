//! dormgate: the access gateway of a university dormitory.
#![forbid(unsafe_code)]

pub mod access;
pub mod clock;
pub mod gateway;
pub mod http;
pub mod wire;
