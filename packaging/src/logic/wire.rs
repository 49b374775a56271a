//! What bytes of a TCP stream weigh on the wire.
//!
//! A proxy sees what was written and when, and no packets. Over a loopback device these would be others than over a
//! radio link anyway: larger. So they are computed, as two Linux hosts would send them over Ethernet or PPP.

use std::time::Duration;

/// Headers of IPv4 (20 bytes) and TCP (20), with the timestamps (12) that Linux adds unless told not to.
const HEADERS: u64 = 20 + 20 + 12;

/// Stream bytes in a full segment: 1,500 bytes less the headers.
const SEGMENT: u64 = 1500 - HEADERS;

/// A SYN has no timestamps alone, but all that is negotiated: 20 bytes of options.
const SYN: u64 = 20 + 20 + 20;

/// How long Linux waits for something to send an acknowledgement with.
const DELAYED_ACK: Duration = Duration::from_millis(40);

/// Segments after which an acknowledgement is sent without waiting (RFC 9293, 3.8.6.3).
const SEGMENTS_PER_ACK: u64 = 2;

/// Which way bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the hub.
    Up,
    /// To the agent.
    Down,
}

/// Something that was written to a stream at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) at: Duration,
    pub(crate) way: Way,
    pub(crate) bytes: u64,
}

/// What was written, in the order of time, cut where nothing was for `quiet`.
pub(crate) fn bursts(carried: &[Carried], quiet: Duration) -> impl Iterator<Item = &[Carried]> {
    carried.chunk_by(move |one, next| next.at.saturating_sub(one.at) < quiet)
}

/// The bytes on the wire, both ways, of one burst on a connection that is there: segments with their headers, and the
/// acknowledgements that found no segment to travel with.
pub(crate) fn weight(burst: &[Carried]) -> u64 {
    let (mut weight, mut unacknowledged) = (0, 0);
    let mut last: Option<&Carried> = None;
    for carried in burst {
        if let Some(last) = last {
            let late = carried.at.saturating_sub(last.at) >= DELAYED_ACK;
            let answers = carried.way != last.way;
            if late && unacknowledged > 0 {
                weight += HEADERS;
            }
            if late || answers {
                unacknowledged = 0;
            }
        }
        let segments = carried.bytes.div_ceil(SEGMENT);
        unacknowledged += segments;
        weight += carried.bytes + segments * HEADERS + unacknowledged / SEGMENTS_PER_ACK * HEADERS;
        unacknowledged %= SEGMENTS_PER_ACK;
        last = Some(carried);
    }
    weight + unacknowledged * HEADERS
}

/// What opening a connection takes: SYN, SYN and acknowledgement, acknowledgement.
pub(crate) fn opening() -> u64 {
    SYN + SYN + HEADERS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(list: &[(u64, Way, u64)]) -> Vec<Carried> {
        let one = |&(at, way, bytes): &_| Carried { at: Duration::from_millis(at), way, bytes };
        list.iter().map(one).collect()
    }

    #[test]
    fn segments_and_their_acknowledgements_count() {
        use Way::{Down, Up};
        type Case = (&'static str, &'static [(u64, Way, u64)], u64);
        let cases: &[Case] = &[
            ("nothing", &[], 0),
            ("one byte and its acknowledgement", &[(0, Up, 1)], 1 + 2 * 52),
            ("a full segment", &[(0, Up, 1448)], 1500 + 52),
            ("one byte more: two segments, acknowledged together", &[(0, Up, 1449)], 1449 + 3 * 52),
            ("an answer in time acknowledges", &[(0, Up, 24), (39, Down, 24)], 48 + 3 * 52),
            ("a late answer does not", &[(0, Up, 24), (40, Down, 24)], 48 + 4 * 52),
            ("two writes one way are acknowledged together", &[(0, Up, 24), (1, Up, 24)], 48 + 3 * 52),
            ("unless they are apart", &[(0, Up, 24), (50, Up, 24)], 48 + 4 * 52),
        ];
        for (name, list, expected) in cases {
            assert_eq!(weight(&carried(list)), *expected, "{name}");
        }
    }

    #[test]
    fn a_pause_ends_a_burst() {
        let carried =
            carried(&[(0, Way::Up, 1), (900, Way::Down, 2), (1900, Way::Up, 3), (2000, Way::Down, 4)]);
        let bursts: Vec<u64> = bursts(&carried, Duration::from_secs(1))
            .map(|burst| burst.iter().map(|carried| carried.bytes).sum())
            .collect();
        assert_eq!(bursts, [3, 7]);
    }
}
