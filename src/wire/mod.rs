//! Bytes to access types and back. Pure: no I/O, no clock.
//!
//! Every parser here is total: any bytes give a value or an error that names the place and what to do, never a panic.
//! Start with [`envelope`], which verifies from whom a message is; then [`down`] (from a center), [`up`] (to a center) and
//! [`portal`].

pub mod allowed;
pub mod audit;
pub mod claims;
pub mod csv;
pub mod digest;
pub mod down;
pub mod envelope;
pub mod erased;
pub mod keys;
pub mod limits;
pub mod modbus;
pub mod ops;
pub mod portal;
pub mod registers;
pub mod signed;
pub mod snapshot;
pub mod state;
pub mod text;
pub mod topic;
pub mod uid_key;
pub mod up;
pub(crate) mod wanted;

mod hash;
mod json;
mod schedule;

#[cfg(test)]
mod time_tests;
