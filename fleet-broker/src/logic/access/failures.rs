//! Who keeps on coming with wrong tokens.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::{Bucket, Rate};

/// Wrong tokens of one address: a script with an old kubeconfig and a few retries, then one a second.
const RATE: Rate = Rate { burst: 20, every: Duration::from_secs(1) };
/// Addresses that are remembered at once: some 300 KB. Beyond, all others share one bucket.
const ADDRESSES_MAX: usize = 4096;
/// An IPv6 network of one site, which has addresses without number, counts as one address.
const SITE: u128 = u128::MAX << 64;

/// Failed authentications by address.
#[derive(Debug, Default)]
pub struct Failures {
    addresses: BTreeMap<IpAddr, Bucket>,
    others: Bucket,
}

impl Failures {
    /// Counts a failure from this address, or says how long it should wait before the next.
    ///
    /// # Errors
    /// The wait, when it has failed too often.
    pub fn count(&mut self, now: Duration, address: IpAddr) -> Result<(), Duration> {
        let address = site(address);
        if !self.addresses.contains_key(&address) && self.addresses.len() >= ADDRESSES_MAX {
            self.addresses.retain(|_, bucket| !bucket.is_full(now));
            if self.addresses.len() >= ADDRESSES_MAX {
                return self.others.take(now, RATE);
            }
        }
        self.addresses.entry(address).or_default().take(now, RATE)
    }

    /// How many addresses are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }
}

fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & SITE)),
    }
}
