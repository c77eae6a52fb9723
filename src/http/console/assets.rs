//! The files of the pages, as they are in the binary.

use axum::Router;

use crate::browser::files::{self, File, JS};

/// What this console has besides what every console has.
const FILES: &[File] = &[
    ("/console/app.js", JS, include_str!("page/app.js")),
    ("/console/live.js", JS, include_str!("page/live.js")),
    ("/console/now.js", JS, include_str!("page/now.js")),
    ("/console/card.js", JS, include_str!("page/card.js")),
    ("/console/doors.js", JS, include_str!("page/doors.js")),
    ("/console/charts.js", JS, include_str!("page/charts.js")),
    ("/console/facts.js", JS, include_str!("page/facts.js")),
    ("/console/sentences.js", JS, include_str!("page/sentences.js")),
    ("/console/audit.js", JS, include_str!("page/audit.js")),
];

pub(super) fn routes() -> Router {
    files::routes(FILES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::decision::GrantFlag;
    use crate::access::event::{AlarmKind, EventKind};
    use crate::access::portal::{PortalKind, Posture};
    use crate::access::uid_text::Spelling;

    #[test]
    fn every_name_that_the_gateway_sends_has_words_in_both_languages() {
        let words = files::SHARED.iter().find(|(path, ..)| path.ends_with("words.js")).unwrap().2;
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
        let flags = GrantFlag::ALL.iter().map(|flag| format!("\"{}\"", flag.as_str())).collect::<Vec<_>>().join(", ");
        assert!(words.contains(&format!("FLAGS = [{flags}]")), "the filter of the audit lacks a flag: {flags}");
        for name in all.concat() {
            assert!(words.contains(&name), "`{name}…` is missing in words.js");
        }
    }

    #[test]
    fn no_page_has_a_script_or_a_style_of_its_own_or_one_from_elsewhere() {
        files::check(FILES);
    }
}
