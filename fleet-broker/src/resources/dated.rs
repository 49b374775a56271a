//! Since when a status says what it says. The fleet core says what holds, the object that it is written to holds what was
//! said before: times of transition are taken over from there, so that nobody keeps them twice.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::{Deserialize, Serialize};

use super::{ApplicationStatus, AssignmentState, AssignmentStatus, ClusterStatus};

/// What the hub itself says of an object, as its kind's type has it.
pub trait Status: Serialize + fmt::Debug {
    /// Dates what it says: as before where that said the same, else with `now`.
    fn date(&mut self, now: &Time, before: &Before<'_>);

    /// Takes its dates away, so that two that say the same are equal.
    fn undate(&mut self);
}

/// The time of a status that was not dated yet.
pub const UNDATED: Time = Time(Timestamp::UNIX_EPOCH);

/// What of the status before is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Before<'a> {
    #[serde(borrow)]
    conditions: Vec<Dated<'a>>,
    state: Option<AssignmentState>,
    since: Option<Time>,
    #[serde(borrow)]
    bundle: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dated<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    last_transition_time: Time,
}

impl<'a> Before<'a> {
    /// Reads a status, as far as it can be read: one that another hub wrote may date nothing.
    pub fn read(status: &'a str) -> Self {
        serde_json::from_str(status).unwrap_or_default()
    }

    fn date(&self, now: &Time, conditions: &mut [Condition]) {
        for condition in conditions {
            let same = |old: &&Dated<'_>| old.kind == condition.type_ && old.status == condition.status;
            let since = self.conditions.iter().find(same).map(|old| &old.last_transition_time);
            condition.last_transition_time = since.unwrap_or(now).clone();
        }
    }
}

fn undate(conditions: &mut [Condition]) {
    conditions.iter_mut().for_each(|condition| condition.last_transition_time = UNDATED);
}

impl Status for ClusterStatus {
    fn date(&mut self, now: &Time, before: &Before<'_>) {
        before.date(now, &mut self.conditions);
    }

    fn undate(&mut self) {
        undate(&mut self.conditions);
    }
}

impl Status for ApplicationStatus {
    fn date(&mut self, now: &Time, before: &Before<'_>) {
        before.date(now, &mut self.conditions);
    }

    fn undate(&mut self) {
        undate(&mut self.conditions);
    }
}

impl Status for AssignmentStatus {
    fn date(&mut self, now: &Time, before: &Before<'_>) {
        before.date(now, &mut self.conditions);
        let since = before.since.as_ref().filter(|_| before.state == Some(self.state));
        self.since = Some(since.unwrap_or(now).clone());
        // Of what is told to go, the cluster's report names no bundle for long.
        if self.state == AssignmentState::Removing && !before.bundle.is_empty() {
            self.bundle = before.bundle.to_string();
        }
    }

    fn undate(&mut self) {
        undate(&mut self.conditions);
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn condition(kind: &str, status: &str) -> Condition {
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: "Because".to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: UNDATED,
        }
    }

    fn assignment(state: AssignmentState, available: &str) -> AssignmentStatus {
        AssignmentStatus {
            cluster: "tower-1".to_owned(),
            application: "gateway".to_owned(),
            bundle: "gateway-1".to_owned(),
            state,
            conditions: vec![condition("Applied", "True"), condition("Available", available)],
            worst_object: None,
            message: None,
            preview: None,
            since: None,
        }
    }

    #[test]
    fn what_still_holds_keeps_its_date() {
        use AssignmentState::{Failed, Removing, Updated};
        let mut text = String::new();
        for (second, state, available, expected) in [
            (10, Updated, "True", (10, 10, 10)),
            (20, Updated, "True", (10, 10, 10)),
            (30, Updated, "Unknown", (10, 30, 10)),
            (40, Failed, "Unknown", (10, 30, 40)),
            (50, Removing, "True", (10, 50, 50)),
        ] {
            let mut status = assignment(state, available);
            status.date(&at(second), &Before::read(&text));
            let dates = [&status.conditions[0], &status.conditions[1]].map(|one| &one.last_transition_time);
            let (applied, available, since) = expected;
            assert_eq!(dates, [&at(applied), &at(available)], "{second}");
            assert_eq!(status.since, Some(at(since)), "{second}");
            text = serde_json::to_string(&status).unwrap();
            status.undate();
            assert_eq!(status, assignment(state, &status.conditions[1].status));
        }
    }

    #[test]
    fn what_is_to_go_keeps_the_name_of_its_bundle() {
        for (before, expected) in [("gateway-0", "gateway-0"), ("", "gateway-1")] {
            let mut before_it = assignment(AssignmentState::Updated, "True");
            before_it.bundle = before.to_owned();
            let text = serde_json::to_string(&before_it).unwrap();
            let mut status = assignment(AssignmentState::Removing, "True");
            status.date(&at(1), &Before::read(&text));
            assert_eq!(status.bundle, expected);
        }
    }

    #[test]
    fn what_does_not_read_as_a_status_dates_nothing() {
        for text in ["", "null", "[]", r#"{"conditions": [{"type": 1}]}"#, r#"{"since": "yesterday"}"#] {
            let mut status = assignment(AssignmentState::Updated, "True");
            status.date(&at(7), &Before::read(text));
            assert_eq!((&status.since, &status.conditions[0].last_transition_time), (&Some(at(7)), &at(7)));
        }
    }
}
