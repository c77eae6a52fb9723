//! The files of the pages, as they are in the binary.

use axum::Router;
use axum::http::header;
use axum::routing::get;

const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// Each file: its path, its type and its bytes.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/console/style.css", CSS, include_str!("page/style.css")),
    ("/console/app.js", JS, include_str!("page/app.js")),
    ("/console/api.js", JS, include_str!("page/api.js")),
    ("/console/words.js", JS, include_str!("page/words.js")),
    ("/console/dom.js", JS, include_str!("page/dom.js")),
    ("/console/live.js", JS, include_str!("page/live.js")),
    ("/console/now.js", JS, include_str!("page/now.js")),
    ("/console/card.js", JS, include_str!("page/card.js")),
    ("/console/doors.js", JS, include_str!("page/doors.js")),
    ("/console/charts.js", JS, include_str!("page/charts.js")),
    ("/console/audit.js", JS, include_str!("page/audit.js")),
    ("/console/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

pub(super) fn routes() -> Router {
    FILES.iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(|| async { ([(header::CONTENT_TYPE, *kind)], *text) }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::event::{AlarmKind, EventKind};
    use crate::access::portal::{PortalKind, Posture};
    use crate::access::uid_text::Spelling;

    #[test]
    fn every_name_that_the_gateway_sends_has_words_in_both_languages() {
        let words = FILES.iter().find(|(path, ..)| path.ends_with("words.js")).unwrap().2;
        let names = |prefix: &str, names: Vec<&'static str>| {
            names.into_iter().map(|name| format!("{prefix}{name}: [")).collect::<Vec<_>>()
        };
        let all = [
            names("", AlarmKind::ALL.iter().map(|kind| kind.as_str()).collect()),
            names("", EventKind::ALL.iter().map(|kind| kind.as_str()).collect()),
            names("kind_", PortalKind::ALL.iter().map(|kind| kind.as_str()).collect()),
            names("posture_", Posture::ALL.iter().map(|posture| posture.as_str()).collect()),
            names("spelling_", Spelling::ALL.iter().map(|spelling| spelling.as_str()).collect()),
        ];
        for name in all.concat() {
            assert!(words.contains(&name), "`{name}…` is missing in words.js");
        }
    }

    #[test]
    fn no_page_has_a_script_or_a_style_of_its_own_or_one_from_elsewhere() {
        for (path, _, text) in FILES {
            for part in ["innerHTML", "eval(", "document.write", "https://", " style=", " onclick=", "<style"] {
                assert!(!text.contains(part), "{path}: `{part}` is against the content security policy");
            }
            let elsewhere = text.matches("http://").count() - text.matches("http://www.w3.org/2000/svg").count();
            assert_eq!(elsewhere, 0, "{path} names another server");
        }
        let html = FILES[0].2;
        assert_eq!(html.matches("<script").count(), 1);
        let mut named = FILES.iter().skip(1).filter(|(path, ..)| !path.ends_with(".js"));
        assert!(named.all(|(path, ..)| html.contains(path)), "every file is used");
    }
}
