//! `dormgate connect --test`: what is wrong with the brokers of a configuration, step by step, and what to do.

use super::{ConfigArg, Exit, bad_config, print_error, print_line};
use crate::access::change::Head;
use crate::access::id::GatewayId;
use crate::config::{self, LinkSpec, Session, Site};
use crate::mqtt::probe::{Finding, Retained, probe};
use crate::mqtt::{BrokerUrl, DEVICE_PACKET_BYTES_MAX, Setup};
use crate::wire::down;
use crate::wire::envelope::{self, Channel};
use crate::wire::limits::{MESSAGE_BYTES_MAX, PACKET_BYTES_MAX};
use crate::wire::topic::{self, Down, Topic};

/// A clock that differs by more is wrong, in seconds: a command lives that long.
const AHEAD_S_MAX: i64 = 30;
/// A head that is older comes from a center that is silent, or this clock is ahead, in seconds: one comes every 5 min.
const OLD_S_MAX: i64 = 600;
/// The name of the last step, which is no step of the broker's.
const CENTER: &str = "center";

/// Try the brokers of a configuration, and name the first thing that is wrong with each and what to do
///
/// Nothing is changed, and a gateway that runs is not disturbed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Try each broker: name, network, certificates, login, subscriptions, echo, retained messages, size, and the center's time.
    #[arg(long, required = true)]
    test: bool,
}

pub(super) fn run(args: &Args) -> Exit {
    let site = match config::load(&args.config.config) {
        Ok(site) => site,
        Err(error) => return bad_config(&error),
    };
    match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime.block_on(every(&site)),
        Err(error) => {
            print_error(format!("no runtime: {error}"));
            Exit::Failed
        }
    }
}

/// Tries each broker of each link.
async fn every(site: &Site) -> Exit {
    let links = [("uplink", site.uplink.as_ref()), ("local", site.local.as_ref())];
    let mut exit = Exit::Done;
    let mut tried = 0;
    for (name, spec) in links {
        for url in spec.into_iter().flat_map(|spec| &spec.urls) {
            let Some(spec) = spec else { continue };
            tried += 1;
            if print_line(format!("{name} {url}")) != Exit::Done || !one(site, name, spec, url).await {
                exit = Exit::Failed;
            }
        }
    }
    if tried == 0 {
        print_error("the configuration has no broker: neither `[uplink]` nor `[local]`");
        return Exit::Failed;
    }
    exit
}

/// Whether nothing is wrong with a broker.
async fn one(site: &Site, link: &'static str, spec: &LinkSpec, url: &BrokerUrl) -> bool {
    let is_uplink = link == "uplink";
    let gateway = &site.gateway;
    let setup = Setup {
        link,
        session: Session::Clean,
        subscriptions: match (is_uplink, spec.session) {
            (true, Session::Persistent) => topic::uplink_subscriptions(gateway),
            (true, Session::Clean) => topic::uplink_subscriptions_clean(gateway),
            (false, _) => topic::local_subscriptions(gateway),
        },
        packet_bytes_max: if is_uplink { PACKET_BYTES_MAX } else { DEVICE_PACKET_BYTES_MAX },
        will: None,
        echo_topic: Some(format!("dormgate/v1/{gateway}/gateway/echo/{link}")),
    };
    let payload = is_uplink.then_some(MESSAGE_BYTES_MAX);
    let Some(retained) = probe(spec, url, setup, payload, |step, found| show(&step.to_string(), &found)).await else {
        return false;
    };
    let found = if is_uplink { heads(site, gateway, &retained, jiff::Timestamp::now()) } else { Vec::new() };
    found.iter().for_each(|finding| show(CENTER, finding));
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
            "no head is retained, so the clock cannot be compared: no center has published yet, or the broker forgot it".to_owned(),
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
