//! What every reason and flag means and what to do about it, in English and Chinese, from the one table.

use serde_json::{Map, Value, json};

use crate::access::decision::{GrantFlag, GrantReason, Reason};
use crate::access::words::Words;

/// `{"granted":{"en":"…","zh":"…"},"replaced":{"en":"…","zh":"…","do_en":"…","do_zh":"…"},…}`
#[must_use]
pub fn words() -> Value {
    let entry = |name: &str, means: Words, remedy: Option<Words>| {
        let mut words = json!({ "en": means.en, "zh": means.zh });
        if let (Some(fields), Some(remedy)) = (words.as_object_mut(), remedy) {
            fields.insert("do_en".to_owned(), remedy.en.into());
            fields.insert("do_zh".to_owned(), remedy.zh.into());
        }
        (name.to_owned(), words)
    };
    let grants = GrantReason::ALL.iter().map(|reason| entry(reason.as_str(), reason.wording(), None));
    let denials = Reason::ALL.iter().map(|reason| entry(reason.as_str(), reason.wording(), Some(reason.remedy())));
    let flags = GrantFlag::ALL.iter().map(|flag| entry(flag.as_str(), flag.wording(), Some(flag.remedy())));
    Value::Object(grants.chain(denials).chain(flags).collect::<Map<_, _>>())
}
