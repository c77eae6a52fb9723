//! The console of a running gateway, over TCP as a browser or a program uses it: who may read and change, what is shown, and that each
//! order is in the audit with who gave it.
#![cfg(feature = "workbench")]
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

mod demo;
mod http;
mod orders;
mod pages;
mod reading;
mod rig;
