//! Connections between the hub and its clusters: who dials when, and who learns that one is gone.

use std::{collections::VecDeque, time::Duration};

use protocol::topics::Downward;

use super::{REDIAL, What, World};

/// The way between the hub and one site.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) cut: bool,
    pub(super) slow: bool,
    /// Which connection the hub takes for the site's.
    pub(super) hub_side: Option<u64>,
    /// Messages to the site, for a broker that repeats them.
    pub(super) remembered: VecDeque<(Downward, Vec<u8>)>,
    /// When the last message that was not late arrives, up and down: a connection keeps the order.
    pub(super) last_up: Duration,
    pub(super) last_down: Duration,
}

impl World<'_> {
    pub(super) fn redial(&mut self, site: usize) {
        let at = self.now + self.chance.between(Duration::from_secs(1), REDIAL);
        self.queue.push(at, What::Dial { site });
    }

    pub(super) fn dial(&mut self, site: usize) -> Result<(), String> {
        let is_ready = self.sites[site].agent.is_some() && !self.links[site].cut;
        if !is_ready || self.sites[site].connection.is_some() {
            return Ok(());
        }
        if !self.hub_up {
            self.redial(site);
            return Ok(());
        }
        self.connections += 1;
        let id = self.sites[site].id.clone();
        self.take_over(site)?;
        // A connection that the hub took for alive is replaced.
        if self.links[site].hub_side.replace(self.connections).is_some() {
            self.hub.disconnect(&id);
        }
        self.sites[site].connection = Some(self.connections);
        self.hub.connect(&id);
        self.hub_turns();
        let caused = self.sites[site].connected(self.now);
        self.follow(site, caused)
    }

    /// The site learns that its connection is gone; the hub may not.
    pub(super) fn lose_connection(&mut self, site: usize) -> Result<(), String> {
        if self.sites[site].connection.take().is_none() {
            return Ok(());
        }
        let caused = self.sites[site].disconnected(self.now);
        self.redial(site);
        self.follow(site, caused)
    }
}
