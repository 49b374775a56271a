//! What happens to the machines at the sites, and to the hub's clock.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use edge_agent::{cluster::sim::Action, logic::object::ObjectRef};

use super::{Machine, PEOPLE, REDIAL, What, World};
use crate::{
    disk::Image,
    hub::wall,
    ledger::Place,
    scenario::{Faults, Time},
};

/// Ten years, in seconds.
const TEN_YEARS: i64 = 10 * 365 * 24 * 60 * 60;

/// An hour, in seconds.
const HOUR: u64 = 60 * 60;

/// What strikes a site now and then.
const STRIKES: [Machine; 9] = [
    Machine::DiskFills,
    Machine::FlushFails,
    Machine::OldDisk,
    Machine::JournalLost,
    Machine::ClockWrong,
    Machine::Cloned,
    Machine::LinkSlow,
    Machine::NamespaceStuck,
    Machine::ClusterRestored,
];

impl Faults {
    /// How often something happens to a machine by itself; never, if that is not said, or if it follows from something else.
    fn every(&self, what: Machine) -> Option<Duration> {
        let every = match what {
            Machine::DiskFills => self.full_every,
            Machine::FlushFails => self.flush_fails_every,
            Machine::OldDisk => self.old_disk_every,
            Machine::JournalLost => self.journal_lost_every,
            Machine::ClockWrong => self.clock_wrong_every,
            Machine::Cloned => self.cloned_every,
            Machine::LinkSlow => self.slow_every,
            Machine::NamespaceStuck => self.namespace_stuck_every,
            Machine::ClusterRestored => self.cluster_restored_every,
            Machine::PowerSaved => self.power_saved_every,
            Machine::WindowOpens => self.up_every,
            Machine::DiskHasRoom
            | Machine::ClockRight
            | Machine::WindowCloses
            | Machine::PeopleLook
            | Machine::LinkFast
            | Machine::NamespaceFreed
            | Machine::NamespaceMade
            | Machine::CloneEnds => None,
        };
        every.map(|every| every.0)
    }
}

impl World<'_> {
    pub(super) fn machine_begins(&mut self, site: usize) {
        for what in STRIKES {
            self.fault_later(self.faults.every(what), What::Machine { site, what });
        }
        for what in [Machine::PowerSaved, Machine::WindowOpens] {
            let Some(every) = self.faults.every(what) else { continue };
            let first = self.chance.between(Duration::ZERO, every);
            self.queue.push(first, What::Machine { site, what });
        }
        if self.faults.up_every.is_some() {
            self.links[site].cut = true;
        }
    }

    pub(super) fn machine(&mut self, site: usize, what: Machine) -> Result<(), String> {
        if STRIKES.contains(&what) {
            let Some(every) = self.faults.every(what) else { return Ok(()) };
            self.fault_later(Some(every), What::Machine { site, what });
        }
        let later = |what| What::Machine { site, what };
        let longest = |longest: Option<Time>| longest.map(|longest| longest.0);
        match what {
            Machine::DiskFills => {
                self.report.fault("disks full");
                self.sites[site].disk.fill(true);
                self.fault_for(longest(self.faults.full_for), later(Machine::DiskHasRoom));
            }
            Machine::DiskHasRoom => self.sites[site].disk.fill(false),
            Machine::FlushFails => {
                self.report.fault("flushes that failed");
                self.sites[site].disk.fail();
            }
            Machine::OldDisk => self.old_disk(site),
            Machine::JournalLost => {
                self.report.fault("journals lost");
                self.other_disk(site, Image::default(), None);
            }
            Machine::ClockWrong => {
                self.report.fault("clocks wrong");
                self.sites[site].clock = self.wrong();
                self.fault_for(longest(self.faults.clock_wrong_for), later(Machine::ClockRight));
            }
            Machine::ClockRight => self.sites[site].clock = 0,
            Machine::LinkSlow => {
                self.report.fault("links slow");
                self.links[site].slow = true;
                self.fault_for(longest(self.faults.slow_for), later(Machine::LinkFast));
            }
            Machine::LinkFast => self.links[site].slow = false,
            Machine::Cloned => self.clone_disk(site),
            Machine::CloneEnds => self.end_clone(site),
            Machine::NamespaceStuck => return self.namespace_stuck(site),
            Machine::NamespaceFreed => return self.namespace_freed(site),
            Machine::NamespaceMade => return self.namespace_made(site),
            Machine::ClusterRestored => return self.cluster_restored(site),
            Machine::PowerSaved => self.power_saved(site),
            Machine::WindowOpens => self.window_opens(site),
            Machine::WindowCloses if self.faults.up_every.is_some() => return self.cut_link(site),
            Machine::WindowCloses => {}
            Machine::PeopleLook => return self.people_look(site),
        }
        Ok(())
    }

    /// Power is switched off for a while, as it is once in so long.
    fn power_saved(&mut self, site: usize) {
        let what = Machine::PowerSaved;
        let (Some(every), Some(lasts)) = (self.faults.every(what), self.faults.power_saved_for) else {
            return;
        };
        self.queue.push(self.now + every, What::Machine { site, what });
        self.report.fault("nights without power");
        self.unnoticed(site);
        self.sites[site].crash(self.now);
        self.queue.push(self.now + lasts.0, What::Boot { site });
    }

    /// A link is up for a while, as it is once in so long.
    fn window_opens(&mut self, site: usize) {
        let what = Machine::WindowOpens;
        let (Some(every), Some(lasts)) = (self.faults.every(what), self.faults.up_for) else { return };
        self.queue.push(self.now + every, What::Machine { site, what });
        self.queue.push(self.now + lasts.0, What::Machine { site, what: Machine::WindowCloses });
        self.report.fault("links up for a while");
        self.queue.push(self.now, What::Mended { site });
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
