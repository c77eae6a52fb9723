//! Tries a broker step by step, as a link would use it, and names the first thing that is wrong and what to do. For an installer in
//! front of a box: a running gateway is not disturbed, because another client id is used, unless the broker gives each user one
//! client id (`use_username_as_clientid` of mosquitto).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::tokio_rustls::TlsConnector;
use rumqttc::tokio_rustls::rustls::ProtocolVersion;
use rumqttc::tokio_rustls::rustls::pki_types::ServerName;
use rumqttc::{AsyncClient, Event, Packet, QoS, SubscribeReasonCode};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::connect::{self, Accepted, Setup, Try};
use super::echo::{ECHO_COUNT, ECHO_SLOW_MS, median};
use super::pump::{DisconnectReason, EventPump};
use super::tls::{TlsFiles, tls_config};
use crate::config::{BrokerUrl, LinkSpec, Session};

/// Longest wait for one step, in seconds.
pub const STEP_S: u64 = 5;
/// How long retained messages are waited for where nothing is sent that comes back behind them, in seconds.
const RETAINED_S: u64 = 1;
/// What is added to the client's id.
const SUFFIX: &str = "-connect-test";
/// Retained messages that are kept for the caller.
const RETAINED_MAX: usize = 64;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Step {
    /// The host's name becomes addresses.
    Resolve,
    /// TCP.
    Connect,
    /// The broker's certificate, and this machine's files for TLS.
    Tls,
    /// User, password, client certificate.
    Login,
    /// Each filter that the link needs.
    Subscribe,
    /// A message to oneself.
    Echo,
    /// The same, kept by the broker.
    Retained,
    /// The same, as long as messages become.
    Size,
}

/// What a step found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// As it has to be.
    Good(String),
    /// It works, and should be mended.
    Poor(String),
    /// What is wrong and what to do. There is no further step.
    Wrong(String),
}

/// A message that the broker had kept.
pub type Retained = (String, Vec<u8>);

/// Tries one broker of a link. `payload_bytes`: the longest message that the link has to carry, if that is to be tried. Gives the
/// messages that the broker had retained for the link's subscriptions, unless something is wrong.
pub async fn probe(
    spec: &LinkSpec,
    url: &BrokerUrl,
    setup: Setup,
    payload_bytes: Option<usize>,
    mut report: impl FnMut(Step, Finding),
) -> Option<Vec<Retained>> {
    let tried = steps(spec, url, setup, payload_bytes, &mut report).await;
    tried.map_err(|(step, wrong)| report(step, Finding::Wrong(wrong))).ok()
}

/// The steps one after the other, up to the first with something wrong.
async fn steps(
    spec: &LinkSpec,
    url: &BrokerUrl,
    setup: Setup,
    payload_bytes: Option<usize>,
    report: &mut impl FnMut(Step, Finding),
) -> Result<Vec<Retained>, (Step, String)> {
    let at = |step| move |wrong| (step, wrong);
    let (addresses, good) = resolve(url).await.map_err(at(Step::Resolve))?;
    report(Step::Resolve, Finding::Good(good));
    let (stream, good) = tcp(&addresses).await.map_err(at(Step::Connect))?;
    report(Step::Connect, Finding::Good(good));
    if url.tls {
        report(Step::Tls, tls(spec, url, stream).await.map_err(at(Step::Tls))?);
    }
    let spec = LinkSpec { client_id: format!("{}{SUFFIX}", spec.client_id), ..spec.clone() };
    let setup = Setup { session: Session::Clean, will: None, ..setup };
    let mut session = login(spec, url, &setup).await.map_err(at(Step::Login))?;
    report(Step::Login, Finding::Good("accepted".to_owned()));
    report(Step::Subscribe, session.subscribe(&setup).await.map_err(at(Step::Subscribe))?);
    if let Some(topic) = setup.echo_topic {
        report(Step::Echo, session.echoes(&topic).await.map_err(at(Step::Echo))?);
        report(Step::Retained, session.retains(&topic).await.map_err(at(Step::Retained))?);
        if let Some(bytes) = payload_bytes {
            report(Step::Size, session.carries(&topic, bytes).await.map_err(at(Step::Size))?);
        }
    } else {
        // Nothing that comes back shows when all that is retained has come.
        let all = async { while session.next(None).await.is_ok() {} };
        timeout(Duration::from_secs(RETAINED_S), all).await.ok();
    }
    session.client.disconnect().await.ok();
    Ok(session.retained)
}

async fn resolve(url: &BrokerUrl) -> Result<(Vec<SocketAddr>, String), String> {
    let host = url.host.trim_matches(['[', ']']);
    let found = timeout(Duration::from_secs(STEP_S), lookup_host((host, url.port))).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => {
            return Err(format!(
                "`{host}` has no address: {error}; correct the name in `urls`, or the DNS server of this box"
            ));
        }
        Err(_) => {
            return Err(format!(
                "no answer about `{host}` within {STEP_S} s; look at the DNS server of this box (`resolvectl status`)"
            ));
        }
    };
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    if addresses.is_empty() {
        return Err(format!("`{host}` has no address; correct the name in `urls`"));
    }
    Ok((addresses, shown.join(", ")))
}

async fn tcp(addresses: &[SocketAddr]) -> Result<(TcpStream, String), String> {
    let mut wrong = String::new();
    for address in addresses {
        let begun = Instant::now();
        wrong = match timeout(Duration::from_secs(STEP_S), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, format!("{address} in {} ms", begun.elapsed().as_millis()))),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                format!("nothing listens at {address}; start the broker, or correct the port in `urls`")
            }
            Ok(Err(error)) => format!("{address} cannot be reached: {error}; look at the network of this box"),
            Err(_) => format!(
                "no answer from {address} within {STEP_S} s; a firewall on the way drops it, or the network has no way there"
            ),
        };
    }
    Err(wrong)
}

async fn tls(spec: &LinkSpec, url: &BrokerUrl, stream: TcpStream) -> Result<Finding, String> {
    let config = tls_config(spec)?;
    let name = ServerName::try_from(url.host.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(|error| format!("`{}` cannot be in a certificate: {error}; correct `urls`", url.host))?;
    let hands = timeout(Duration::from_secs(STEP_S), TlsConnector::from(config).connect(name, stream)).await;
    match hands {
        Err(_) => Err(format!(
            "no answer within {STEP_S} s; a port without TLS waits like this: use mqtt://, or the port for TLS, mostly 8883"
        )),
        Ok(Err(error)) => {
            let text = error.to_string();
            Err(format!("{text}; {}", tls_remedy(&text)))
        }
        Ok(Ok(stream)) => {
            let version = match stream.get_ref().1.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
                Some(_) | None => "TLS",
            };
            Ok(Finding::Good(format!("{version}, and the certificate is one for `{}`", url.host)))
        }
    }
}

/// What to do where the other side does not answer as TLS does.
const NO_TLS: &str = "this port uses no TLS: use mqtt://, or the port for TLS, mostly 8883";

/// What to do, by the error of the TLS library.
fn tls_remedy(error: &str) -> &'static str {
    let remedies = [
        ("UnknownIssuer", "`ca_file` has to be of the authority that issued the broker's certificate"),
        ("BadSignature", "`ca_file` has to be of the authority that issued the broker's certificate"),
        ("not valid for", "write a host that is in the certificate in `urls`, or have one issued for this host"),
        ("NotValidForName", "write a host that is in the certificate in `urls`, or have one issued for this host"),
        ("expired", "renew the broker's certificate; if it is valid, the clock of this box is wrong (`timedatectl`)"),
        ("Expired", "renew the broker's certificate; if it is valid, the clock of this box is wrong (`timedatectl`)"),
        ("not valid yet", "the clock of this box is wrong (`timedatectl`), or the broker's certificate begins later"),
        ("NotValidYet", "the clock of this box is wrong (`timedatectl`), or the broker's certificate begins later"),
        ("corrupt message", NO_TLS),
        ("eof", NO_TLS),
        ("reset by peer", NO_TLS),
    ];
    let found = remedies.iter().find(|(part, _)| error.contains(part));
    found.map_or("look at the certificates of the broker, and at its log", |(_, remedy)| remedy)
}

/// What the error at a login has where the broker does not take the gateway's certificate. The broker's own was accepted a step before, so
/// an alert is about the other one.
const CERTIFICATE_ERRORS: [&str; 2] = ["certificate", "fatal alert"];

async fn login(spec: LinkSpec, url: &BrokerUrl, setup: &Setup) -> Result<Client, String> {
    let files = Arc::new(TlsFiles::new(setup.link, Arc::default()));
    let attempt = Try { url: url.clone(), number: 1, clean: true, patient: true };
    let (has_certificate, refused) = (spec.client_cert.is_some(), login_remedy(&spec, setup.link));
    match connect::connect(spec, files, setup, attempt).await {
        Ok(Accepted { client, pump, .. }) => Ok(Client { client, pump, retained: Vec::new() }),
        Err(reason) => {
            let text = reason.text();
            let remedy = if text.contains("BadClientId") {
                "the broker does not take the name: look at `client_id` (the test adds `-connect-test` to it) and at the broker's rules for names"
            } else if text.contains("ServiceUnavailable") {
                "the broker is there and takes nobody at present: start what it needs, or try again later"
            } else if ["NotAuthorized", "BadUserNamePassword"].iter().any(|code| text.contains(code)) {
                refused.as_str()
            } else if CERTIFICATE_ERRORS.iter().any(|part| text.to_lowercase().contains(part)) {
                if has_certificate {
                    "the broker does not accept the certificate of `cert_file`: have it issued by the authority that the broker trusts"
                } else {
                    "the broker wants a certificate of this gateway: set `cert_file` and `key_file`"
                }
            } else if matches!(reason, DisconnectReason::Closed(_)) && !url.tls {
                "the broker closed the connection unanswered: a port for TLS wants mqtts://; otherwise look at its log"
            } else if !url.tls {
                "what listens there may be no MQTT broker, or a port for TLS: compare the port in `urls`; otherwise look at the broker's log"
            } else {
                "look at the broker's log"
            };
            Err(format!("{text}; {remedy}"))
        }
    }
}

/// What to do where the broker does not accept who the gateway is. The service has its secrets from systemd, and a shell has none of them.
fn login_remedy(spec: &LinkSpec, link: &str) -> String {
    match &spec.credentials {
        None => "the broker wants a user: set `username` and `password_file`".to_owned(),
        Some(credentials) if credentials.password.is_none() => format!(
            "there is no password for `username`: name its file as `password_file`, or give the credential `{link}_password` as \
             systemd does, e.g. `CREDENTIALS_DIRECTORY=/etc/dormgate/secrets dormgate connect --test …`"
        ),
        Some(_) => "`username` and the password are not those that the broker knows".to_owned(),
    }
}

/// A client that the broker has accepted.
struct Client {
    client: AsyncClient,
    pump: EventPump,
    retained: Vec<Retained>,
}

impl Client {
    /// The next packet that is no retained message of a subscription; those are kept.
    async fn next(&mut self, echo: Option<&str>) -> Result<Packet, String> {
        loop {
            match self.pump.next().await.map_err(|reason| reason.text().to_owned())? {
                Event::Incoming(Packet::Publish(message)) => {
                    self.client.ack(&message).await.ok();
                    if Some(message.topic.as_str()) == echo {
                        return Ok(Packet::Publish(message));
                    }
                    if message.retain && self.retained.len() < RETAINED_MAX {
                        self.retained.push((message.topic, message.payload.to_vec()));
                    }
                }
                Event::Incoming(packet) => return Ok(packet),
                Event::Outgoing(_) => {}
            }
        }
    }

    async fn subscribe(&mut self, setup: &Setup) -> Result<Finding, String> {
        let filters = connect::filters(setup);
        self.client.subscribe_many(filters.clone()).await.map_err(|error| error.to_string())?;
        let answer = async {
            loop {
                match self.next(None).await {
                    Ok(Packet::SubAck(answer)) => return Ok(answer),
                    Ok(_) => {}
                    Err(why) => return Err(why),
                }
            }
        };
        let answer = match timeout(Duration::from_secs(STEP_S), answer).await {
            Ok(answer) => answer.map_err(|why| {
                format!("the broker ended the connection at the subscriptions: {why}; look at its log and access rules")
            })?,
            Err(_) => {
                return Err(format!(
                    "the subscriptions were not answered within {STEP_S} s; look whether the broker, or its cluster, is whole"
                ));
            }
        };
        let refused: Vec<&str> = filters
            .iter()
            .zip(&answer.return_codes)
            .filter(|(_, code)| matches!(code, SubscribeReasonCode::Failure))
            .map(|(filter, _)| filter.path.as_str())
            .collect();
        if refused.is_empty() {
            let is_less = |wanted: QoS, code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(given) if (*given as u8) < wanted as u8);
            if filters.iter().zip(&answer.return_codes).any(|(filter, code)| is_less(filter.qos, code)) {
                return Err(
                    "the broker grants QoS 0 only, with which changes are lost; allow QoS 1 (mosquitto: `max_qos`)"
                        .to_owned(),
                );
            }
            return Ok(Finding::Good(format!("{} filters", filters.len())));
        }
        Err(format!(
            "the broker refuses `{}`; allow this user to read it in the broker's access rules",
            refused.join("`, `")
        ))
    }

    /// Publishes on the own topic and waits until it is back; gives whether it was a retained one.
    async fn there_and_back(&mut self, topic: &str, payload: Vec<u8>, retain: bool) -> Result<Duration, Lost> {
        let begun = Instant::now();
        let sent = self.client.publish(topic, QoS::AtLeastOnce, retain, payload.clone()).await;
        sent.map_err(|error| Lost::Ended(error.to_string()))?;
        self.comes(topic, &payload, false).await?;
        Ok(begun.elapsed())
    }

    async fn comes(&mut self, topic: &str, payload: &[u8], kept: bool) -> Result<(), Lost> {
        let comes = async {
            loop {
                match self.next(Some(topic)).await {
                    Ok(Packet::Publish(message)) if message.payload == payload && (message.retain || !kept) => {
                        return Ok(());
                    }
                    Ok(_) => {}
                    Err(why) => return Err(Lost::Ended(why)),
                }
            }
        };
        timeout(Duration::from_secs(STEP_S), comes).await.unwrap_or(Err(Lost::Nothing))
    }

    async fn echoes(&mut self, topic: &str) -> Result<Finding, String> {
        let mut took = Vec::new();
        for n in 0..ECHO_COUNT {
            let payload = format!("{{\"v\":1,\"test\":{n}}}").into_bytes();
            took.push(self.there_and_back(topic, payload, false).await.map_err(|lost| match lost {
                Lost::Ended(why) => format!("the broker ended the connection when `{topic}` was published: {why}; allow this user to write and read it"),
                Lost::Nothing => format!("what is published on `{topic}` does not come back; allow this user to write and read it in the broker's access rules"),
            })?);
        }
        let median = median(took).unwrap_or_default();
        let shown = format!("a message is back after {:.1} ms", median.as_secs_f64() * 1000.0);
        if median.as_millis() > u128::from(ECHO_SLOW_MS) {
            return Ok(Finding::Poor(format!(
                "{shown}; set `set_tcp_nodelay true` in mosquitto, or look at the load of the broker and the network"
            )));
        }
        Ok(Finding::Good(shown))
    }

    async fn retains(&mut self, topic: &str) -> Result<Finding, String> {
        let payload = b"{\"v\":1,\"test\":\"retained\"}".to_vec();
        let wrong = |lost: Lost| match lost {
            Lost::Ended(why) => format!(
                "the broker ended the connection when a message was to be retained: {why}; it has to keep retained messages (mosquitto: `retain_available true`)"
            ),
            Lost::Nothing => "a retained message does not come back; look at the broker's access rules".to_owned(),
        };
        self.there_and_back(topic, payload.clone(), true).await.map_err(wrong)?;
        self.client.subscribe(topic, QoS::AtLeastOnce).await.map_err(|error| error.to_string())?;
        let kept = self.comes(topic, &payload, true).await;
        // An empty one takes its place, so that nothing of the test stays.
        self.there_and_back(topic, Vec::new(), true).await.map_err(wrong)?;
        match kept {
            Ok(()) => Ok(Finding::Good("kept, and removed again".to_owned())),
            Err(Lost::Nothing) => Ok(Finding::Poor(
                "the broker does not give a retained message to a later subscriber; the gateway does without, and learns later what it missed".to_owned(),
            )),
            Err(lost) => Err(wrong(lost)),
        }
    }

    async fn carries(&mut self, topic: &str, bytes: usize) -> Result<Finding, String> {
        let shown = format!("{} KiB", bytes / 1024);
        let limits = "raise its limit (mosquitto: `max_packet_size`, `message_size_limit`; NATS: `max_payload`)";
        match self.there_and_back(topic, vec![b' '; bytes], false).await {
            Ok(took) => Ok(Finding::Good(format!("a message of {shown} is back after {} ms", took.as_millis()))),
            Err(Lost::Ended(why)) => Err(format!(
                "the broker ended the connection at a message of {shown}, and parts of a snapshot become that long: {why}; {limits}"
            )),
            Err(Lost::Nothing) => Err(format!(
                "a message of {shown} does not come back, and parts of a snapshot become that long; {limits}"
            )),
        }
    }
}

/// Why a message did not come back.
enum Lost {
    /// The connection ended.
    Ended(String),
    /// Nothing came.
    Nothing,
}
