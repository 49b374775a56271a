//! What goes wrong, and when the next does.

use std::time::Duration;

use edge_agent::cluster::sim::Action;
use serde_json::json;

use super::{FUSE, LATE, UNNOTICED, What, World};
use crate::site::Hindrance;

impl World<'_> {
    pub(super) fn fault_later(&mut self, every: Option<Duration>, what: What) {
        if let Some(every) = every {
            let at = self.now + self.chance.until_next(every);
            self.queue.push(at, what);
        }
    }

    pub(super) fn fault_for(&mut self, longest: Option<Duration>, what: What) {
        let at = self.now + self.chance.between(Duration::from_secs(1), longest.unwrap_or(LATE));
        self.queue.push(at, what);
    }

    pub(super) fn hindrance(&mut self) -> Option<Hindrance> {
        if self.chance.happens(self.faults.refused) {
            self.report.fault("requests refused");
            return Some(Hindrance::Refused);
        }
        if self.chance.happens(self.faults.unanswered) {
            self.report.fault("requests unanswered");
            let is_done = self.chance.below(2) == 0;
            return Some(if is_done { Hindrance::Unanswered } else { Hindrance::Unheard });
        }
        if self.chance.happens(self.faults.contended) {
            self.report.fault("requests contended");
            return Some(Hindrance::Contended);
        }
        None
    }

    pub(super) fn unnoticed(&mut self, site: usize) {
        if let Some(connection) = self.links[site].hub_side {
            let at = self.now + self.chance.between(Duration::ZERO, UNNOTICED);
            self.queue.push(at, What::Unnoticed { site, connection });
        }
    }

    pub(super) fn cut(&mut self, site: usize) -> Result<(), String> {
        let Some(every) = self.faults.cut_every else { return Ok(()) };
        self.report.fault("links cut");
        self.fault_for(self.faults.cut_for.map(|longest| longest.0), What::Mended { site });
        self.fault_later(Some(every.0), What::Cut { site });
        self.cut_link(site)
    }

    pub(super) fn cut_link(&mut self, site: usize) -> Result<(), String> {
        self.links[site].cut = true;
        self.unnoticed(site);
        self.lose_connection(site)
    }

    /// The links of a region fail at once, and come back at once.
    pub(super) fn region_cut(&mut self) -> Result<(), String> {
        let Some(every) = self.faults.region_cut_every else { return Ok(()) };
        self.fault_later(Some(every.0), What::RegionCut);
        self.report.fault("regions cut");
        let regions = self.plan.scenario.regions;
        let region = usize::try_from(self.chance.below(regions as u64)).unwrap_or_default();
        let longest = self.faults.region_cut_for.map_or(LATE, |longest| longest.0);
        let back = self.now + self.chance.between(Duration::from_secs(1), longest);
        for site in (region..self.sites.len()).step_by(regions) {
            self.queue.push(back, What::Mended { site });
            self.cut_link(site)?;
        }
        Ok(())
    }

    pub(super) fn crash(&mut self, site: usize) -> Result<(), String> {
        let Some(every) = self.faults.crash_every else { return Ok(()) };
        self.fault_later(Some(every.0), What::Crash { site });
        if self.sites[site].agent.is_none() {
            return Ok(());
        }
        // At once, or between any two of the effects that come next.
        match self.chance.below(2 * FUSE) {
            0..FUSE => {
                self.sites[site].crash(self.now);
                self.power_failed(site);
            }
            effects => self.sites[site].fuse = u32::try_from(effects - FUSE).ok(),
        }
        Ok(())
    }

    /// Somebody changes an object of what runs there, or deletes it.
    pub(super) fn edit(&mut self, site: usize) -> Result<(), String> {
        let Some(every) = self.faults.edited_every else { return Ok(()) };
        self.fault_later(Some(every.0), What::Edit { site });
        let placed: Vec<usize> = self.placed.iter().flatten().map(|placed| placed.release).collect();
        let objects: Vec<_> =
            placed.iter().flat_map(|release| &self.charter.releases[*release].objects).collect();
        if objects.is_empty() {
            return Ok(());
        }
        let index = usize::try_from(self.chance.below(objects.len() as u64)).unwrap_or_default();
        let object = objects[index].0.clone();
        if self.sites[site].object(&object).is_none() {
            return Ok(());
        }
        self.edited[site] = Some(self.now);
        self.watches[site].edited(self.now, &object);
        let action = match self.chance.below(2) {
            0 => {
                self.report.fault("objects deleted by hand");
                Action::Delete
            }
            _ => {
                self.report.fault("objects changed by hand");
                match object.gvk.kind.as_str() {
                    "ConfigMap" => Action::Merge(json!({"data": {"level": "debug"}})),
                    _ => Action::Merge(json!({"spec": {"replicas": 3}})),
                }
            }
        };
        let caused = self.sites[site].edit(self.now, object, action);
        self.follow(site, caused)
    }
}
