//! When a head is fresh enough to start a change, and what time it is according to those we believe.
//!
//! A nonce head proves that the hub speaks now, so it sets the time outright, forward or back: one wrong
//! clock, ours or the hub's, is mended by the next. Without one, time is the system's, unconfirmed, and
//! never below the last time that was known.

use std::time::Duration;

use crate::{
    documents::Head,
    ids::Nonce,
    limits,
    planted::Bug,
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
    /// Whether the hub said so, and not somebody who looked at the clock.
    by_hub: bool,
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

    /// The time, if a nonce head, or somebody at the site, confirmed it since boot.
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
        let known = self.confirmed(now).filter(|_| Bug::TimeNeverGoesBack.is_planted());
        let hub_time = known.map_or(hub_time, |known| known.max(hub_time));
        self.floor = hub_time;
        self.anchor = Some(Anchor { monotonic: now.monotonic, wall: hub_time, by_hub: true });
    }

    /// Somebody at the site looked at the system's clock and says that it is right. What the hub confirmed is better
    /// and stays. The floor does not move: the next nonce head mends whatever was wrong here.
    ///
    /// # Errors
    /// When the clock stands before a time that the hub once confirmed: then it is wrong, whoever vouches for it.
    pub fn vouch(&mut self, now: Now) -> Result<(), ClockBehind> {
        if self.anchor.as_ref().is_some_and(|anchor| anchor.by_hub) {
            return Ok(());
        }
        if now.wall < self.floor {
            return Err(ClockBehind { clock: now.wall, floor: self.floor });
        }
        self.anchor = Some(Anchor { monotonic: now.monotonic, wall: now.wall, by_hub: false });
        Ok(())
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

/// A system clock that nobody can vouch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the clock shows {clock}, but the hub confirmed {floor} before")]
pub struct ClockBehind {
    /// What it shows.
    pub clock: UnixSeconds,
    /// What the hub confirmed.
    pub floor: UnixSeconds,
}

/// Why a head that came by hand starts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StaleCarried {
    /// As any head.
    #[error(transparent)]
    Head(#[from] StaleHead),
    /// It was signed later than it is: our clock or the hub's is wrong.
    #[error("the head was signed at {hub_time}, it is {now}")]
    Ahead {
        /// The hub's time in it.
        hub_time: UnixSeconds,
        /// The trusted time.
        now: UnixSeconds,
    },
    /// The hub said something newer here.
    #[error("the head was signed at {hub_time}, one from {newest} is known")]
    Older {
        /// The hub's time in it.
        hub_time: UnixSeconds,
        /// The hub's time in the newest that is known.
        newest: UnixSeconds,
    },
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
        Some(nonce) if Some(nonce) == challenge || Bug::OldAnswerBelieved.is_planted() => Ok(()),
        Some(_) if !Bug::AnyChallengeAnswered.is_planted() => Err(StaleHead::Nonce),
        Some(_) | None => {
            let now = time.confirmed(now).ok_or(StaleHead::NoClock)?;
            if now > head.fresh_until {
                return Err(StaleHead::Expired { fresh_until: head.fresh_until, now });
            }
            Ok(())
        }
    }
}

/// Decides whether a verified head that came by hand may start a change. `newest` is the hub's time in the newest
/// head that is known.
pub fn check_carried(
    head: &Head,
    newest: Option<UnixSeconds>,
    time: &TrustedTime,
    now: Now,
) -> Result<(), StaleCarried> {
    check_head(head, None, None, time, now)?;
    let now = time.confirmed(now).ok_or(StaleHead::NoClock)?;
    if head.hub_time > now.plus(limits::CLOCK_SKEW_SECONDS) {
        return Err(StaleCarried::Ahead { hub_time: head.hub_time, now });
    }
    let newest = newest.unwrap_or_default().max(time.floor());
    if head.hub_time < newest {
        return Err(StaleCarried::Older { hub_time: head.hub_time, newest });
    }
    Ok(())
}
