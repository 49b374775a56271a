//! After every event: what the levels now ask for. Content to fetch, releases to start, steps to take, kinds to
//! watch, rows to forget, reports to send.

use std::time::Duration;

use protocol::{
    documents::{AppReport, AppState, Encoding, Report, Want},
    ids::{AppId, Digest},
    planted::Bug,
    time::Now,
    topics::Upward,
};

use super::{
    agent::{Agent, Probe, Running, STEP_BYTES, STEPS, Work},
    app::{self, App, Current, ParentState},
    entry::{Accepted, AppRow, Entry, Key, Owned, ReportRow, Row},
    event::{Effect, Parent, Step, StepId, object_ref},
    object::{Gvk, ObjectRef},
    plan::{self, Action, Surroundings},
    report,
    transfer::{Check, Need},
};

impl Agent {
    pub(super) fn settle(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.start_staged(now, effects);
        self.fetch(now, effects);
        self.check_content(effects);
        self.take_steps(now, effects);
        self.finish_releases(effects);
        self.watch(effects);
        self.repeat_hello(now, effects);
        self.note_reports(now);
        self.send_reports(now, effects);
    }

    /// Content that is needed and not here, in order of importance.
    pub(super) fn needs(&self) -> Vec<Need> {
        let missing = |current: &Current| {
            let pack = current.release.pack;
            let there = self.transfers.stored.get(&pack).is_some_and(|content| content.is_complete());
            (!there).then(|| Need { target: pack, len: current.release.pack_len(), encoding: Encoding::Zstd })
        };
        let enforced = self.apps.values().filter_map(|app| app.current.as_ref()).filter_map(missing);
        let releases = self.apps.values().filter(|app| app.staged.is_none()).filter_map(|app| {
            let named = app.named.as_ref().filter(|named| !app.refuses(&named.accepted))?;
            Some(Need {
                target: named.accepted.release,
                len: u64::from(named.len),
                encoding: Encoding::Plain,
            })
        });
        let staged = self.apps.values().filter_map(|app| app.staged.as_ref()).filter_map(missing);
        enforced.chain(releases).chain(staged).collect()
    }

    fn fetch(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.link.nonce.is_none() {
            return;
        }
        let needs = self.needs();
        let Some((need, offset)) = self.transfers.ask(&needs, now.monotonic) else { return };
        let cluster = self.identity.cluster.clone();
        let want = Want { cluster, target: need.target, encoding: need.encoding, base: None, offset };
        effects.push(Effect::Publish { topic: Upward::Want, bytes: self.sign(&want) });
    }

    fn check_content(&mut self, effects: &mut Vec<Effect>) {
        let staged: Vec<_> = self.apps.values().filter_map(|app| app.staged.as_ref()).collect();
        let mut due = Vec::new();
        for current in staged {
            let pack = current.release.pack;
            let content = self.transfers.stored.get(&pack).filter(|content| content.is_complete());
            if content.is_some_and(|content| content.check == Check::Due)
                && !due.iter().any(|(p, _)| *p == pack)
            {
                due.push((pack, current.release.clone()));
            }
        }
        for (pack, release) in due {
            if let Some(content) = self.transfers.stored.get_mut(&pack) {
                content.check = Check::Busy;
            }
            self.execute(Running::Check(pack), Step::CheckContent(release), effects);
        }
    }

    /// Starts what is staged and may start. What may not says why.
    fn start_staged(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let ids: Vec<AppId> = self.apps.keys().cloned().collect();
        for id in ids {
            let waits_for = self.waits_for(&id, now);
            let Some(app) = self.apps.get_mut(&id) else { continue };
            app.waits_for = waits_for;
            if app.waits_for.is_some() {
                continue;
            }
            if let Some(staged) = app.staged.take() {
                effects.push(Effect::Record(app.start(&id, staged)));
            }
        }
        self.permit_at = self.next_permit(now);
    }

    /// When time alone lets something staged start. A permit may begin a second from now: times in documents are
    /// whole seconds, and the hub's may have turned first.
    fn next_permit(&self, now: Now) -> Option<Duration> {
        let (head, time) = (self.head.as_ref()?, self.time.confirmed(now)?);
        let is_staged = |id: &AppId| self.apps.get(id).is_some_and(|app| app.staged.is_some());
        let begins =
            head.permits.iter().filter(|permit| is_staged(&permit.app)).map(|permit| permit.not_before);
        let wait = begins.filter(|at| *at > time).map(|at| at.since(time)).min()?;
        Some(now.monotonic.saturating_add(Duration::from_secs(wait)))
    }

    /// Why an application's named release is not started; none if it may be, or if there is none.
    fn waits_for(&self, id: &AppId, now: Now) -> Option<(&'static str, String)> {
        let app = self.apps.get(id)?;
        let named = app.named.as_ref().filter(|named| !app.refuses(&named.accepted))?;
        let Some(staged) = &app.staged else {
            return Some((
                "WaitingForContent",
                format!(
                    "release {} is on its way{}",
                    named.accepted.release.short(),
                    self.transfers.trouble(&named.accepted.release)
                ),
            ));
        };
        let content = self.transfers.stored.get(&staged.release.pack);
        if content.is_none_or(|content| content.check != Check::Good) {
            let have = content.map_or(0, |content| content.held.have);
            let trouble = self.transfers.trouble(&staged.release.pack);
            return Some((
                "WaitingForContent",
                format!("{have} bytes of {} are here{trouble}", staged.release.version),
            ));
        }
        if let Some(hold) = self.hold() {
            return Some(("Held", format!("the site is on hold: {}", hold.reason)));
        }
        let permit = self.permit_refusal(id, now).filter(|_| !Bug::StartWithoutPermit.is_planted());
        permit.or_else(|| self.dependency_refusal(id, staged))
    }

    fn permit_refusal(&self, id: &AppId, now: Now) -> Option<(&'static str, String)> {
        let waits = |text: String| Some(("WaitingForPermit", text));
        let Some(head) = &self.head else {
            return waits("no head from the hub since this start".to_owned());
        };
        let Some(time) = self.time.confirmed(now) else {
            return waits("the clock is not confirmed by the hub since this start".to_owned());
        };
        if time > head.fresh_until {
            return Some((
                "Frozen",
                format!("the hub's last head was fresh until {}", report::instant(head.fresh_until)),
            ));
        }
        if self.desired().is_some_and(|desired| time > desired.install_by) {
            return Some(("Expired", "the desired state is too old to be newly installed".to_owned()));
        }
        match head.permits.iter().find(|permit| &permit.app == id) {
            None => waits("the hub permits no start yet".to_owned()),
            Some(permit) if time < permit.not_before => {
                waits(format!("permitted from {}", report::instant(permit.not_before)))
            }
            Some(permit) if time > permit.not_after => {
                waits(format!("was permitted until {}", report::instant(permit.not_after)))
            }
            Some(_) => None,
        }
    }

    fn dependency_refusal(&self, id: &AppId, staged: &Current) -> Option<(&'static str, String)> {
        let unmet = staged.accepted.depends_on.iter().find(|name| {
            let dependency = AppId { tenant: id.tenant.clone(), name: (*name).clone() };
            let report = self.apps.get(&dependency).and_then(|app| app.report.as_ref());
            report.is_none_or(|row| row.report.state != AppState::Available)
        })?;
        Some(("WaitingForDependency", format!("{}/{unmet} is not available on this cluster yet", id.tenant)))
    }

    fn take_steps(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.outage.as_ref().is_some_and(|failed| failed.retry_at > now.monotonic) {
            return;
        }
        if self.probe == Probe::Due {
            self.probe = Probe::Asked;
            self.execute(Running::Version, Step::Version, effects);
        }
        let (held, owned) = (self.hold().is_some(), self.owned());
        let ids: Vec<AppId> = self.apps.keys().cloned().collect();
        for id in ids {
            let apply_set = app::apply_set(&id);
            let around = Surroundings { now: now.monotonic, held, owned, apply_set: &apply_set };
            let Some(actions) = self.apps.get(&id).map(|app| plan::plan(app, around)) else { continue };
            for action in actions {
                // After an outage one step tries for all.
                let most = if self.outage.is_some() { 1 } else { STEPS };
                if self.steps.len() < most && self.has_room(&id, &action) {
                    self.take(now, &id, action, effects);
                }
            }
        }
    }

    fn has_room(&self, id: &AppId, action: &Action) -> bool {
        let bytes = |id: &AppId, object: &ObjectRef| self.apps.get(id).map_or(0, |app| app.bytes(object));
        let under_way = self.steps.values().map(|running| match running {
            Running::Object { app, object, .. } => bytes(app, object),
            Running::Parent(_) | Running::DeleteParent(_) | Running::Check(_) | Running::Version => 0,
        });
        let more = action.reads().map_or(0, |object| bytes(id, object));
        fits(under_way.sum(), more)
    }

    fn take(&mut self, now: Now, id: &AppId, action: Action, effects: &mut Vec<Effect>) {
        let Some(app) = self.apps.get_mut(id) else { return };
        match action {
            Action::Refuse(object, failure) => {
                app.objects.entry(object.clone()).or_default().fail(&object, failure, now.monotonic);
            }
            Action::Forget(object) => {
                app.inventory.remove(&object);
                app.objects.remove(&object);
                effects.push(Effect::Record(vec![Entry::Drop(Key::Object(id.clone(), object))]));
            }
            Action::Parent => {
                app.parent = ParentState::Busy;
                let step = Step::Parent(parent(id, app));
                self.execute(Running::Parent(id.clone()), step, effects);
            }
            Action::DeleteParent => {
                app.parent = ParentState::Busy;
                self.execute(Running::DeleteParent(id.clone()), Step::DeleteParent(id.clone()), effects);
            }
            Action::Inspect(object) => {
                let source = app.last_source(&object);
                let state = app.objects.entry(object.clone()).or_default();
                (state.busy, state.stale) = (true, Bug::LooksForEver.is_planted());
                state.inspected_at = Some(now.monotonic);
                let since_applied = now.monotonic.saturating_sub(state.applied_at.unwrap_or(Duration::ZERO));
                let step = Step::Inspect { object: object.clone(), source, since_applied };
                self.execute(Running::object(id, object, Work::Inspect), step, effects);
            }
            Action::Apply(object, index, how) => {
                let Some(current) = &app.current else { return };
                let source = current.sources[index];
                let step =
                    Step::Apply { source: current.source(index), previous: app.last_source(&object), how };
                app.objects.entry(object.clone()).or_default().busy = true;
                let work = Work::Apply { source, how };
                self.execute(Running::object(id, object, work), step, effects);
            }
            Action::Delete(object, uid) => {
                app.objects.entry(object.clone()).or_default().busy = true;
                let step = Step::Delete { object: object.clone(), uid };
                self.execute(Running::object(id, object, Work::Delete), step, effects);
            }
        }
    }

    fn execute(&mut self, running: Running, step: Step, effects: &mut Vec<Effect>) {
        let id = StepId(self.next_step);
        self.next_step += 1;
        self.steps.insert(id, running);
        effects.push(Effect::Execute { id, step });
    }

    /// Notes releases that are now all applied, and lets go of what nothing refers to any more.
    fn finish_releases(&mut self, effects: &mut Vec<Effect>) {
        let mut entries = Vec::new();
        for (id, app) in &mut self.apps {
            let Some(current) = &app.current else { continue };
            let reference = current.reference();
            if app.row.applied.as_ref() == Some(&reference) && app.previous.is_none() || !app.is_complete() {
                continue;
            }
            app.row.applied = Some(reference);
            app.row.previous = None;
            app.previous = None;
            entries.push(Entry::Put(Row::App(id.clone(), app.row.clone())));
        }
        entries.extend(self.raise_floors());
        entries.extend(self.forget_releases());
        entries.extend(self.forget_content());
        if !entries.is_empty() {
            effects.push(Effect::Record(entries));
        }
    }

    /// A release forbids going back below its floor only once it proved healthy.
    fn raise_floors(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (id, app) in &mut self.apps {
            let Some(current) = &app.current else { continue };
            let reference = current.reference();
            let proved =
                app.report.as_ref().is_some_and(|row| report::is_available(&row.report, Some(&reference)));
            if proved && current.release.floor > app.row.floor {
                app.row.floor = current.release.floor;
                entries.push(Entry::Put(Row::App(id.clone(), app.row.clone())));
            }
        }
        entries
    }

    fn forget_releases(&mut self) -> Vec<Entry> {
        let apps = &self.apps;
        let wanted = |digest: &Digest| {
            apps.values().any(|app| {
                let held = app.current.iter().chain(&app.previous).chain(&app.staged);
                let named = app.named.as_ref().is_some_and(|named| &named.accepted.release == digest);
                named || held.into_iter().any(|held| &held.release.digest() == digest)
            })
        };
        let unwanted: Vec<Digest> = self.releases.keys().filter(|digest| !wanted(digest)).copied().collect();
        unwanted.iter().for_each(|digest| drop(self.releases.remove(digest)));
        unwanted.into_iter().map(|digest| Entry::Drop(Key::Release(digest))).collect()
    }

    fn forget_content(&mut self) -> Vec<Entry> {
        let held = |app: &App| -> Vec<Digest> {
            app.current.iter().chain(&app.previous).chain(&app.staged).map(|held| held.release.pack).collect()
        };
        let mut wanted: Vec<Digest> = self.apps.values().flat_map(held).collect();
        wanted.extend(self.apps.values().filter_map(|app| Some(app.named.as_ref()?.accepted.release)));
        if Bug::ContentKept.is_planted() {
            return Vec::new();
        }
        self.transfers.drop_unwanted(&wanted).into_iter().map(Entry::DropContent).collect()
    }

    fn watch(&mut self, effects: &mut Vec<Effect>) {
        let mut kinds: Vec<Gvk> =
            self.apps.values().flat_map(App::objects_known).map(|object| object.gvk.clone()).collect();
        kinds.sort();
        kinds.dedup();
        if kinds != self.watched {
            self.blind.retain(|kind, _| kinds.contains(kind));
            self.watched.clone_from(&kinds);
            effects.push(Effect::Observe(kinds));
        }
    }

    fn note_reports(&mut self, now: Now) {
        let owned = self.owned();
        if self.apps.iter().any(|(id, app)| app.news(id, owned).is_some()) {
            self.outbox.gather(now.monotonic);
        }
    }

    fn send_reports(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now.monotonic);
        let heartbeat = self.heartbeat_at <= now.monotonic;
        let flush = due(self.outbox.flush_at);
        if flush {
            self.outbox.flush_at = None;
            let entries = self.journal_reports();
            if !entries.is_empty() && !Bug::ReportNotRecorded.is_planted() {
                effects.push(Effect::Record(entries));
            }
        }
        if heartbeat {
            self.outbox.resent = false;
            self.heartbeat_at = now.monotonic + self.identity.heartbeat;
        }
        if self.link.nonce.is_some() && (flush || heartbeat || due(self.outbox.resend_at)) {
            self.publish_report(now, effects);
        }
    }

    fn journal_reports(&mut self) -> Vec<Entry> {
        let owned = self.owned();
        let mut entries = Vec::new();
        for (id, app) in &mut self.apps {
            let Some(report) = app.news(id, owned) else { continue };
            self.outbox.seq += 1;
            let row = ReportRow { seq: self.outbox.seq, report };
            app.report = Some(row.clone());
            entries.push(Entry::Put(Row::Report(id.clone(), row)));
        }
        entries
    }

    pub(super) fn publish_report(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let rows = self.outbox.unacknowledged(&self.apps);
        let bytes = self.signed_report(now, &rows);
        let resend_at = Some(now.monotonic + report::RESEND);
        self.outbox.resend_at = resend_at.filter(|_| !Bug::ReportSaidOnce.is_planted());
        // A hub that was not shown what is held, for it was lost on the way, asks again when it hears this.
        self.link.shown = false;
        effects.push(Effect::Publish { topic: Upward::Report, bytes });
    }

    /// A report of these rows, up to the last of them; with none, of nothing new.
    pub(super) fn signed_report(&self, now: Now, rows: &[&ReportRow]) -> Vec<u8> {
        let report = Report {
            cluster: self.identity.cluster.clone(),
            journal: self.journal,
            report_seq: rows.last().map_or(self.outbox.seq, |row| row.seq),
            order: self.held.map(|held| held.order).unwrap_or_default(),
            digest: report::digest(&self.apps),
            apps: rows.iter().map(|row| row.report.clone()).collect(),
            conditions: self.conditions(),
            clock: now.wall,
            kubernetes: self.kubernetes.as_str().into(),
            agent: self.identity.version.into(),
        };
        self.sign(&report)
    }
}

impl Running {
    fn object(app: &AppId, object: ObjectRef, work: Work) -> Self {
        Self::Object { app: app.clone(), object, work }
    }
}

/// Whether a step may start beside those under way.
fn fits(under_way: u64, more: u64) -> bool {
    under_way == 0 || under_way + more <= STEP_BYTES
}

fn parent(id: &AppId, app: &App) -> Parent {
    let mut kinds: Vec<String> = app.objects_known().map(|object| group_kind(&object.gvk)).collect();
    let mut namespaces: Vec<String> =
        app.objects_known().filter_map(|object| object.namespace.clone()).collect();
    kinds.sort();
    kinds.dedup();
    namespaces.sort();
    namespaces.dedup();
    Parent { app: id.clone(), kinds, namespaces }
}

/// As KEP-3659 writes a kind: `Deployment.apps`, `ConfigMap`.
fn group_kind(gvk: &Gvk) -> String {
    if gvk.group.is_empty() { gvk.kind.clone() } else { format!("{}.{}", gvk.kind, gvk.group) }
}

impl App {
    /// How it is, if that differs from what was last reported.
    fn news(&self, id: &AppId, owned: usize) -> Option<AppReport> {
        let report = match self.current {
            Some(_) => report::assess(self, plan::prune_refusal(self, owned))?,
            None => report::assess_empty(id, self),
        };
        (self.report.as_ref().map(|row| &row.report) != Some(&report)).then_some(report)
    }

    /// Whether what is named was refused already.
    pub fn refuses(&self, named: &Accepted) -> bool {
        self.row.rejected.as_ref().is_some_and(|refused| &refused.named == named)
    }

    /// Makes the staged release the enforced one. Every object it names is written down as ours to be before
    /// the first is applied.
    fn start(&mut self, id: &AppId, staged: Current) -> Vec<Entry> {
        let mut entries = Vec::new();
        for index in (0..staged.release.objects.len()).filter(|index| staged.enforces(*index)) {
            let object = object_ref(&staged.release, index);
            if self.inventory.contains_key(&object) {
                continue;
            }
            let owned = Owned::intended();
            entries.push(Entry::Put(Row::Object(id.clone(), object.clone(), owned.clone())));
            self.inventory.insert(object, owned);
        }
        // What failed before may fare better with other content.
        self.objects.values_mut().for_each(|state| (state.failure, state.forecast) = (None, None));
        self.named = None;
        self.parent = ParentState::Needed;
        // What was only looked at left nothing: what was enforced before it still tells what is ours.
        let looked_at = self.current.take_if(|current| !current.is_enforced()).is_some();
        let previous = self.current.replace(staged);
        let previous = if looked_at { self.previous.take() } else { previous };
        self.row = AppRow {
            accepted: self.current.as_ref().map(|current| current.accepted.clone()),
            previous: previous.as_ref().map(|previous| previous.accepted.clone()),
            rejected: None,
            ..self.row.clone()
        };
        self.previous = previous;
        entries.push(Entry::Put(Row::App(id.clone(), self.row.clone())));
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_for_company_goes_alone() {
        for (under_way, more, expected) in [
            (0, 0, true),
            (0, STEP_BYTES + 1, true),
            (1, STEP_BYTES - 1, true),
            (1, STEP_BYTES, false),
            (STEP_BYTES + 1, 0, false),
        ] {
            assert_eq!(fits(under_way, more), expected, "{more} beside {under_way}");
        }
    }
}
