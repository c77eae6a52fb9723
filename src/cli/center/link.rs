//! Which gateway and which broker: the options that all `center` commands share, and what they start.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::super::{Exit, print_error};
use crate::access::id::GatewayId;
use crate::center::{Attention, Center, Directory, Service};
use crate::clock::Clock;
use crate::mqtt::{BrokerUrl, ClientCert, Credentials, LinkSpec, Secret};

/// How long an answer usually takes at most, in seconds.
const WAIT_S: u64 = 5;
/// Longest wait for an answer that may be asked for, in seconds.
const WAIT_S_MAX: u64 = 3_600;

#[derive(Debug, clap::Args)]
pub(super) struct LinkArgs {
    /// The gateway; `watch` and `prove` take several, or all that the directory has without it.
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
    /// PEM file of the authorities that may sign the broker's certificate; the system's without it.
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
        let run = getrandom::u64().map_err(|e| format!("no random bytes from the system: {e}"))?;
        Ok(LinkSpec {
            credentials: self.username.clone().map(|username| Credentials { username, password }),
            ca_file: self.ca_file.clone(),
            client_cert,
            ..LinkSpec::plain(self.urls.clone(), format!("dormgate-center-{run:016x}"))
        })
    }
}

/// A center with its link, and the runtime both live in.
pub(super) struct CenterClient {
    pub(super) runtime: Runtime,
    pub(super) service: Service,
    /// The gateways that are meant, at least one.
    pub(super) gateways: Vec<GatewayId>,
}

/// The gateway named, of a command that is for one.
pub(super) fn one_gateway(args: &super::Args) -> Result<GatewayId, Exit> {
    match args.link.gateways.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            print_error("which gateway? name it with `--gateway G`");
            Err(Exit::Usage)
        }
        [_, ..] => {
            print_error("this command is for one gateway; name one with `--gateway G`");
            Err(Exit::Usage)
        }
    }
}

/// Opens the center for one gateway and starts its link; reports what is wrong if that cannot be.
pub(super) fn start(args: &super::Args, attention: Attention) -> Result<(CenterClient, GatewayId), Exit> {
    let gateway = one_gateway(args)?;
    Ok((open(args, attention, vec![gateway.clone()])?, gateway))
}

/// The same for the gateways named, or else for all that the directory has.
pub(super) fn start_all(args: &super::Args, attention: Attention) -> Result<CenterClient, Exit> {
    let gateways = match args.link.gateways.as_slice() {
        [] => Directory::gateways(&args.dir).map_err(|e| super::failed(&e))?,
        named => named.to_vec(),
    };
    if gateways.is_empty() {
        print_error(format!("`{}` has no gateway yet; name one with `--gateway G`", args.dir.display()));
        return Err(Exit::Usage);
    }
    open(args, attention, gateways)
}

fn open(args: &super::Args, attention: Attention, gateways: Vec<GatewayId>) -> Result<CenterClient, Exit> {
    let center = Center::open(&args.dir, &gateways).map_err(|e| super::failed(&e))?;
    let spec = args.link.spec().map_err(failed_with)?;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|e| failed_with(format!("the runtime does not start: {e}")))?;
    let service = {
        let _inside = runtime.enter();
        Service::start(center, spec, Clock::system(), attention).map_err(|e| failed_with(e.to_string()))?
    };
    Ok(CenterClient { runtime, service, gateways })
}

fn failed_with(text: String) -> Exit {
    print_error(text);
    Exit::Failed
}
