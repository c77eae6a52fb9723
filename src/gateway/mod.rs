//! The one task that owns the engine.

pub mod ports;
