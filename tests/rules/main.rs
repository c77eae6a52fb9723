//! The rules of the architecture, held against the wire contract: the ladder, the list, the boxes, the streams.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable,
    missing_docs,
    reason = "a panic is how a test fails"
)]

#[path = "../support/model.rs"]
mod model;
#[path = "../support/world.rs"]
mod world;

mod again;
mod alarms;
mod asks;
mod boxes;
mod convergence;
mod damaged;
mod debounce;
mod doors;
mod drift;
mod life_of_a_card;
mod lossy;
mod matrix;
mod meters;
mod modes;
mod offices;
mod portals;
mod rejections;
mod reported;
mod revocations;
mod shuffle;
mod simulation;
mod slots;
mod snapshots;
mod stampede;
mod streams;
mod unexpected_off;
