//! The way between the hub and its clusters, and what a bad broker does there.

use std::time::Duration;

use protocol::topics::{Downward, Upward};

use super::{LATE, Link, REMEMBERED, What, World};

/// Bytes that a slow link carries in a second: 9,600 bits.
const SLOW_BYTES: u32 = 1200;

/// What a message takes besides its payload: headers of MQTT, TLS, TCP and IP.
const HEADERS: u32 = 100;

impl World<'_> {
    /// How long a message is on its way, and whether it keeps its place among others.
    fn delay(&mut self) -> (Duration, bool) {
        let link = &self.plan.scenario.link;
        let delay = self.chance.between(link.fastest.0, link.slowest.0);
        if self.chance.happens(self.faults.late) {
            self.report.fault("messages late");
            return (delay + self.chance.between(Duration::ZERO, LATE), false);
        }
        (delay, true)
    }

    pub(super) fn at_site(&mut self, site: usize, len: usize) -> Duration {
        let (delay, in_order) = self.delay();
        let link = &mut self.links[site];
        let carried = link.carries(len);
        in_turn(&mut link.last_down, self.now + delay, carried, in_order)
    }

    pub(super) fn at_hub(&mut self, site: usize, len: usize) -> Duration {
        let (delay, in_order) = self.delay();
        let link = &mut self.links[site];
        let carried = link.carries(len);
        in_turn(&mut link.last_up, self.now + delay, carried, in_order)
    }

    /// What a broker does to the bytes of a message: none, where it drops it.
    fn tamper(&mut self, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        if self.chance.happens(self.faults.lost) {
            self.report.fault("messages lost");
            return None;
        }
        if !bytes.is_empty() && self.chance.happens(self.faults.flipped) {
            self.report.fault("messages with a bit flipped");
            let bit = usize::try_from(self.chance.below(8 * bytes.len() as u64)).unwrap_or_default();
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        Some(bytes)
    }

    pub(super) fn deliver_down(&mut self, site: usize, connection: u64, topic: Downward, bytes: Vec<u8>) {
        if self.faults.replayed > 0 {
            let remembered = &mut self.links[site].remembered;
            if remembered.len() == REMEMBERED {
                remembered.pop_front();
            }
            remembered.push_back((topic, bytes.clone()));
            if self.chance.happens(self.faults.replayed) {
                self.report.fault("messages replayed");
                let count = self.links[site].remembered.len() as u64;
                let index = usize::try_from(self.chance.below(count)).unwrap_or_default();
                let (topic, bytes) = self.links[site].remembered[index].clone();
                let at = self.at_site(site, bytes.len());
                self.queue.push(at, What::ToSite { site, connection, topic, bytes });
            }
        }
        if self.chance.happens(self.faults.misdelivered) {
            let other = usize::try_from(self.chance.below(self.sites.len() as u64)).unwrap_or_default();
            if let Some(connection) = self.links[other].hub_side.filter(|_| other != site) {
                self.report.fault("messages to another cluster");
                let (at, bytes) = (self.at_site(other, bytes.len()), bytes.clone());
                self.queue.push(at, What::ToSite { site: other, connection, topic, bytes });
            }
        }
        let Some(bytes) = self.tamper(bytes) else { return };
        if self.chance.happens(self.faults.doubled) {
            self.report.fault("messages doubled");
            let at = self.at_site(site, bytes.len());
            self.queue.push(at, What::ToSite { site, connection, topic, bytes: bytes.clone() });
        }
        let at = self.at_site(site, bytes.len());
        self.queue.push(at, What::ToSite { site, connection, topic, bytes });
    }

    pub(super) fn deliver_up(&mut self, site: usize, connection: u64, topic: Upward, bytes: Vec<u8>) {
        let Some(bytes) = self.tamper(bytes) else { return };
        if self.chance.happens(self.faults.doubled) {
            self.report.fault("messages doubled");
            let at = self.at_hub(site, bytes.len());
            self.queue.push(at, What::ToHub { site, connection, topic, bytes: bytes.clone() });
        }
        let at = self.at_hub(site, bytes.len());
        self.queue.push(at, What::ToHub { site, connection, topic, bytes });
    }
}

impl Link {
    /// How long it takes to carry a message behind those before it.
    fn carries(&self, len: usize) -> Duration {
        let bytes = u32::try_from(len).unwrap_or(u32::MAX).saturating_add(HEADERS);
        if self.slow { Duration::from_secs(bytes.into()) / SLOW_BYTES } else { Duration::ZERO }
    }
}

/// When a message arrives: not before the last that keeps its order.
fn in_turn(last: &mut Duration, at: Duration, carried: Duration, in_order: bool) -> Duration {
    if !in_order {
        return at + carried;
    }
    *last = at.max(*last) + carried;
    *last
}
