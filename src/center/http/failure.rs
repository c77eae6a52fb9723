//! The one shape of an error: `{"error":{"code","message","op"?,"field"?}}`. Codes that the wire contract has are spelled as there.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::super::CenterError;
use super::super::sheet::{Fault, Faults};
use crate::access::change::OpError;

/// Why a request is not done.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    body: Body,
}

#[derive(Debug, Serialize)]
struct Body {
    code: String,
    message: String,
    /// Place of the op in `ops`.
    #[serde(skip_serializing_if = "Option::is_none")]
    op: Option<u32>,
    /// The field, as a path in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// What is wrong with a sheet, place by place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<Fault>,
}

#[derive(Serialize)]
struct Envelope<'b> {
    error: &'b Body,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            body: Body { code: code.to_owned(), message: message.into(), op: None, field: None, faults: Vec::new() },
        }
    }

    /// A field that is wrong.
    pub(super) fn field(field: &str, message: impl Into<String>) -> Self {
        let mut failure = Self::new(StatusCode::BAD_REQUEST, "invalid_field", message);
        failure.body.field = Some(field.to_owned());
        failure
    }

    /// The same, of the op at this place.
    pub(super) fn of_op(mut self, place: u32) -> Self {
        self.body.op = Some(place);
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn busy() -> Self {
        let message = "too many requests are answered at present; try again in a second";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    /// A permission that the client lacks.
    pub(super) fn forbidden(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// The first of what is wrong with ops; the message counts the others.
    pub(super) fn ops(errors: &[OpError]) -> Self {
        let Some(first) = errors.first() else {
            return Self::new(StatusCode::BAD_REQUEST, "invalid_field", "the ops cannot be read");
        };
        let mut failure = Self::new(StatusCode::BAD_REQUEST, first.code.as_str(), first.message.clone());
        // A message about a field begins with its path between backticks.
        let mut quoted = first.message.split('`');
        failure.body.field = quoted.next().filter(|before| before.is_empty()).and(quoted.next()).map(str::to_owned);
        failure.body.op = first.op;
        if errors.len() > 1 {
            failure.body.message.push_str(&format!(" (and {} more are wrong)", errors.len() - 1));
        }
        failure
    }

    /// A sheet that is wrong; the message has the first fault and counts the others.
    pub(super) fn sheet(faults: Faults) -> Self {
        let first = faults.listed.first().map(ToString::to_string).unwrap_or_default();
        let others = (faults.listed.len() + faults.more).saturating_sub(1);
        let others = if others > 0 { format!(" (and {others} more are wrong)") } else { String::new() };
        let message = format!("{first}{others}; nothing was loaded");
        let mut failure = Self::new(StatusCode::BAD_REQUEST, "invalid_sheet", message);
        failure.body.faults = faults.listed;
        failure
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> (&str, Option<u32>, Option<&str>) {
        (&self.body.code, self.body.op, self.body.field.as_deref())
    }
}

impl From<CenterError> for Failure {
    fn from(error: CenterError) -> Self {
        let (status, code) = match &error {
            CenterError::NoOwner(_) => (StatusCode::BAD_REQUEST, "forbidden_op"),
            CenterError::NoGateway(_) => return Self::field("gateway", error.to_string()),
            CenterError::UnknownGateway(_) => (StatusCode::NOT_FOUND, "unknown_gateway"),
            CenterError::NoOp | CenterError::Draft(_) | CenterError::Write(_) => {
                (StatusCode::BAD_REQUEST, "invalid_field")
            }
            CenterError::Refused { error: refused, .. } => {
                let mut failure = Self::ops(std::slice::from_ref(refused));
                failure.body.message = error.to_string();
                return failure;
            }
            CenterError::Slip { op, slip } => {
                let (code, field) = slip.code();
                let mut failure = Self::field(&format!("ops[{op}].{field}"), error.to_string()).of_op(*op);
                failure.body.code = code.to_owned();
                return failure;
            }
            CenterError::VisitorAgain { .. } => (StatusCode::CONFLICT, "visitor_again"),
            CenterError::EnrolledForAnother { .. } => (StatusCode::CONFLICT, "enrolled_for_another"),
            CenterError::Ahead(_) => (StatusCode::CONFLICT, "numbers_used"),
            CenterError::Shrinks(_) => (StatusCode::CONFLICT, "shrinks"),
            CenterError::TooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            CenterError::Conflict => (StatusCode::CONFLICT, "idempotency_conflict"),
            CenterError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            CenterError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // A body of these types always has a JSON form.
        let text = serde_json::to_string(&Envelope { error: &self.body }).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}
