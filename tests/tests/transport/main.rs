//! Hub and agent over real MQTT on real TLS sockets: what is delivered, what is refused, what comes back.

mod harness;

use bytes::Bytes;
use edge_agent::link::LinkEvent;
use protocol::topics::{Downward, Upward};

use self::harness::Hub;

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
