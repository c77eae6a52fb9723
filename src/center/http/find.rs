//! `GET /v1/search`: what a person means who types a card or a holder.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::auth::MayRead;
use super::failure::Failure;
use super::look_up::{CardShown, card_shown, cards_of};
use super::queried::Queried;
use super::{Shared, json};
use crate::access::id::Holder;
use crate::access::uid_text::{self, Spelling};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    text: String,
}

#[derive(Serialize)]
struct Found {
    /// The cards that the text may name, in the order in which a reader's spelling is likely. One that no message names is `known` nowhere.
    cards: Vec<Spelled>,
    /// The holder of that name, with all cards; absent: no message names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<HolderFound>,
}

#[derive(Serialize)]
struct Spelled {
    spelling: &'static str,
    #[serde(flatten)]
    card: CardShown,
}

#[derive(Serialize)]
struct HolderFound {
    holder: Holder,
    cards: Vec<CardShown>,
}

pub(super) async fn find(
    State(api): State<Shared>,
    MayRead(client): MayRead,
    asked: Result<Queried<Asked>, Failure>,
) -> Result<Response, Failure> {
    let Queried(Asked { text }) = asked?;
    let text = text.trim();
    let spellings = uid_text::spellings(text);
    let holder = text.parse::<Holder>();
    if let (true, Err(error)) = (spellings.is_empty(), &holder) {
        return Err(Failure::field("text", format!("`text` names neither a card nor a holder: {error}")));
    }
    let own = client.spec.gateways.clone();
    let found = api.service.ask(move |center| {
        let shown = |(uid, spelling): (_, Spelling)| Spelled {
            spelling: spelling.as_str(),
            card: card_shown(center, own.as_deref(), uid),
        };
        let cards = spellings.into_iter().map(shown).collect();
        let holder = holder.ok().map(|holder| HolderFound { cards: cards_of(center, own.as_deref(), &holder), holder });
        Found { cards, holder: holder.filter(|found| !found.cards.is_empty()) }
    });
    Ok(json(StatusCode::OK, &found.await?))
}
