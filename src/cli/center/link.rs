//! Which gateway, and which broker or service: the options that all `center` commands share, and what they start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::super::{Exit, failed, misused, random_hex};
use super::target::Target;
use crate::access::id::GatewayId;
#[cfg(feature = "center")]
use crate::center::http::{Remote, ServerUrl};
use crate::center::{Attention, Center, Directory, Service};
use crate::clock::Clock;
use crate::mqtt::{BrokerUrl, ClientCert, Credentials, LinkSpec, Secret};

/// How long an answer usually takes at most, in seconds.
const WAIT_S: u64 = 5;
/// Longest wait for an answer that may be asked for, in seconds.
const WAIT_S_MAX: u64 = 3_600;

#[derive(Debug, clap::Args)]
pub(super) struct LinkArgs {
    /// The gateway; `watch` and `prove` take several, or all that the center has without it.
    #[arg(long = "gateway", global = true, value_name = "G")]
    gateways: Vec<GatewayId>,
    /// The campus broker; several are tried in turn.
    #[arg(long = "url", global = true, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    urls: Vec<BrokerUrl>,
    /// User name at the broker.
    #[arg(long, global = true, value_name = "NAME")]
    username: Option<String>,
    /// File with the password.
    #[arg(long, global = true, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// PEM file of the authorities that may sign the certificate of the broker or the service; the system's without it.
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file of a client certificate.
    #[arg(long, global = true, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// PEM file of its key.
    #[arg(long, global = true, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// How long to wait for the gateway's answer; without it 5 s, for a list 60 s.
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(0..=WAIT_S_MAX)
    )]
    wait: Option<u64>,
    #[cfg(feature = "center")]
    #[command(flatten)]
    server: ServerArgs,
}

/// The service, where a command is carried out by it.
#[cfg(feature = "center")]
#[derive(Debug, clap::Args)]
struct ServerArgs {
    /// The service of an office, `dormgate center serve`, that is to do it; without it the command works in `--dir`.
    #[arg(long, global = true, value_name = "URL", conflicts_with_all = ["urls", "username", "dir"])]
    server: Option<ServerUrl>,
    /// File with the token of a `[[client]]` of the service. It is always a file: `-` does not mean standard input here.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Send a change under this `Idempotency-Key`, to repeat one whose answer was lost; a new one without it.
    #[arg(long, global = true, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl LinkArgs {
    pub(super) fn wait(&self) -> Duration {
        self.wait_or(WAIT_S)
    }

    /// How long to wait for something that takes usually at most `usual_s` seconds.
    pub(super) fn wait_or(&self, usual_s: u64) -> Duration {
        Duration::from_secs(self.wait.unwrap_or(usual_s))
    }

    fn spec(&self) -> Result<LinkSpec, String> {
        let password = match &self.password_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| format!("`{}`: {e}", path.display()))?;
                Some(Secret::new(text.trim_end_matches(['\r', '\n'])))
            }
        };
        // The command line takes both or none.
        let client_cert = self.cert_file.clone().zip(self.key_file.clone());
        let client_cert = client_cert.map(|(cert_file, key_file)| ClientCert { cert_file, key_file });
        // Two commands may run at once, and a second client with an id throws out the first.
        let run = random_hex::<8>().map_err(no_random)?;
        Ok(LinkSpec {
            credentials: self.username.clone().map(|username| Credentials { username, password, password_file: None }),
            ca_file: self.ca_file.clone(),
            client_cert,
            ..LinkSpec::plain(self.urls.clone(), format!("dormgate-center-{run}"))
        })
    }
}

/// A center, and the runtime it lives in.
pub(super) struct Client {
    pub(super) runtime: Runtime,
    pub(super) target: Target,
    /// The gateways that are meant. At a service a change may name none.
    pub(super) gateways: Vec<GatewayId>,
}

/// Whether a service is to do it.
pub(super) fn is_at_service(args: &super::Args) -> bool {
    #[cfg(feature = "center")]
    return args.link.server.server.is_some();
    #[cfg(not(feature = "center"))]
    {
        let _ = args;
        false
    }
}

/// What is wrong with the options of a service, if anything is.
#[cfg(feature = "center")]
pub(super) fn misuse(args: &super::Args) -> Option<&'static str> {
    let ServerArgs { server, token_file, idempotency_key } = &args.link.server;
    match (server, token_file) {
        (Some(_), None) => {
            Some("who asks the service? name the file with the token of a `[[client]]`: `--token-file FILE`")
        }
        (None, Some(_)) => Some("`--token-file` is for a service; name it with `--server URL`"),
        (None, None) if idempotency_key.is_some() => {
            Some("`--idempotency-key` is for a service; name it with `--server URL`")
        }
        (Some(_), Some(_)) | (None, None) => None,
    }
}

/// The gateway named, of a command that is for one.
pub(super) fn one_gateway(args: &super::Args) -> Result<GatewayId, Exit> {
    match args.link.gateways.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(misused("which gateway? name it with `--gateway G`")),
        [_, ..] => Err(misused("this command is for one gateway; name one with `--gateway G`")),
    }
}

/// Opens the center for one gateway and starts its link; reports what is wrong if that cannot be.
pub(super) fn start(args: &super::Args, attention: Attention) -> Result<(Client, GatewayId), Exit> {
    let gateway = one_gateway(args)?;
    Ok((open(args, attention, vec![gateway.clone()])?, gateway))
}

/// The same for a change: a service has all gateways, and what goes to the campus needs no name.
pub(super) fn start_change(args: &super::Args) -> Result<(Client, Option<GatewayId>), Exit> {
    if is_at_service(args) && args.link.gateways.is_empty() {
        return Ok((open(args, Attention::Answers, Vec::new())?, None));
    }
    start(args, Attention::Answers).map(|(client, gateway)| (client, Some(gateway)))
}

/// The same for the gateways named, or else for all that the center has.
pub(super) fn start_all(args: &super::Args, attention: Attention) -> Result<Client, Exit> {
    let named = args.link.gateways.clone();
    if is_at_service(args) {
        let mut client = open(args, attention, named)?;
        if client.gateways.is_empty() {
            client.gateways = client.runtime.block_on(client.target.gateways()).map_err(failed)?;
        }
        return Ok(client);
    }
    let gateways = if named.is_empty() { Directory::gateways(&args.dir).map_err(failed)? } else { named };
    if gateways.is_empty() {
        return Err(misused(format!("`{}` has no gateway yet; name one with `--gateway G`", args.dir.display())));
    }
    open(args, attention, gateways)
}

fn open(args: &super::Args, attention: Attention, gateways: Vec<GatewayId>) -> Result<Client, Exit> {
    #[cfg(feature = "center")]
    if let Some(target) = service(args)? {
        return Ok(Client { runtime: runtime()?, target, gateways });
    }
    let center = Center::open(&args.dir, &gateways).map_err(failed)?;
    let spec = args.link.spec().map_err(failed)?;
    let runtime = runtime()?;
    let service = {
        let _inside = runtime.enter();
        Service::start(center, spec, Clock::system(), attention).map_err(failed)?
    };
    Ok(Client { runtime, target: Target::Directory(Arc::new(service)), gateways })
}

fn no_random(error: getrandom::Error) -> String {
    format!("no random bytes from the system: {error}")
}

fn runtime() -> Result<Runtime, Exit> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|e| failed(format!("the runtime does not start: {e}")))
}

/// The service that is named; `None`: the command works in a directory.
#[cfg(feature = "center")]
fn service(args: &super::Args) -> Result<Option<Target>, Exit> {
    let ServerArgs { server, token_file, idempotency_key } = &args.link.server;
    let (Some(server), Some(path)) = (server.clone(), token_file) else { return Ok(None) };
    let named = |why: String| failed(format!("`{}`: {why}", path.display()));
    let token = std::fs::read_to_string(path).map_err(|e| named(format!("{e}; correct `--token-file`")))?;
    if token.trim().is_empty() || token.trim().contains(char::is_whitespace) {
        return Err(named("one line with the token of a `[[client]]` is wanted".to_owned()));
    }
    let key = match idempotency_key {
        Some(key) => key.clone(),
        None => random_hex::<16>().map_err(no_random).map_err(failed)?,
    };
    let spec = args.link.spec().map_err(failed)?;
    let remote = Remote::new(server, Secret::new(token.trim()), &spec, key).map_err(failed)?;
    Ok(Some(Target::Server(Arc::new(remote))))
}
