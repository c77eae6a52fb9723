//! The files of the pages, as they are in the binary.

use axum::Router;
use axum::http::header;
use axum::routing::get;

/// The type of a page.
pub const HTML: &str = "text/html; charset=utf-8";
/// The type of a module.
pub const JS: &str = "text/javascript; charset=utf-8";
/// The type of a style sheet.
pub const CSS: &str = "text/css; charset=utf-8";

/// A file: its path, its type and its text.
pub type File = (&'static str, &'static str, &'static str);

/// What every console has: the frame of the pages, their look, and the modules that all of them use. The frame loads `/console/app.js`,
/// which each console has of its own.
pub const SHARED: &[File] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/console/style.css", CSS, include_str!("page/style.css")),
    ("/console/frame.js", JS, include_str!("page/frame.js")),
    ("/console/api.js", JS, include_str!("page/api.js")),
    ("/console/changes.js", JS, include_str!("page/changes.js")),
    ("/console/words.js", JS, include_str!("page/words.js")),
    ("/console/dom.js", JS, include_str!("page/dom.js")),
    ("/console/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// Serves what every console has, and the `own` files of one.
pub fn routes<S: Clone + Send + Sync + 'static>(own: &'static [File]) -> Router<S> {
    SHARED.iter().chain(own).fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(|| async { ([(header::CONTENT_TYPE, *kind)], *text) }))
    })
}

/// Checks that the content security policy admits every file, that each is used, and that each text has words.
#[cfg(test)]
pub fn check(own: &'static [File]) {
    let files = || SHARED.iter().chain(own);
    for (path, _, text) in files() {
        for part in ["innerHTML", "eval(", "document.write", "https://", " style=", " onclick=", "<style"] {
            assert!(!text.contains(part), "{path}: `{part}` is against the content security policy");
        }
        let elsewhere = text.matches("http://").count() - text.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(elsewhere, 0, "{path} names another server");
    }
    let (.., html) = files().find(|(path, ..)| *path == "/").unwrap();
    assert_eq!(html.matches("<script").count(), 1);
    for (path, kind, _) in files().filter(|(path, ..)| *path != "/") {
        let name = path.trim_start_matches("/console/");
        let imported = |text: &str| text.contains(&format!("from \"./{name}\""));
        let is_used = html.contains(path) || *kind == JS && files().any(|(.., text)| imported(text));
        assert!(is_used, "{path} is used nowhere");
    }
    for (path, _, text) in files() {
        for name in text.split(" t(\"").chain(text.split("(t(\"")).skip(1).filter_map(|rest| rest.split_once("\")")) {
            let entry = format!("{}: [", name.0);
            let is_name = name.0.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(!is_name || files().any(|(.., text)| text.contains(&entry)), "{path}: no words for `{}`", name.0);
        }
    }
}
