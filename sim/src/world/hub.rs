//! What becomes of the hub: it ends and starts again, loses its machine and is restored, and its clock is wrong.

use std::{sync::Arc, time::Duration};

use super::{PEOPLE, What, World};
use crate::hub::TICK;

/// How long a hub whose clusters say nothing goes without looking at the time.
const IDLE_TICK: Duration = Duration::from_secs(60);

/// How long a hub that ended stays away, at most.
const HUB_AWAY: Duration = Duration::from_secs(120);

/// How long it takes to restore one whose machine is lost, at most.
const HUB_RESTORED: Duration = Duration::from_secs(4 * 60 * 60);

impl World<'_> {
    pub(super) fn hub_ticks(&mut self) -> Result<(), String> {
        if self.hub_tick != self.now {
            return Ok(());
        }
        // A hub that starts again ticks again.
        self.hub_tick = Duration::MAX;
        if !self.hub_up {
            return Ok(());
        }
        let sent = self.hub.tick(self.now);
        self.carry(sent)?;
        self.hub_tick_by(self.hub_waits());
        Ok(())
    }

    /// How long until the hub's next tick.
    pub(super) fn hub_waits(&self) -> Duration {
        if self.hub.has_due() { TICK } else { IDLE_TICK }
    }

    pub(super) fn hub_tick_by(&mut self, within: Duration) {
        let at = self.now + within;
        if at < self.hub_tick {
            self.hub_tick = at;
            self.queue.push(at, What::HubTick);
        }
    }

    pub(super) fn hub_ends(&mut self) -> Result<(), String> {
        let Some(every) = self.faults.hub_ends_every else { return Ok(()) };
        self.fault_later(Some(every.0), What::HubEnds);
        if !self.hub_up {
            return Ok(());
        }
        self.report.fault("hubs that ended");
        self.hub_is_away(HUB_AWAY)
    }

    fn hub_is_away(&mut self, longest: Duration) -> Result<(), String> {
        self.hub_up = false;
        self.hub.end();
        for site in 0..self.sites.len() {
            self.links[site].hub_side = None;
            self.lose_connection(site)?;
        }
        self.fault_for(Some(longest), What::HubStarts);
        Ok(())
    }

    pub(super) fn back_up(&mut self) {
        let Some(every) = self.faults.backed_up_every else { return };
        self.queue.push(self.now + every.0, What::BackUp);
        // Of a hub that does not run too: its store is there.
        if !self.hub_lost {
            self.backup = Some(self.hub.backup(self.now));
        }
    }

    /// The hub's machine is lost, with all that was on it.
    pub(super) fn hub_is_lost(&mut self) -> Result<(), String> {
        let Some(every) = self.faults.hub_lost_every else { return Ok(()) };
        self.fault_later(Some(every.0), What::HubLost);
        if !self.hub_up || self.backup.is_none() {
            return Ok(());
        }
        self.report.fault("hubs lost");
        self.hub_lost = true;
        self.hub_is_away(HUB_RESTORED)
    }

    pub(super) fn hub_starts(&mut self) -> Result<(), String> {
        if std::mem::replace(&mut self.hub_up, true) {
            return Ok(());
        }
        if std::mem::take(&mut self.hub_lost)
            && let Some(backup) = self.backup.clone()
        {
            self.hub.restore(self.now, backup);
            self.ledger.begin_life();
        }
        let sent = self.hub.start(self.now).map_err(|error| format!("the hub does not start: {error}"))?;
        self.sends(sent)
    }

    /// An operator looks at the hub, and accepts what it learned if it waits for that. What it knows of the applications is
    /// old: they are applied again.
    pub(super) fn accepted(&mut self) -> Result<(), String> {
        let within = self.faults.accepted_within.map_or(PEOPLE, |longest| longest.0);
        self.fault_for(Some(within), What::Accepted);
        if !self.hub_up || !self.hub.is_paused() {
            return Ok(());
        }
        let sent = self.hub.accept(self.now);
        self.sends(sent)?;
        let charter = Arc::clone(&self.charter);
        let placed: Vec<usize> = self.placed.iter().flatten().map(|placed| placed.release).collect();
        for release in placed {
            let sent = self.hub.place(self.now, &charter.releases[release]);
            self.sends(sent)?;
        }
        Ok(())
    }

    pub(super) fn hub_clock(&mut self, right: bool) -> Result<(), String> {
        if right {
            self.hub.clock = 0;
            return Ok(());
        }
        let Some(every) = self.faults.hub_clock_wrong_every else { return Ok(()) };
        self.fault_later(Some(every.0), What::HubClock { right });
        self.report.fault("hub's clocks wrong");
        self.hub.clock = self.wrong();
        self.fault_for(
            self.faults.hub_clock_wrong_for.map(|longest| longest.0),
            What::HubClock { right: true },
        );
        Ok(())
    }
}
