//! What ended steps mean.

use protocol::{
    ids::{AppId, Digest},
    time::Now,
};

use super::{
    agent::{Agent, Running, Version, Work},
    app::{Failed, Found, Healed, ObjectState, ParentState, refuse},
    backoff,
    entry::{Entry, Key, Owned, Row},
    event::{Effect, Failure, FieldTaken, How, Inspection, Outcome, Remedy, StepId},
    object::ObjectRef,
    transfer::Check,
};

impl Agent {
    pub(super) fn step_done(&mut self, now: Now, id: StepId, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some(running) = self.steps.remove(&id) else { return };
        self.note_outage(now, &running, &outcome);
        match running {
            Running::Object { app, object, work } => {
                self.object_done(now, &app, object, work, outcome, effects)
            }
            Running::Parent(app) => self.parent_done(now, &app, outcome),
            Running::DeleteParent(app) => self.removed(now, &app, outcome, effects),
            Running::Check(pack) => self.checked(now, pack, outcome, effects),
            Running::Version => {
                // An API server that answers and does not tell is not asked again.
                self.kubernetes = if outcome.outage().is_some() {
                    Version::Unknown
                } else if let Outcome::Version(version) = outcome {
                    Version::Known(version)
                } else {
                    Version::Known(String::new())
                };
                self.outbox.cluster_changed = true;
                self.outbox.gather(now.monotonic);
            }
        }
    }

    /// An API server that is away fails every step: one of them then tries for all.
    fn note_outage(&mut self, now: Now, running: &Running, outcome: &Outcome) {
        if matches!(running, Running::Check(_)) {
            return;
        }
        let before = self.outage.is_some();
        self.outage = match outcome.outage() {
            Some(failure) => {
                let still = self.outage.take().filter(|failed| failed.retry_at > now.monotonic);
                let times = self.outage_times + u32::from(still.is_none());
                self.outage_times = times;
                let seed = format!("{} outage", self.identity.cluster);
                let retry_at = now.monotonic + backoff::wait(times.min(6), &seed);
                Some(still.unwrap_or(Failed { failure: failure.clone(), times, retry_at }))
            }
            None => {
                self.outage_times = 0;
                None
            }
        };
        if before != self.outage.is_some() {
            self.outbox.cluster_changed = true;
            self.outbox.gather(now.monotonic);
        }
    }

    fn object_done(
        &mut self,
        now: Now,
        id: &AppId,
        object: ObjectRef,
        work: Work,
        outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) {
        let time = self.time.now(now);
        let Some(app) = self.apps.get_mut(id) else { return };
        let state = app.objects.entry(object.clone()).or_default();
        state.busy = false;
        match (work, outcome) {
            (_, Outcome::Failed(Failure { remedy: Remedy::Outage, .. })) => state.stale = true,
            (_, Outcome::Failed(failure)) => state.fail(&object, failure, now.monotonic),
            (_, Outcome::ContentBad(why)) => {
                state.fail(&object, refuse("ContentInvalid", why), now.monotonic);
                if let Some(current) = &app.current {
                    let pack = current.release.pack;
                    self.transfers.fail(pack, "it does not match its release", now.monotonic);
                    effects.push(Effect::Record(vec![Entry::DropContent(pack)]));
                }
            }
            (Work::Inspect, Outcome::Absent) => {
                state.found = Found::Absent;
                if app.inventory.get(&object).is_some_and(|owned| owned.uid.is_some()) {
                    state.drifted_by.get_or_insert_with(|| "somebody who deleted it".to_owned());
                }
            }
            (Work::Inspect, Outcome::Present(found)) => {
                state.note(app.inventory.get(&object), *found);
            }
            (Work::Apply { .. }, Outcome::WouldChange(changes)) => state.identical = Some(!changes),
            (Work::Apply { .. }, Outcome::Conflict { fields, message }) => {
                state.conflicted(&object, &fields, message, now.monotonic);
            }
            (
                Work::Apply { release, source, index, how: How::Normal | How::Forced },
                Outcome::Present(found),
            ) => {
                let owned = owned(release, source, index, &found);
                state.applied(*found, now.monotonic, time);
                effects.push(Effect::Record(vec![Entry::Put(Row::Object(
                    id.clone(),
                    object.clone(),
                    owned.clone(),
                ))]));
                app.inventory.insert(object, owned);
            }
            (Work::Delete, Outcome::Deleted | Outcome::Replaced | Outcome::Absent) => {
                app.objects.remove(&object);
                app.inventory.remove(&object);
                effects.push(Effect::Record(vec![Entry::Drop(Key::Object(id.clone(), object))]));
            }
            (Work::Delete, Outcome::Deleting) => {
                let message = "it goes when its finalizers are done".to_owned();
                state.fail(&object, refuse("Deleting", message), now.monotonic);
            }
            (work, outcome) => {
                let message = format!("unexpected end of {work:?}: {outcome:?}");
                state.fail(&object, refuse("Internal", message), now.monotonic);
            }
        }
    }

    fn parent_done(&mut self, now: Now, id: &AppId, outcome: Outcome) {
        let Some(app) = self.apps.get_mut(id) else { return };
        app.parent = if outcome.outage().is_some() {
            ParentState::Needed
        } else if let Outcome::Failed(failure) = outcome {
            let retry_at = now.monotonic + backoff::wait(4, &id.to_string());
            ParentState::Failed(Failed { failure, times: 1, retry_at })
        } else {
            ParentState::Done
        };
    }

    fn removed(&mut self, now: Now, id: &AppId, outcome: Outcome, effects: &mut Vec<Effect>) {
        if matches!(outcome, Outcome::Failed(_)) {
            return self.parent_done(now, id, outcome);
        }
        let Some(app) = self.apps.get_mut(id) else { return };
        // The report stays until the hub has it.
        (app.current, app.previous, app.staged, app.named) = (None, None, None, None);
        (app.row.accepted, app.row.previous, app.row.applied) = (None, None, None);
        app.parent = ParentState::Done;
        effects.push(Effect::Record(vec![Entry::Put(Row::App(id.clone(), app.row.clone()))]));
    }

    fn checked(&mut self, now: Now, pack: Digest, outcome: Outcome, effects: &mut Vec<Effect>) {
        if let Outcome::ContentGood = outcome {
            if let Some(content) = self.transfers.stored.get_mut(&pack) {
                content.check = Check::Good;
            }
            return;
        }
        // Content that cannot even be checked is no better than bad: it is fetched again, after a while.
        let why = if let Outcome::ContentBad(why) = outcome {
            why
        } else {
            format!("it could not be checked: {outcome:?}")
        };
        let what = self.content_name(pack);
        self.transfers.fail(pack, "it does not match its release", now.monotonic);
        effects.push(Effect::Record(vec![Entry::DropContent(pack)]));
        self.alarm(now, "Content", format!("{what}: {why}"));
    }
}

impl ObjectState {
    /// What a look at the object showed.
    fn note(&mut self, owned: Option<&Owned>, found: Inspection) {
        let intact = |owned: &Owned| {
            let same = owned.uid.as_ref() == Some(&found.uid);
            same && found.owned.is_some_and(|digest| digest.0.as_slice() == owned.owned.as_slice())
        };
        match owned.filter(|owned| owned.uid.is_some()) {
            Some(owned) if intact(owned) => (self.drifted_by, self.failure) = (None, None),
            Some(_) => {
                let by = found.changed_by.first().cloned().unwrap_or_else(|| "somebody unknown".to_owned());
                self.drifted_by.get_or_insert(by);
            }
            None => {}
        }
        self.found = Found::Present(Box::new(found));
    }

    fn applied(&mut self, found: Inspection, now: std::time::Duration, time: protocol::time::UnixSeconds) {
        if let Some(manager) = self.drifted_by.take() {
            let count = self.healed.as_ref().map_or(0, |healed| healed.count) + 1;
            self.healed = Some(Healed { manager, at: time, count });
        }
        self.found = Found::Present(Box::new(found));
        (self.applied_at, self.inspected_at) = (Some(now), Some(now));
        (self.failure, self.force_next, self.identical) = (None, false, None);
    }

    /// A field that was taken from us is taken back, a few times; any other is left to whoever holds it.
    fn conflicted(
        &mut self,
        object: &ObjectRef,
        fields: &[FieldTaken],
        message: String,
        now: std::time::Duration,
    ) {
        let Some(first) = fields.first().filter(|_| fields.iter().all(|field| field.ours)) else {
            return self.fail(object, refuse("Conflict", message), now);
        };
        self.drifted_by.get_or_insert_with(|| first.manager.clone());
        if self.may_force(&first.manager, now) {
            return self.force(&first.manager, now);
        }
        let text = format!("{} keeps changing {}; it is left alone for a while", first.manager, first.field);
        self.fail(object, refuse("Conflicted", text), now);
    }
}

fn owned(release: Digest, source: Digest, index: usize, found: &Inspection) -> Owned {
    Owned {
        uid: Some(found.uid.clone()),
        source,
        owned: found.owned.map(|digest| digest.0.to_vec()).unwrap_or_default(),
        release,
        index: u32::try_from(index).unwrap_or(u32::MAX),
    }
}
