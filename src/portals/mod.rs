//! The links to gates, doors and power boxes.

pub mod mqtt;
