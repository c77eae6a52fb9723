//! The documents of the packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::read;

/// The links of a document that lead to another file, without what follows `#`.
fn links(text: &str) -> Vec<&str> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    links.filter(|link| !link.starts_with("https://")).filter_map(|link| link.split('#').next()).collect()
}

#[test]
fn every_link_in_the_documents_of_a_package_leads_to_a_file_of_it() {
    fn files(dir: &Path, all: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path, all) } else { all.push(path) }
        }
    }
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/package/build");
    for (part, unit) in [("gateway", "dormgate"), ("center", "dormgate-center")] {
        let dir = tempfile::tempdir().unwrap();
        let ended = Command::new(&build).env("PART", part).env("DOCUMENTS", dir.path()).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let mut all = Vec::new();
        files(dir.path(), &mut all);
        let documents = all.iter().filter(|path| path.extension().is_some_and(|ending| ending == "md"));
        let (mut seen, mut wrong) = (0, Vec::new());
        for document in documents {
            for link in links(&std::fs::read_to_string(document).unwrap()).into_iter().filter(|link| !link.is_empty()) {
                seen += 1;
                if !document.parent().unwrap().join(link).is_file() {
                    wrong.push(format!("{}: {link}", document.strip_prefix(dir.path()).unwrap().display()));
                }
            }
        }
        assert_eq!((wrong, seen > 60), (Vec::<String>::new(), true), "{part}: {seen} links");
        // And what the unit names as its documentation.
        let text = read(&format!("deploy/{unit}.service"));
        let named = text.split(&format!("\nDocumentation=file:///usr/share/doc/{unit}/")).nth(1).unwrap();
        assert!(dir.path().join(named.lines().next().unwrap()).is_file(), "{unit}.service: {named}");
    }
}

/// A minimal Debian has the shell and the program, and no /bin/kill.
#[test]
fn the_units_call_the_program_and_the_shell_and_nothing_else() {
    for unit in ["dormgate.service", "dormgate-center.service"] {
        let text = read(&format!("deploy/{unit}"));
        let calls: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("Exec")?.split_once('=')).collect();
        assert!(calls.iter().any(|(when, _)| *when == "Reload"), "{unit}: {calls:?}");
        let is_there = |call: &str| {
            ["/usr/bin/dormgate ", "/usr/local/bin/dormgate-center ", "/bin/sh "]
                .iter()
                .any(|own| call.starts_with(own))
        };
        assert!(calls.iter().all(|(_, call)| is_there(call)), "{unit}: {calls:?}");
    }
}
