//! Arguments that several commands take.

use clap::ValueEnum;
use protocol::{documents::Adopt, time::UnixSeconds};

/// How to print data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// What to do with an object that is already on a cluster and not Edgefleet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(super) enum AdoptArgument {
    /// Report it and leave it alone
    Never,
    /// Take it over if that changes nothing in it
    IfIdentical,
    /// Take it over unless another manager holds a field that would change
    Always,
}

impl From<AdoptArgument> for Adopt {
    fn from(argument: AdoptArgument) -> Self {
        match argument {
            AdoptArgument::Never => Self::Never,
            AdoptArgument::IfIdentical => Self::IfIdentical,
            AdoptArgument::Always => Self::Always,
        }
    }
}

/// When something expires: so long from now, or at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// So long from now.
    In {
        /// How long.
        seconds: u64,
    },
    /// At a time.
    At(UnixSeconds),
}

impl Expiry {
    /// The time, seen from `now`.
    pub(super) fn from(self, now: UnixSeconds) -> UnixSeconds {
        match self {
            Self::In { seconds } => now.plus(seconds),
            Self::At(time) => time,
        }
    }
}

/// Reads `365d`, `12h`, `30m` or a time such as `2027-01-31T00:00:00Z`.
pub(super) fn expiry(text: &str) -> Result<Expiry, String> {
    let rule = "write so many d, h or m, such as 365d, or a time, such as 2027-01-31T00:00:00Z";
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        let seconds = u64::try_from(timestamp.as_second()).map_err(|_| rule)?;
        return Ok(Expiry::At(UnixSeconds(seconds)));
    }
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(rule)?;
    let unit: u64 = match unit {
        "d" => 24 * 60 * 60,
        "h" => 60 * 60,
        "m" => 60,
        _ => return Err(rule.to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| rule)?;
    let seconds = number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or(rule)?;
    Ok(Expiry::In { seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_a_span_or_a_time() {
        let cases = [
            ("365d", Some(1_000 + 365 * 86_400)),
            ("2h", Some(8_200)),
            ("1m", Some(1_060)),
            ("1970-01-01T01:00:00Z", Some(3_600)),
            ("0d", None),
            ("-1d", None),
            ("d", None),
            ("", None),
            ("5", None),
            ("5é", None),
            ("99999999999999999d", None),
            ("1969-01-01T01:00:00Z", None),
        ];
        for (text, expected) in cases {
            let found = expiry(text).ok().map(|expiry| expiry.from(UnixSeconds(1_000)).0);
            assert_eq!(found, expected, "{text}");
        }
    }
}
