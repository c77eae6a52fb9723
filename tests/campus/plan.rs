//! What a life is made of: steps that a seed decides before anything runs. Each step has a number of its own for what it chooses, so
//! that a history stays the same history when steps are taken out of it.

use crate::dice::Dice;

/// What a step does; which gateway, card, office or message it does it to is decided by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// An office publishes a change.
    Publish,
    /// An office publishes its heads.
    Heads,
    /// An office hands a message that waits to the broker.
    Hand,
    /// An office begins a new epoch.
    NewEpoch,
    /// An office ends and starts from what it keeps.
    OfficeCrash,
    /// The broker delivers to a gateway.
    Deliver,
    /// The broker delivers to an office.
    Receive,
    /// The broker loses, repeats or moves something, or forgets what it retains.
    BrokerFault,
    /// A gateway's connection ends or begins; the session is kept or forgotten.
    Link,
    /// Somebody sends an old, changed, retained or misdirected copy.
    Forge,
    /// A center commands a release.
    Command,
    /// A card is presented at a gate or door.
    Present,
    /// A card is put into a power box or taken out, or the box reports.
    Box,
    /// Time passes.
    Pass,
    /// Somebody sets the wall clock of a gateway.
    ClockStep,
    /// The disk writes one batch.
    Disk,
    /// The store does its chores.
    Chores,
    /// Something goes wrong with a disk, or is well again.
    DiskFault,
    /// A byte of a disk changes; found at the start that follows at once.
    Rot,
    /// A gateway loses its power.
    Crash,
    /// A gateway is stopped and started.
    Restart,
    /// A gateway loses its power, and a later program starts from what it has left: one crash in [`UPGRADES`].
    Upgrade,
}

use Act::*;

/// How often each act comes.
const WEIGHTS: [(Act, usize); 21] = [
    (Publish, 60),
    (Heads, 12),
    (Hand, 90),
    (NewEpoch, 1),
    (OfficeCrash, 3),
    (Deliver, 150),
    (Receive, 60),
    (BrokerFault, 12),
    (Link, 12),
    (Forge, 16),
    (Command, 8),
    (Present, 260),
    (Box, 120),
    (Pass, 60),
    (ClockStep, 4),
    (Disk, 100),
    (Chores, 16),
    (DiskFault, 10),
    (Rot, 1),
    (Crash, 10),
    (Restart, 3),
];

/// Of so many crashes one is an upgrade.
const UPGRADES: u64 = 3;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub act: Act,
    pub number: u64,
}

/// The steps of a life.
pub fn plan(seed: u64, count: usize) -> Vec<Step> {
    let mut dice = Dice(seed);
    let all: usize = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    let mut step = || {
        let mut place = dice.below(all);
        let drawn = WEIGHTS.iter().find(|(_, weight)| {
            let here = place < *weight;
            place = place.saturating_sub(*weight);
            here
        });
        let (act, number) = (drawn.unwrap().0, dice.next());
        Step { act: if act == Crash && number.is_multiple_of(UPGRADES) { Upgrade } else { act }, number }
    };
    (0..count).map(|_| step()).collect()
}

/// The fewest steps found that still fail: drops runs of steps, the longest first, while `fails` holds for the rest.
pub fn shrink(mut steps: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut run = steps.len().div_ceil(2);
    while run > 0 {
        let mut from = 0;
        let before = steps.len();
        while from < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + run).min(steps.len()));
            if fails(&fewer) { steps = fewer } else { from += run }
        }
        run = if run == 1 && steps.len() < before { 1 } else { run / 2 };
    }
    steps
}
