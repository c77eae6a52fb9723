//! The whole program as a child process, against a broker, with plain clients outside that know only the wire contract.
//! With `DORMGATE_REAL_PARTS` the broker is a real mosquitto.
#![cfg(feature = "workbench")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

#[path = "../support/authority.rs"]
mod authority;
#[path = "../support/center.rs"]
mod center;
#[path = "../support/mosquitto.rs"]
mod mosquitto;
#[path = "../support/nats.rs"]
mod nats;
#[path = "../support/peer.rs"]
mod peer;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/site.rs"]
mod site;

mod away;
mod bad_input;
mod campus;
mod cluster;
mod commands;
mod damage;
mod devices;
mod diag;
mod earlier;
mod examples;
mod hours;
mod kill;
mod life;
mod links;
mod privacy;
mod process;
mod proof;
mod reload;
mod tls;
mod upgrade;
mod whereabouts;
