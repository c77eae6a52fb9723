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

#[path = "../support/dice.rs"]
mod dice;
#[path = "../support/digest_lines.rs"]
mod digest_lines;
#[path = "../support/history.rs"]
mod history;
#[path = "../support/model.rs"]
mod model;
#[path = "../support/world.rs"]
mod world;

mod absence;
mod again;
mod alarms;
mod anti_passback;
mod asks;
mod boxes;
mod calendar;
mod clones;
mod convergence;
mod damaged;
mod debounce;
mod doors;
mod drift;
mod explain;
mod figures;
mod heads;
mod life_of_a_card;
mod list_age;
mod loads;
mod lock_out;
mod lossy;
mod marks;
mod matrix;
mod meters;
mod modes;
mod offices;
mod on_disk;
mod orders;
mod owners;
mod portals;
mod power;
mod privacy;
mod reference;
mod rejections;
mod reload;
mod reported;
mod rests;
mod revocations;
mod roll_call;
mod running;
mod schedules;
mod shuffle;
mod simulation;
mod slots;
mod snapshots;
mod stampede;
mod streams;
mod together;
mod turns;
mod unexpected_off;
mod visitors;
mod walk_throughs;
mod withdrawn;
mod withheld;
