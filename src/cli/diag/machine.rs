//! What the machine is: from the files in which the system reports it, and from its journal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::store::free_bytes;

/// Most files that are listed of a store, in sum over its directories.
const FILES_MAX: usize = 10_000;

/// The system, its kernel, its load and memory, a line each.
pub(super) fn system() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or_else(|| "unknown".to_owned(), |value| value.trim_matches(['=', ':', ' ', '"']).to_owned())
    };
    let memory = read("/proc/meminfo");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    [
        format!("system: {}", field(&read("/etc/os-release"), "PRETTY_NAME")),
        format!("kernel: {} on {}", read("/proc/sys/kernel/osrelease").trim(), std::env::consts::ARCH),
        format!("cores: {cores}; load: {}", read("/proc/loadavg").trim()),
        format!("memory: {} in all, {} available", field(&memory, "MemTotal"), field(&memory, "MemAvailable")),
        format!("up: {} s", read("/proc/uptime").split('.').next().unwrap_or_default()),
    ]
    .join("\n")
}

/// The sizes of the files under `dir`, and the room left on its disk.
pub(super) fn store(dir: &Path) -> Result<String, String> {
    let free = free_bytes(dir).map_err(|error| format!("`{}`: {error}", dir.display()))?;
    let mut lines = vec![format!("{free:>14} bytes free on the disk of `{}`", dir.display())];
    let mut sum = 0_u64;
    let mut waiting = vec![dir.to_owned()];
    let mut left = FILES_MAX;
    while let Some(path) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&path) else {
            lines.push(format!("`{}` cannot be read", path.display()));
            continue;
        };
        let mut entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        entries.sort();
        for entry in entries {
            // Not followed: a link is not the store's.
            let Ok(found) = fs::symlink_metadata(&entry) else { continue };
            if found.is_dir() {
                waiting.push(entry);
            } else if left > 0 {
                left -= 1;
                sum = sum.saturating_add(found.len());
                let name = entry.strip_prefix(dir).unwrap_or(&entry);
                lines.push(format!("{:>14} {}", found.len(), name.display()));
            }
        }
    }
    if left == 0 {
        lines.push(format!("only {FILES_MAX} files are listed"));
    }
    lines.push(format!("{sum:>14} bytes in sum"));
    Ok(lines.join("\n"))
}

/// The last lines of the unit in the journal.
pub(super) fn log(unit: &str, lines: u32) -> Result<String, String> {
    let mut command = Command::new("journalctl");
    command.args(["--unit", unit, "--lines", &lines.to_string(), "--output", "short-iso-precise", "--no-pager"]);
    let found = command.stdin(Stdio::null()).output().map_err(|error| format!("`journalctl`: {error}"))?;
    if !found.status.success() {
        return Err(format!("`journalctl`: {}", String::from_utf8_lossy(&found.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&found.stdout).into_owned())
}
