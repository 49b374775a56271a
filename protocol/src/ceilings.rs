//! How far a desired state may go with a cluster, whoever signed it.

use crate::{documents::Ceilings, limits};

/// How many objects one desired state may delete from an inventory of `owned` objects.
pub fn deletes_allowed(ceilings: Option<&Ceilings>, owned: usize) -> u32 {
    let share = owned as u64 * u64::from(limits::DELETES_PERCENT) / 100;
    let share = u32::try_from(share).unwrap_or(u32::MAX);
    ceilings.and_then(|ceilings| ceilings.max_deletes).unwrap_or_else(|| share.max(limits::DELETES_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_ceiling_rules_else_ten_or_ten_percent() {
        let signed = |max| Some(Ceilings { max_deletes: max, ..Ceilings::default() });
        let cases = [
            (None, 0, 10),
            (None, 50, 10),
            (None, 1_000, 100),
            (signed(None), 1_000, 100),
            (signed(Some(0)), 1_000, 0),
            (signed(Some(400)), 1_000, 400),
        ];
        for (ceilings, owned, expected) in cases {
            assert_eq!(deletes_allowed(ceilings.as_ref(), owned), expected, "{ceilings:?} of {owned}");
        }
    }
}
