//! What an idle agent's link may carry in a day, and what it carried.

use std::time::Duration;

use super::budget::Row;

/// Most bytes on the wire in a day without news: 1.8 MB a month, so that on a link that is paid by the megabyte it is
/// news that costs.
const DAY_BYTES: u64 = 60_000;

/// Most bytes on the wire of a reconnect without news: two seconds of a link of 100 kbit/s.
const RECONNECT_BYTES: u64 = 20_000;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The agent's own defaults, at which a day is added up.
const KEEPALIVE: Duration = Duration::from_secs(600);
const HEARTBEAT: Duration = Duration::from_secs(3600);

/// How often the hub signs heads anew.
const RESIGN: Duration = Duration::from_secs(6 * 60 * 60);

/// Bytes on the wire, both ways, of each thing that happens on an idle link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// A ping and its answer.
    pub(crate) ping: u64,
    /// A report that says nothing new, and its acknowledgements.
    pub(crate) heartbeat: u64,
    /// A head that was signed anew.
    pub(crate) head: u64,
    /// A new connection until nothing more is said on it.
    pub(crate) reconnect: u64,
}

/// Every figure beside its budget, and the day they add up to. An agent pings whatever else it says, so each ping counts.
pub(crate) fn compare(measured: &Measured) -> Vec<Row> {
    let Measured { ping, heartbeat, head, reconnect } = *measured;
    let day = times(KEEPALIVE) * ping + times(HEARTBEAT) * heartbeat + times(RESIGN) * head;
    let daily = |figure: &str, every, bytes| {
        Row::new(format!("{figure}, {} a day", times(every)), bytes, "bytes", None)
    };
    vec![
        daily("ping", KEEPALIVE, ping),
        daily("heartbeat", HEARTBEAT, heartbeat),
        daily("head", RESIGN, head),
        Row::new("a day without news", day, "bytes", Some(DAY_BYTES)),
        Row::new("reconnect, TLS handshake included", reconnect, "bytes", Some(RECONNECT_BYTES)),
    ]
}

/// The middle one of what was measured several times; none where there is nothing.
pub(crate) fn median(mut weights: Vec<u64>) -> Option<u64> {
    weights.sort_unstable();
    weights.get(weights.len() / 2).copied()
}

/// How often in a day.
fn times(every: Duration) -> u64 {
    DAY.as_secs() / every.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_added_up() {
        let cases = [
            (Measured { ping: 200, heartbeat: 1_000, head: 1_800, reconnect: 20_000 }, vec![]),
            (
                Measured { ping: 201, heartbeat: 1_000, head: 1_800, reconnect: 20_001 },
                vec!["a day without news", "reconnect, TLS handshake included"],
            ),
        ];
        for (measured, expected) in cases {
            let rows = compare(&measured);
            let over: Vec<&str> = rows.iter().filter(|row| row.is_over()).map(Row::figure).collect();
            assert_eq!(over, expected, "{measured:?}");
        }
    }

    #[test]
    fn the_median_is_the_middle_one() {
        for (weights, expected) in
            [(vec![], None), (vec![3], Some(3)), (vec![9, 1, 4], Some(4)), (vec![1, 2], Some(2))]
        {
            assert_eq!(median(weights), expected);
        }
    }
}
