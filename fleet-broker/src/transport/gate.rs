//! Counting strangers: how many are here now, and how many came lately, per address. No I/O, no clock.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Bounds what is open at once, in total and per address.
pub(super) struct Gate {
    total_max: usize,
    per_address_max: usize,
    open: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Gate {
    /// A gate with nothing open.
    pub(super) fn new(total_max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self { total_max, per_address_max, open: Mutex::default() })
    }

    /// Takes one place for `peer`; the place is free again when the pass is dropped.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Pass> {
        let address = site_of(peer);
        let mut open = self.open();
        let total: usize = open.values().sum();
        let here = open.get(&address).copied().unwrap_or(0);
        if total >= self.total_max || here >= self.per_address_max {
            return None;
        }
        open.insert(address, here + 1);
        drop(open);
        Some(Pass { gate: Arc::clone(self), address })
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place taken at a [`Gate`].
pub(super) struct Pass {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self.gate.open();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Bounds how often one address may come.
pub(super) struct Rate {
    per_window: u32,
    window: Duration,
    addresses_max: usize,
    seen: BTreeMap<IpAddr, (Instant, u32)>,
}

impl Rate {
    /// Allows `per_window` visits per address and `window`, remembering at most `addresses_max` addresses.
    pub(super) fn new(per_window: u32, window: Duration, addresses_max: usize) -> Self {
        Self { per_window, window, addresses_max, seen: BTreeMap::new() }
    }

    /// Counts one visit and says whether it is allowed.
    pub(super) fn allow(&mut self, peer: IpAddr, now: Instant) -> bool {
        let address = site_of(peer);
        if !self.seen.contains_key(&address) && self.seen.len() >= self.addresses_max {
            let window = self.window;
            self.seen.retain(|_, (since, _)| now.duration_since(*since) < window);
            if self.seen.len() >= self.addresses_max {
                return false;
            }
        }
        let (since, visits) = self.seen.entry(address).or_insert((now, 0));
        if now.duration_since(*since) >= self.window {
            (*since, *visits) = (now, 0);
        }
        *visits = visits.saturating_add(1);
        *visits <= self.per_window
    }
}

/// What counts as one address: an IPv6 host owns its whole /64 (RFC 6177), so that counts as one.
fn site_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_gate_counts_per_address_and_in_total_and_frees_places() {
        let gate = Gate::new(3, 2);
        let first = gate.enter(address("10.0.0.1"));
        let second = gate.enter(address("::ffff:10.0.0.1"));
        assert!(first.is_some() && second.is_some());
        assert!(gate.enter(address("10.0.0.1")).is_none(), "two places per address");
        let third = gate.enter(address("10.0.0.2"));
        assert!(third.is_some());
        assert!(gate.enter(address("10.0.0.3")).is_none(), "three places in total");
        drop(first);
        assert!(gate.enter(address("10.0.0.1")).is_some());
    }

    #[test]
    fn a_v6_site_is_one_address() {
        let gate = Gate::new(10, 1);
        let _pass = gate.enter(address("2001:db8:0:1::1")).unwrap();
        assert!(gate.enter(address("2001:db8:0:1:ffff::2")).is_none());
        assert!(gate.enter(address("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn a_rate_allows_so_many_per_window_and_forgets_old_addresses() {
        let window = Duration::from_secs(60);
        let start = Instant::now();
        let mut rate = Rate::new(2, window, 2);
        let cases = [
            // seconds, address, allowed
            (0, "10.0.0.1", true),
            (1, "10.0.0.1", true),
            (2, "10.0.0.1", false),
            (3, "10.0.0.2", true),
            (4, "10.0.0.3", false), // no room to remember a third address
            (59, "10.0.0.1", false),
            (61, "10.0.0.1", true),
            (64, "10.0.0.3", true), // the second address's window is over: room again
        ];
        for (seconds, peer, allowed) in cases {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(rate.allow(address(peer), now), allowed, "{peer} at {seconds} s");
        }
    }
}
