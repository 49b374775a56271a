//! What is refused: other names, other topics, other certificates.

use std::{fs, time::Duration};

use edge_agent::{enrol::KeyAndRequest, link::LinkEvent};
use protocol::topics::{Downward, Upward};
use rumqttc::{
    ConnectReturnCode, ConnectionError, LastWill, MqttOptions, PubAckReason, QoS, SubscribeReasonCode,
    Transport,
};

use crate::{
    harness::{Hub, Site, id, identity, now, soon},
    hostile::{Raw, Wire, publish_packet},
};

/// Shows that the hub heard nothing before this: the next thing it hears is a good cluster that connects.
async fn assert_nothing_was_heard(hub: &mut Hub) {
    let witness = hub.enrol("witness");
    let mut agent = witness.connect();
    let connection = hub.connected(&witness.cluster).await;
    agent.up().await;
    agent.link.stop().await;
    hub.gone(&witness.cluster, connection).await;
}

#[tokio::test]
async fn a_cluster_publishes_to_its_own_upward_topics_only() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut raw = Raw::connect(&site).await;
    hub.connected(&site.cluster).await;
    for topic in [
        "ef/v1/c/tower-2/u/hello",
        "ef/v1/c/tower-2/d/desired",
        "ef/v1/c/tower-1/d/desired",
        "ef/v1/c/tower-1/d/ack",
        "ef/v1/c/tower-1/u",
        "ef/v1/c/tower-1/u/hello/x",
        "ef/v1/c/tower-1/u/secret",
        "ef/v1/c/TOWER-1/u/hello",
        "ef/v1/enrol/abcdefgh/ask",
        "$SYS/broker/uptime",
        "$share/g/ef/v1/c/tower-1/u/hello",
        "hello",
    ] {
        let answer = raw.publish(topic, b"x").await.unwrap();
        assert_eq!(answer, PubAckReason::NotAuthorized, "{topic}");
    }
    // None of them came through: the next thing the hub hears is this.
    let own = Upward::Hello.topic(&site.cluster);
    let (answer, (topic, ..)) = tokio::join!(raw.publish(&own, b"x"), async {
        let (topic, payload, done) = hub.message(&site.cluster).await;
        done.send(()).unwrap();
        (topic, payload)
    });
    assert_eq!((answer.unwrap(), topic), (PubAckReason::Success, Upward::Hello));
}

#[tokio::test]
async fn a_cluster_subscribes_to_its_own_downward_topics_only() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut raw = Raw::connect(&site).await;
    hub.connected(&site.cluster).await;
    for filter in [
        "ef/v1/c/tower-2/d/head",
        "ef/v1/c/tower-2/u/hello",
        "ef/v1/c/tower-1/u/hello",
        "ef/v1/c/+/d/head",
        "ef/v1/c/tower-1/d/+",
        "ef/v1/c/tower-1/d/#",
        "ef/v1/c/tower-1/#",
        "#",
        "+/+/+/+/+/+",
        "$SYS/#",
        "$share/g/ef/v1/c/tower-1/d/head",
        "$share/g/#",
        "ef/v1/enrol/abcdefgh/answer",
    ] {
        // The client refuses some of these itself when the hub says that it has no wildcards; either way
        // no subscription comes about.
        let answer = raw.subscribe(filter).await.unwrap();
        assert!(!matches!(answer, SubscribeReasonCode::Success(_)), "{filter}: {answer:?}");
    }
    for topic in Downward::ALL {
        let answer = raw.subscribe(&topic.topic(&site.cluster)).await.unwrap();
        assert_eq!(answer, SubscribeReasonCode::Success(QoS::AtLeastOnce), "{topic:?}");
    }
}

#[tokio::test]
async fn only_the_certificates_name_may_connect_and_only_with_its_own_will() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let will = |topic: &str, payload: &str, retain| {
        LastWill::new(topic, payload.as_bytes().to_vec(), QoS::AtLeastOnce, retain, None)
    };
    type Change<'a> = (&'a str, Box<dyn Fn(&mut MqttOptions)>);
    let changes: [Change<'_>; 8] = [
        (
            "another client id",
            Box::new(|options| {
                options.set_client_id("tower-2".to_owned());
            }),
        ),
        (
            "a longer client id",
            Box::new(|options| {
                options.set_client_id("tower-10".to_owned());
            }),
        ),
        (
            "another user name",
            Box::new(|options| {
                options.set_username("tower-2");
            }),
        ),
        (
            "no keepalive",
            Box::new(|options| {
                options.set_keep_alive(0);
            }),
        ),
        (
            "a keepalive of a day",
            Box::new(|options| {
                options.set_keep_alive(u16::MAX);
            }),
        ),
        (
            "a will elsewhere",
            Box::new(move |options| {
                options.set_last_will(will("ef/v1/c/tower-2/u/hello", "", false));
            }),
        ),
        (
            "a will downward",
            Box::new(move |options| {
                options.set_last_will(will("ef/v1/c/tower-1/d/desired", "", false));
            }),
        ),
        (
            "a will with content",
            Box::new(move |options| {
                options.set_last_will(will("ef/v1/c/tower-1/u/hello", "boo", false));
            }),
        ),
    ];
    for (what, change) in changes {
        let mut options = Raw::options(&site);
        change(&mut options);
        let refusal = Raw::new(options).attempt().await;
        assert!(
            matches!(refusal, Err(ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized))),
            "{what}: {refusal:?}"
        );
    }
    assert_nothing_was_heard(&mut hub).await;
}

#[tokio::test]
async fn a_retained_message_ends_the_connection_unacknowledged() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut wire = Wire::connect(&site, Duration::from_secs(60)).await;
    let connection = hub.connected(&site.cluster).await;
    wire.write(&publish_packet(&Upward::Hello.topic(&site.cluster), b"for ever", true)).await;
    assert_eq!(wire.closed().await, b"", "no acknowledgement");
    assert!(!hub.gone(&site.cluster, connection).await);
}

#[tokio::test]
async fn an_oversized_packet_ends_the_connection() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut wire = Wire::connect(&site, Duration::from_secs(60)).await;
    let connection = hub.connected(&site.cluster).await;
    // The header alone announces 256 MiB; the hub must not wait for them.
    wire.write(&[0x32, 0xff, 0xff, 0xff, 0x7f]).await;
    wire.closed().await;
    assert!(!hub.gone(&site.cluster, connection).await);
}

#[tokio::test]
async fn the_newest_connection_of_a_certificate_wins() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut older = Raw::connect(&site).await;
    let first = hub.connected(&site.cluster).await;
    let mut newer = Raw::connect(&site).await;
    assert!(!hub.gone(&site.cluster, first).await);
    let second = hub.connected(&site.cluster).await;
    assert!(second > first);
    older.ended().await;

    newer.subscribe(&Downward::Head.topic(&site.cluster)).await.unwrap();
    hub.transport.push(&site.cluster, Downward::Head, "head".into()).await.unwrap();
    drop(newer);
    hub.gone(&site.cluster, second).await;
}

#[tokio::test]
async fn a_revoked_cluster_is_kicked_and_stays_out() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut agent = site.connect();
    let connection = hub.connected(&site.cluster).await;
    agent.up().await;

    hub.revoked.lock().unwrap().insert(site.cluster.clone());
    assert!(hub.transport.kick(&site.cluster));
    assert!(!hub.gone(&site.cluster, connection).await);
    agent.down().await;
    let reason = agent.down().await;
    assert!(reason.contains("refused this cluster (NotAuthorized)"), "{reason}");
    assert!(!hub.transport.kick(&site.cluster), "it is not connected");

    hub.revoked.lock().unwrap().clear();
    hub.connected(&site.cluster).await;
    agent.up().await;
}

#[tokio::test]
async fn a_hub_of_another_ca_is_not_believed() {
    let mut hub = Hub::start().await;
    let other = Hub::start().await;
    let site = hub.enrol("tower-1");
    fs::write(site.file("ca.pem"), other.ca.certificate_pem()).unwrap();
    let mut agent = site.connect();
    let reason = agent.down().await;
    assert!(reason.contains("no trusted TLS connection to localhost"), "{reason}");
    agent.link.stop().await;
    assert_nothing_was_heard(&mut hub).await;
}

#[tokio::test]
async fn a_hub_of_another_name_is_not_believed() {
    let mut hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut config = site.config();
    // The hub's certificate names 127.0.0.1 and localhost only.
    config.host = "127.0.0.2".to_owned();
    let (link, mut events) = edge_agent::link::Link::start(config).unwrap();
    match soon("a failed attempt", events.recv()).await {
        Some(LinkEvent::Down { reason, .. }) => {
            assert!(reason.contains("127.0.0.2"), "{reason}");
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    link.stop().await;
    assert_nothing_was_heard(&mut hub).await;
}

#[tokio::test]
async fn certificates_of_other_cas_for_other_names_or_none_are_refused() {
    let mut hub = Hub::start().await;
    let other = Hub::start().await;
    let cluster = id("tower-1");

    let foreign = other.enrol("tower-1");
    let foreign = Site { port: hub.transport.addresses().clusters.port(), ..foreign };
    fs::write(foreign.file("ca.pem"), hub.ca.certificate_pem()).unwrap();
    assert!(Raw::new(Raw::options(&foreign)).attempt().await.is_err(), "signed by another CA");

    // Its own good certificate does not let tower-2 in as tower-1.
    let second = hub.enrol("tower-2");
    let posing = Site { cluster: cluster.clone(), ..second };
    let refusal = Raw::new(Raw::options(&posing)).attempt().await;
    assert!(matches!(refusal, Err(ConnectionError::ConnectionRefused(_))), "{refusal:?}");

    let site = hub.enrol("tower-1");
    let mut options = Raw::options(&site);
    options.set_transport(Transport::tls(site.read("ca.pem"), None, None));
    assert!(Raw::new(options).attempt().await.is_err(), "no certificate");

    // A certificate whose time is over: away for 200 days.
    let expired = hub.enrol("tower-1");
    let long_ago = now() - jiff::SignedDuration::from_hours(200 * 24);
    let made = KeyAndRequest::make(&cluster).unwrap();
    let certificate = hub.ca.sign_cluster(&made.request, &cluster, &identity(), long_ago).unwrap();
    fs::write(expired.file("cluster.pem"), certificate.pem + &made.key_pem).unwrap();
    assert!(Raw::new(Raw::options(&expired)).attempt().await.is_err(), "expired");

    assert_nothing_was_heard(&mut hub).await;
}
