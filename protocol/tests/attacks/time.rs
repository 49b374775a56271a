//! Attacks on freshness and clocks: replayed heads, no clock, wrong clocks.

use std::time::Duration;

use protocol::{
    documents::{CarryHead, Desired, DocumentType, Head},
    freshness::{StaleHead, TrustedTime, check_head},
    ids::Nonce,
    time::{Now, UnixSeconds},
};

use crate::common::*;

const YEARS_10: u64 = 3650 * DAY;

/// `seconds` after the process started, when the system's clock shows `wall`.
fn now(seconds: u64, wall: UnixSeconds) -> Now {
    Now { monotonic: Duration::from_secs(seconds), wall }
}

fn without_nonce(hub_time: UnixSeconds) -> Head {
    Head { nonce: None, hub_time, fresh_until: hub_time.plus(DAY), ..head() }
}

#[test]
fn a_nonce_of_another_connection() {
    let time = TrustedTime::restore(NOW);
    let check = |challenge| check_head(&head(), challenge, None, &time, now(0, NOW));
    assert_eq!(check(Some(nonce())), Ok(()));
    assert_eq!(check(Some(Nonce::new([0xaa; 16]))), Err(StaleHead::Nonce));
    assert_eq!(check(None), Err(StaleHead::Nonce), "the challenge was used up");
}

#[test]
fn a_replayed_nonce_head_is_not_believed_for_its_freshness_either() {
    let mut time = TrustedTime::restore(NOW);
    time.confirm(now(0, NOW), NOW);
    let replayed = check_head(&head(), Some(Nonce::new([1; 16])), None, &time, now(1, NOW));
    assert_eq!(replayed, Err(StaleHead::Nonce));
}

#[test]
fn no_clock() {
    // After a boot no clock is confirmed: however right it looks, a head without our nonce starts nothing.
    for wall in [UnixSeconds(0), NOW, NOW.plus(YEARS_10)] {
        let time = TrustedTime::restore(NOW);
        let found = check_head(&without_nonce(NOW), Some(nonce()), None, &time, now(10, wall));
        assert_eq!(found, Err(StaleHead::NoClock), "{wall}");
        assert_eq!(check_head(&head(), Some(nonce()), None, &time, now(10, wall)), Ok(()), "{wall}");
    }
}

#[test]
fn freeze_for_thirty_days() {
    // A broker keeps back every newer head and shows the last one again, day after day.
    let last = without_nonce(NOW);
    let mut time = TrustedTime::restore(NOW);
    time.confirm(now(0, UnixSeconds(0)), NOW);
    for day in 0..=30 {
        // The system's clock stands in 1970 all along; it is not asked.
        let found = check_head(&last, None, Some(NOW), &time, now(day * DAY, UnixSeconds(0)));
        let expired = StaleHead::Expired { fresh_until: NOW.plus(DAY), now: NOW.plus(day * DAY) };
        assert_eq!(found, if day <= 1 { Ok(()) } else { Err(expired) }, "day {day}");
    }
}

#[test]
fn day_seven_head_after_a_week_offline() {
    let mut time = TrustedTime::restore(NOW);
    time.confirm(now(0, NOW), NOW);
    let on_day_8 = now(8 * DAY, NOW);
    let seven = without_nonce(NOW.plus(7 * DAY));
    assert_eq!(check_head(&seven, None, None, &time, on_day_8), Ok(()), "fresh until the end of day 8");
    let six = without_nonce(NOW.plus(6 * DAY));
    assert!(matches!(check_head(&six, None, None, &time, on_day_8), Err(StaleHead::Expired { .. })));
}

#[test]
fn heads_out_of_order_on_one_connection() {
    let mut time = TrustedTime::restore(NOW);
    time.confirm(now(0, NOW), NOW);
    for (hub_time, expected) in
        [(NOW.plus(99), Err(StaleHead::Backwards)), (NOW.plus(100), Ok(())), (NOW.plus(101), Ok(()))]
    {
        let found = check_head(&without_nonce(hub_time), None, Some(NOW.plus(100)), &time, now(1, NOW));
        assert_eq!(found, expected, "{hub_time}");
    }
    let replayed = check_head(&head(), Some(nonce()), Some(NOW.plus(1)), &time, now(1, NOW));
    assert_eq!(replayed, Err(StaleHead::Backwards), "not even with the nonce");
}

#[test]
fn our_clock_in_1970_and_in_ten_years() {
    for (wall, unconfirmed) in
        [(UnixSeconds(0), NOW), (NOW.plus(60), NOW.plus(60)), (NOW.plus(YEARS_10), NOW.plus(YEARS_10))]
    {
        let mut time = TrustedTime::restore(NOW);
        assert_eq!(time.now(now(0, wall)), unconfirmed);
        assert_eq!(time.confirmed(now(0, wall)), None);
        time.confirm(now(5, wall), NOW.plus(100));
        assert_eq!(time.now(now(65, wall)), NOW.plus(160), "by the hub's clock and our monotonic one");
        assert_eq!(time.floor(), NOW.plus(100));
    }
}

#[test]
fn our_clock_steps_while_we_run() {
    let mut time = TrustedTime::restore(NOW);
    time.confirm(now(0, NOW), NOW);
    for wall in [UnixSeconds(0), NOW.plus(YEARS_10), UnixSeconds(u64::MAX)] {
        assert_eq!(time.now(now(60, wall)), NOW.plus(60), "{wall}");
    }
}

#[test]
fn the_hubs_clock_ten_years_ahead_is_mended_by_the_next_nonce_head() {
    let mut time = TrustedTime::restore(NOW);
    let wrong = NOW.plus(YEARS_10);
    let ahead = Head { hub_time: wrong, fresh_until: wrong.plus(DAY), ..head() };
    expect(verdict(DocumentType::Head, &sign(&ahead, &[DIRECTOR])), "", "it is signed");
    assert_eq!(check_head(&ahead, Some(nonce()), None, &time, now(0, NOW)), Ok(()));
    time.confirm(now(0, NOW), ahead.hub_time);
    assert_eq!(time.floor(), wrong);
    // The journal keeps the wrong floor over a boot; a nonce head is still believed and sets both back.
    let mut time = TrustedTime::restore(time.floor());
    assert_eq!(time.now(now(0, NOW)), wrong);
    let right = Head { hub_time: NOW.plus(60), fresh_until: NOW.plus(DAY), ..head() };
    assert_eq!(check_head(&right, Some(nonce()), None, &time, now(1, NOW)), Ok(()));
    time.confirm(now(1, NOW), right.hub_time);
    assert_eq!(time.now(now(2, NOW)), NOW.plus(61));
    assert_eq!(time.floor(), NOW.plus(60));
}

#[test]
fn stale_but_newer_after_21_days_offline() {
    // The journal's floor is 21 days old and the clock is lost: the answer to our hello is all it takes.
    let mut time = TrustedTime::restore(NOW);
    let three_weeks_on = NOW.plus(21 * DAY);
    let answer = Head { hub_time: three_weeks_on, fresh_until: three_weeks_on.plus(DAY), ..head() };
    assert_eq!(check_head(&answer, Some(nonce()), None, &time, now(0, UnixSeconds(0))), Ok(()));
    time.confirm(now(0, UnixSeconds(0)), answer.hub_time);
    assert!(
        time.now(now(0, UnixSeconds(0))) <= desired().install_by,
        "and the desired state may be installed"
    );
}

#[test]
fn the_end_of_time_does_not_wrap() {
    let end = UnixSeconds(u64::MAX);
    let mut time = TrustedTime::restore(end);
    time.confirm(now(0, end), end);
    assert_eq!(time.now(now(100, UnixSeconds(0))), end);
    assert_eq!(NOW.since(end), 0);
    let endless = Head { hub_time: end, fresh_until: end, ..head() };
    expect(verdict(DocumentType::Head, &sign(&endless, &[DIRECTOR])), "", "no overflow in its check");
}

#[test]
fn a_head_fresh_for_longer_than_any_may_be() {
    for (seconds, expected) in
        [(0, ""), (DAY, ""), (DAY + 1, "fresh_until: lies too long"), (u64::MAX, "too long")]
    {
        let long = Head { fresh_until: UnixSeconds(NOW.0.saturating_add(seconds)), ..head() };
        expect(verdict(DocumentType::Head, &sign(&long, &[DIRECTOR])), expected, &format!("{seconds} s"));
    }
    for (days, expected) in [(30, ""), (31, "fresh_until: lies too long")] {
        let mut long = carry_head();
        long.head.fresh_until = NOW.plus(days * DAY);
        expect(verdict(DocumentType::CarryHead, &sign(&long, &[DIRECTOR])), expected, "carried");
        let long = Desired { install_by: NOW.plus(days * DAY), ..desired() };
        let expected = expected.replace("fresh_until", "install_by");
        expect(verdict(DocumentType::Desired, &sign(&long, &[DIRECTOR])), &expected, "desired");
    }
}

#[test]
fn a_carried_head_answers_no_challenge() {
    let posing = CarryHead { head: head() };
    expect(
        verdict(DocumentType::CarryHead, &sign(&posing, &[DIRECTOR])),
        "answers no challenge",
        "with a nonce",
    );
}
