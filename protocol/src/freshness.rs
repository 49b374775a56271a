//! When a head is fresh enough to start a change, and what time it is according to those we believe.
//!
//! A nonce head proves that the hub speaks now, so it sets the time outright, forward or back: one wrong
//! clock, ours or the hub's, is mended by the next. Without one, time is the system's, unconfirmed, and
//! never below the last time that was known.

use std::time::Duration;

use crate::{
    documents::Head,
    ids::Nonce,
    time::{Now, UnixSeconds},
};

/// Time according to verified documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedTime {
    floor: UnixSeconds,
    anchor: Option<Anchor>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Anchor {
    monotonic: Duration,
    wall: UnixSeconds,
}

impl TrustedTime {
    /// Starts, after a boot, from the last time that was journaled.
    pub fn restore(floor: UnixSeconds) -> Self {
        Self { floor, anchor: None }
    }

    /// The best time there is.
    pub fn now(&self, now: Now) -> UnixSeconds {
        self.confirmed(now).unwrap_or_else(|| now.wall.max(self.floor))
    }

    /// The time, if a nonce head confirmed it since boot.
    pub fn confirmed(&self, now: Now) -> Option<UnixSeconds> {
        let anchor = self.anchor.as_ref()?;
        Some(anchor.wall.plus(now.monotonic.saturating_sub(anchor.monotonic).as_secs()))
    }

    /// What to journal, to start from after the next boot.
    pub fn floor(&self) -> UnixSeconds {
        self.floor
    }

    /// Takes the hub's time from a head that echoed our nonce.
    pub fn confirm(&mut self, now: Now, hub_time: UnixSeconds) {
        self.floor = hub_time;
        self.anchor = Some(Anchor { monotonic: now.monotonic, wall: hub_time });
    }
}

/// Why a head starts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StaleHead {
    /// It echoes another nonce than this connection's.
    #[error("the head answers another connection's challenge")]
    Nonce,
    /// It carries no nonce and no clock was confirmed since boot.
    #[error("no clock is confirmed since boot, so only a head that answers our challenge is believed")]
    NoClock,
    /// It is past its time.
    #[error("the head was fresh until {fresh_until}, it is {now}")]
    Expired {
        /// Until when it was fresh.
        fresh_until: UnixSeconds,
        /// The trusted time.
        now: UnixSeconds,
    },
    /// It is older than one that came before on the same connection.
    #[error("the head was signed before one that came earlier on this connection")]
    Backwards,
}

/// Decides whether a verified head may start a change. `challenge` is this connection's nonce, `last` the
/// hub's time in the head before it on this connection.
pub fn check_head(
    head: &Head,
    challenge: Option<Nonce>,
    last: Option<UnixSeconds>,
    time: &TrustedTime,
    now: Now,
) -> Result<(), StaleHead> {
    if last.is_some_and(|last| head.hub_time < last) {
        return Err(StaleHead::Backwards);
    }
    match head.nonce {
        Some(nonce) if Some(nonce) == challenge => Ok(()),
        Some(_) => Err(StaleHead::Nonce),
        None => {
            let now = time.confirmed(now).ok_or(StaleHead::NoClock)?;
            if now > head.fresh_until {
                return Err(StaleHead::Expired { fresh_until: head.fresh_until, now });
            }
            Ok(())
        }
    }
}
