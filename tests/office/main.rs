//! The center that an office runs, `dormgate center serve`, as a child process: on a real broker with real gateways, reloaded, killed,
//! and asked over its API and by the commands of `dormgate center`.
#![cfg(all(feature = "center", feature = "workbench"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

#[path = "../support/browser.rs"]
mod browser;
#[path = "../support/center.rs"]
mod center;
#[path = "../support/mosquitto.rs"]
mod mosquitto;
#[path = "../support/peer.rs"]
mod peer;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/site.rs"]
mod site;

mod console;
mod fleet;
mod pages;
mod power;
mod proof;
mod reload;
mod remote;
mod rig;
mod serve;
