//! `center compare`: whether a gateway has what the center published, and what it lacks.

use std::time::Duration;

use tokio::time::Instant;

use super::super::{Exit, counted, print_line};
use super::link::{self, Client};
use super::progress::Progress;
use super::target::{Failure, Target};
use super::{Args, Ended, failed, print};
use crate::access::id::{CardUid, GatewayId};
use crate::access::input::CommandKind;
use crate::center::{Agreement, Attention, MISSING_LISTED_MAX, StreamAgreement, differences};
use crate::wire::state::{self, Presence};

/// Who asks, for the audit of the gateway.
const ACTOR: &str = "center compare";

#[derive(Debug, clap::Args)]
pub(super) struct CompareArgs {
    /// Ask the gateway for every card too, and list those that it knows otherwise. Each question is an event of its audit.
    #[arg(long)]
    cards: bool,
    /// How many messages are shown that the gateway lacks.
    #[arg(long, value_name = "MESSAGES", default_value_t = 20)]
    show: usize,
}

pub(super) fn run(args: &Args, compare: &CompareArgs) -> Ended {
    let (Client { runtime, target, .. }, gateway) = link::start(args, Attention::Answers)?;
    let wait = args.link.wait();
    runtime.block_on(async {
        let compared = Comparison { target: &target, gateway, wait, show: compare.show }.run(compare.cards).await;
        target.close().await;
        compared.map(|is_same| if is_same { Exit::Done } else { Exit::Failed }).map_err(failed)
    })
}

struct Comparison<'s> {
    target: &'s Target,
    gateway: GatewayId,
    wait: Duration,
    show: usize,
}

impl Comparison<'_> {
    /// `true`: both have the same.
    async fn run(&self, all_cards: bool) -> Result<bool, Failure> {
        let gateway = &self.gateway;
        let mut states = self.target.states(gateway);
        let deadline = Instant::now() + self.wait;
        let mut agreements: Option<Vec<StreamAgreement>> = None;
        // What is on its way, and a digest that is being computed, are waited for.
        while agreements.as_ref().is_none_or(|all| all.iter().any(|one| one.agreement != Agreement::Equal)) {
            let Some(text) = states.next(deadline).await? else { break };
            let state =
                state::decode(text.as_bytes()).map_err(|error| format!("`up/state` of `{gateway}`: {error}"))?;
            if state.state == Presence::Offline {
                let why = "what it has is known when it is connected again";
                return Err(format!("`{gateway}` is offline; {why}").into());
            }
            agreements = Some(self.target.agreements(gateway, &state.streams).await?);
        }
        let Some(agreements) = agreements else {
            let why = "was it ever connected to this broker, and is `--gateway` spelled right?";
            return Err(format!("`{gateway}` has no state at this broker; {why}").into());
        };
        if agreements.is_empty() {
            let why = "publish its list first: `center load`, or `issue` and `enrol` for single cards";
            return Err(format!(
                "no stream has published anything to `{gateway}`, so there is nothing to compare; {why}"
            )
            .into());
        }
        let mut is_same = true;
        for one in &agreements {
            is_same &= one.agreement == Agreement::Equal;
            print_line(print::agreement(one));
            self.explain(one).await?;
        }
        if all_cards {
            is_same &= self.cards().await?;
        }
        Ok(is_same)
    }

    /// What is behind a difference, and what to do.
    async fn explain(&self, one: &StreamAgreement) -> Result<(), Failure> {
        let gateway = &self.gateway;
        let remedy = match one.agreement {
            Agreement::Equal => return Ok(()),
            Agreement::NoDigest => "the gateway publishes its digest within 5 s; compare again".to_owned(),
            Agreement::Behind => {
                let there = one.gateway.as_ref().filter(|there| there.epoch == one.published.epoch.get());
                self.missing(one, there.map_or(0, |there| there.seq)).await?;
                "the gateway asks for them when a center attends to it: `center watch`".to_owned()
            }
            Agreement::Differs => format!(
                "`center --gateway {gateway} compare --cards` lists the cards; `center --gateway {gateway} command resync {}` repairs what is missing there. A flag that is set there and not here stays: order it again, or take it back (`found`, `unfreeze`, `reinstate`)",
                one.stream
            ),
            Agreement::Ahead => {
                "this center was set up again from something old; begin a higher epoch: write it into the file `epoch`"
                    .to_owned()
            }
            Agreement::NotReceived => {
                format!(
                    "is a `[[center.stream]]` named `{}` in the gateway's configuration, with this key?",
                    one.stream
                )
            }
        };
        print_line(format!("  {remedy}"));
        Ok(())
    }

    async fn missing(&self, one: &StreamAgreement, seq: u64) -> Result<(), Failure> {
        let behind = self.target.messages_behind(&self.gateway, &one.stream, seq).await?;
        let missing = one.gateway.as_ref().map_or(0, |there| there.missing);
        if missing > 0 {
            print_line(format!("  of the messages behind {seq} it reports {missing} as missing"));
        }
        let Some(behind) = behind else {
            print_line(format!("  more than {MISSING_LISTED_MAX} messages are behind {seq}"));
            return Ok(());
        };
        for (at, content) in behind.iter().take(self.show) {
            print_line(format!("  {}.{} {content}", at.epoch, at.seq));
        }
        if behind.len() > self.show {
            print_line(format!("  and {} more; `--show {}` shows them", behind.len() - self.show, behind.len()));
        }
        Ok(())
    }

    /// Asks for each card. `true`: no difference was found.
    async fn cards(&self) -> Result<bool, Failure> {
        let list = self.target.whole_list(&self.gateway).await?;
        let uids: Vec<CardUid> =
            (0..list.len()).filter_map(|place| list.record_at(place)).map(|card| card.uid).collect();
        let mut progress = Progress::new("cards asked for".to_owned());
        let mut different = 0_usize;
        for (asked, uid) in uids.iter().enumerate() {
            progress.show(asked, uids.len());
            let kind = CommandKind::Query { uid: *uid, portal: None };
            let reply = self.target.command(&self.gateway, &kind, Some(ACTOR), self.wait).await?;
            let Some(answer) = reply.and_then(|reply| reply.result) else {
                progress.end();
                let gateway = &self.gateway;
                let (card, all) = (asked + 1, uids.len());
                return Err(format!("`{gateway}` did not answer for {uid}, card {card} of {all}").into());
            };
            let found = differences(&list, *uid, &answer);
            if !found.is_empty() {
                progress.end();
                different += 1;
                print_line(format!("{uid} {}", found.join("; ")));
            }
        }
        progress.end();
        print_line(format!("{} asked for, {different} known otherwise there", counted(uids.len(), "card")));
        Ok(different == 0)
    }
}
