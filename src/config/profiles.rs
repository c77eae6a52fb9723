//! Finds device profiles: built in, or files of a `devices_dir`. Each is read once.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::profile::diagnostic::{Diagnostic, hint};
use crate::profile::{self, Profile, mqtt};

/// The profiles of one kind found so far, by directory and name.
struct Found<P>(HashMap<(Option<PathBuf>, String), Result<Arc<P>, String>>);

impl<P> Default for Found<P> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

/// The profiles found so far.
#[derive(Default)]
pub(super) struct Profiles {
    modbus: Found<Profile>,
    mqtt: Found<mqtt::Profile>,
}

/// How profiles of one kind are found.
struct Kind<P> {
    read: fn(&Path, &str) -> Result<P, Vec<Diagnostic>>,
    shipped: fn(&str) -> Option<P>,
    names: &'static [(&'static str, &'static str)],
    /// The names of the other kind, and what to write for those.
    others: (&'static [(&'static str, &'static str)], &'static str),
}

const MODBUS: Kind<Profile> = Kind {
    read: profile::read_file,
    shipped: profile::shipped,
    names: profile::SHIPPED,
    others: (mqtt::SHIPPED, "is an MQTT device: write `mqtt = \"…\"` and its `topic` instead of `modbus`"),
};
const MQTT: Kind<mqtt::Profile> = Kind {
    read: mqtt::read_file,
    shipped: mqtt::shipped,
    names: mqtt::SHIPPED,
    others: (
        profile::SHIPPED,
        "is a Modbus device: write `modbus = \"BUS\"`, its `unit` and `profile = \"…\"` instead of `mqtt`",
    ),
};

impl Profiles {
    /// The profile of this name. A file of `dir` comes first, so that a site can correct a built-in profile.
    pub(super) fn modbus(&mut self, name: &str, dir: Option<&Path>) -> Result<Arc<Profile>, String> {
        self.modbus.find(name, dir, &MODBUS)
    }

    /// The same of an MQTT device.
    pub(super) fn mqtt(&mut self, name: &str, dir: Option<&Path>) -> Result<Arc<mqtt::Profile>, String> {
        self.mqtt.find(name, dir, &MQTT)
    }
}

impl<P> Found<P> {
    fn find(&mut self, name: &str, dir: Option<&Path>, kind: &Kind<P>) -> Result<Arc<P>, String> {
        let key = (dir.map(Path::to_owned), name.to_owned());
        self.0.entry(key).or_insert_with(|| load(name, dir, kind)).clone()
    }
}

fn load<P>(name: &str, dir: Option<&Path>, kind: &Kind<P>) -> Result<Arc<P>, String> {
    if let Some(dir) = dir {
        let path = dir.join(format!("{name}.toml"));
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                return (kind.read)(&path, &text).map(Arc::new).map_err(|diagnostics| {
                    let all: Vec<String> = diagnostics.iter().map(|d| format!("{}:{d}", path.display())).collect();
                    format!("the profile has diagnostics: {}", all.join("; "))
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("`{}` cannot be read: {error}", path.display())),
        }
    }
    (kind.shipped)(name).map(Arc::new).ok_or_else(|| {
        let (others, instead) = kind.others;
        if others.iter().any(|(other, _)| *other == name) {
            return format!("`{name}` {instead}");
        }
        let hint = hint(name, kind.names.iter().map(|(name, _)| *name));
        format!("device profile `{name}` does not exist; {hint}")
    })
}
