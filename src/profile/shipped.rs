//! The built-in profiles: every file of `devices/`, collected by `devices/build.rs`.

use super::model::Profile;
use super::read::read;

/// Id and text of every built-in profile, in alphabetical order.
pub const SHIPPED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// The built-in profile of this id.
#[must_use]
pub fn shipped(id: &str) -> Option<Profile> {
    let (_, text) = SHIPPED.iter().find(|(name, _)| *name == id)?;
    read(text).ok()
}
