//! The client of the API: one request over HTTP or HTTPS, each on a connection of its own, and errors that name what to do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::mqtt::{BrokerUrl, LinkSpec, Secret, tls_config};

/// Longest time for a connection to the service, TLS included, in seconds.
pub const CONNECT_S: u64 = 10;
/// Longest time for an answer beyond the wait for gateways that was asked for, in seconds.
pub const ANSWER_S: u64 = 30;
/// Longest answer that is read, in bytes: the plan of the longest list.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Where the service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    is_tls: bool,
    host: String,
    port: u16,
    /// Before each path; empty, or it begins with `/` and does not end with it.
    prefix: String,
}

impl std::str::FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "a service is written `https://center.example` or `http://127.0.0.1:8490`";
        if text.contains('@') {
            return Err("a service's URL has no user; the token stands in the file of `--token-file`".to_owned());
        }
        let url: Uri = text.parse().map_err(|_| wanted.to_owned())?;
        let (is_tls, port) = match url.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err(wanted.to_owned()),
        };
        let host = url.host().filter(|host| !host.is_empty()).ok_or(wanted)?.to_owned();
        let port = url.port_u16().unwrap_or(port);
        if url.query().is_some() || text.contains('#') {
            return Err(format!("{wanted}, a path may follow and nothing else"));
        }
        if !is_tls && !(BrokerUrl { tls: false, host: host.clone(), port }).is_loopback() {
            return Err(format!("`http` to `{host}` would send the token readable; use `https`"));
        }
        Ok(Self { is_tls, host, port, prefix: url.path().trim_end_matches('/').to_owned() })
    }
}

impl std::fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.prefix)
    }
}

/// Why the service did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Nobody listens there.
    #[error(
        "`{server}`: connection refused; start `dormgate center serve` there, or correct `--server` (the port is that of `listen` in `[http]`)"
    )]
    Refused {
        /// Where.
        server: String,
    },
    /// There is no way to it.
    #[error("`{server}` cannot be reached: {why}; check the name and the network")]
    Unreachable {
        /// Where.
        server: String,
        /// Why not.
        why: io::Error,
    },
    /// No TLS.
    #[error("TLS with `{server}`: {why}; `--ca-file` names the authority that signed its certificate")]
    Tls {
        /// Where.
        server: String,
        /// Why not.
        why: String,
    },
    /// It takes too long.
    #[error("`{server}`: no {what} within {seconds} s; look at its log, and at the server between")]
    Late {
        /// Where.
        server: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
    },
    /// The connection ended before the answer.
    #[error("`{server}`: the connection ended before the answer: {why}")]
    Broken {
        /// Where.
        server: String,
        /// Why.
        why: String,
    },
    /// It does not do it.
    #[error("{} {}: {message}{}", status.as_u16(), code, remedy(*status))]
    Status {
        /// Its status.
        status: StatusCode,
        /// The code of the error.
        code: String,
        /// What is wrong, by the service.
        message: String,
    },
    /// What it answers is not what this version knows.
    #[error("`{server}`: the answer cannot be read: {why}; is it a `dormgate center serve` of this version?")]
    Unreadable {
        /// Where.
        server: String,
        /// Why not.
        why: String,
    },
    /// A change may have been made.
    #[error(
        "{source}; whether it was done is not known: repeat the command with `--idempotency-key {key}`, then it is done once"
    )]
    Unknown {
        /// What happened.
        source: Box<ServerError>,
        /// The key.
        key: String,
    },
}

fn remedy(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "; correct the file of `--token-file`, one line with the token",
        StatusCode::PAYLOAD_TOO_LARGE => "; send it in several parts",
        _ => "",
    }
}

impl ServerError {
    /// Whether the request may have been carried out all the same.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Late { what: ANSWER, .. } | Self::Broken { .. })
    }

    /// Whether the same request may succeed soon.
    pub(super) fn is_passing(&self) -> bool {
        let passes = |status: StatusCode| {
            matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY)
        };
        let is_away = matches!(self, Self::Refused { .. } | Self::Unreachable { .. });
        is_away || self.is_unknown() || matches!(self, Self::Status { status, .. } if passes(*status))
    }
}

const ANSWER: &str = "answer";

/// One request.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, &'a str)>,
    pub(super) body: Bytes,
    /// How long the service waits for gateways before it answers.
    pub(super) wait: Duration,
}

impl Ask<'_> {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), headers: Vec::new(), body: Bytes::new(), wait: Duration::ZERO }
    }
}

/// A service and who asks it.
pub(super) struct HttpClient {
    server: ServerUrl,
    token: Secret,
    tls: Option<Arc<ClientConfig>>,
}

#[derive(Deserialize)]
struct Envelope {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    code: String,
    message: String,
}

impl HttpClient {
    /// `link` names the files for TLS.
    pub(super) fn new(server: ServerUrl, token: Secret, link: &LinkSpec) -> Result<Self, ServerError> {
        let tls = server.is_tls.then(|| tls_config(link)).transpose();
        let tls = tls.map_err(|why| ServerError::Tls { server: server.to_string(), why })?;
        Ok(Self { server, token, tls })
    }

    pub(super) fn name(&self) -> String {
        self.server.to_string()
    }

    /// The whole answer, whatever its status.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<(StatusCode, Vec<u8>), ServerError> {
        let wait = ask.wait;
        let seconds = ANSWER_S.saturating_add(wait.as_secs());
        let answered = async {
            let response = self.response(ask).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
                Some(_) => self.unreadable(&format!("it has more than {ANSWER_BYTES_MAX} bytes")),
                None => self.broken(&*error),
            })?;
            Ok((status, body.to_bytes().to_vec()))
        };
        let limit = Duration::from_secs(ANSWER_S).saturating_add(wait);
        match timeout(limit, answered).await {
            Ok(answer) => answer,
            Err(_) => Err(ServerError::Late { server: self.name(), what: ANSWER, seconds }),
        }
    }

    /// The body of an answer that is a success; otherwise the error in it.
    pub(super) async fn done(&self, ask: Ask<'_>) -> Result<(StatusCode, Vec<u8>), ServerError> {
        let (status, body) = self.ask(ask).await?;
        if status.is_success() { Ok((status, body)) } else { Err(self.status(status, &body)) }
    }

    /// The error that an answer holds.
    pub(super) fn status(&self, status: StatusCode, body: &[u8]) -> ServerError {
        match serde_json::from_slice::<Envelope>(body) {
            Ok(Envelope { error: ErrorBody { code, message } }) => ServerError::Status { status, code, message },
            Err(_) => {
                let message = format!("`{}` is no `dormgate center serve`, or a server between answers", self.server);
                ServerError::Status { status, code: "not an answer of the API".to_owned(), message }
            }
        }
    }

    pub(super) fn unreadable(&self, why: &impl ToString) -> ServerError {
        ServerError::Unreadable { server: self.name(), why: why.to_string() }
    }

    fn broken(&self, why: &(dyn std::error::Error + 'static)) -> ServerError {
        // The cause is behind hyper's own words.
        let why = why.source().map_or_else(|| why.to_string(), |source| format!("{why}: {source}"));
        ServerError::Broken { server: self.name(), why }
    }

    /// The head of the answer, with the body still to come.
    pub(super) async fn response(&self, ask: Ask<'_>) -> Result<Response<Incoming>, ServerError> {
        let connected = timeout(Duration::from_secs(CONNECT_S), self.connect()).await;
        let late = ServerError::Late { server: self.name(), what: "connection", seconds: CONNECT_S };
        let mut sender = connected.map_err(|_| late)??;
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{}{}", self.server.prefix, ask.path))
            .header(HOST, format!("{}:{}", self.server.host, self.server.port))
            .header(AUTHORIZATION, format!("Bearer {}", self.token.expose()))
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(ask.body));
        let request = request.map_err(|_| ServerError::Status {
            status: StatusCode::UNAUTHORIZED,
            code: "unauthorized".to_owned(),
            message: "the token or the key has characters that a header cannot have".to_owned(),
        })?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        if response.status().is_redirection() {
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
            let message = format!("the service is at `{to}`; name it with `--server`");
            return Err(ServerError::Status { status: response.status(), code: "moved".to_owned(), message });
        }
        Ok(response)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ServerError> {
        let host = self.server.host.trim_matches(['[', ']']);
        let server = self.name();
        let stream = TcpStream::connect((host, self.server.port)).await.map_err(|why| match why.kind() {
            io::ErrorKind::ConnectionRefused => ServerError::Refused { server: server.clone() },
            _ => ServerError::Unreachable { server: server.clone(), why },
        })?;
        // An answer is one small packet behind a small request.
        stream.set_nodelay(true).ok();
        let Some(tls) = &self.tls else { return self.shake_hands(stream).await };
        let tls_error = |why: String| ServerError::Tls { server: server.clone(), why };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| tls_error(error.to_string()))?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
        self.shake_hands(stream.map_err(|error| tls_error(error.to_string()))?).await
    }

    async fn shake_hands(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<SendRequest<Full<Bytes>>, ServerError> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // Its error is that of the request.
        tokio::spawn(async move { connection.await.ok() });
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_scheme_host_port_and_path_and_a_token_is_never_sent_readable() {
        let right = [
            ("https://center.example", "https://center.example:443"),
            ("https://center.example:8443/dormgate/", "https://center.example:8443/dormgate"),
            ("http://127.0.0.1:8490", "http://127.0.0.1:8490"),
            ("http://[::1]:8490/", "http://[::1]:8490"),
            ("http://localhost", "http://localhost:80"),
        ];
        for (text, shown) in right {
            assert_eq!(text.parse::<ServerUrl>().map(|url| url.to_string()), Ok(shown.to_owned()));
        }
        let wrong = [
            ("center.example", "a service is written"),
            ("mqtt://center.example", "a service is written"),
            ("https://user:word@center.example", "has no user"),
            ("https://center.example/?a=b", "nothing else"),
            ("http://center.example", "use `https`"),
            ("http://192.0.2.7:8490", "use `https`"),
        ];
        for (text, part) in wrong {
            let error = text.parse::<ServerUrl>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
