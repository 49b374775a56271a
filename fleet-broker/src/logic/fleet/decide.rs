//! Looks at what something happened to, and tells clusters what is decided.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use protocol::{
    codec,
    documents::{self, DesiredRelease},
    ids::{AppId, ClusterId},
    time::Now,
    verify::{Trust, Verified},
};
use serde::{Deserialize, Serialize};

use super::{
    Application, Cluster, Document, DocumentKind, Effect, Fleet, Release, chain,
    rollout::{self, Change, Decision, Frozen, View, Waits},
    tally::Tally,
};
use crate::resources::OnUnmatch;

/// Clusters that are told to install something at once: they are stored, and those before them verify it, while the hub
/// signs for the next; and whoever else speaks to the hub waits for no more than these.
pub(super) const TOLD_AT_ONCE: usize = 64;

/// How long people wait to see what was told to more than the first: what clusters hear comes first, and those that
/// report meanwhile make one status of both.
pub(super) const SHOWN_AFTER: Duration = Duration::from_millis(250);

/// Changes of what clusters are told.
type Edits = BTreeMap<ClusterId, Vec<Edit>>;

/// One change of what a cluster is told.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    Install(Arc<DesiredRelease>),
    Remove(AppId),
}

impl Edit {
    pub(super) fn app(&self) -> &AppId {
        match self {
            Self::Install(release) => &release.app,
            Self::Remove(app) => app,
        }
    }
}

/// What follows for one cluster.
pub(super) enum Step<'a> {
    /// Nothing, or nothing yet.
    None,
    /// Its agent did not say that it knows what it would be told.
    Unread,
    /// Nothing, for a freeze.
    Frozen,
    /// It is told to run this.
    Install(&'a Arc<DesiredRelease>),
    /// It is told to remove the application.
    Remove,
}

/// What was taken from clusters so far: many small removals are one large one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Removals {
    /// The application's generation they happened under.
    generation: u64,
    /// How many clusters it was taken from without an approval.
    unapproved: u64,
    /// The approval that was used up last: it lets nothing more through.
    used: Option<String>,
}

impl Fleet {
    /// What follows from all that was handled since this was last asked: what is decided, and what clusters are to hear
    /// of what they reported. However many things happened, each is looked at once.
    pub fn settle(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.changed.shown_from = self.changed.shown_from.filter(|from| now.monotonic < *from);
        let applications = std::mem::take(&mut self.changed.now);
        self.roll_out(now, &applications, &mut effects);
        self.changed.decided.extend(applications);
        // People see the statuses of clusters before the sum of them.
        if self.shows_all_next() {
            let decided = std::mem::take(&mut self.changed.decided);
            self.show_applications(&decided, &mut effects);
        }
        self.acknowledge(&mut effects);
        effects
    }

    /// Whether a change has yet to be told to some clusters: then [`Event::More`] is to follow, once the effects so far
    /// are carried out and others were heard.
    pub fn has_more(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether what people are to see waits for what clusters are to hear: a change goes on to more of them, or has just
    /// been told to many. The next [`Event::Tick`] that is late enough ends it.
    pub fn holds_back(&self) -> bool {
        self.has_more() || self.changed.shown_from.is_some()
    }

    /// Whether the next [`Event::Tick`] does more than to look at the time: reports are to be counted, or labels looked at.
    pub fn has_due(&self) -> bool {
        self.holds_back() || !self.changed.later.is_empty() || !self.on_hold.is_empty()
    }

    /// Decides on applications, and tells clusters.
    pub(super) fn roll_out(&mut self, now: Now, ids: &BTreeSet<AppId>, effects: &mut Vec<Effect>) {
        let (mut edits, mut removals) = (Edits::new(), Vec::new());
        for id in ids {
            let last = self.under_way.remove(id);
            if self.tally(id).is_none() {
                continue;
            }
            let Some(application) = self.applications.get(id) else { continue };
            let decision = match last {
                // What goes on was decided, and said, when it began.
                Some(last) => match self.rest(now, id, application, last) {
                    Ok(install) => {
                        self.promote(id, install, &mut edits);
                        if !self.under_way.contains_key(id) {
                            // The next change does not put it off again.
                            self.changed.shown_from.get_or_insert(now.monotonic + SHOWN_AFTER);
                        }
                        continue;
                    }
                    Err((waits, reason)) => Decision::Hold { reason, waits },
                },
                None => match self.change(now, id, application) {
                    Err((waits, reason)) => Decision::Hold { reason, waits },
                    Ok(change) => {
                        let decision = rollout::advance(&change, self.view(id, application, &change));
                        if let Decision::Promote { approved, .. } = &decision {
                            removals.extend(self.removals_after(id, application, &change, *approved));
                            for cluster in change.remove {
                                edits.entry(cluster).or_default().push(Edit::Remove(id.clone()));
                            }
                            let install = self.first(id);
                            self.promote(id, install, &mut edits);
                        }
                        decision
                    }
                },
            };
            effects.extend(self.tell_decision(id, &decision));
            self.decisions.insert(id.clone(), decision);
        }
        self.keep_removals(removals, effects);
        for (cluster, edits) in edits {
            self.tell_each(now, &cluster, edits, effects);
        }
    }

    /// Tells the first of these clusters now. If there are more, they follow.
    fn promote(&mut self, id: &AppId, install: BTreeMap<ClusterId, Arc<DesiredRelease>>, edits: &mut Edits) {
        let (more, mut told) = (install.len() > TOLD_AT_ONCE, None);
        for (cluster, release) in install.into_iter().take(TOLD_AT_ONCE) {
            edits.entry(cluster.clone()).or_default().push(Edit::Install(release));
            told = Some(cluster);
        }
        if let Some(last) = told.filter(|_| more) {
            self.under_way.insert(id.clone(), last);
        }
        // Once it is told, numbers say more than that it was told.
        self.changed.later.insert(id.clone());
    }

    /// Tells a cluster as much as fits into a desired state; applications that do not are held, with the reason.
    fn tell_each(&mut self, now: Now, cluster: &ClusterId, edits: Vec<Edit>, effects: &mut Vec<Effect>) {
        let Err(problem) = self.tell(now, cluster, &edits, effects) else {
            effects.extend(edits.iter().map(|edit| self.tell_edit(cluster, edit)));
            return;
        };
        if let [edit] = edits.as_slice() {
            let reason = format!("cluster {cluster} cannot be told: {problem}");
            self.changed.later.remove(edit.app());
            let decision = Decision::Hold { reason, waits: Waits::Blocked };
            effects.extend(self.tell_decision(edit.app(), &decision));
            self.decisions.insert(edit.app().clone(), decision);
            return;
        }
        for edit in edits {
            self.tell_each(now, cluster, vec![edit], effects);
        }
    }

    /// What clusters were told so far against what they shall run.
    fn change(&self, now: Now, id: &AppId, application: &Application) -> Result<Change, (Waits, String)> {
        let (release, tally) = self.placement(id, application)?;
        if !tally.install.is_empty() {
            may_install(now, application, release)?;
        }
        let frozen = tally.frozen.first().and_then(|first| self.clusters.get(first));
        let frozen = frozen.and_then(|first| self.frozen(id, &first.labels)).map(|(name, freeze)| Frozen {
            clusters: count(tally.frozen.len()),
            name: name.clone(),
            reason: freeze.reason.clone(),
        });
        Ok(Change {
            placed: tally.placed,
            install: count(tally.install.len()),
            remove: tally.remove.clone(),
            unread: tally.unread,
            frozen,
        })
    }

    /// The first clusters that a change goes to, and what they shall run; one more than are told, if there is one.
    fn first(&self, id: &AppId) -> BTreeMap<ClusterId, Arc<DesiredRelease>> {
        let Some(tally) = self.tallies.get(id) else { return BTreeMap::new() };
        let wanted = |cluster: &ClusterId| {
            let labels = &self.clusters.get(cluster)?.labels;
            Some((cluster.clone(), Arc::clone(tally.placement.as_ref().ok()?.on(labels)?)))
        };
        tally.install.iter().take(TOLD_AT_ONCE + 1).filter_map(wanted).collect()
    }

    /// The next clusters after `last` that a change goes on to, and one more than are told if there is one: not more, for to
    /// look at all of them each time would take longer than to tell them. What else changed meanwhile is decided on after it.
    fn rest(
        &self,
        now: Now,
        id: &AppId,
        application: &Application,
        last: ClusterId,
    ) -> Result<BTreeMap<ClusterId, Arc<DesiredRelease>>, (Waits, String)> {
        let (release, tally) = self.placement(id, application)?;
        may_install(now, application, release)?;
        let Ok(placement) = &tally.placement else { return Ok(BTreeMap::new()) };
        let after = self.clusters.range((Bound::Excluded(last), Bound::Unbounded));
        let install = after.filter(|(_, state)| state.accepted).filter_map(|(cluster, state)| {
            let step = self.step(id, application, placement.on(&state.labels), state);
            if let Step::Install(wanted) = step { Some((cluster.clone(), Arc::clone(wanted))) } else { None }
        });
        Ok(install.take(TOLD_AT_ONCE + 1).collect())
    }

    fn placement(
        &self,
        id: &AppId,
        application: &Application,
    ) -> Result<(&Release, &Tally), (Waits, String)> {
        let tally = self.tallies.get(id).expect("it was counted before it is decided on");
        if let Some(reason) = self.waits(application, tally.found, id) {
            return Err((Waits::Recovery, reason));
        }
        let blocked = |reason: String| (Waits::Blocked, reason);
        let release = self.release_for(id, application).map_err(blocked)?;
        match &tally.placement {
            Ok(_) => Ok((release, tally)),
            Err(problem) => Err(blocked(problem.clone())),
        }
    }

    /// What follows for a cluster that shall run `wanted`, or nothing.
    pub(super) fn step<'a>(
        &'a self,
        id: &AppId,
        application: &Application,
        wanted: Option<&'a Arc<DesiredRelease>>,
        state: &Cluster,
    ) -> Step<'a> {
        let told = state.told(id);
        let changes = match wanted {
            Some(wanted) => told != Some(&**wanted),
            None => application.spec.placement.on_unmatch == OnUnmatch::Remove && told.is_some(),
        };
        if !changes && wanted.is_some_and(|wanted| state.unlearned(wanted)) {
            return Step::Unread;
        }
        // Of one that was not met it is not known what it runs: it is told once it said so.
        if !changes || !self.has_met(state) {
            return Step::None;
        }
        if self.frozen(id, &state.labels).is_some() {
            return Step::Frozen;
        }
        match wanted {
            Some(wanted) if state.reads(wanted) => Step::Install(wanted),
            Some(_) => Step::Unread,
            None => Step::Remove,
        }
    }

    pub(super) fn release_for(&self, id: &AppId, application: &Application) -> Result<&Release, String> {
        let key = (id.tenant.clone(), application.spec.bundle.clone());
        match self.bundles.get(&key) {
            Some(Ok(release)) if &release.verified.app == id => Ok(release),
            Some(Ok(release)) => Err(format!("bundle {} is of application {}", key.1, release.verified.app)),
            Some(Err(problem)) => Err(problem.clone()),
            None => Err(format!("bundle {} does not exist in namespace {}: push it", key.1, key.0)),
        }
    }

    fn view(&self, id: &AppId, application: &Application, change: &Change) -> View {
        let tally = self.tallies.get(id).expect("it was counted before it is decided on");
        let counts = tally.counts;
        let removals = self.removals.get(id);
        let used = removals.and_then(|removals| removals.used.as_ref());
        let fresh = application.approval.as_ref().filter(|text| used != Some(text));
        let before = removals.filter(|removals| removals.generation == application.generation);
        View {
            fleet: tally.fleet,
            placed: change.placed,
            told: counts.desired,
            available: counts.available,
            observed: counts.observed,
            preview: self.previewed(id, counts),
            failed: counts.failed,
            offline: counts.offline,
            removed_before: before.map_or(0, |removals| removals.unapproved),
            approved: fresh.is_some_and(|text| approves(text, application.generation)),
        }
    }

    fn removals_after(
        &self,
        id: &AppId,
        application: &Application,
        change: &Change,
        approved: bool,
    ) -> Option<(AppId, Removals)> {
        if change.remove.is_empty() {
            return None;
        }
        let mut removals = self.removals.get(id).cloned().unwrap_or_default();
        if removals.generation != application.generation {
            (removals.generation, removals.unapproved) = (application.generation, 0);
        }
        if approved {
            (removals.used, removals.unapproved) = (application.approval.clone(), 0);
        } else {
            removals.unapproved += count(change.remove.len());
        }
        Some((id.clone(), removals))
    }

    fn keep_removals(&mut self, removals: Vec<(AppId, Removals)>, effects: &mut Vec<Effect>) {
        if removals.is_empty() {
            return;
        }
        let document = |(id, removals): &(AppId, Removals)| {
            let bytes = Some(codec::encode(removals));
            Document { kind: DocumentKind::Removals, key: id.to_string(), bytes }
        };
        effects.push(Effect::Store(removals.iter().map(document).collect()));
        self.removals.extend(removals);
    }
}

/// A release that has expired is not newly installed.
fn may_install(now: Now, application: &Application, release: &Release) -> Result<(), (Waits, String)> {
    let not_after = release.verified.not_after;
    if now.wall <= not_after {
        return Ok(());
    }
    let bundle = &application.spec.bundle;
    Err((Waits::Blocked, format!("bundle {bundle} expired at {not_after}: have it signed anew")))
}

/// The release in a bundle of this name.
///
/// # Errors
/// Why no cluster would believe it.
pub fn believe(
    trust: &Trust,
    tenant: &str,
    name: &str,
    release: &[u8],
) -> Result<Verified<documents::Release>, String> {
    let verified = trust.release(release).map_err(|error| format!("bundle {name}: {}", chain(&error)))?;
    let named = format!("{}-{}", verified.app.name, verified.version);
    if verified.app.tenant.as_str() != tenant || named != name {
        return Err(format!("bundle {name} holds a release of {} {}", verified.app, verified.version));
    }
    Ok(verified)
}

/// An approval names the generation it is for and says why: `3: the depot closes`.
pub(super) fn approves(text: &str, generation: u64) -> bool {
    let (number, reason) = text.split_once(':').unwrap_or((text, ""));
    number.trim().parse() == Ok(generation) && !reason.trim().is_empty()
}

fn count(len: usize) -> u64 {
    u64::try_from(len).expect("lengths fit into 64 bits")
}
