//! What ended steps mean.

use std::time::Duration;

use protocol::{
    ids::{AppId, Digest},
    planted::Bug,
    time::{Now, UnixSeconds},
};

use super::{
    agent::{Agent, Probe, Running, Work},
    app::{App, Failed, Forecast, Found, ObjectState, ParentState, refuse},
    backoff,
    entry::{Entry, Key, Owned, Row},
    event::{Effect, Failure, FieldTaken, Foreseen, How, Inspection, Outcome, Remedy, StepId},
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
                let away = outcome.outage().is_some();
                self.probe = if away { Probe::Due } else { Probe::Answered };
                if let Outcome::Version(version) = outcome
                    && version != self.kubernetes
                {
                    self.kubernetes = version;
                    self.outbox.gather(now.monotonic);
                }
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
            (Work::Inspect, Outcome::Absent) => effects.extend(app.looked(id, &object, None, time)),
            (Work::Inspect, Outcome::Present(found)) => {
                effects.extend(app.looked(id, &object, Some(found), time));
            }
            (Work::Apply { .. }, Outcome::Foreseen(foreseen)) => {
                app.foreseen(&object, foreseen, now.monotonic);
            }
            (Work::Apply { .. }, Outcome::Conflict { fields, message }) => {
                let taken_by = state.conflicted(&object, &fields, message, now.monotonic);
                let owned = app.inventory.get_mut(&object);
                if let (Some(manager), Some(owned)) = (taken_by, owned)
                    && owned.drift(|| manager)
                {
                    effects.push(record(id, &object, owned));
                }
            }
            (Work::Apply { source, how: How::Normal | How::Forced }, Outcome::Present(found)) => {
                let before = app.inventory.get(&object);
                let owned = owned(source, &found, before, time);
                state.applied(*found, now.monotonic);
                if before.is_none_or(|before| before.uid.is_none()) || !Bug::ObjectRecordedOnce.is_planted() {
                    effects.push(record(id, &object, &owned));
                }
                app.inventory.insert(object, owned);
            }
            (Work::Delete, Outcome::Deleted | Outcome::Replaced | Outcome::Absent) => {
                app.objects.remove(&object);
                app.inventory.remove(&object);
                if !Bug::DeletionNotRecorded.is_planted() {
                    effects.push(Effect::Record(vec![Entry::Drop(Key::Object(id.clone(), object))]));
                }
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
    fn applied(&mut self, found: Inspection, now: Duration) {
        self.found = Found::Present(Box::new(found));
        (self.applied_at, self.inspected_at) = (Some(now), Some(now));
        (self.force_next, self.forecast) = (false, None);
        if !Bug::FailureStays.is_planted() {
            self.failure = None;
        }
    }

    /// A field that was taken from us is taken back, a few times; any other is left to whoever holds it. Who took
    /// what was ours, if somebody did.
    fn conflicted(
        &mut self,
        object: &ObjectRef,
        fields: &[FieldTaken],
        message: String,
        now: Duration,
    ) -> Option<String> {
        let Some(first) = fields.first().filter(|_| fields.iter().all(|field| field.ours)) else {
            self.fail(object, refuse("Conflict", message), now);
            return None;
        };
        let FieldTaken { manager, field, .. } = first;
        if self.may_force(manager, now) {
            self.force(manager, now);
        } else {
            let text = format!("{manager} keeps changing {field}; it is left alone for a while");
            self.fail(object, refuse("Conflicted", text), now);
        }
        Some(manager.clone())
    }
}

impl App {
    /// Notes what a dry run said. Of an object that is only looked at this is all there is to know.
    fn foreseen(&mut self, object: &ObjectRef, foreseen: Foreseen, now: Duration) {
        let watched = self.current.as_ref().is_some_and(|current| {
            current.indices.get(object).is_some_and(|index| !current.enforces(*index))
        });
        let state = self.objects.entry(object.clone()).or_default();
        let of = state.inspection().map(|found| found.resource_version.clone());
        state.forecast = Some(Forecast { of, at: now, foreseen });
        if watched {
            state.failure = None;
        }
    }

    /// Notes what a look at an object showed, and has recorded what is news about its drift.
    fn looked(
        &mut self,
        id: &AppId,
        object: &ObjectRef,
        found: Option<Box<Inspection>>,
        now: UnixSeconds,
    ) -> Option<Effect> {
        let index = self.current.as_ref().and_then(|current| current.indices.get(object)).copied();
        // While another version of it is to be applied, a difference may be what we did before a power cut.
        let is_applied = index.is_some_and(|index| self.is_applied(index));
        let state = self.objects.entry(object.clone()).or_default();
        state.found = Found::of(found);
        let owned = self.inventory.get_mut(object).filter(|_| is_applied)?;
        let unknown = || "somebody unknown".to_owned();
        let is_news = match &state.found {
            Found::Present(found) if is_intact(owned, found) => {
                state.failure = None;
                owned.heal(now)
            }
            Found::Present(found) => {
                owned.drift(|| found.changed_by.first().cloned().unwrap_or_else(unknown))
            }
            Found::Absent | Found::Unknown => owned.drift(|| "somebody who deleted it".to_owned()),
        };
        is_news.then(|| record(id, object, owned))
    }
}

fn record(app: &AppId, object: &ObjectRef, owned: &Owned) -> Effect {
    Effect::Record(vec![Entry::Put(Row::Object(app.clone(), object.clone(), owned.clone()))])
}

/// Whether what is ours of an object is as we left it.
fn is_intact(owned: &Owned, found: &Inspection) -> bool {
    let same = owned.uid.as_ref() == Some(&found.uid);
    same && found.owned.is_some_and(|digest| digest.0.as_slice() == owned.owned.as_slice())
}

/// An object as it was just applied. What was set right before stays noted until something else is applied.
fn owned(source: Digest, found: &Inspection, before: Option<&Owned>, now: UnixSeconds) -> Owned {
    let mut owned = Owned {
        uid: Some(found.uid.clone()),
        source,
        owned: found.owned.map(|digest| digest.0.to_vec()).unwrap_or_default(),
        drifted_by: before.and_then(|before| before.drifted_by.clone()),
        healed: before.filter(|before| before.source == source).and_then(|before| before.healed.clone()),
    };
    owned.heal(now);
    owned
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests;
