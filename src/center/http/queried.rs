//! The query of a request.

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use super::failure::Failure;
use crate::browser::query;

/// What the query of a request asks for.
pub(super) struct Queried<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Queried<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self(query::read(&parts.uri)?))
    }
}

/// Refuses the query of a path that has none, as the others refuse a key that they do not have.
pub(super) async fn no_query(request: Request, next: Next) -> Response {
    match query::none(request.uri()) {
        Ok(()) => next.run(request).await,
        Err(error) => Failure::from(error).into_response(),
    }
}

impl From<query::QueryError> for Failure {
    fn from(error: query::QueryError) -> Self {
        Self::field(error.key.as_deref().unwrap_or("query"), error.message)
    }
}
