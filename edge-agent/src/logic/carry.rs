//! What somebody at the site brings from the hub by hand, and takes back to it. It is believed as what comes over the
//! link, by the same rules; only its head is another document, which is good for longer and answers no challenge.
//!
//! A refusal is told to whoever brought it, and raises no alarm: a wrong file is a mistake, not an attack on the link.

use protocol::{
    carry::Record,
    documents::{CarryHead, Chunk, ChunkError, Report},
    freshness::{self, StaleCarried, StaleHead},
    order::{Held, OrderError},
    time::{Now, UnixSeconds},
    verify::{Verified, VerifyError},
};

use super::{
    agent::Agent,
    entry::ReportRow,
    event::{Carried, Effect},
    news::RefusedDesired,
    report::instant,
};

/// Why nothing follows from what was brought.
#[derive(Debug, thiserror::Error)]
pub enum CarryRefusal {
    /// The clock cannot be right.
    #[error(
        "this machine's clock shows {}, which is before {}, when the hub last spoke here: set the clock",
        instant(*clock), instant(*floor)
    )]
    ClockBehind {
        /// What it shows.
        clock: UnixSeconds,
        /// What the hub said.
        floor: UnixSeconds,
    },
    /// Nobody knows what time it is.
    #[error(
        "nobody confirmed this machine's clock since the agent started: it shows {}. If that is right, import again \
         with --confirm-clock",
        instant(*clock)
    )]
    NoClock {
        /// What it shows.
        clock: UnixSeconds,
    },
    /// The file is past its time.
    #[error("it was good until {}, and it is {}: export it anew", instant(*until), instant(*now))]
    Expired {
        /// Until when it was good.
        until: UnixSeconds,
        /// The trusted time.
        now: UnixSeconds,
    },
    /// A clock is wrong.
    #[error(
        "it was made at {}, but here it is {}: set the clock of this machine, or the hub's",
        instant(*made), instant(*now)
    )]
    Ahead {
        /// When it was made, by the hub's clock.
        made: UnixSeconds,
        /// The trusted time.
        now: UnixSeconds,
    },
    /// The hub said something newer here.
    #[error("it was made at {}, and the hub spoke here at {}: export it anew", instant(*made), instant(*newest))]
    Older {
        /// When it was made, by the hub's clock.
        made: UnixSeconds,
        /// The newest that the hub said here.
        newest: UnixSeconds,
    },
    /// Older than what is held, or another one of the same number.
    #[error("it is not the newest, export it anew: {0}")]
    Order(OrderError),
    /// The hub was restored.
    #[error(
        "it is of another life of the hub, which this cluster believes only over the link: connect it once"
    )]
    OtherLife,
    /// Another root is in force at the hub.
    #[error("it is signed under root {named}, and root {held} is held here: join again")]
    Root {
        /// The root it was signed under.
        named: u32,
        /// The root that is held.
        held: u32,
    },
    /// The head is not believed.
    #[error("its head is not believed: is it for this cluster and this fleet?")]
    Head(#[source] VerifyError),
    /// The desired state is not believed.
    #[error("its desired state is refused")]
    Desired(#[source] RefusedDesired),
    /// A piece of content is not one.
    #[error("its content is damaged: export it anew")]
    Piece(#[from] ChunkError),
    /// Content is not what was signed.
    #[error("its content is refused, export it anew: {0}")]
    Content(String),
    /// Something that a cluster does not take.
    #[error("it holds something that is not for a cluster")]
    NotForUs,
}

impl Agent {
    pub(super) fn carried(&mut self, now: Now, carried: Carried, effects: &mut Vec<Effect>) {
        let judged = match carried {
            Carried::Clock => self.clock_vouched(now),
            Carried::Record(Record::Head(bytes)) => self.carried_head(now, &bytes),
            Carried::Record(Record::Desired(bytes)) => self.carried_desired(now, &bytes, effects),
            Carried::Record(Record::Piece(bytes)) => self.carried_piece(now, &bytes, effects),
            Carried::Record(Record::Label(_) | Record::Report(_) | Record::End(_)) => {
                Err(CarryRefusal::NotForUs)
            }
        };
        effects.push(Effect::Judged(judged));
    }

    /// All that the hub is to know, as documents that it takes as if they had come over the link.
    pub fn reports(&self, now: Now) -> Vec<Vec<u8>> {
        let mut rows: Vec<&ReportRow> = self.apps.values().filter_map(|app| app.report.as_ref()).collect();
        rows.sort_by_key(|row| row.seq);
        if rows.is_empty() {
            return vec![self.signed_report(now, &[])];
        }
        rows.chunks(Report::APPS).map(|rows| self.signed_report(now, rows)).collect()
    }

    fn clock_vouched(&mut self, now: Now) -> Result<(), CarryRefusal> {
        let vouched = self.time.vouch(now);
        vouched.map_err(|behind| CarryRefusal::ClockBehind { clock: behind.clock, floor: behind.floor })
    }

    fn carried_head(&mut self, now: Now, bytes: &[u8]) -> Result<(), CarryRefusal> {
        self.brought = None;
        let head: Verified<CarryHead> =
            self.trust.director(&self.identity.cluster, bytes).map_err(CarryRefusal::Head)?;
        let head = head.into_head();
        let named = Held { order: head.order, digest: head.desired };
        let is_held = self.held == Some(named);
        let newest = self.head.as_ref().map(|known| known.hub_time);
        match freshness::check_carried(&head, newest, &self.time, now) {
            Ok(()) => {}
            // What it names is held, and what the hub said later stands; its content may still be needed.
            Err(StaleCarried::Older { .. }) if is_held => return Ok(()),
            Err(stale) => return Err(refusal(stale, now)),
        }
        if self.incarnation.is_some_and(|known| known != head.incarnation) {
            return Err(CarryRefusal::OtherLife);
        }
        let held_root = self.trust.root().version;
        if head.root_version != held_root {
            return Err(CarryRefusal::Root { named: head.root_version, held: held_root });
        }
        match self.held {
            Some(held) if held == named => self.head = Some(head),
            Some(held) if held.order == named.order => {
                return Err(CarryRefusal::Order(OrderError::Equivocation { order: held.order }));
            }
            Some(held) if held.order > named.order => {
                let error = OrderError::Older { incoming: named.order, held: held.order };
                return Err(CarryRefusal::Order(error));
            }
            Some(_) | None => self.brought = Some(head),
        }
        Ok(())
    }

    fn carried_desired(
        &mut self,
        now: Now,
        bytes: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), CarryRefusal> {
        let mut brought = self.brought.take();
        self.take_desired(now, bytes, &mut brought, effects).map_err(CarryRefusal::Desired)
    }

    fn carried_piece(
        &mut self,
        now: Now,
        bytes: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), CarryRefusal> {
        let chunk = Chunk::decode(bytes)?;
        let (target, needs) = (chunk.target, self.needs());
        let piece = self.transfers.take_carried(chunk, &needs, now.monotonic);
        self.keep_piece(now, target, piece, effects).map_err(CarryRefusal::Content)
    }
}

fn refusal(stale: StaleCarried, now: Now) -> CarryRefusal {
    match stale {
        StaleCarried::Head(StaleHead::Expired { fresh_until, now }) => {
            CarryRefusal::Expired { until: fresh_until, now }
        }
        // A carried head has no nonce and follows on none.
        StaleCarried::Head(StaleHead::NoClock | StaleHead::Nonce | StaleHead::Backwards) => {
            CarryRefusal::NoClock { clock: now.wall }
        }
        StaleCarried::Ahead { hub_time, now } => CarryRefusal::Ahead { made: hub_time, now },
        StaleCarried::Older { hub_time, newest } => CarryRefusal::Older { made: hub_time, newest },
    }
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests;
