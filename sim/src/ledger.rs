//! What honest keys signed and what clusters were given: the simulator's own book, against which everything is checked.
//! What an agent holds is asked of it; whether it may is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use edge_agent::{
    cluster::Request,
    logic::{app::PARENT_NAMESPACE, object::ObjectRef},
};
use protocol::{
    ids::{ClusterId, Digest},
    order::Order,
};
use serde_json::Value;

use crate::{charter::Charter, site::Site};

/// The place and the digest of a desired state.
pub type Place = (Order, Digest);

/// The book.
pub struct Ledger {
    charter: Arc<Charter>,
    /// For each cluster, what was signed under which place, in which life of the hub.
    signed: BTreeMap<(ClusterId, Order, u32), Digest>,
    /// What somebody signed who has the hub's key.
    forged: BTreeSet<(ClusterId, Order, Digest)>,
    /// A hub that was restored does not know what the lost one signed last.
    life: u32,
    /// What each site held last, under which place.
    held: Vec<Option<Place>>,
}

impl Ledger {
    /// An empty book.
    pub fn new(charter: Arc<Charter>, sites: usize) -> Self {
        Self { charter, signed: BTreeMap::new(), forged: BTreeSet::new(), life: 0, held: vec![None; sites] }
    }

    /// Somebody else signed a desired state with the hub's key: an agent cannot know, and may hold it.
    pub fn forged(&mut self, id: &ClusterId, order: Order, digest: Digest) {
        self.forged.insert((id.clone(), order, digest));
    }

    /// Whether a site holds what a thief signed: its hub knows of that when it is told.
    pub fn holds_forged(&self, number: usize, id: &ClusterId) -> bool {
        self.held[number].is_some_and(|(order, digest)| self.forged.contains(&(id.clone(), order, digest)))
    }

    /// A hub was restored from a backup.
    pub fn begin_life(&mut self) {
        self.life += 1;
    }

    /// Whether no hub was lost and no key stolen yet: then no place has two contents, whoever says so.
    pub fn is_first_life(&self) -> bool {
        self.life == 0 && self.forged.is_empty()
    }

    /// A desired state was signed for a cluster: a place has one content, for as long as a hub lives.
    ///
    /// # Errors
    /// What is wrong.
    pub fn signed(&mut self, id: &ClusterId, order: Order, digest: Digest) -> Result<(), String> {
        // What a thief signed is learned from there, too.
        if self.forged.contains(&(id.clone(), order, digest)) {
            return Ok(());
        }
        // What a lost hub signed is learned from the cluster that holds it, and is said again.
        let before = (id.clone(), order, 0)..(id.clone(), order, self.life);
        if self.signed.range(before).any(|(_, signed)| *signed == digest) {
            return Ok(());
        }
        match self.signed.insert((id.clone(), order, self.life), digest) {
            Some(before) if before != digest => {
                let (before, now) = (before.short(), digest.short());
                Err(format!("{id} was told two things under {order}: {before}, and now {now}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// How many desired states were signed.
    pub fn count(&self) -> u64 {
        self.signed.len() as u64
    }

    /// What a site held last.
    pub fn held(&self, number: usize) -> Option<Place> {
        self.held[number]
    }

    /// There is one more site, which holds this.
    pub fn add_site(&mut self, held: Option<Place>) {
        self.held.push(held);
    }

    /// A site has another disk: it held this when that was written.
    pub fn put_back(&mut self, number: usize, held: Option<Place>) {
        self.held[number] = held;
    }

    /// Looks at what a site holds: it was signed for it, and never goes back.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&mut self, number: usize, site: &Site) -> Result<(), String> {
        let Some(desired) = site.agent.as_ref().and_then(|agent| agent.desired()) else { return Ok(()) };
        let (order, digest) = (desired.order, desired.digest());
        match self.held[number].replace((order, digest)) {
            Some(before) if before == (order, digest) => return Ok(()),
            Some((before, _)) if order < before => {
                return Err(format!("{} went back from {before:?} to {order:?}", site.id));
            }
            Some((before, _)) if order == before => {
                return Err(format!("{} takes another desired state under {order:?}", site.id));
            }
            Some(_) | None => {}
        }
        let lives = (site.id.clone(), order, 0)..=(site.id.clone(), order, self.life);
        let is_forged = self.forged.contains(&(site.id.clone(), order, digest));
        if is_forged || self.signed.range(lives).any(|(_, signed)| *signed == digest) {
            return Ok(());
        }
        Err(format!("{} holds what was never signed for it, under {order:?}", site.id))
    }

    /// Looks at what an agent is about to ask of its cluster.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_request(&self, site: &Site, request: &Request) -> Result<(), String> {
        match request {
            Request::Apply { object, body, dry_run: false, .. } if !is_own(object) => {
                let released = self.charter.releases.iter().flat_map(|published| &published.objects);
                let is_signed =
                    released.into_iter().any(|(named, signed)| named == object && covers(body, signed));
                is_signed
                    .then_some(())
                    .ok_or_else(|| format!("{} applies what nobody signed: {object}", site.id))
            }
            Request::Delete { object, .. } if !is_own(object) => {
                let desired = site.agent.as_ref().and_then(|agent| agent.desired());
                let releases = desired.iter().flat_map(|desired| &desired.releases);
                let mut wanted = releases.filter_map(|release| self.charter.release(&release.release));
                let is_wanted =
                    wanted.any(|published| published.objects.iter().any(|(named, _)| named == object));
                (!is_wanted)
                    .then_some(())
                    .ok_or_else(|| format!("{} deletes what is wanted: {object}", site.id))
            }
            Request::Apply { .. }
            | Request::Delete { .. }
            | Request::Get(_)
            | Request::List { .. }
            | Request::Version => Ok(()),
        }
    }

    /// What is wrong with a site that should hold and run these releases, if anything is.
    pub fn lacks(&self, site: &Site, releases: &[&Digest]) -> Option<String> {
        let Some(agent) = &site.agent else { return Some(format!("the agent of {} does not run", site.id)) };
        let told = |digest: &Digest| {
            agent
                .desired()
                .is_some_and(|desired| desired.releases.iter().any(|release| release.release == *digest))
        };
        let untold = releases.iter().find(|digest| !told(digest));
        if let Some(digest) = untold {
            return Some(format!("{} was not told to run {}", site.id, digest.short()));
        }
        releases.iter().find_map(|digest| self.lacks_objects(site, digest))
    }

    /// What is still there of what was released and is wanted no longer, if anything is.
    pub fn leaves(&self, site: &Site, releases: &[&Digest]) -> Option<String> {
        let wanted = releases.iter().filter_map(|digest| self.charter.release(digest));
        let wanted: Vec<&ObjectRef> =
            wanted.flat_map(|published| &published.objects).map(|(object, _)| object).collect();
        let released = self.charter.releases.iter().flat_map(|published| &published.objects);
        let mut unwanted = released.map(|(object, _)| object).filter(|object| !wanted.contains(object));
        let left = unwanted.find(|object| site.object(object).is_some())?;
        Some(format!("{} still has {left}, which nothing names any more", site.id))
    }

    /// What is missing of a release on a site's cluster, if anything is.
    pub fn lacks_objects(&self, site: &Site, release: &Digest) -> Option<String> {
        let objects = &self.charter.release(release)?.objects;
        objects.iter().find_map(|(object, signed)| match site.object(object) {
            None => Some(format!("{} lacks {object}", site.id)),
            Some(live) if !covers(live, signed) => {
                Some(format!("{} has another {object} than was signed", site.id))
            }
            Some(_) => None,
        })
    }
}

/// Whether an object is one that the agent makes for itself.
pub(crate) fn is_own(object: &ObjectRef) -> bool {
    object.namespace.as_deref() == Some(PARENT_NAMESPACE)
        || object.gvk.kind == "Namespace" && object.name == PARENT_NAMESPACE
}

/// Whether everything that `signed` says stands in `live`.
fn covers(live: &Value, signed: &Value) -> bool {
    match (live, signed) {
        (Value::Object(live), Value::Object(signed)) => {
            signed.iter().all(|(name, signed)| live.get(name).is_some_and(|live| covers(live, signed)))
        }
        (Value::Array(live), Value::Array(signed)) => {
            live.len() == signed.len() && live.iter().zip(signed).all(|(live, signed)| covers(live, signed))
        }
        (live, signed) => live == signed,
    }
}
