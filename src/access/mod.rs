//! Who may open what, when, and why. Pure: no I/O and no clock; the time is handed in.
//!
//! Start with [`decide`](decide::decide), the ladder; then [`list`], what the ladder reads; then [`engine`], which turns
//! inputs into effects.

#[macro_use]
mod names;
mod time;

pub mod alarm_kind;
pub mod calendar;
pub mod change;
pub mod credential;
pub mod decide;
pub mod decision;
pub mod effect;
pub mod engine;
pub mod event;
pub mod explain;
pub mod id;
pub mod input;
pub mod list;
pub mod moment;
pub mod operator;
pub mod owners;
pub mod plain;
pub mod policy;
pub mod portal;
pub mod power_box;
pub mod presence;
pub mod revocation;
pub mod roll_call;
pub mod rules;
pub mod schedule;
pub mod scrub;
pub mod snapshot;
pub mod state;
pub mod stream;
pub mod transform;
pub mod trip;
pub mod uid_text;
pub mod words;

pub(crate) use names::names;
pub use time::TimeError;
