//! What a gateway is tried with: simulated devices by profile and an embedded broker. For `dormgate demo`, `simulate` and the tests;
//! behind the feature `workbench`, without which packages are built. Never part of a decision.

pub mod broker;
mod end;
mod happens;
pub mod lines;
pub mod modbus;
pub mod mqtt;
pub mod site;

/// Why a simulator cannot do what it is asked: what is wrong, where, and what it can do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The beginning of a text that a user typed, for a message.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// These names, for a message.
fn listed(names: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    let all: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}
