//! Bytes to access types and back. Pure: no I/O, no clock.
//!
//! Every parser here is total: any bytes give a value or an error that reports where and what to do, never a panic.
//! Start with [`envelope`], which decides whose words a message is; then [`changes`].

pub mod audit;
pub mod audit_ack;
pub mod bodies;
pub mod changes;
pub mod command;
pub mod digest;
pub mod digest_lines;

pub mod draft;
pub mod envelope;
pub mod head;
pub mod keys;
pub mod limits;
pub mod may;
pub mod modbus;
pub mod ops;
pub mod portal;

pub mod registers;
pub mod schedule;
pub mod spelling;
pub mod state;
pub mod time;
pub mod topic;
pub mod uid;

mod fields;
mod json;

pub mod text;
