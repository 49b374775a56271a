//! What somebody does who wants harm: on the way between hub and clusters, or with the hub's own key.

use std::time::Duration;

use protocol::{
    codec,
    cose::{self, Binding},
    documents::{Desired, Document as _, Head, Permit},
    limits,
    order::Order,
    topics::{Downward, Upward},
};

use super::{What, World};
use crate::hub::wall;

/// Messages of a flood, each way.
const FLOOD: u64 = 64;

/// Within this all of a flood arrives.
const POURS: Duration = Duration::from_secs(10);

/// The longest message of a flood.
const FLOOD_BYTES: u64 = 2048;

impl World<'_> {
    /// A broker sends much that is worth nothing to a cluster, and to the hub in the cluster's name.
    pub(super) fn flood(&mut self, site: usize) {
        let Some(every) = self.faults.flooded_every else { return };
        self.fault_later(Some(every.0), What::Flooded { site });
        let Some(connection) = self.links[site].hub_side else { return };
        self.report.fault("floods");
        for _ in 0..FLOOD {
            let at = self.now + self.chance.between(Duration::ZERO, POURS);
            let (topic, bytes) = self.worthless(site);
            self.queue.push(at, What::ToSite { site, connection, topic, bytes });
            let topics = [Upward::Hello, Upward::Report, Upward::Held, Upward::Want];
            let topic = topics[self.pick(topics.len())];
            let bytes = self.noise();
            self.queue.push(at, What::ToHub { site, connection, topic, bytes });
        }
    }

    /// What was said before, or nothing that anybody said.
    fn worthless(&mut self, site: usize) -> (Downward, Vec<u8>) {
        let count = self.links[site].remembered.len();
        if count > 0 && self.chance.below(2) == 0 {
            let index = self.pick(count);
            return self.links[site].remembered[index].clone();
        }
        let topics = [Downward::Head, Downward::Desired, Downward::Blob, Downward::Ack];
        (topics[self.pick(topics.len())], self.noise())
    }

    fn noise(&mut self) -> Vec<u8> {
        let len = self.chance.below(FLOOD_BYTES);
        (0..len).map(|_| self.chance.bytes::<1>()[0]).collect()
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.chance.below(count as u64)).unwrap_or_default()
    }

    /// Somebody who has the hub's key, and hears what is said, tells a cluster to run another release, or nothing. What
    /// releases hold nobody can change without their tenant's key.
    pub(super) fn key_stolen(&mut self, site: usize) -> Result<(), String> {
        let Some(every) = self.faults.key_stolen_every else { return Ok(()) };
        self.fault_later(Some(every.0), What::KeyStolen { site });
        let Some(connection) = self.links[site].hub_side else { return Ok(()) };
        let held = self.sites[site].agent.as_ref().and_then(|agent| agent.desired()).cloned();
        let Some(held) = held.filter(|held| !held.releases.is_empty()) else { return Ok(()) };
        self.report.fault("desired states signed by a thief");
        let now = wall(self.now);
        let mut desired = Desired::clone(&held);
        desired.order = Order { seq: held.order.seq + 1 + self.chance.below(3), ..held.order };
        (desired.prev, desired.issued) = (Some(held.digest()), now);
        desired.install_by = now.plus(limits::INSTALL_BY_SECONDS);
        let index = self.pick(desired.releases.len());
        let other = self.charter.releases.iter().find(|published| {
            let release = &desired.releases[index];
            published.app == release.app && published.digest != release.release
        });
        match other.filter(|_| self.chance.below(2) == 0) {
            Some(other) => {
                desired.releases[index].release = other.digest;
                desired.releases[index].len = u32::try_from(other.envelope.len()).unwrap_or(u32::MAX);
            }
            None => {
                let release = desired.releases.remove(index);
                desired.remove.push(release.app);
                desired.remove.sort();
                desired.remove.dedup();
            }
        }
        let id = self.sites[site].id.clone();
        let signed = self.charter.trust.direct(&self.charter.director, desired);
        let (bytes, desired) = signed.map_err(|error| format!("a forged desired state: {error}"))?;
        self.ledger.forged(&id, desired.order, desired.digest());
        // The hub does not know of it before the cluster says so.
        self.edited[site] = Some(self.now);
        let fresh_until = now.plus(limits::HEAD_FRESH_SECONDS);
        let permit = |app: &protocol::ids::AppId| Permit {
            app: app.clone(),
            not_before: protocol::time::UnixSeconds(now.0.saturating_sub(60)),
            not_after: fresh_until,
        };
        let head = Head {
            cluster: id.clone(),
            incarnation: self.hub.incarnation(),
            order: desired.order,
            desired: desired.digest(),
            root_version: self.charter.trust.root().version,
            hub_time: now,
            fresh_until,
            permits: desired.releases.iter().map(|release| permit(&release.app)).collect(),
            nonce: None,
        };
        let binding =
            Binding { kind: Head::TYPE, fleet: &self.charter.trust.root().fleet, cluster: Some(&id) };
        let head = cose::sign_one(binding, &codec::encode(&head), &self.charter.director);
        for (topic, bytes) in [(Downward::Head, head), (Downward::Desired, bytes)] {
            let at = self.at_site(site, bytes.len());
            self.queue.push(at, What::ToSite { site, connection, topic, bytes });
        }
        Ok(())
    }
}
