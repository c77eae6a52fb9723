//! store
pub mod generation;
pub mod medium;
pub mod segment;
