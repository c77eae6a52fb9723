//! Finds device profiles: built in, or files of a `devices_dir`. Each is read once.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::profile::diagnostic::hint;
use crate::profile::{self, Profile, SHIPPED};

/// The profiles found so far, by directory and name.
#[derive(Default)]
pub(super) struct Profiles(HashMap<(Option<PathBuf>, String), Result<Arc<Profile>, String>>);

impl Profiles {
    /// The profile of this name. A file of `dir` comes first, so that a site can correct a built-in profile.
    pub(super) fn find(&mut self, name: &str, dir: Option<&Path>) -> Result<Arc<Profile>, String> {
        let key = (dir.map(Path::to_owned), name.to_owned());
        self.0.entry(key).or_insert_with(|| load(name, dir)).clone()
    }
}

fn load(name: &str, dir: Option<&Path>) -> Result<Arc<Profile>, String> {
    if let Some(dir) = dir {
        let path = dir.join(format!("{name}.toml"));
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                return profile::read_file(&path, &text).map(Arc::new).map_err(|diagnostics| {
                    let all: Vec<String> = diagnostics.iter().map(|d| format!("{}:{d}", path.display())).collect();
                    format!("the profile has diagnostics: {}", all.join("; "))
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("`{}` cannot be read: {error}", path.display())),
        }
    }
    profile::shipped(name).map(Arc::new).ok_or_else(|| {
        let hint = hint(name, SHIPPED.iter().map(|(name, _)| *name));
        format!("device profile `{name}` does not exist; {hint}")
    })
}
