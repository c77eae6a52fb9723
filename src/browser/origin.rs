//! Where a request of a browser comes from. A browser sends the cookie of a session by itself, whichever page makes it ask; so a request
//! with one must come from the console's own pages (`Sec-Fetch-Site`, `Origin`).

use axum::http::{HeaderMap, Method, header};

/// A header as text.
#[must_use]
pub fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether a request may be one of the console's own pages: none that reads comes from another site, and none that changes something
/// from another origin.
pub fn own_page(method: &Method, headers: &HeaderMap) -> Result<(), &'static str> {
    if text(headers, "sec-fetch-site") == Some("cross-site") {
        return Err("a page of another site may not ask the console");
    }
    if method.is_safe() { Ok(()) } else { same_origin(headers) }
}

/// Whether a request that changes something comes from the console's own pages.
pub fn same_origin(headers: &HeaderMap) -> Result<(), &'static str> {
    if text(headers, "sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return Err("a page of another origin may not order anything here");
    }
    let Some(origin) = text(headers, header::ORIGIN.as_str()) else {
        return Err("`Origin` is missing; a browser sends it. A program sends `Authorization: Bearer TOKEN` instead");
    };
    let of = origin.split_once("://").map(|(_, authority)| authority);
    if of.is_none() || of != text(headers, header::HOST.as_str()) {
        return Err("`Origin` is not this console's; a proxy in front of it has to pass on the `Host` of the browser");
    }
    Ok(())
}

/// Whether the page came over HTTPS.
pub(crate) fn is_https(headers: &HeaderMap) -> bool {
    text(headers, header::ORIGIN.as_str()).is_some_and(|origin| origin.starts_with("https://"))
}
