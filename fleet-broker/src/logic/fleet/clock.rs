//! What time does by itself, and what is done when somebody sets the hub's clock.

use protocol::{ids::ClusterId, limits, planted::Bug, time::Now};

use super::{Effect, Fleet, HoldRecord, RESIGN_EVERY, told};
use crate::logic::occurrence::Reason;

impl Fleet {
    /// What is due, and what was put off until now.
    pub(super) fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.look_at_clock(now, effects);
        if self.resign_at <= now.monotonic {
            self.resign_at = now.monotonic + RESIGN_EVERY;
            self.resign_heads(now, effects);
        }
        for id in self.on_hold.iter().cloned().collect::<Vec<_>>() {
            self.look_at_hold(now, &id, effects);
        }
        self.tell_missing(now, effects);
        self.changed.now.append(&mut self.changed.later);
    }

    /// A cluster learns at once that it is on hold, or no longer: its head has no permits, or has them again.
    pub(super) fn look_at_hold(&mut self, now: Now, id: &ClusterId, effects: &mut Vec<Effect>) {
        if self.clusters.get(id).is_none_or(|cluster| cluster.held == cluster.is_held(now.wall)) {
            return;
        }
        if let Some(cluster) = self.clusters.get_mut(id) {
            let held = cluster.is_held(now.wall);
            cluster.held = held;
            if let Some(HoldRecord { reason, .. }) = cluster.hold.as_ref().filter(|_| !held) {
                effects.push(told::of_cluster(id, Reason::HoldEnded, format!("its time is over: {reason}")));
            }
            self.send_news(now, id, None, false, effects);
            self.touch(id);
        }
    }

    /// Notices that the hub's clock was set. By the one before it things had expired, or had not; desired states were to be
    /// installed by a time that is long gone; and heads were dated that make every later one look older, which no cluster
    /// believes on the same connection. So all is decided again, and clusters connect anew and say what they hold: one clock
    /// that was wrong for a while bricks nothing.
    fn look_at_clock(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(last) = self.looked.replace(now) else { return };
        let expected = last.wall.plus(now.monotonic.saturating_sub(last.monotonic).as_secs());
        let (back, ahead) = (expected.since(now.wall), now.wall.since(expected));
        if back.max(ahead) <= limits::CLOCK_SKEW_SECONDS || Bug::ClockSetUnnoticed.is_planted() {
            return;
        }
        let set = if back > 0 { format!("back by {back} s") } else { format!("ahead by {ahead} s") };
        let message = format!(
            "the hub's clock was set {set}, to {}: all is decided again, and clusters connect anew",
            now.wall
        );
        let tell = |app| told::of_application(app, Reason::ClockSet, message.clone());
        effects.extend(self.applications.keys().map(tell));
        self.changed.now.extend(self.applications.keys().cloned());
        let connected = self.clusters.iter().filter(|(_, cluster)| cluster.connected);
        effects.extend(connected.map(|(id, _)| Effect::Kick(id.clone())));
    }
}
