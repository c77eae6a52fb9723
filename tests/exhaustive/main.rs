//! Every history at small scope: two offices publish up to a few messages, the broker delivers each at any time, again or never,
//! retained heads old or new, snapshots in parts, and the power is cut or the store is lost at any step. The engine is the real one;
//! `stateright` walks through all its states and the properties are held in each.
//!
//! What a state is: the list with its revisions, the numbering of the streams, what of it is on disk, the parts that are held, and
//! the box. Times and the numbers of audit events are left out, so histories that differ in nothing else are one state. The clock
//! stands still in a history; in the property of convergence it goes on.
//!
//! ```text
//! SCOPE=2,2,4,6,3 cargo test --release --test exhaustive -- --include-ignored --nocapture
//!       messages of the card office, of the apartment center, steps beside them, and how many ops each office chooses from
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable,
    missing_docs,
    reason = "a panic is how a test fails"
)]

mod campus;
mod life;
#[path = "../support/model.rs"]
mod model;
#[path = "../support/world.rs"]
mod world;

use std::sync::Arc;

use stateright::{Checker, Model, Property};

use campus::{Campus, Step};
use life::Life;

/// How much of everything there is.
#[derive(Clone, Copy, Debug)]
struct Scope {
    /// Messages of each office.
    messages: [usize; 2],
    /// Steps that are no publication.
    steps: usize,
    /// What each message may be.
    ops: [usize; 2],
    /// The card office may begin a second epoch.
    epochs: bool,
}

/// A state of the model, with one history that leads to it.
#[derive(Clone, Debug)]
struct Node {
    key: Arc<str>,
    history: Arc<[Step]>,
    broken: Option<Arc<str>>,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl std::hash::Hash for Node {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl Node {
    fn of(life: &Life, history: Vec<Step>) -> Self {
        Self { key: life.key().into(), history: history.into(), broken: life.broken().map(Into::into) }
    }
}

impl Model for Scope {
    type State = Node;
    type Action = Step;

    fn init_states(&self) -> Vec<Node> {
        vec![Node::of(&Life::new(), Vec::new())]
    }

    fn actions(&self, node: &Node, actions: &mut Vec<Step>) {
        // A broken state is shown as it is, and not made worse.
        if node.broken.is_none() {
            Campus::of(&node.history).steps(self, actions);
        }
    }

    fn next_state(&self, node: &Node, step: Step) -> Option<Node> {
        let mut history = node.history.to_vec();
        history.push(step);
        Some(Node::of(&Life::after(&history), history))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("what holds in each state", |_, node: &Node| node.broken.is_none()),
            Property::always("the lists converge once everything arrives", |_, node: &Node| {
                Life::after(&node.history).differs_after_everything_arrived().is_none()
            }),
            // Without these the walk would prove nothing.
            Property::sometimes("a card is granted", |_, node: &Node| node.key.contains("granted")),
            Property::sometimes("a card is replaced", |_, node: &Node| node.key.contains("replaced")),
            Property::sometimes("a box is on", |_, node: &Node| node.key.contains("box on")),
        ]
    }
}

/// Walks through all of a scope, and prints how large it was.
fn walk(scope: Scope) {
    let checker = scope.checker().threads(2).spawn_bfs().join();
    println!(
        "{scope:?}: {} states, {} found in all, depth {}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth()
    );
    for (name, path) in checker.discoveries() {
        let node = path.last_state();
        let differs = Life::after(&node.history).differs_after_everything_arrived();
        println!("{name}: {:?}\n  {:?}\n  {differs:?}", node.history, node.broken);
    }
    checker.assert_properties();
}

#[test]
fn no_small_history_grants_what_was_revoked_and_all_lists_converge() {
    walk(Scope { messages: [2, 1], steps: 2, ops: [3, 1], epochs: true });
}

#[test]
#[ignore = "takes minutes and is not in tests/run either: deploy/proof.md"]
fn no_longer_history_does_either() {
    let scope = std::env::var("SCOPE").unwrap_or_else(|_| "2,1,3,4,2".to_owned());
    let numbers: Vec<usize> = scope.split(',').map(|n| n.parse().unwrap()).collect();
    let [office, apartment, steps, office_ops, apartment_ops] = numbers[..] else {
        panic!("SCOPE={scope}: five numbers are wanted, as in 2,1,3,4,2")
    };
    assert!(
        office_ops <= campus::OPS[0] && apartment_ops <= campus::OPS[1],
        "SCOPE={scope}: at most {:?} ops",
        campus::OPS
    );
    walk(Scope { messages: [office, apartment], steps, ops: [office_ops, apartment_ops], epochs: true });
}
