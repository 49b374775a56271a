//! What happens to the machines at the sites, and to the hub's clock.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use edge_agent::{cluster::sim::Action, logic::object::ObjectRef};

use super::{Machine, PEOPLE, REDIAL, What, World};
use crate::{disk::Image, hub::wall, ledger::Place, scenario::Time};

/// Ten years, in seconds.
const TEN_YEARS: i64 = 10 * 365 * 24 * 60 * 60;

/// An hour, in seconds.
const HOUR: u64 = 60 * 60;

impl World<'_> {
    pub(super) fn machine_begins(&mut self, site: usize) {
        let faults = &self.faults;
        let once = [
            (faults.full_every, Machine::DiskFills),
            (faults.flush_fails_every, Machine::FlushFails),
            (faults.old_disk_every, Machine::OldDisk),
            (faults.journal_lost_every, Machine::JournalLost),
            (faults.clock_wrong_every, Machine::ClockWrong),
            (faults.cloned_every, Machine::Cloned),
            (faults.slow_every, Machine::LinkSlow),
            (faults.namespace_stuck_every, Machine::NamespaceStuck),
            (faults.cluster_restored_every, Machine::ClusterRestored),
        ];
        let daily =
            [(faults.power_saved_every, Machine::PowerSaved), (faults.up_every, Machine::WindowOpens)];
        for (every, what) in once {
            self.fault_later(every.map(|every| every.0), What::Machine { site, what });
        }
        for (every, what) in daily {
            let Some(every) = every else { continue };
            let first = self.chance.between(Duration::ZERO, every.0);
            self.queue.push(first, What::Machine { site, what });
        }
        if self.faults.up_every.is_some() {
            self.links[site].cut = true;
        }
    }

    pub(super) fn machine(&mut self, site: usize, what: Machine) -> Result<(), String> {
        let again = |every: Option<Time>| every.map(|every| every.0);
        match what {
            Machine::DiskFills => {
                let Some(every) = again(self.faults.full_every) else { return Ok(()) };
                self.fault_later(Some(every), What::Machine { site, what });
                self.report.fault("disks full");
                self.sites[site].disk.fill(true);
                let longest = again(self.faults.full_for);
                self.fault_for(longest, What::Machine { site, what: Machine::DiskHasRoom });
            }
            Machine::DiskHasRoom => self.sites[site].disk.fill(false),
            Machine::FlushFails => {
                let Some(every) = again(self.faults.flush_fails_every) else { return Ok(()) };
                self.fault_later(Some(every), What::Machine { site, what });
                self.report.fault("flushes that failed");
                self.sites[site].disk.fail();
            }
            Machine::OldDisk => {
                let Some(every) = again(self.faults.old_disk_every) else { return Ok(()) };
                self.fault_later(Some(every), What::Machine { site, what });
                self.old_disk(site);
            }
            Machine::JournalLost => {
                let Some(every) = again(self.faults.journal_lost_every) else { return Ok(()) };
                self.fault_later(Some(every), What::Machine { site, what });
                self.report.fault("journals lost");
                self.other_disk(site, Image::default(), None);
            }
            Machine::ClockWrong => {
                let Some(every) = again(self.faults.clock_wrong_every) else { return Ok(()) };
                self.fault_later(Some(every), What::Machine { site, what });
                self.report.fault("clocks wrong");
                self.sites[site].clock = self.wrong();
                let longest = again(self.faults.clock_wrong_for);
                self.fault_for(longest, What::Machine { site, what: Machine::ClockRight });
            }
            Machine::ClockRight => self.sites[site].clock = 0,
            Machine::PowerSaved => {
                let (Some(every), Some(lasts)) =
                    (again(self.faults.power_saved_every), again(self.faults.power_saved_for))
                else {
                    return Ok(());
                };
                self.queue.push(self.now + every, What::Machine { site, what });
                self.report.fault("nights without power");
                self.unnoticed(site);
                self.sites[site].crash(self.now);
                self.queue.push(self.now + lasts, What::Boot { site });
            }
            Machine::WindowOpens => {
                let (Some(every), Some(lasts)) = (again(self.faults.up_every), again(self.faults.up_for))
                else {
                    return Ok(());
                };
                self.queue.push(self.now + every, What::Machine { site, what });
                self.queue.push(self.now + lasts, What::Machine { site, what: Machine::WindowCloses });
                self.report.fault("links up for a while");
                self.queue.push(self.now, What::Mended { site });
            }
            Machine::LinkSlow => {
                let Some(every) = again(self.faults.slow_every) else { return Ok(()) };
                self.fault_later(Some(every), What::Machine { site, what });
                self.report.fault("links slow");
                self.links[site].slow = true;
                let longest = again(self.faults.slow_for);
                self.fault_for(longest, What::Machine { site, what: Machine::LinkFast });
            }
            Machine::LinkFast => self.links[site].slow = false,
            Machine::Cloned => {
                let Some(every) = again(self.faults.cloned_every) else { return Ok(()) };
                self.fault_later(Some(every), What::Machine { site, what });
                self.clone_disk(site);
            }
            Machine::CloneEnds => self.end_clone(site),
            Machine::NamespaceStuck
            | Machine::NamespaceFreed
            | Machine::NamespaceMade
            | Machine::ClusterRestored => return self.cluster_suffers(site, what),
            Machine::PeopleLook => return self.people_look(site),
            Machine::WindowCloses => {
                if self.faults.up_every.is_some() {
                    return self.cut_link(site);
                }
            }
        }
        Ok(())
    }

    /// The disk is as it was some time ago; what it is now comes back the next time.
    fn old_disk(&mut self, site: usize) {
        let now = (self.sites[site].disk.image(), self.ledger.held(site));
        if let Some((image, held)) = self.images[site].replace(now) {
            self.report.fault("old disks put back");
            self.other_disk(site, image, held);
        }
    }

    fn other_disk(&mut self, site: usize, image: Image, held: Option<Place>) {
        self.sites[site].crash(self.now);
        self.power_failed(site);
        self.sites[site].disk.put_back(image);
        self.ledger.put_back(site, held);
        self.watches[site].has_another_disk();
        self.forgot[site] = true;
        // While it is away it runs what that disk holds, and its hub does not know.
        self.edited[site] = Some(self.now);
    }

    /// An agent that forgot what is its own takes back nothing that others changed: it says that there is a conflict. People
    /// delete what it names, and it is made anew; then they look again.
    fn people_look(&mut self, site: usize) -> Result<(), String> {
        let conflicts = self.sites[site].conflicts();
        let charter = Arc::clone(&self.charter);
        let objects = charter.releases.iter().flat_map(|published| &published.objects);
        let named =
            objects.map(|(object, _)| object).filter(|object| conflicts.contains(&object.to_string()));
        let named: BTreeSet<&ObjectRef> = named.collect();
        if !named.is_empty() {
            self.queue.push(self.now + PEOPLE, What::Machine { site, what: Machine::PeopleLook });
        }
        for object in named {
            self.report.fault("conflicts resolved by hand");
            let caused = self.sites[site].edit(self.now, object.clone(), Action::Delete);
            self.follow(site, caused)?;
        }
        Ok(())
    }

    /// Power failed; it comes back.
    pub(super) fn power_failed(&mut self, site: usize) {
        self.report.fault("agents whose power failed");
        self.unnoticed(site);
        self.fault_for(self.faults.crash_for.map(|longest| longest.0), What::Boot { site });
    }

    /// A journal was not written. The agent goes on from what is there after a pause.
    pub(super) fn journal_failed(&mut self, site: usize) {
        self.unnoticed(site);
        let pause = self.chance.between(Duration::from_secs(1), REDIAL);
        self.queue.push(self.now + pause, What::Boot { site });
    }

    /// By how much a clock is wrong.
    pub(super) fn wrong(&mut self) -> i64 {
        match self.chance.below(4) {
            0 => -i64::try_from(wall(self.now).0).unwrap_or(i64::MAX),
            1 => TEN_YEARS,
            ahead => {
                let by = i64::try_from(self.chance.below(HOUR)).unwrap_or_default();
                if ahead == 2 { by } else { -by }
            }
        }
    }
}
