//! What is asked of an API server that may be away.

use protocol::{
    documents::ConditionStatus,
    ids::{AppId, JournalId},
};

use super::*;
use crate::{
    logic::{
        event::{Event, Observation, Step},
        object::Gvk,
    },
    testing::{Fleet, TIME},
};

fn at(seconds: u64) -> Now {
    Now { monotonic: Duration::from_secs(seconds), wall: TIME }
}

/// The step that asks for the API server's version, if that is all that is asked.
fn probe(effects: &[Effect]) -> Option<StepId> {
    let mut steps = effects.iter().filter_map(|effect| match effect {
        Effect::Execute { id, step: Step::Version } => Some(Some(*id)),
        Effect::Execute { .. } => Some(None),
        Effect::Publish { .. } | Effect::Record(_) | Effect::Observe(_) | Effect::Judged(_) => None,
    });
    let first = steps.next().flatten();
    first.filter(|_| steps.next().is_none())
}

fn is_there(agent: &Agent) -> bool {
    let ready = agent.conditions().into_iter().find(|condition| condition.kind == "KubernetesReady").unwrap();
    ready.status == ConditionStatus::True
}

#[test]
fn an_api_server_that_goes_while_nothing_is_to_do_is_missed() {
    let fleet = Fleet::new();
    let (mut agent, _) = Agent::new(fleet.identity(), fleet.trust, JournalId::new([3; 16]));
    let interrupted = || Event::Observed(Observation::Interrupted);
    let answer = |version: &str| Outcome::Version(version.to_owned());
    let away = || {
        let (reason, message) = ("Unavailable".to_owned(), "connection refused".to_owned());
        Outcome::Failed(Failure { remedy: Remedy::Outage, reason, message })
    };

    let id = probe(&agent.handle(at(1), Event::Tick)).expect("it asks at first");
    assert_eq!(probe(&agent.handle(at(1), interrupted())), None, "it has asked");
    agent.handle(at(2), Event::StepDone { id, outcome: answer("v1.35.0") });
    assert_eq!(probe(&agent.handle(at(3), Event::Tick)), None, "it knows");
    assert!(is_there(&agent));

    let id =
        probe(&agent.handle(at(4), interrupted())).expect("a watch that ends says nothing of the others");
    assert!(is_there(&agent), "nobody knows yet");
    agent.handle(at(5), Event::StepDone { id, outcome: away() });
    assert!(!is_there(&agent));
    assert_eq!(agent.kubernetes, "v1.35.0", "what it said last");
    assert_eq!(probe(&agent.handle(at(5), interrupted())), None, "it waits between its tries");

    let retry_at = agent.outage.as_ref().map(|failed| failed.retry_at).expect("it tries again");
    assert!(agent.next_time(at(5).monotonic) <= retry_at);
    let wake = Now { monotonic: retry_at, wall: TIME };
    let id = probe(&agent.handle(wake, Event::Tick)).expect("one try");
    agent.handle(wake, Event::StepDone { id, outcome: answer("v1.36.0") });
    assert!(is_there(&agent));
    assert_eq!(agent.kubernetes, "v1.36.0", "it was away for an upgrade");
    assert_eq!(probe(&agent.handle(wake, Event::Tick)), None);
}

fn watch_trouble(agent: &Agent) -> Option<String> {
    let conditions = agent.conditions();
    conditions.into_iter().find(|one| one.kind == "WatchFailed").map(|one| one.message)
}

#[test]
fn a_kind_that_is_not_watched_is_told_until_it_is() {
    let fleet = Fleet::new();
    let (mut agent, _) = Agent::new(fleet.identity(), fleet.trust, JournalId::new([3; 16]));
    let kinds = ["ConfigMap", "Service"].map(|kind| Gvk::new("v1", kind));
    let mut app = App::default();
    for gvk in kinds.clone() {
        let object = ObjectRef { gvk, namespace: Some("radio".to_owned()), name: "gateway".to_owned() };
        app.inventory.insert(object, Owned::intended());
    }
    agent.apps.insert(AppId::new("radio", "gateway").unwrap(), app);
    agent.handle(at(1), Event::Tick);
    assert_eq!(agent.watched, kinds);

    let blind = |kind: &Gvk| Event::Observed(Observation::Blind(kind.clone(), "forbidden".to_owned()));
    agent.handle(at(10), Event::Tick);
    assert_eq!(agent.outbox.flush_at, None, "what there was to say is said");
    agent.handle(at(12), blind(&kinds[1]));
    assert_eq!(watch_trouble(&agent).as_deref(), Some("changes of Service.v1 are not seen: forbidden"));
    assert!(agent.outbox.flush_at.is_some(), "it is reported");
    agent.outbox.flush_at = None;
    agent.handle(at(13), blind(&kinds[1]));
    assert_eq!(agent.outbox.flush_at, None, "it was");
    agent.handle(at(14), blind(&kinds[0]));
    let both = "changes of ConfigMap.v1 (and of 1 more) are not seen: forbidden";
    assert_eq!(watch_trouble(&agent).as_deref(), Some(both));
    agent.handle(at(15), blind(&Gvk::new("v1", "Secret")));
    assert_eq!(watch_trouble(&agent).as_deref(), Some(both), "nobody watches those");

    agent.outbox.flush_at = None;
    agent.handle(at(16), Event::Observed(Observation::Synced(kinds[0].clone())));
    assert_eq!(watch_trouble(&agent).as_deref(), Some("changes of Service.v1 are not seen: forbidden"));
    assert!(agent.outbox.flush_at.is_some(), "that it is watched again is reported too");
    agent.apps.clear();
    agent.handle(at(17), Event::Tick);
    assert_eq!(watch_trouble(&agent), None, "nobody needs it any more");
}
