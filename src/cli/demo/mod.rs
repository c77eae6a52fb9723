//! `dormgate demo`: a whole dormitory in one process, without set-up. The gateway is the real one; the broker, the portals and the
//! center are simulated and use the real protocols on loopback.

mod life;
mod steps;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::run::stop_signal;
use super::serve::{Running, serve};
use super::{Ended, Exit, failed, print_error, print_line, random_hex};
use crate::access::id::GatewayId;
use crate::access::portal::PortalKind;
use crate::center::{Attention, Center, Layout, Service, create};
use crate::clock::Clock;
use crate::config::{self, Surroundings};
use crate::mqtt::LinkSpec;
use crate::profile;
use crate::workbench::broker::Broker;
use crate::workbench::modbus::{Line, Served};
use crate::workbench::mqtt::SimulatedPortal;

/// Why the demo cannot go on, in words.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The gateway of the demo.
const GATEWAY: &str = "demo";
/// Unit of the door's reader, of the box's reader, and of the board with the relays of both.
const DOOR_READER: u8 = 3;
const BOX_READER: u8 = 4;
const RELAYS: u8 = 21;
/// The board's channels.
const DOOR_RELAY: u16 = 0;
const BOX_RELAY: u16 = 1;
/// The token of the console, in the directory of the demo.
const TOKEN_FILE: &str = "console_token";
/// How long the center may take to connect, in seconds.
const START_S: u64 = 20;

/// Show the life of one card in a whole dormitory in this process: broker, portals, center; nothing to install.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End after the last step: 0 if every step succeeded, 1 if one failed. Without it the dormitory runs until Ctrl-C.
    #[arg(long)]
    once: bool,
}

/// The simulated parts around the gateway.
struct Dormitory {
    gateway: GatewayId,
    gate: SimulatedPortal,
    line: Line,
    center: Service,
    /// Serves the line until it is dropped.
    _served: Served,
    broker: Broker,
}

pub(super) fn run(args: &Args) -> Ended {
    let dir = make_dir().map_err(|error| failed(format!("no directory for the demo: {error}")))?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(play(&dir, args.once));
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        print_error(format!("`{}` could not be removed: {error}; remove it", dir.display()));
    }
    Ok(if outcome.map_err(failed)? { Exit::Done } else { Exit::Failed })
}

fn make_dir() -> Result<PathBuf, Failure> {
    let dir = std::env::temp_dir().join(format!("dormgate-demo-{}", random_hex::<8>()?));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Builds the dormitory, runs the steps, and stops everything. `Ok(false)`: a step failed.
async fn play(dir: &Path, once: bool) -> Result<bool, Failure> {
    let stop = stop_signal()?;
    let clock = Clock::system();
    // For this run only: the directory goes with it.
    let token = random_hex::<16>()?;
    std::fs::write(dir.join(TOKEN_FILE), &token)?;
    let (dormitory, config) = build(dir, &clock).await?;
    let (is_ready, ready) = oneshot::channel();
    let (end, ended) = oneshot::channel::<()>();
    let gateway = tokio::spawn(async move {
        let reported = move |running: &Running| {
            if is_ready.send(running.http).is_err() {
                tracing::debug!("the demo ended before the gateway was ready");
            }
        };
        // The gateway stops when it is asked to, and also when the demo has ended without asking.
        let over = async move { ended.await.unwrap_or_default() };
        serve(&config, over, reported).await
    });
    let Ok(http) = ready.await else {
        gateway.await??;
        return Err("the gateway ended before it was ready".into());
    };
    let page = http.map_or(String::new(), |address| format!("; the console is at http://{address}/"));
    let broker = dormitory.broker.address();
    print(format!("A gateway, a broker at {broker}, a gate over MQTT, a door and a power box over Modbus TCP{page}\n"));
    let all_succeeded = life::play(&dormitory, &clock).await?;
    if !once && all_succeeded {
        print(format!(
            "\nThe dormitory runs until Ctrl-C. Open the console{}, log in with any name and the token {token}, and try in another \
             terminal:\n  mosquitto_sub -h 127.0.0.1 -p {} -v -t 'dormgate/#'\n",
            http.map_or(String::new(), |address| format!(", http://{address}/")),
            broker.port()
        ));
        stop.await;
    }
    if end.send(()).is_err() {
        print_error("the gateway ended before it was asked to stop; see the log");
    }
    let ended_well = match gateway.await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            print_error(error);
            false
        }
        Err(_) => false,
    };
    dormitory.gate.stop().await;
    if !dormitory.center.close(Duration::from_secs(2)).await {
        print_error("the center could not deliver all its messages within 2 s");
    }
    let address = dormitory.broker.stop().await;
    tracing::debug!(%address, "the broker has stopped");
    Ok(all_succeeded && ended_well)
}

/// Builds broker, line, portals and center, and the configuration of a gateway for them.
async fn build(dir: &Path, clock: &Clock) -> Result<(Dormitory, config::Site), Failure> {
    let broker = Broker::start().await?;
    let unit = |unit: u8, id: &str| {
        let profile = profile::shipped(id).ok_or_else(|| format!("no profile `{id}`"))?;
        Ok::<_, Failure>((unit, Arc::new(profile)))
    };
    let line = Line::new([
        unit(DOOR_READER, "inveo-rfid-ind-m1")?,
        unit(BOX_READER, "technotrade-vrd-485")?,
        unit(RELAYS, "waveshare-relay-8ch")?,
    ]);
    let served = line.serve_tcp(0).await?;

    let gateway: GatewayId = GATEWAY.parse()?;
    let center_dir = dir.join("center");
    let streams = create(&center_dir, Layout::Two, NonZeroU32::MIN)?;
    let center = Center::open(&center_dir, std::slice::from_ref(&gateway))?;
    let link = |client: &str| LinkSpec::plain(vec![broker.url()], client);
    let center = Service::start(center, link("center"), clock.clone(), Attention::Everything)?;
    let gate = SimulatedPortal::start(link("gate-in"), &gateway, &"gate-in".parse()?, PortalKind::Gate)?;
    if !center.wait_up(Duration::from_secs(START_S)).await {
        return Err(format!("the center did not reach the broker within {START_S} s").into());
    }
    let text = configuration(&broker, &served, &streams);
    let around = Surroundings { base_dir: dir.to_owned(), credentials_dir: None };
    let config = config::parse(&text, &around)
        .map_err(|diagnostics| diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    Ok((Dormitory { gateway, gate, line, center, _served: served, broker }, config))
}

/// The configuration an installer would write for this dormitory.
fn configuration(broker: &Broker, served: &Served, streams: &str) -> String {
    format!(
        r#"
[gateway]
id = "{GATEWAY}"
data_dir = "data"
[uplink]
urls = ["{url}"]
[http]
listen = "127.0.0.1:0"
token_file = "{TOKEN_FILE}"
{streams}
[[bus]]
id = "riser"
tcp = "{line}"
[[portal]]
id = "gate-in"
kind = "gate"
zone = "lobby"
direction = "in"
device = {{ mqtt = "native" }}
[[portal]]
id = "door-412"
kind = "door"
zone = "412"
hold_ms = 1000
reader = {{ modbus = "riser", unit = {DOOR_READER}, profile = "inveo-rfid-ind-m1" }}
output = {{ modbus = "riser", unit = {RELAYS}, profile = "waveshare-relay-8ch", channel = {DOOR_RELAY} }}
[[portal]]
id = "power-412"
kind = "power_box"
zone = "412"
delay_off_s = 2
reader = {{ modbus = "riser", unit = {BOX_READER}, profile = "technotrade-vrd-485" }}
output = {{ modbus = "riser", unit = {RELAYS}, profile = "waveshare-relay-8ch", channel = {BOX_RELAY} }}
"#,
        url = broker.url(),
        line = served.address,
    )
}

/// Prints a line. If the reader of a pipe has ended, or the line cannot be written, the demo goes on.
fn print(text: impl std::fmt::Display) {
    print_line(text);
}
