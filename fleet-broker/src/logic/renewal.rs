//! Challenges for clusters that renew their certificate: each is good for moments, for one cluster, and once.
//!
//! None is kept until it comes back proved, so strangers can ask for any number of them.

use std::{collections::BTreeMap, fmt, time::Duration};

use protocol::ids::ClusterId;
use ring::hmac;

/// How long a challenge is good for: a key, a connection and two messages over a slow link.
const GOOD_FOR: Duration = Duration::from_secs(300);

/// A hub's challenges in one run. They know the hub's monotonic time and no date, so that no clock that is wrong
/// keeps a cluster from its certificate.
pub struct Challenges {
    key: hmac::Key,
    /// When the last challenge that each cluster used was made: an older one, or that one again, is no good. Only
    /// clusters that proved themselves stand here.
    used: BTreeMap<ClusterId, u64>,
}

impl Challenges {
    /// Challenges that only the holder of `secret` makes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), used: BTreeMap::new() }
    }

    /// A challenge for `cluster`.
    pub fn make(&self, now: Duration, cluster: &ClusterId) -> Vec<u8> {
        let made = nanoseconds(now);
        let code = hmac::sign(&self.key, &bound(made, cluster));
        [&made.to_be_bytes(), code.as_ref()].concat()
    }

    /// Uses up a challenge. False if it is not one of these, is another cluster's, too old, or not newer than the one
    /// that this cluster used last.
    pub fn take(&mut self, now: Duration, cluster: &ClusterId, challenge: &[u8]) -> bool {
        let Some((made, code)) = challenge.split_first_chunk::<8>() else { return false };
        let made = u64::from_be_bytes(*made);
        let own = hmac::verify(&self.key, &bound(made, cluster), code).is_ok();
        let fresh = nanoseconds(now).saturating_sub(made) <= nanoseconds(GOOD_FOR);
        let unused = self.used.get(cluster).is_none_or(|last| *last < made);
        if own && fresh && unused {
            self.used.insert(cluster.clone(), made);
        }
        own && fresh && unused
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges").field("used", &self.used.len()).finish_non_exhaustive()
    }
}

fn bound(made: u64, cluster: &ClusterId) -> Vec<u8> {
    [&made.to_be_bytes(), cluster.as_str().as_bytes()].concat()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tower(name: &str) -> ClusterId {
        ClusterId::new(name).unwrap()
    }

    #[test]
    fn a_challenge_is_good_once_for_its_cluster_and_for_moments() {
        let at = Duration::from_secs(1000);
        let made = || Challenges::new(&[7; 32]).make(at, &tower("tower-1"));
        let flipped = |byte: usize| {
            let mut challenge = made();
            challenge[byte] ^= 1;
            challenge
        };
        let other_run = Challenges::new(&[8; 32]).make(at, &tower("tower-1"));
        let cases = [
            // whose, how much later, which, good
            ("tower-1", Duration::ZERO, made(), true),
            ("tower-1", GOOD_FOR, made(), true),
            ("tower-1", GOOD_FOR + Duration::from_nanos(1), made(), false),
            ("tower-2", Duration::ZERO, made(), false),
            ("tower-1", Duration::ZERO, flipped(7), false),
            ("tower-1", Duration::ZERO, flipped(8), false),
            ("tower-1", Duration::ZERO, flipped(39), false),
            ("tower-1", Duration::ZERO, made()[..39].to_vec(), false),
            ("tower-1", Duration::ZERO, Vec::new(), false),
            ("tower-1", Duration::ZERO, other_run, false),
        ];
        for (cluster, later, challenge, good) in cases {
            let mut challenges = Challenges::new(&[7; 32]);
            let found = challenges.take(at + later, &tower(cluster), &challenge);
            assert_eq!(found, good, "{cluster} after {later:?}: {}", hex::encode(challenge));
        }
    }

    #[test]
    fn a_used_challenge_and_every_older_one_are_void_for_that_cluster_alone() {
        let mut challenges = Challenges::new(&[7; 32]);
        let (one, two) = (tower("tower-1"), tower("tower-2"));
        let seconds = Duration::from_secs;
        let [older, newer] = [1, 2].map(|at| challenges.make(seconds(at), &one));
        let others = challenges.make(seconds(1), &two);
        assert!(challenges.take(seconds(3), &one, &newer));
        assert!(!challenges.take(seconds(3), &one, &newer), "again");
        assert!(!challenges.take(seconds(3), &one, &older), "older");
        assert!(challenges.take(seconds(3), &two, &others));
        let next = challenges.make(seconds(4), &one);
        assert!(challenges.take(seconds(4), &one, &next));
    }
}
