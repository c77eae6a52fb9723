//! `dormgate connect --test`: what is wrong with the brokers of a configuration, step by step, and what to do.

use std::os::unix::net::UnixStream;

use super::{ConfigArg, Ended, Exit, bad_config, failed, print_line};
use crate::access::change::Head;
use crate::access::id::GatewayId;
use crate::config::{self, LinkSpec, Session, Site};
use crate::http::SOCKET_NAME;
use crate::mqtt::probe::{Finding, Retained, probe};
use crate::mqtt::{BrokerUrl, DEVICE_PACKET_BYTES_MAX, Setup};
use crate::wire::down;
use crate::wire::envelope::{self, Channel};
use crate::wire::limits::{MESSAGE_BYTES_MAX, PACKET_BYTES_MAX};
use crate::wire::topic::{self, Down, Qos, Subscription, Topic};

/// A clock that differs by more is wrong, in seconds: a command lives that long.
const AHEAD_S_MAX: i64 = 30;
/// A head that is older comes from a center that is silent, or this clock is ahead, in seconds: one comes every 5 min.
const OLD_S_MAX: i64 = 600;
/// The name of the last step, which is no step of the broker's.
const CENTER: &str = "center";
/// The name of the last step of the link to devices with MQTT topics of their own.
const DEVICES: &str = "devices";

/// Try the brokers of a configuration, and name the first thing that is wrong with each and what to do
///
/// Nothing is changed. A gateway that runs is not disturbed, except at a broker that gives each user one client id
/// (`use_username_as_clientid true` of mosquitto): there the test ends its connection, it connects again, and asks for what it missed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Try each broker: name, network, certificates, login, subscriptions, echo, retained messages, size, and the center's time.
    #[arg(long, required = true)]
    test: bool,
}

pub(super) fn run(args: &Args) -> Ended {
    let site = config::load(&args.config.config).map_err(bad_config)?;
    if UnixStream::connect(site.data_dir.join(SOCKET_NAME)).is_ok() {
        print_line(
            "note: a gateway runs here; at a broker with `use_username_as_clientid true` this ends its connection, it connects again and \
             asks for what it missed",
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    Ok(runtime.map_err(|error| failed(format!("no runtime: {error}")))?.block_on(every(&site)))
}

/// Tries each broker of each link.
async fn every(site: &Site) -> Exit {
    let devices = site.devices_link();
    let links =
        [(Link::Uplink, site.uplink.as_ref()), (Link::Local, site.local.as_ref()), (Link::Devices, devices.as_ref())];
    let mut exit = Exit::Done;
    let mut tried = 0;
    for (link, spec) in links.into_iter().filter_map(|(link, spec)| Some((link, spec?))) {
        for url in &spec.urls {
            tried += 1;
            print_line(format!("{} {url}", link.name()));
            if !one(site, link, spec, url).await {
                exit = Exit::Failed;
            }
        }
    }
    if tried == 0 {
        return failed("the configuration has no broker: neither `[uplink]` nor `[local]`");
    }
    exit
}

/// A link of the gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Uplink,
    Local,
    /// To devices with MQTT topics of their own.
    Devices,
}

impl Link {
    fn name(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
            Self::Local => "local",
            Self::Devices => "devices",
        }
    }

    /// What it subscribes to, as the gateway does.
    fn subscriptions(self, site: &Site, session: Session) -> Vec<Subscription> {
        let gateway = &site.gateway;
        match (self, session) {
            (Self::Uplink, Session::Persistent) => topic::uplink_subscriptions(gateway),
            (Self::Uplink, Session::Clean) => topic::uplink_subscriptions_clean(gateway),
            (Self::Local, _) => topic::local_subscriptions(gateway),
            (Self::Devices, _) => {
                let topics = site.device_topics().into_iter();
                topics.map(|filter| Subscription { filter, qos: Qos::AtMostOnce }).collect()
            }
        }
    }
}

/// Whether nothing is wrong with a broker.
async fn one(site: &Site, link: Link, spec: &LinkSpec, url: &BrokerUrl) -> bool {
    let is_uplink = link == Link::Uplink;
    let gateway = &site.gateway;
    let setup = Setup {
        link: link.name(),
        session: Session::Clean,
        subscriptions: link.subscriptions(site, spec.session),
        packet_bytes_max: if is_uplink { PACKET_BYTES_MAX } else { DEVICE_PACKET_BYTES_MAX },
        will: None,
        // The devices' link measures nothing, and needs no rule for a topic of its own.
        echo_topic: (link != Link::Devices).then(|| format!("dormgate/v1/{gateway}/gateway/echo/{}", link.name())),
    };
    let payload = is_uplink.then_some(MESSAGE_BYTES_MAX);
    let Some(retained) = probe(spec, url, setup, payload, |step, found| show(&step.to_string(), &found)).await else {
        return false;
    };
    let found = match link {
        Link::Uplink => heads(site, gateway, &retained, jiff::Timestamp::now()),
        Link::Local => Vec::new(),
        Link::Devices => wills(site, &retained),
    };
    found.iter().for_each(|finding| show(if is_uplink { CENTER } else { DEVICES }, finding));
    !found.iter().any(|finding| matches!(finding, Finding::Wrong(_)))
}

fn show(step: &str, found: &Finding) {
    let (mark, text) = match found {
        Finding::Good(text) => ("ok", text),
        Finding::Poor(text) => ("poor", text),
        Finding::Wrong(text) => ("WRONG", text),
    };
    print_line(format!("  {mark:<5} {step:<9} {text}"));
}

/// What the devices with topics of their own have retained: whether they are connected. A broker may accept a subscription to what a user
/// may not read, so that this shows access rules too.
fn wills(site: &Site, retained: &[Retained]) -> Vec<Finding> {
    let (mut known, mut found) = (0_usize, Vec::new());
    for (device, topics) in site.device_wills().into_iter().filter(|(_, topics)| !topics.is_empty()) {
        if retained.iter().any(|(topic, _)| topics.contains(topic)) {
            known += 1;
        } else {
            let topics = topics.into_iter().collect::<Vec<_>>().join("`, `");
            found.push(Finding::Poor(format!(
                "`{device}` has retained nothing at `{topics}`: look whether it is connected to this broker under this name, and whether \
                 this user may read that"
            )));
        }
    }
    found.insert(0, Finding::Good(format!("{known} device(s) have retained whether they are connected")));
    found
}

/// What the retained heads show of the offices: their keys, and the difference of the clocks.
fn heads(site: &Site, gateway: &GatewayId, retained: &[Retained], now: jiff::Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, payload) in retained {
        let (via, stream) = match name.parse() {
            Ok(Topic::Campus(Down::Head(stream))) => (Channel::Campus, stream),
            Ok(Topic::Down(of, Down::Head(stream))) if of == *gateway => (Channel::Gateway, stream),
            _ => continue,
        };
        let head =
            envelope::open(payload, via, gateway, &site.streams).and_then(|opened| down::read_head(&opened, &stream));
        found.push(match head {
            Err(refused) => Finding::Wrong(format!(
                "the head of `{stream}` is refused: {}; compare `public_keys`, `scope` and `gateway.id` with the office",
                refused.error.message
            )),
            Ok(Head { at, iat, .. }) => {
                let what = format!("`{stream}` is at {}.{}", at.epoch, at.seq);
                match iat {
                    None => Finding::Good(what),
                    Some(iat) => age(&what, now.as_second() - iat.unix_seconds()),
                }
            }
        });
    }
    if found.is_empty() {
        found.push(Finding::Poor(
            "no head is retained, so the clock cannot be compared: no center has published yet, or the broker forgot it, or its access rules keep \
             this user from reading `head` (a broker may accept a subscription and deliver nothing)"
                .to_owned(),
        ));
    }
    found
}

/// What the age of a head reveals, in seconds.
fn age(what: &str, age_s: i64) -> Finding {
    if age_s < -AHEAD_S_MAX {
        return Finding::Wrong(format!(
            "{what}, and its time is {} s later than the clock of this box; set the clock (`timedatectl`)",
            -age_s
        ));
    }
    if age_s > OLD_S_MAX {
        return Finding::Poor(format!(
            "{what}, {age_s} s ago: the center is silent, or the clock of this box is ahead; look at both"
        ));
    }
    Finding::Good(format!("{what}, {} s ago", age_s.max(0)))
}
