//! What gateways asked to be sent again. An answer may be a whole list, and each of its messages is signed: it is made when the
//! connection takes it, one after the other, so that no order waits for the answers to a whole campus.

use std::collections::VecDeque;

use super::super::order::{GatewayEvent, is_answer_to};
use super::super::{CenterError, SignedMessage, Storage};
use super::Work;
use crate::access::effect::Resync;
use crate::access::id::GatewayId;

/// Most requests that wait for their answer: a few for each gateway of the largest campus. Beyond, they are passed over; a gateway
/// asks again.
const ASKED_MAX: usize = 10_000;

#[derive(Default)]
pub(super) struct Again {
    /// Requests without an answer yet, oldest first.
    asked: VecDeque<(GatewayId, Resync)>,
    /// What is left of the answer under way.
    pub(super) messages: VecDeque<SignedMessage>,
}

impl Again {
    /// Takes up a request. `false`: too many wait.
    pub(super) fn ask(&mut self, gateway: GatewayId, request: Resync) -> bool {
        // The newest request names what is still missing; what an older one asked for is in it.
        self.messages.retain(|message| !is_answer_to(message, &gateway, &request));
        let older = |(of, older): &&mut (GatewayId, Resync)| *of == gateway && older.stream == request.stream;
        if let Some((_, older)) = self.asked.iter_mut().find(older) {
            *older = request;
            return true;
        }
        let has_room = self.asked.len() < ASKED_MAX;
        if has_room {
            self.asked.push_back((gateway, request));
        }
        has_room
    }

    /// The request to answer now; `None`: the answer to the last is not sent yet, or nothing is asked for.
    pub(super) fn next(&mut self) -> Option<(GatewayId, Resync)> {
        if self.messages.is_empty() { self.asked.pop_front() } else { None }
    }
}

impl<S: Storage> Work<S> {
    /// Makes the answer to a request; [`Self::send`] sends it.
    pub(super) fn answer(&mut self, gateway: &GatewayId, request: Resync) {
        match self.center.answer(gateway, &request, self.now()) {
            Ok(messages) => {
                self.again.messages = messages.into();
                self.report(Some(gateway), GatewayEvent::Resync(request, self.again.messages.len()));
            }
            // It may be configured no longer.
            Err(CenterError::UnknownGateway(_)) => {}
            Err(error) => self.failed(&error),
        }
    }
}
