//! Facts, and what is said of them.

use serde_json::{Value, json};

use super::*;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

/// Checks a finding's verdict and a part of what it says.
fn check(finding: &Finding, verdict: Verdict, part: &str) {
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    assert!(finding.found.contains(part), "{finding:?} does not say {part:?}");
    assert_eq!(
        finding.advice.is_empty(),
        verdict == Verdict::Ok,
        "{finding:?}: only what is wrong has advice"
    );
}

#[test]
fn private_files_are_their_owners() {
    let rows = [
        (Ok(0o600), Verdict::Ok, "mode 0600"),
        (Ok(0o400), Verdict::Ok, "mode 0400"),
        (Ok(0o640), Verdict::Wrong, "others may read it"),
        (Ok(0o604), Verdict::Wrong, "others may read it"),
        (Err("no such file".to_owned()), Verdict::Wrong, "no such file"),
    ];
    for (mode, verdict, part) in rows {
        check(&private_file(&PrivateFile { path: "a.key".to_owned(), mode }), verdict, part);
    }
}

#[test]
fn what_ends_is_told_in_time() {
    let day = |days: i64| UnixSeconds(NOW.0.saturating_add_signed(days * 24 * 60 * 60));
    // From when and until when, in days; whether it renews by itself.
    let rows = [
        (-1, 179, true, Verdict::Ok, "good for 179 days"),
        (-60, 120, true, Verdict::Ok, "good for 120 days"),
        (-100, 80, true, Verdict::Warning, "in 80 days"),
        (-180, 0, true, Verdict::Wrong, "it ended at 2027-01-15T08:00:00Z"),
        (1, 180, true, Verdict::Wrong, "good only from"),
        (-300, 65, false, Verdict::Ok, "good for 65 days"),
        (-340, 25, false, Verdict::Warning, "in 25 days"),
        (-400, -35, false, Verdict::Wrong, "it ended"),
    ];
    for (from, until, renews, verdict, part) in rows {
        let validity = Ok(Validity { not_before: day(from), not_after: day(until) });
        check(&ending(&Ending { what: "one".to_owned(), validity, renews }, NOW), verdict, part);
    }
    let validity = Err("no certificate".to_owned());
    check(
        &ending(&Ending { what: "one".to_owned(), validity, renews: true }, NOW),
        Verdict::Wrong,
        "no cert",
    );
}

#[test]
fn clocks_may_be_minutes_apart() {
    let rows = [
        (0, Verdict::Ok, "as the hub's"),
        (-20, Verdict::Ok, "20 s ahead of the hub's"),
        (45, Verdict::Warning, "45 s behind the hub's"),
        (-299, Verdict::Warning, "299 s ahead"),
        (300, Verdict::Wrong, "300 s behind"),
        (-1_000_000_000, Verdict::Wrong, "ahead"),
    ];
    for (seconds, verdict, part) in rows {
        let theirs = UnixSeconds(NOW.0.saturating_add_signed(seconds));
        check(&clocks("the hub", theirs, NOW), verdict, part);
    }
}

#[test]
fn disks_have_room_and_take_writes() {
    let rows = [
        (Ok(20 << 30), Verdict::Ok, "are left"),
        (Ok(500 << 20), Verdict::Warning, "are left"),
        (Ok(1 << 20), Verdict::Wrong, "are left"),
        (Err("read-only".to_owned()), Verdict::Wrong, "read-only"),
    ];
    for (free, verdict, part) in rows {
        check(&room(&Room { folder: "state".to_owned(), free }), verdict, part);
    }
}

#[test]
fn api_servers_are_new_enough_and_let_the_agent_in() {
    let rows = [
        ("v1.36.3", Ok(true), [(Verdict::Ok, "v1.36.3"), (Verdict::Ok, "the agent may do")]),
        ("v1.22.0+k3s1", Ok(false), [(Verdict::Ok, "k3s1"), (Verdict::Warning, "may not do everything")]),
        ("v1.21.9", Ok(true), [(Verdict::Wrong, "is of version v1.21.9"), (Verdict::Ok, "the agent")]),
        ("nginx", Err("401".to_owned()), [(Verdict::Wrong, "nginx"), (Verdict::Wrong, "401")]),
    ];
    for (version, is_allowed, wanted) in rows {
        let found = api_server("here", &Ok(ApiServer { version: version.to_owned(), is_allowed }));
        assert_eq!(found.len(), 2);
        found.iter().zip(wanted).for_each(|(finding, (verdict, part))| check(finding, verdict, part));
    }
    let found = api_server("here", &Err("connection refused".to_owned()));
    assert_eq!(found.len(), 1);
    check(&found[0], Verdict::Wrong, "connection refused");
}

#[test]
fn versions_are_near_the_hubs() {
    // Of this program, of the hub, of agents; and what is said of hub and agents.
    let rows = [
        ("0.4.1", "v1.36.0+edgefleet.0.4.0", vec!["0.4.0", "0.2.9", "0.5.0"], Verdict::Ok, Verdict::Ok),
        ("0.3.0", "v1.36.0+edgefleet.0.4.0", vec!["0.1.0"], Verdict::Warning, Verdict::Warning),
        ("0.4.0", "v1.36.0+edgefleet.0.4.0", vec!["0.6.0"], Verdict::Ok, Verdict::Warning),
        ("0.4.0", "v1.36.0+edgefleet.0.4.0", vec!["1.4.0"], Verdict::Ok, Verdict::Warning),
    ];
    for (own, hub, agents, of_hub, of_agents) in rows {
        let fleet: Vec<Cluster> =
            agents.iter().map(|agent| cluster(agent, json!({"agent": agent, "conditions": []}))).collect();
        let found = versions(own, hub, &fleet);
        check(&found[0], of_hub, "0.4.0");
        check(&found[1], of_agents, if of_agents == Verdict::Ok { "all within" } else { agents[0] });
    }
    check(&versions("0.4.0", "v1.36.3", &[])[0], Verdict::Wrong, "\"v1.36.3\" is no version of ours");
    check(&versions("0.4.0", "a page", &[])[0], Verdict::Wrong, "no version");
}

#[test]
fn clusters_that_are_away_are_named() {
    let one = |name: &str, joined: &str, connected: &str, revoked: &str| {
        let condition = |kind: &str, status: &str| {
            json!({"type": kind, "status": status, "reason": "Test", "message": "",
                "lastTransitionTime": "2027-01-15T08:00:00Z"})
        };
        let conditions =
            [condition("Joined", joined), condition("Connected", connected), condition("Revoked", revoked)];
        cluster(name, json!({"conditions": conditions}))
    };
    let all_well = [one("a", "True", "True", "False"), one("b", "True", "True", "False")];
    check(&clusters(&all_well)[0], Verdict::Ok, "2 of 2");
    let mut fleet: Vec<Cluster> =
        (0..12).map(|number| one(&format!("away-{number:02}"), "True", "False", "False")).collect();
    fleet.push(one("new", "False", "False", "False"));
    fleet.push(one("gone", "True", "False", "True"));
    let found = clusters(&fleet);
    assert_eq!(found.len(), 2);
    check(&found[0], Verdict::Warning, "have never joined: new");
    check(&found[1], Verdict::Warning, "away-09 and 2 more");
}

fn cluster(name: &str, status: Value) -> Cluster {
    let cluster = json!({
        "apiVersion": "edgefleet.dev/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": name},
        "spec": {"accepted": true},
        "status": status,
    });
    serde_json::from_value(cluster).unwrap()
}
