//! The architecture as `src/lib.rs` draws it: which way imports point, which library is named where, and that a file stays one idea
//! long. Reads the sources as text, without comments and without their unit tests; a test may reach further than the code.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Longest source file in lines; a longer one usually holds two ideas.
const LINES_MAX: usize = 450;

/// Each top-level module, and the top-level modules that it may name.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("access", &[]),
    ("wire", &["access"]),
    ("profile", &["access", "wire"]),
    ("config", &["access", "wire", "profile"]),
    ("clock", &["access"]),
    ("store", &["access", "wire"]),
    ("gateway", &["access", "wire", "profile", "config", "clock", "store"]),
    ("mqtt", &["access", "wire", "profile", "config", "clock"]),
    ("browser", &["access"]),
    ("uplink", &["access", "wire", "profile", "config", "clock", "store", "gateway", "mqtt"]),
    ("portals", &["access", "wire", "profile", "config", "clock", "store", "gateway", "mqtt"]),
    ("http", &["access", "wire", "profile", "config", "clock", "store", "gateway", "mqtt", "browser"]),
    ("center", &["access", "wire", "profile", "config", "clock", "mqtt", "browser"]),
    ("workbench", &["access", "wire", "profile", "config", "clock", "store", "gateway", "mqtt"]),
    (
        "cli",
        &[
            "access",
            "wire",
            "profile",
            "config",
            "clock",
            "store",
            "gateway",
            "mqtt",
            "uplink",
            "portals",
            "http",
            "center",
            "workbench",
        ],
    ),
];

/// Each library with a place, and the only places (beginnings of paths under `src/`) that may name it.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("serde", &["access/", "wire/", "profile/", "config/", "store/", "browser/", "http/", "center/"]),
    ("serde_json", &["wire/", "profile/", "config/", "store/", "browser/", "http/", "center/http/"]),
    ("rumqttc", &["mqtt", "uplink/", "portals/mqtt", "workbench/", "cli/"]),
    ("tokio_modbus", &["portals/modbus", "wire/modbus/", "workbench/"]),
    ("sled", &["store/"]),
    ("axum", &["browser/", "http/", "center/http/"]),
    ("hyper", &["http/serve.rs", "center/http/"]),
    ("hyper_util", &["http/serve.rs", "center/http/"]),
    ("http_body_util", &["center/http/"]),
    ("rusqlite", &["center/database/"]),
    ("clap", &["cli/"]),
];

/// Words that the pure layers must not contain.
const NOT_IN_PURE: &[(&str, &[&str])] = &[
    ("access/", &["tokio", "serde_json", "sled", "tracing", "std::time", "std::fs", "std::net", "std::io", "std::env"]),
    ("wire/", &["tokio", "sled", "tracing", "rumqttc", "std::time", "std::fs", "std::env"]),
];

/// Every file under `src/` by its path there.
type Sources = BTreeMap<String, String>;

fn read_dir(dir: &Path, under: &str, sources: &mut Sources) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{under}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read_dir(&entry.path(), &format!("{name}/"), sources);
        } else if name.ends_with(".rs") {
            sources.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

fn sources() -> Sources {
    let mut sources = Sources::new();
    read_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources);
    sources
}

/// The code of a file: without comments, and without its tests, which stand at its end or in a file of their own.
fn code(path: &str, text: &str) -> String {
    if path.ends_with("tests.rs") || path.contains("/tests/") {
        return String::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|two| {
        matches!(two, [cfg, module] if *cfg == "#[cfg(test)]" && module.starts_with("mod ") && module.ends_with('{'))
    });
    let code = lines.iter().take(tests.unwrap_or(lines.len()));
    code.map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// The top-level module of a file; nothing for `lib.rs` and `main.rs`.
fn top_module(path: &str) -> Option<&str> {
    let top = path.split('/').next()?.trim_end_matches(".rs");
    (top != "lib" && top != "main").then_some(top)
}

/// The identifiers right behind each `prefix` in `code`; of a list in braces, each one's first.
fn named_behind(code: &str, prefix: &str) -> Vec<String> {
    let ident = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut named = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code.get(..at).and_then(|t| t.chars().next_back());
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let rest = code.get(at + prefix.len()..).unwrap();
        match rest.strip_prefix('{') {
            None => named.push(ident(rest)),
            Some(list) => {
                let mut depth = 0_i32;
                let mut item = String::new();
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => named.push(ident(std::mem::take(&mut item).trim())),
                        _ => {}
                    }
                    if !(c == ',' && depth == 0) {
                        item.push(c);
                    }
                }
                named.push(ident(item.trim()));
            }
        }
    }
    named.retain(|name| !name.is_empty());
    named
}

/// Whether `word` (a name or a path) stands in `code` as a word of its own.
fn has_word(code: &str, word: &str) -> bool {
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code.get(..at).and_then(|t| t.chars().next_back());
        let after = code.get(at + word.len()..).and_then(|t| t.chars().next());
        !before.is_some_and(of_word) && !after.is_some_and(of_word)
    })
}

/// Whether `word` stands in `code` as a library: at the beginning of a path, or in a `use`.
fn names_library(code: &str, library: &str) -> bool {
    let path = format!("{library}::");
    code.match_indices(&path).any(|(at, _)| {
        let before = code.get(..at).and_then(|t| t.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    }) || has_word(code, &format!("use {library}"))
}

fn wrong_imports(sources: &Sources) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, text) in sources {
        let Some(top) = top_module(path) else { continue };
        let Some((_, allowed)) = MAY_NAME.iter().find(|(module, _)| *module == top) else {
            wrong.push(format!(
                "src/{path}: `{top}` has no place in the architecture; add it to `MAY_NAME` and to src/lib.rs"
            ));
            continue;
        };
        let code = code(path, text);
        // `super::` as often as the file is deep is `crate::` under another name.
        let depth = path.trim_end_matches("/mod.rs").split('/').count();
        let roots = ["crate::".to_owned(), "super::".repeat(depth)];
        for named in roots.iter().flat_map(|root| named_behind(&code, root)) {
            let is_module = MAY_NAME.iter().any(|(module, _)| *module == named);
            if is_module && named != top && !allowed.contains(&named.as_str()) {
                wrong.push(format!("src/{path}: `{top}` names `{named}`, and imports point the other way"));
            }
        }
    }
    wrong
}

/// Each path that the `use` lines of `code` name, without what is behind `as`.
fn used_paths(code: &str) -> Vec<String> {
    fn expand(before: &str, tree: &str, paths: &mut Vec<String>) {
        let (mut depth, mut from) = (0_i32, 0);
        for (at, c) in tree.char_indices().chain([(tree.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    let item = tree.get(from..at).unwrap().trim();
                    from = at + 1;
                    match item.split_once('{') {
                        Some((head, list)) => {
                            expand(&format!("{before}{head}"), list.strip_suffix('}').unwrap_or(list), paths);
                        }
                        None if item.is_empty() => {}
                        None => paths.push(format!("{before}{}", item.split(' ').next().unwrap())),
                    }
                }
                _ => {}
            }
        }
    }
    let mut paths = Vec::new();
    for line in code.split(';') {
        let Some((_, tree)) = line.split_once("use ").filter(|(before, _)| !before.contains("fn ")) else { continue };
        expand("", &tree.replace('\n', " "), &mut paths);
    }
    // What is named in full where it is used.
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let is_inside = code.get(..at).unwrap().ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':'));
            let path = code.get(at..).unwrap();
            let end = path.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | ':')).unwrap_or(path.len());
            if !is_inside {
                paths.push(path.get(..end).unwrap().to_owned());
            }
        }
    }
    paths
}

/// The file under `src/` that `path`, used in the file `from`, leads into; nothing for what a parent of it defines or names again.
fn file_of(sources: &Sources, from: &str, path: &str) -> Option<String> {
    let mut at: Vec<&str> = from.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
    let mut parts = path.split("::").peekable();
    match *parts.peek()? {
        "crate" => {
            at.clear();
            parts.next();
        }
        "self" => drop(parts.next()),
        "super" => {}
        _ => return None,
    }
    while parts.next_if_eq(&"super").is_some() {
        at.pop();
    }
    let mut found = None;
    for part in parts {
        at.push(part);
        let name = format!("{}.rs", at.join("/"));
        if sources.contains_key(&name) {
            found = Some(name);
        }
    }
    found.filter(|found| found != from)
}

/// Files that use each other, directly or through others. A directory's `mod.rs` is its table of contents and is in no circle.
fn circles(sources: &Sources) -> Vec<String> {
    let uses: BTreeMap<&str, Vec<String>> = sources
        .iter()
        .filter(|(path, _)| !path.ends_with("mod.rs"))
        .map(|(path, text)| {
            let used = used_paths(&code(path, text));
            (path.as_str(), used.iter().filter_map(|used| file_of(sources, path, used)).collect())
        })
        .collect();
    let reached = |from: &str| {
        let mut reached = BTreeSet::new();
        let mut next = vec![from.to_owned()];
        while let Some(path) = next.pop() {
            for used in uses.get(path.as_str()).into_iter().flatten() {
                if reached.insert(used.clone()) {
                    next.push(used.clone());
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<String>> = uses.keys().map(|path| (*path, reached(path))).collect();
    let is_in_circle = |path: &&&str| reached.get(**path).is_some_and(|all| all.contains(**path));
    let wrong = uses.keys().filter(is_in_circle);
    wrong.map(|path| format!("src/{path}: uses a file that uses it, directly or through others")).collect()
}

fn misplaced_libraries(sources: &Sources) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, text) in sources {
        let code = code(path, text);
        for (library, places) in ONLY_IN {
            if names_library(&code, library) && !places.iter().any(|place| path.starts_with(place)) {
                wrong.push(format!("src/{path}: names `{library}`, which belongs in {}", places.join(", ")));
            }
        }
        for (layer, words) in NOT_IN_PURE.iter().filter(|(layer, _)| path.starts_with(layer)) {
            for word in words.iter().filter(|word| has_word(&code, word)) {
                wrong.push(format!("src/{path}: names `{word}`, and {layer} is pure"));
            }
        }
    }
    let with_sled: Vec<_> = sources.iter().filter(|(path, text)| names_library(&code(path, text), "sled")).collect();
    if with_sled.len() > 1 {
        let files: Vec<_> = with_sled.iter().map(|(path, _)| format!("src/{path}")).collect();
        wrong.push(format!("{} name `sled`; one file does", files.join(", ")));
    }
    wrong
}

fn untidy_files(sources: &Sources) -> Vec<String> {
    let map: String = sources.get("lib.rs").unwrap().lines().filter(|line| line.starts_with("//!")).collect();
    let mut wrong = Vec::new();
    for (path, text) in sources {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("src/{path}: {lines} lines; does it hold two ideas?"));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("src/{path}: does not begin with what it owns (`//!`)"));
        }
        let names: Vec<&str> = path.split('/').map(|part| part.trim_end_matches(".rs")).collect();
        if names.contains(&"core") {
            wrong.push(format!("src/{path}: no module is called `core`, it shadows the crate"));
        }
        // Directories at any depth, and files at the top.
        let modules = match (top_module(path), names.as_slice()) {
            (None, _) => &[],
            (Some(_), [file]) => std::slice::from_ref(file),
            (Some(_), [directories @ .., _]) => directories,
            (Some(_), []) => &[],
        };
        let on_map = |name: &str| map.contains(&format!("`{name}`")) || map.contains(&format!("/{name}`"));
        let missing = |name: &&&str| **name != "tests" && !on_map(name);
        if let Some(name) = modules.iter().find(missing) {
            wrong.push(format!("src/{path}: `{name}` is not on the map in src/lib.rs"));
        }
    }
    wrong
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn imports_point_the_way_the_map_reports() {
    assert_none(&wrong_imports(&sources()));
}

#[test]
fn no_files_use_each_other() {
    assert_none(&circles(&sources()));
}

#[test]
fn each_library_is_named_only_where_it_belongs() {
    assert_none(&misplaced_libraries(&sources()));
}

#[test]
fn each_file_is_one_idea_long_reports_what_it_owns_and_is_on_the_map() {
    assert_none(&untidy_files(&sources()));
}

#[test]
fn violations_are_found() {
    let tree = |files: &[(&str, &str)]| -> Sources {
        let map = ("lib.rs", "//! `access`, `wire`, `store`, `uplink`, `portals`, `mqtt`, `gateway`\n");
        files.iter().chain([&map]).map(|(path, text)| ((*path).to_owned(), format!("//! x\n{text}"))).collect()
    };
    let one = |check: fn(&Sources) -> Vec<String>, files: &[(&str, &str)]| {
        let wrong = check(&tree(files));
        assert_eq!(wrong.len(), 1, "{files:?}: {wrong:?}");
    };
    one(wrong_imports, &[("access/list.rs", "use crate::wire::time;")]);
    one(wrong_imports, &[("access/list.rs", "use super::super::wire::time;")]);
    one(wrong_imports, &[("wire/mod.rs", "fn f() { super::gateway::run() }")]);
    one(wrong_imports, &[("uplink/mod.rs", "use crate::{access::id, portals::mqtt::{A, B}};")]);
    one(wrong_imports, &[("portals/mqtt/mod.rs", "use crate::{\n    access::id,\n    uplink,\n};")]);
    one(wrong_imports, &[("attic.rs", "")]);
    let circle = |files: &[(&str, &str)]| assert_eq!(circles(&tree(files)).len(), files.len(), "{files:?}");
    circle(&[("access/a.rs", "use super::b::B;"), ("access/b.rs", "use super::super::access::{c, a::{self, A}};")]);
    circle(&[
        ("access/a.rs", "use crate::access::b::B;"),
        ("access/b.rs", "pub(super) use super::c::{\n    C,\n};"),
        ("access/c.rs", "use crate::{wire, access::a::A as B};"),
    ]);
    circle(&[("access/a.rs", "fn a() { super::b::b() }"), ("access/b.rs", "use super::a::a;")]);
    one(misplaced_libraries, &[("gateway/mod.rs", "#[derive(serde::Serialize)]")]);
    one(misplaced_libraries, &[("gateway/mod.rs", "use rumqttc;")]);
    one(misplaced_libraries, &[("store/a.rs", "use sled::Db;"), ("store/b.rs", "sled::open()")]);
    one(misplaced_libraries, &[("access/list.rs", "use std::time::Duration;")]);
    one(misplaced_libraries, &[("wire/body.rs", "std::fs::read(x)")]);
    one(untidy_files, &[("access/list.rs", &"x\n".repeat(LINES_MAX))]);
    one(untidy_files, &[("access/core.rs", "")]);
    one(untidy_files, &[("portals/modbus/bus.rs", "")]);
    one(untidy_files, &[("attic.rs", "")]);

    let order = tree(&[
        (
            "access/list.rs",
            "use super::id;\n/// As crate::wire::time has it.\n#[cfg(test)]\nmod tests {\nuse crate::wire::x;\n}",
        ),
        ("portals/mqtt/mod.rs", "use crate::mqtt;\nuse super::super::gateway;\nuse super::mqtt::x;"),
    ]);
    assert_none(&wrong_imports(&order));
    let one_way =
        [("access/a.rs", "use super::{b::B, mod_item};"), ("access/b.rs", "use super::A;\nuse crate::access::C;")];
    assert_none(&circles(&tree(&one_way)));
    assert_none(&misplaced_libraries(&order));
    assert_none(&untidy_files(&order));
}
