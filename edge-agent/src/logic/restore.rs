//! Rebuilding an agent from its journal's rows. Every document is verified again: a row is no more to be trusted
//! than a message.

use std::collections::BTreeMap;

use protocol::{
    freshness::TrustedTime,
    ids::{AppId, Digest},
    order::Held,
    planted::Bug,
    verify::Trust,
};

use super::{
    agent::{Agent, Identity},
    app::{App, Current},
    entry::{Accepted, ContentHeld, Row},
    transfer::Transfers,
};

/// A journal whose rows do not add up to an agent. It is kept aside and the agent starts anew.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A document that was believed when it was written is not any more.
    #[error("the journal's {what} is not believed")]
    Unverified {
        /// Which document.
        what: String,
        /// Why.
        #[source]
        source: protocol::verify::VerifyError,
    },
    /// A row refers to another that is not there, or to what that one does not hold.
    #[error("the journal's {what} is missing")]
    Missing {
        /// What is missing.
        what: String,
    },
}

impl Agent {
    /// Rebuilds an agent from its journal's rows and from what content the journal holds.
    pub fn restore(
        identity: Identity,
        trust: Trust,
        rows: Vec<Row>,
        content: Vec<ContentHeld>,
    ) -> Result<Self, RestoreError> {
        let life = rows.iter().find_map(|row| if let Row::Life(life) = row { Some(*life) } else { None });
        let life = life.ok_or_else(|| missing("identity"))?;
        let (mut agent, _) = Self::new(identity, trust, life);
        agent.transfers = Transfers::restore(content);
        let mut desired = None;
        for row in rows {
            if let Row::Desired(row) = row {
                desired = Some(row);
            } else {
                agent.restore_row(row)?;
            }
        }
        agent.restore_releases()?;
        if let Some(row) = desired {
            agent.restore_desired(&row.bytes)?;
            agent.incarnation = Some(row.incarnation).filter(|_| !Bug::LifeForgotten.is_planted());
        }
        agent.stage_known(&mut Vec::new());
        Ok(agent)
    }

    fn restore_row(&mut self, row: Row) -> Result<(), RestoreError> {
        match row {
            // The root in force came with the trust this agent was given.
            Row::Life(_) | Row::Root(_) | Row::Desired(_) => {}
            Row::Clock(floor) => self.time = TrustedTime::restore(floor),
            Row::Hold(hold) => self.hold = Some(hold),
            Row::Acked(seq) => (self.outbox.acked, self.outbox.recorded) = (seq, seq),
            Row::App(id, row) => self.app(id).row = row,
            Row::Object(id, object, owned) => drop(self.app(id).inventory.insert(object, owned)),
            Row::Report(id, row) => {
                let highest = if Bug::LastRowNumbers.is_planted() { 0 } else { self.outbox.seq };
                if !Bug::NumbersUsedAgain.is_planted() {
                    self.outbox.seq = highest.max(row.seq);
                }
                self.app(id).report = Some(row);
            }
            Row::Release(digest, bytes) => {
                let release = self.trust.release(&bytes);
                let what = format!("release {}", digest.short());
                let release = release.map_err(|source| RestoreError::Unverified { what, source })?;
                self.releases.insert(release.digest(), release);
            }
        }
        self.outbox.seq = self.outbox.seq.max(self.outbox.acked);
        Ok(())
    }

    fn restore_releases(&mut self) -> Result<(), RestoreError> {
        let releases = &self.releases;
        let load = |accepted: Option<&Accepted>| -> Result<Option<Current>, RestoreError> {
            let Some(accepted) = accepted else { return Ok(None) };
            let what = || format!("release {}", accepted.release.short());
            let release = releases.get(&accepted.release).ok_or_else(|| missing(&what()))?;
            let current = Current::new(release.clone(), accepted.clone());
            current.map(Some).map_err(|_| missing(&format!("{} as it was set", what())))
        };
        for app in self.apps.values_mut() {
            app.current = load(app.row.accepted.as_ref())?;
            app.previous = load(app.row.previous.as_ref())?;
        }
        Ok(())
    }

    fn restore_desired(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let desired = self.trust.director(&self.identity.cluster, bytes);
        let what = "desired state".to_owned();
        let desired: protocol::verify::Verified<protocol::documents::Desired> =
            desired.map_err(|source| RestoreError::Unverified { what, source })?;
        self.held = Some(Held { order: desired.order, digest: desired.digest() });
        if !Bug::NamedForgotten.is_planted() {
            self.name_applications(&desired);
        }
        self.envelope = bytes.to_vec();
        self.desired = Some(desired);
        Ok(())
    }

    fn app(&mut self, id: AppId) -> &mut App {
        self.apps.entry(id).or_default()
    }
}

fn missing(what: &str) -> RestoreError {
    RestoreError::Missing { what: what.to_owned() }
}

/// Releases by the digest of their envelope.
pub(super) type Releases = BTreeMap<Digest, protocol::verify::Verified<protocol::documents::Release>>;
