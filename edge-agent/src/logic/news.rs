//! What the hub says: heads, desired states, content, acknowledgements. Whatever is not believed changes nothing
//! but the report.

use std::time::Duration;

use protocol::{
    documents::{Ack, AppState, Chunk, Desired, Head, Hello},
    freshness::{self, StaleHead},
    ids::{AppId, Digest, Incarnation, JournalId, Nonce},
    limits,
    order::{self, Admission, Held, Order, OrderError},
    planted::Bug,
    time::{Now, UnixSeconds},
    topics::Upward,
    verify::{self, Refusal, Verified, VerifyError},
};

use super::{
    agent::{Agent, Link, Unanswered},
    app::{App, Current, Named},
    entry::{Accepted, DesiredRow, Entry, Key, Refused, Row},
    event::Effect,
    report,
    transfer::Piece,
};

/// A desired state that changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum RefusedDesired {
    /// It is not believed.
    #[error(transparent)]
    Document(#[from] VerifyError),
    /// It is not the next.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// No head says that it is the newest.
    #[error("no fresh head names desired state {order}")]
    Unannounced {
        /// Its place.
        order: Order,
    },
    /// It is past its time.
    #[error("{order} was to be installed by {}", report::instant(*install_by))]
    Expired {
        /// Its place.
        order: Order,
        /// Its time.
        install_by: UnixSeconds,
    },
}

impl RefusedDesired {
    fn reason(&self) -> &'static str {
        match self {
            Self::Document(_) => "Desired",
            Self::Order(error) => match error {
                OrderError::Older { .. } => "Rollback",
                OrderError::Equivocation { .. } => "Equivocation",
                OrderError::Epoch { .. } => "Epoch",
                OrderError::Leap { .. } => "Leap",
            },
            Self::Unannounced { .. } => "Unannounced",
            Self::Expired { .. } => "Expired",
        }
    }
}

impl Agent {
    pub(super) fn connected(&mut self, now: Now, nonce: Nonce, effects: &mut Vec<Effect>) {
        let nonce = if Bug::NonceUsedAgain.is_planted() { Nonce::new([7; Nonce::LEN]) } else { nonce };
        let last_head = self.link.last_head.filter(|_| Bug::ConnectionRemembered.is_planted());
        self.link = Link { nonce: Some(nonce), last_head, ..Link::default() };
        self.transfers.reconnect(now.monotonic);
        self.say_hello(now, nonce, report::RESEND, effects);
        self.publish_report(now, effects);
    }

    /// Says hello again if no head has answered the last for too long: twice as long each time, up to a heartbeat's.
    pub(super) fn repeat_hello(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let unanswered = self.link.unanswered.as_ref().filter(|hello| hello.at <= now.monotonic);
        let unanswered = unanswered.filter(|_| !Bug::HelloSaidOnce.is_planted());
        if let Some((hello, nonce)) = unanswered.zip(self.link.nonce) {
            let wait = hello.waited.saturating_mul(2).min(self.identity.heartbeat.max(report::RESEND));
            self.say_hello(now, nonce, wait, effects);
        }
    }

    fn say_hello(&mut self, now: Now, nonce: Nonce, wait: Duration, effects: &mut Vec<Effect>) {
        self.link.unanswered = Some(Unanswered { at: now.monotonic + wait, waited: wait });
        let hello = Hello {
            cluster: self.identity.cluster.clone(),
            journal: self.journal,
            documents: protocol::documents::VERSIONS.to_vec(),
            root_version: self.trust.root().version,
            incarnation: self.incarnation,
            order: self.held.map(|held| held.order).unwrap_or_default(),
            desired: self.held.map(|held| held.digest),
            nonce,
            clock: now.wall,
            agent: self.identity.version.to_owned(),
        };
        effects.push(Effect::Publish { topic: Upward::Hello, bytes: self.sign(&hello) });
    }

    pub(super) fn head_came(&mut self, now: Now, bytes: &[u8], effects: &mut Vec<Effect>) {
        let head: Verified<Head> = match self.trust.director(&self.identity.cluster, bytes) {
            Ok(head) => head,
            Err(error) => return self.refuse_document(now, "Head", &error),
        };
        let (challenge, last) = (self.link.nonce, self.link.last_head);
        if let Err(stale) = freshness::check_head(&head, challenge, last, &self.time, now) {
            let reason = match stale {
                StaleHead::Nonce | StaleHead::Backwards => "Replay",
                StaleHead::NoClock | StaleHead::Expired { .. } => "Stale",
            };
            return self.alarm(now, reason, stale.to_string());
        }
        let other_life = self.incarnation.is_some_and(|known| known != head.incarnation);
        if other_life && head.nonce.is_none() {
            // What an earlier life of the hub said may be said again by anybody.
            let text = "the head is of another life of the hub, and does not answer our challenge";
            return self.alarm(now, "Replay", text.to_owned());
        }
        if head.root_version != self.trust.root().version {
            let text =
                format!("head for root {}, root {} is held", head.root_version, self.trust.root().version);
            return self.alarm(now, "Root", text);
        }
        if head.nonce.is_some() {
            self.link.unanswered = None;
            let before = self.time.now(now);
            self.time.confirm(now, head.hub_time);
            effects.push(Effect::Record(vec![Entry::Put(Row::Clock(head.hub_time))]));
            if before.since(head.hub_time) > limits::CLOCK_SKEW_SECONDS {
                self.judge_expired_again(effects);
            }
        }
        self.link.last_head = Some(head.hub_time);
        let named = Held { order: head.order, digest: head.desired };
        match self.held {
            Some(held) if held == named => {
                self.link.awaited = None;
                self.enter_life(head.incarnation, effects);
                self.head = Some(head);
            }
            Some(held) if other_life || held.order >= named.order => {
                if !other_life {
                    self.refuse_order(now, held, named);
                }
                if head.nonce.is_some() {
                    self.show_held(effects);
                }
                let awaits = named.order > held.order
                    || Bug::OlderIsNews.is_planted() && named.order < held.order
                    || Bug::SamePlaceIsNews.is_planted() && named.order == held.order;
                self.link.awaited = Some(head).filter(|_| awaits);
            }
            Some(_) | None => self.link.awaited = Some(head),
        }
    }

    /// It is earlier than was believed until now. Releases that had expired by that time may not have; they are asked for,
    /// and judged, once more.
    fn judge_expired_again(&mut self, effects: &mut Vec<Effect>) {
        let has_expired = |refused: &mut Refused| refused.rejection.reason == Refusal::EXPIRED;
        for (id, app) in &mut self.apps {
            if app.row.rejected.take_if(has_expired).is_some() {
                effects.push(Effect::Record(vec![Entry::Put(Row::App(id.clone(), app.row.clone()))]));
            }
        }
    }

    /// The hub leads another life than the one it last agreed with this cluster in.
    fn enter_life(&mut self, incarnation: Incarnation, effects: &mut Vec<Effect>) {
        if self.incarnation.replace(incarnation) != Some(incarnation) {
            effects.push(Effect::Record(vec![Entry::Put(Row::Desired(DesiredRow {
                bytes: self.envelope.clone(),
                root_version: self.trust.root().version,
                incarnation,
            }))]));
        }
    }

    fn refuse_order(&mut self, now: Now, held: Held, named: Held) {
        let (reason, error) = match held.order == named.order {
            true => ("Equivocation", OrderError::Equivocation { order: held.order }),
            false => ("Rollback", OrderError::Older { incoming: named.order, held: held.order }),
        };
        self.alarm(now, reason, error.to_string());
    }

    /// The hub speaks now and knows another desired state. One that was restored learns from this what it signed.
    fn show_held(&mut self, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.link.shown, true) {
            effects.push(Effect::Publish { topic: Upward::Held, bytes: self.envelope.clone() });
        }
    }

    pub(super) fn desired_came(&mut self, now: Now, bytes: &[u8], effects: &mut Vec<Effect>) {
        let mut awaited = self.link.awaited.take();
        let taken = self.take_desired(now, bytes, &mut awaited, effects);
        self.link.awaited = awaited;
        if let Err(refused) = taken {
            self.alarm(now, refused.reason(), report::chain(&refused));
        }
    }

    /// Takes a desired state that `announced`, a head that may start a change, names.
    pub(super) fn take_desired(
        &mut self,
        now: Now,
        bytes: &[u8],
        announced: &mut Option<Verified<Head>>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), RefusedDesired> {
        let desired: Verified<Desired> = self.trust.director(&self.identity.cluster, bytes)?;
        let incoming = Held { order: desired.order, digest: desired.digest() };
        match order::admit(self.held, self.trust.root().min_epoch, incoming, desired.prev)? {
            Admission::Same => return Ok(()),
            Admission::New { broken_chain } => {
                if broken_chain {
                    self.alarm(
                        now,
                        "Chain",
                        format!("{} names another predecessor than is held", incoming.order),
                    );
                }
            }
        }
        let named = |head: &Verified<Head>| head.desired == incoming.digest && head.order == incoming.order;
        let head = announced.take_if(|head| named(head));
        let head = head.ok_or(RefusedDesired::Unannounced { order: incoming.order })?;
        if self.time.now(now) > desired.install_by {
            return Err(RefusedDesired::Expired { order: incoming.order, install_by: desired.install_by });
        }
        let mut entries = vec![Entry::Put(Row::Desired(DesiredRow {
            bytes: bytes.to_vec(),
            root_version: self.trust.root().version,
            incarnation: head.incarnation,
        }))];
        if Bug::DesiredNotRecorded.is_planted() && desired.remove.is_empty() {
            entries.clear();
        }
        self.incarnation = Some(head.incarnation);
        self.head = Some(head);
        self.held = Some(incoming);
        self.envelope = bytes.to_vec();
        entries.extend(self.name_applications(&desired));
        self.desired = Some(desired);
        effects.push(Effect::Record(entries));
        self.stage_known(effects);
        self.outbox.gather(now.monotonic);
        Ok(())
    }

    /// Notes what a desired state names. What it does not mention stays as it is: absence removes nothing.
    pub(super) fn name_applications(&mut self, desired: &Desired) -> Vec<Entry> {
        let mut entries = Vec::new();
        for release in &desired.releases {
            let accepted = Accepted {
                release: release.release,
                values: release.values.clone(),
                mode: release.mode,
                depends_on: release.depends_on.clone(),
                enforce: release.enforce.clone(),
            };
            let app = self.apps.entry(release.app.clone()).or_default();
            let is_new = app.row.accepted.as_ref() != Some(&accepted);
            app.named = is_new.then_some(Named { accepted, len: release.len });
            let is_kept = Bug::TakenBackIsStarted.is_planted();
            app.staged = app.staged.take().filter(|staged| {
                app.named.as_ref().map_or(is_kept, |named| named.accepted == staged.accepted)
            });
            if std::mem::take(&mut app.row.removing) {
                entries.push(Entry::Put(Row::App(release.app.clone(), app.row.clone())));
            }
        }
        for id in &desired.remove {
            let Some(app) = self.apps.get_mut(id).filter(|app| !app.row.removing) else { continue };
            (app.named, app.staged, app.row.removing) = (None, None, true);
            entries.push(Entry::Put(Row::App(id.clone(), app.row.clone())));
        }
        entries
    }

    /// Stages what is named and whose release is here already: only its settings changed, or it came before a restart.
    pub(super) fn stage_known(&mut self, effects: &mut Vec<Effect>) {
        let known: Vec<(AppId, Verified<protocol::documents::Release>)> = self
            .apps
            .iter()
            .filter(|(_, app)| app.staged.is_none())
            .filter_map(|(id, app)| {
                let release = self.releases.get(&app.named.as_ref()?.accepted.release)?;
                Some((id.clone(), release.clone()))
            })
            .collect();
        for (id, release) in known {
            self.stage(&id, Ok(release), effects);
        }
    }

    pub(super) fn piece_came(&mut self, now: Now, bytes: &[u8], effects: &mut Vec<Effect>) {
        let chunk = match Chunk::decode(bytes) {
            Ok(chunk) => chunk,
            Err(error) => return self.alarm(now, "Content", error.to_string()),
        };
        let target = chunk.target;
        let piece = self.transfers.take(chunk, now.monotonic);
        if let Err(why) = self.keep_piece(now, target, piece, effects) {
            self.alarm(now, "Content", why);
        }
    }

    /// Does what a piece led to.
    ///
    /// # Errors
    /// Why the content it is of is refused.
    pub(super) fn keep_piece(
        &mut self,
        now: Now,
        target: Digest,
        piece: Piece,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        match piece {
            Piece::Ignored | Piece::Kept => Ok(()),
            Piece::Store(chunk) => {
                effects.push(Effect::Record(vec![Entry::Chunk(chunk)]));
                Ok(())
            }
            Piece::Refused(why) => {
                effects.push(Effect::Record(vec![Entry::DropContent(target)]));
                Err(format!("{}: {why}", self.content_name(target)))
            }
            Piece::Whole(target, bytes) => self.release_came(now, target, &bytes, effects),
        }
    }

    /// Content as people know it: a release, or what a release consists of.
    pub(super) fn content_name(&self, target: Digest) -> String {
        let named = |app: &App| app.named.as_ref().is_some_and(|named| named.accepted.release == target);
        let releases = self.apps.values().flat_map(|app| app.staged.iter().chain(&app.current));
        match releases.map(|current| &current.release).find(|release| release.pack == target) {
            Some(release) => format!("content {} of {} {}", target.short(), release.app, release.version),
            None => match self.apps.iter().find(|(_, app)| named(app)) {
                Some((id, _)) => format!("release {} of {id}", target.short()),
                None => format!("content {}", target.short()),
            },
        }
    }

    fn release_came(
        &mut self,
        now: Now,
        target: Digest,
        bytes: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        if Digest::of(bytes) != target {
            self.transfers.fail(target, "it is not what was asked for", now.monotonic);
            return Err(format!("{}: it came altered", self.content_name(target)));
        }
        let named = |app: &App| app.named.as_ref().is_some_and(|named| named.accepted.release == target);
        let ids: Vec<AppId> =
            self.apps.iter().filter(|(_, app)| named(app)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            let time = if Bug::ExpiryBySystemClock.is_planted() { now.wall } else { self.time.now(now) };
            let Some(entry) = self.desired.as_ref().and_then(|desired| desired.release_of(&id)).cloned()
            else {
                continue;
            };
            let floor = self.apps.get(&id).map_or(0, |app| app.row.floor);
            let admitted = verify::admit_release(&self.trust, &entry, bytes, floor, time);
            if admitted.is_ok() {
                effects.push(Effect::Record(vec![Entry::Put(Row::Release(target, bytes.to_vec()))]));
            }
            self.stage(&id, admitted, effects);
        }
        Ok(())
    }

    fn stage(
        &mut self,
        id: &AppId,
        admitted: Result<Verified<protocol::documents::Release>, Refusal>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(app) = self.apps.get_mut(id) else { return };
        let Some(named) = app.named.as_ref().map(|named| named.accepted.clone()) else { return };
        let staged = admitted.and_then(|release| {
            self.releases.insert(release.digest(), release.clone());
            Current::new(release, named.clone()).map_err(Refusal::Parameter)
        });
        match staged {
            Ok(staged) => app.staged = Some(staged),
            Err(refusal) => {
                let message = report::chain(&refusal);
                let rejection = report::rejection(named.release, refusal.reason(), &message);
                app.row.rejected = Some(Refused { named, rejection });
                effects.push(Effect::Record(vec![Entry::Put(Row::App(id.clone(), app.row.clone()))]));
            }
        }
    }

    pub(super) fn ack_came(&mut self, now: Now, bytes: &[u8], effects: &mut Vec<Effect>) {
        let ack: Verified<Ack> = match self.trust.ack(&self.identity.cluster, bytes) {
            Ok(ack) => ack,
            Err(error) => return self.refuse_document(now, "Ack", &error),
        };
        if ack.journal != self.journal && !Bug::AckOfAnotherLife.is_planted() {
            return;
        }
        if ack.report_seq > self.outbox.seq {
            return self.journal_was_rolled_back(now, ack.report_seq, effects);
        }
        let mut entries = Vec::new();
        let advances = ack.report_seq > self.outbox.acked;
        if advances {
            let too_much = Bug::AckOfTooMuch.is_planted();
            self.outbox.acked = if too_much { self.outbox.seq } else { ack.report_seq };
        }
        if self.outbox.acked > self.outbox.recorded {
            self.outbox.recorded = self.outbox.acked;
            entries.push(Entry::Put(Row::Acked(self.outbox.recorded)));
        }
        let behind = self.outbox.acked < self.outbox.seq;
        if !behind {
            self.outbox.resend_at = None;
            entries.extend(self.let_go_of_removed());
            self.compare_digests(now, &ack);
        } else if advances && !self.outbox.unacknowledged(&self.apps).is_empty() {
            // What a hub does not take is said again after a pause only.
            self.outbox.gather(now.monotonic);
        }
        if !entries.is_empty() {
            effects.push(Effect::Record(entries));
        }
    }

    /// The hub holds other reports than these: all are sent again, at most once for each heartbeat.
    fn compare_digests(&mut self, now: Now, ack: &Ack) {
        if ack.digest == report::digest(&self.apps) || self.outbox.resent {
            return;
        }
        self.outbox.resent = true;
        self.outbox.acked = 0;
        self.outbox.gather(now.monotonic);
    }

    fn let_go_of_removed(&mut self) -> Vec<Entry> {
        let gone = |app: &App| {
            let reported = app.report.as_ref().is_some_and(|row| row.report.state == AppState::Removed);
            reported && app.row.removing && app.inventory.is_empty()
        };
        let ids: Vec<AppId> =
            self.apps.iter().filter(|(_, app)| gone(app)).map(|(id, _)| id.clone()).collect();
        ids.iter().for_each(|id| drop(self.apps.remove(id)));
        ids.into_iter()
            .flat_map(|id| [Entry::Drop(Key::App(id.clone())), Entry::Drop(Key::Report(id))])
            .collect()
    }

    /// The hub has a report this journal never sent: an old image of the disk was put back. The journal starts a
    /// new life, so that its numbers cannot be mixed up with those of the life before.
    fn journal_was_rolled_back(&mut self, now: Now, report_seq: u64, effects: &mut Vec<Effect>) {
        let mut seed = self.journal.as_bytes().to_vec();
        seed.extend_from_slice(&report_seq.to_be_bytes());
        seed.extend(self.link.nonce.iter().flat_map(|nonce| nonce.as_bytes().iter().copied()));
        let mut life = [0; JournalId::LEN];
        life.copy_from_slice(&Digest::of(&seed).as_bytes()[..JournalId::LEN]);
        self.journal = JournalId::new(life);
        let text = format!("the hub has report {report_seq}, this journal ends at {}", self.outbox.seq);
        (self.outbox.acked, self.outbox.recorded) = (0, 0);
        // In this life only what the journal still holds was numbered: a restart goes on from there.
        let rows = self.apps.values().filter_map(|app| app.report.as_ref());
        self.outbox.seq = rows.map(|row| row.seq).max().unwrap_or_default();
        effects.push(Effect::Record(vec![Entry::Put(Row::Life(self.journal)), Entry::Drop(Key::Acked)]));
        self.alarm(now, "JournalRolledBack", text);
    }

    fn refuse_document(&mut self, now: Now, what: &'static str, error: &VerifyError) {
        self.alarm(now, what, report::chain(error));
    }
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests;
