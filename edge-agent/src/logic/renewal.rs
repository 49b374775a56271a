//! When to ask for a new certificate: a third into its life, or when the hub does not take the one there is.

use std::time::Duration;

use protocol::{
    ids::{ClusterId, Digest},
    renew::Validity,
    time::Now,
};

/// How often the wall clock is looked at: it may be set, and the machine may sleep.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

/// The first wait after a try that did not help.
const FIRST_WAIT: Duration = Duration::from_secs(60);

/// Longest wait between tries: a tower that was away past its certificate's end is back within it.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// Tries without success before people are told. Two thirds of the certificate's life are left then, less some minutes.
const TRIES_BEFORE_TROUBLE: u32 = 3;

/// Renewals of a fleet that joined together are spread over one part in this many of a certificate's life.
const SPREAD: u64 = 12;

/// What was tried, and what the link says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    /// The hub did not take the certificate, and no connection was up since.
    refused: bool,
    /// Tries that did not help: they failed, or brought a certificate with which the link did not come up.
    tries: u32,
    /// When the last try ended.
    tried_at: Option<Duration>,
    /// When the last certificate came, in this run.
    granted_at: Option<Duration>,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask for a certificate.
    Ask,
    /// Look again after this.
    Wait(Duration),
}

impl Renewal {
    /// What to do now. `cluster` spreads a fleet's renewals.
    pub fn next(&self, now: Now, certificate: Validity, cluster: &ClusterId) -> Next {
        let lifetime = Duration::from_secs(certificate.lifetime());
        let later = spread(cluster, certificate.lifetime() / SPREAD);
        let due = certificate.is_due(now.wall, later);
        if !self.refused && !due {
            let in_seconds = certificate.not_before.plus(certificate.lifetime() / 3 + later).since(now.wall);
            return Next::Wait(Duration::from_secs(in_seconds.max(1)).min(LOOK_EVERY));
        }
        let tried = self.tried_at.map(|at| at + pause(self.tries, lifetime));
        // A clock that is wrong may find every certificate due. The hub is asked now and then all the same.
        let granted = self.granted_at.filter(|_| !self.refused).map(|at| at + lifetime / 6);
        let earliest = tried.max(granted).unwrap_or_default();
        match earliest.checked_sub(now.monotonic) {
            None | Some(Duration::ZERO) => Next::Ask,
            Some(wait) => Next::Wait(wait),
        }
    }

    /// The hub did not take the certificate: it ended, or seems to by the hub's clock, or it is not this cluster's any
    /// more.
    pub fn link_refused(&mut self) {
        self.refused = true;
    }

    /// A connection came up with the certificate there is.
    pub fn link_up(&mut self) {
        if std::mem::take(&mut self.refused) {
            self.tries = 0;
        }
    }

    /// A certificate came.
    pub fn granted(&mut self, now: Duration) {
        self.tries = if self.refused { self.tries.saturating_add(1) } else { 0 };
        (self.tried_at, self.granted_at) = (Some(now), Some(now));
    }

    /// None came. Says whether people are to know.
    pub fn failed(&mut self, now: Duration) -> bool {
        self.tries = self.tries.saturating_add(1);
        self.tried_at = Some(now);
        self.tries >= TRIES_BEFORE_TROUBLE
    }
}

/// Doubles with each try, and leaves room for many of them in a life that is short.
fn pause(tries: u32, lifetime: Duration) -> Duration {
    if tries == 0 {
        return Duration::ZERO;
    }
    let (first, longest) = (FIRST_WAIT.min(lifetime / 48), LONGEST_WAIT.min(lifetime / 12));
    first.saturating_mul(1 << (tries - 1).min(16)).min(longest)
}

/// Some seconds below `most`, always the same for one cluster.
fn spread(cluster: &ClusterId, most: u64) -> u64 {
    let digest = Digest::of(cluster.as_str().as_bytes());
    let seed = digest.as_bytes().iter().take(8).fold(0_u64, |seed, byte| seed << 8 | u64::from(*byte));
    if most == 0 { 0 } else { seed % most }
}

#[cfg(test)]
mod tests {
    use protocol::time::UnixSeconds;

    use super::*;

    const DAY: u64 = 24 * 60 * 60;
    const START: u64 = 1_800_000_000;

    fn certificate() -> Validity {
        Validity { not_before: UnixSeconds(START), not_after: UnixSeconds(START + 180 * DAY) }
    }

    fn tower() -> ClusterId {
        ClusterId::new("tower-1").unwrap()
    }

    fn after_days(days: u64) -> Now {
        Now { monotonic: Duration::from_secs(days * DAY), wall: UnixSeconds(START + days * DAY) }
    }

    #[test]
    fn a_certificate_is_renewed_between_a_third_and_five_twelfths_of_its_life() {
        let later = spread(&tower(), 15 * DAY);
        assert!(later < 15 * DAY);
        let at = |seconds: u64| Now { monotonic: Duration::ZERO, wall: UnixSeconds(START + seconds) };
        let due = 60 * DAY + later;
        let second = Duration::from_secs(1);
        let cases = [
            (at(0), Next::Wait(LOOK_EVERY)),
            (at(due - 1), Next::Wait(second)),
            (at(due), Next::Ask),
            (at(170 * DAY), Next::Ask),
            (at(200 * DAY), Next::Ask),
            // Clocks that are wrong.
            (Now { monotonic: Duration::ZERO, wall: UnixSeconds(0) }, Next::Ask),
            (at(3650 * DAY), Next::Ask),
        ];
        for (now, next) in cases {
            assert_eq!(Renewal::default().next(now, certificate(), &tower()), next, "{now:?}");
        }
    }

    #[test]
    fn a_fleet_that_joined_together_does_not_renew_together() {
        let most = 15 * DAY;
        let mut days = [0; 15];
        for number in 0..10_000 {
            let cluster = ClusterId::new(format!("tower-{number}")).unwrap();
            days[usize::try_from(spread(&cluster, most) / DAY).unwrap()] += 1;
        }
        assert!(days.iter().all(|count| (500..850).contains(count)), "{days:?}");
    }

    #[test]
    fn tries_that_fail_are_repeated_with_longer_and_longer_pauses_and_told() {
        let mut renewal = Renewal::default();
        let mut now = after_days(90);
        let mut pauses = Vec::new();
        for tries in 1..=9 {
            assert_eq!(renewal.next(now, certificate(), &tower()), Next::Ask);
            assert_eq!(renewal.failed(now.monotonic), tries >= 3, "{tries}");
            let Next::Wait(pause) = renewal.next(now, certificate(), &tower()) else { panic!("no pause") };
            pauses.push(pause.as_secs() / 60);
            now.monotonic += pause;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_clock_that_finds_every_certificate_due_asks_six_times_in_a_life() {
        let mut renewal = Renewal::default();
        let now = Now { monotonic: Duration::from_secs(5), wall: UnixSeconds(0) };
        renewal.granted(now.monotonic);
        assert_eq!(renewal.next(now, certificate(), &tower()), Next::Wait(Duration::from_secs(30 * DAY)));
    }

    #[test]
    fn a_certificate_that_the_hub_does_not_take_is_replaced_whatever_the_clock_says() {
        let mut renewal = Renewal::default();
        let now = after_days(1);
        renewal.granted(now.monotonic);
        renewal.link_refused();
        assert_eq!(renewal.next(now, certificate(), &tower()), Next::Ask);
        // The new one is not taken either: again, with pauses, until a connection is up.
        renewal.granted(now.monotonic);
        renewal.link_refused();
        assert_eq!(renewal.next(now, certificate(), &tower()), Next::Wait(FIRST_WAIT));
        renewal.link_up();
        assert_eq!(renewal.next(now, certificate(), &tower()), Next::Wait(LOOK_EVERY));
    }

    #[test]
    fn a_short_life_has_short_pauses() {
        let lifetime = Duration::from_secs(48);
        let pauses: Vec<Duration> = (0..5).map(|tries| pause(tries, lifetime)).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 4].map(Duration::from_secs));
    }
}
