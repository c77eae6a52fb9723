//! The start: the event that names the gateway and its streams, then everything that is remembered is judged.

use super::super::change::Owners;
use super::super::effect::Effect;
use super::super::event::{Event, Flush, Mark};
use super::super::id::{ClockTrust, GatewayId, Now};
use super::Engine;

impl Engine {
    pub(super) fn boot(&mut self, (found, version): (&str, &str), gateway: Option<GatewayId>, now: Now) {
        let (read_through, trusted_at) = (self.state.last_n, self.state.trusted_at);
        let owners: Owners = self.streams.iter().map(|role| (role.name.clone(), role.owns.clone())).collect();
        let changes = self.state.changes_of_owner(&owners);
        let detail = format!("version {version}; {found}");
        self.record(Event::Boot { gateway, owners: Some(owners), detail }, Flush::Soon, now);
        for detail in changes {
            self.record(Event::Config { mark: Mark::Note, detail }, Flush::Soon, now);
        }
        if now.clock == ClockTrust::Untrusted {
            self.clock_untrusted(now);
        }
        self.lists_not_whole(now);
        self.record_collisions_at_start(now);
        self.forget_boxes_without_portal(now);
        self.rest_at_start(now);
        self.rest_boxes_at_start(now);
        self.judge_all_boxes(now);
        self.inform_of_boxes_at_start(now);
        self.watch_at_start(read_through, now);
        let then = Now { wall: trusted_at, clock: ClockTrust::Trusted, ..now };
        self.held_open_over_at_start(then, now);
        self.remember_held_free(then);
        self.send_modes(now);
        self.out.push(Effect::StateChanged);
    }
}
