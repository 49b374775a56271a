//! What is delivered, when it is acknowledged, and what comes back after a loss.

use std::time::Duration;

use bytes::Bytes;
use edge_agent::link::{LinkEvent, PublishError};
use fleet_broker::transport::PushError;
use protocol::topics::{Downward, Upward};
use tokio::net::TcpStream;

use crate::{
    harness::{Hub, Options, id, now},
    hostile::{Raw, Wire},
};

#[tokio::test]
async fn messages_travel_both_ways_and_are_acknowledged_when_they_are_had() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut agent = site.connect();
    let connection = hub.connected(&site.cluster).await;
    let up = agent.up().await;

    let id = agent.link.publish(up, Upward::Hello, b"hello".to_vec()).await.unwrap();
    let (topic, payload, done) = hub.message(&site.cluster).await;
    assert_eq!((topic, payload), (Upward::Hello, Bytes::from_static(b"hello")));
    assert!(agent.events.try_recv().is_err(), "published before the hub had it");
    done.send(()).unwrap();
    match agent.next().await {
        LinkEvent::Published { id: confirmed } => assert_eq!(confirmed, id),
        other => panic!("expected the hub's acknowledgement, got {other:?}"),
    }

    for topic in Downward::ALL {
        let payload = Bytes::from(format!("{topic:?}"));
        hub.transport.push(&site.cluster, topic, payload.clone()).await.unwrap();
        let (received, content, ack) = agent.message().await;
        assert_eq!((received, content), (topic, payload));
        agent.link.ack(ack);
    }

    agent.link.stop().await;
    assert!(hub.gone(&site.cluster, connection).await, "a goodbye is a clean end");
}

#[tokio::test]
async fn the_largest_message_fits_and_a_larger_one_is_not_sent() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut agent = site.connect();
    hub.connected(&site.cluster).await;
    let up = agent.up().await;

    let largest = vec![7; protocol::limits::MESSAGE_BYTES];
    agent.link.publish(up, Upward::Report, largest.clone()).await.unwrap();
    let (_, payload, done) = hub.message(&site.cluster).await;
    assert_eq!(payload, largest);
    done.send(()).unwrap();
    assert!(matches!(agent.next().await, LinkEvent::Published { .. }));
    hub.transport.push(&site.cluster, Downward::Blob, Bytes::from(largest.clone())).await.unwrap();
    let (_, payload, ack) = agent.message().await;
    assert_eq!(payload, largest);
    agent.link.ack(ack);

    let larger = vec![7; protocol::limits::MESSAGE_BYTES + 1];
    let refused = agent.link.publish(up, Upward::Report, larger.clone()).await;
    assert_eq!(refused, Err(PublishError::TooLarge(larger.len())));
    let bytes = larger.len();
    let refused = hub.transport.push(&site.cluster, Downward::Blob, Bytes::from(larger)).await;
    assert_eq!(refused, Err(PushError::TooLarge { cluster: site.cluster.clone(), bytes }));
}

#[tokio::test]
async fn what_the_hub_did_not_take_is_said_again_on_the_next_connection() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut agent = site.connect();
    let first = hub.connected(&site.cluster).await;
    let up = agent.up().await;
    agent.link.publish(up, Upward::Report, b"report 1".to_vec()).await.unwrap();
    let (.., withheld) = hub.message(&site.cluster).await;

    assert!(hub.transport.kick(&site.cluster));
    assert!(!hub.gone(&site.cluster, first).await);
    let _reason = agent.down().await;
    let too_late = agent.link.publish(up, Upward::Report, b"report 1".to_vec()).await;
    assert_eq!(too_late, Err(PublishError::Down), "a connection that is gone takes nothing");
    // The hub has it now, but on a connection that is gone: the agent cannot know, and says it again.
    drop(withheld);

    hub.connected(&site.cluster).await;
    let up = agent.up().await;
    let again = agent.link.publish(up, Upward::Report, b"report 1".to_vec()).await.unwrap();
    let (_, payload, done) = hub.message(&site.cluster).await;
    assert_eq!(payload, Bytes::from_static(b"report 1"));
    done.send(()).unwrap();
    match agent.next().await {
        LinkEvent::Published { id } => assert_eq!(id, again),
        other => panic!("expected the acknowledgement of the second attempt, got {other:?}"),
    }
}

#[tokio::test]
async fn an_acknowledgement_of_an_earlier_connection_is_ignored() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut agent = site.connect();
    let first = hub.connected(&site.cluster).await;
    agent.up().await;
    hub.transport.push(&site.cluster, Downward::Head, Bytes::from_static(b"head")).await.unwrap();
    let (.., stale) = agent.message().await;

    hub.transport.kick(&site.cluster);
    hub.gone(&site.cluster, first).await;
    agent.down().await;
    hub.connected(&site.cluster).await;
    agent.up().await;
    hub.transport.push(&site.cluster, Downward::Head, Bytes::from_static(b"head")).await.unwrap();
    let (.., fresh) = agent.message().await;
    // Both carry packet id 1. Were the stale one sent, the fresh one would be a second acknowledgement of
    // the same packet, which ends the connection.
    agent.link.ack(stale);
    agent.link.ack(fresh);
    hub.transport.push(&site.cluster, Downward::Desired, Bytes::from_static(b"desired")).await.unwrap();
    let (topic, ..) = agent.message().await;
    assert_eq!(topic, Downward::Desired);
}

#[tokio::test]
async fn a_hub_that_does_not_take_a_message_in_time_loses_the_connection() {
    let mut hub =
        Hub::start_with(Options { acknowledge_within: Duration::from_millis(50), ..Options::default() })
            .await;
    let site = hub.enrol("tower-1");
    let mut agent = site.connect();
    let connection = hub.connected(&site.cluster).await;
    let up = agent.up().await;
    agent.link.publish(up, Upward::Hello, b"hello".to_vec()).await.unwrap();
    let (.., _held) = hub.message(&site.cluster).await;
    assert!(!hub.gone(&site.cluster, connection).await);
    agent.down().await;
}

#[tokio::test]
async fn an_agent_returns_after_the_hub_was_restarted() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut agent = site.connect();
    hub.connected(&site.cluster).await;
    let before = agent.up().await;

    let mut hub = hub.restart().await;
    agent.down().await;
    let after = agent.up().await;
    assert!(after > before);
    hub.connected(&site.cluster).await;
    agent.link.publish(after, Upward::Hello, b"hello".to_vec()).await.unwrap();
    let (topic, _, done) = hub.message(&site.cluster).await;
    assert_eq!(topic, Upward::Hello);
    done.send(()).unwrap();
}

#[tokio::test]
async fn a_push_says_why_it_was_not_taken() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let push = || hub.transport.push(&site.cluster, Downward::Head, Bytes::from_static(b"head"));
    assert_eq!(push().await, Err(PushError::NotConnected(site.cluster.clone())));
    let mut raw = Raw::connect(&site).await;
    hub.connected(&site.cluster).await;
    let push = || hub.transport.push(&site.cluster, Downward::Head, Bytes::from_static(b"head"));
    let unsubscribed = PushError::NotSubscribed { cluster: site.cluster.clone(), topic: Downward::Head };
    assert_eq!(push().await, Err(unsubscribed));

    // It reads and never acknowledges, so the window closes and then the waiting room fills.
    raw.subscribe(&Downward::Head.topic(&site.cluster)).await.unwrap();
    let mut taken = 0;
    let refused = loop {
        match push().await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1_000, "a cluster that reads nothing fills the hub's memory");
    };
    assert_eq!(refused, PushError::Slow { cluster: site.cluster.clone() });
}

#[tokio::test]
async fn a_silent_peer_is_gone_after_one_and_a_half_keepalives() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let _silent = Wire::connect(&site, Duration::from_secs(1)).await;
    let connection = hub.connected(&site.cluster).await;
    assert!(!hub.gone(&site.cluster, connection).await);
}

#[tokio::test]
async fn a_handshake_that_does_not_come_holds_up_nobody() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(TcpStream::connect(("127.0.0.1", site.port)).await.unwrap());
    }
    let mut agent = site.connect();
    hub.connected(&site.cluster).await;
    agent.up().await;
}

#[tokio::test]
async fn a_wrong_clock_does_not_keep_an_agent_from_its_hub() {
    for years in [-10, 10] {
        let hub_clock = now() + jiff::SignedDuration::from_hours(years * 365 * 24);
        let mut hub = Hub::start_with(Options { hub_clock, ..Options::default() }).await;
        let site = hub.enrol("tower-1");
        let mut agent = site.connect();
        hub.connected(&site.cluster).await;
        agent.up().await;
    }
}

#[tokio::test]
async fn clusters_only_ever_see_what_was_pushed_to_them() {
    let mut hub = Hub::start().await;
    let names = ["tower-1", "tower-2", "tower-3"];
    let mut agents = Vec::new();
    for name in names {
        let site = hub.enrol(name);
        let mut agent = site.connect();
        hub.connected(&site.cluster).await;
        agent.up().await;
        agents.push((site, agent));
    }
    for name in names {
        hub.transport.push(&id(name), Downward::Desired, Bytes::from(name)).await.unwrap();
    }
    for (site, agent) in &mut agents {
        let (topic, payload, ack) = agent.message().await;
        assert_eq!((topic, payload), (Downward::Desired, Bytes::from(site.cluster.to_string())));
        agent.link.ack(ack);
        assert!(agent.events.try_recv().is_err(), "one message each");
    }
}
