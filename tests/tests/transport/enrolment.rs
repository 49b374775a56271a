//! The bootstrap listener: one ask, one answer, and nothing else.

use std::time::Duration;

use bytes::Bytes;
use edge_agent::enrol::{Bootstrap, EnrolError, KeyAndRequest};
use fleet_broker::transport::TransportEvent;
use protocol::ids::{ClusterId, Digest, TokenId};
use rumqttc::{MqttOptions, PubAckReason, SubscribeReasonCode, Transport};
use tokio::sync::oneshot;

use crate::{
    harness::{DEADLINE, Hub, id, identity, now},
    hostile::{Raw, Wire, connect_packet, publish_packet},
};

fn token() -> TokenId {
    "token123".parse().unwrap()
}

fn port(hub: &Hub) -> u16 {
    hub.transport.addresses().bootstrap.unwrap().port()
}

fn bootstrap(hub: &Hub) -> Bootstrap {
    Bootstrap {
        host: "localhost".to_owned(),
        port: port(hub),
        ca_pin: hub.ca.pin(),
        token: token(),
        within: DEADLINE,
    }
}

async fn asked(hub: &mut Hub) -> (TokenId, Bytes, oneshot::Sender<Bytes>) {
    match hub.next().await {
        TransportEvent::EnrolAsk { token, payload, answer, .. } => (token, payload, answer),
        other => panic!("expected an ask, got {other:?}"),
    }
}

/// A client of the bootstrap listener that says what a test likes.
async fn raw(hub: &Hub) -> Raw {
    let mut options = MqttOptions::new(token().as_str(), ("localhost", port(hub)));
    let ca = hub.ca.certificate_pem().as_bytes().to_vec();
    options.set_transport(Transport::tls(ca, None, None)).set_clean_start(true);
    let mut raw = Raw::new(options);
    raw.attempt().await.unwrap();
    raw
}

#[tokio::test]
async fn a_new_cluster_asks_is_answered_and_connects_with_its_certificate() {
    let mut hub = Hub::start().await;
    let cluster: ClusterId = id("tower-1");
    let made = KeyAndRequest::make(&cluster).unwrap();
    let asking = tokio::spawn({
        let (bootstrap, request) = (bootstrap(&hub), made.request.clone());
        async move { bootstrap.ask(request).await }
    });
    let (named, request, answer) = asked(&mut hub).await;
    assert_eq!((named, &request), (token(), &Bytes::from(made.request)));
    let certificate = hub.ca.sign_cluster(&request, &cluster, &identity(), now()).unwrap();
    answer.send(Bytes::from(certificate.pem)).unwrap();
    let certificate = asking.await.unwrap().unwrap();

    let site = hub.enrol("tower-1");
    let both = [&certificate, made.key_pem.as_bytes()].concat();
    std::fs::write(site.file("cluster.pem"), both).unwrap();
    let mut agent = site.connect();
    hub.connected(&cluster).await;
    agent.up().await;
}

#[tokio::test]
async fn nothing_is_asked_of_a_hub_without_the_pinned_ca() {
    let mut hub = Hub::start().await;
    let mut bootstrap = bootstrap(&hub);
    bootstrap.ca_pin = Digest::of(b"another CA");
    match bootstrap.ask(b"secret".to_vec()).await {
        Err(EnrolError::WrongHub { hub }) => assert!(hub.starts_with("localhost:")),
        other => panic!("expected the hub to be refused, got {other:?}"),
    }
    assert!(hub.events.try_recv().is_err());
}

#[tokio::test]
async fn an_unanswered_ask_ends_with_a_clear_error() {
    let mut hub = Hub::start().await;
    let mut impatient = bootstrap(&hub);
    impatient.within = Duration::from_millis(500);
    let (late, held) = tokio::join!(impatient.ask(b"ask".to_vec()), asked(&mut hub));
    assert!(matches!(late, Err(EnrolError::Exchange { .. })), "{late:?}");
    drop(held);

    let patient = bootstrap(&hub);
    let (refused, ()) = tokio::join!(patient.ask(b"ask".to_vec()), async {
        drop(asked(&mut hub).await);
    });
    assert!(matches!(refused, Err(EnrolError::Exchange { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_token_reaches_its_two_topics_only() {
    let hub = Hub::start().await;
    let mut raw = raw(&hub).await;
    for filter in ["ef/v1/enrol/other123/answer", "ef/v1/enrol/+/answer", "ef/v1/c/tower-1/d/head", "#"] {
        let answer = raw.subscribe(filter).await.unwrap();
        assert!(!matches!(answer, SubscribeReasonCode::Success(_)), "{filter}");
    }
    for topic in ["ef/v1/enrol/other123/ask", "ef/v1/enrol/token123/answer", "ef/v1/c/tower-1/u/hello"] {
        assert_eq!(raw.publish(topic, b"x").await.unwrap(), PubAckReason::NotAuthorized, "{topic}");
    }
}

#[tokio::test]
async fn a_second_ask_and_an_oversized_one_end_the_connection() {
    let mut hub = Hub::start().await;
    let mut twice = raw(&hub).await;
    let ask = "ef/v1/enrol/token123/ask";
    let (first, ()) = tokio::join!(twice.publish(ask, b"one"), async {
        let (.., answer) = asked(&mut hub).await;
        answer.send(Bytes::from_static(b"no")).unwrap();
    });
    assert_eq!(first.unwrap(), PubAckReason::Success);
    assert!(twice.publish(ask, b"two").await.is_err());

    let site = hub.enrol("tower-1");
    let mut wire = Wire::open(&site, port(&hub), false).await.unwrap();
    wire.write(&connect_packet(token().as_str(), 60)).await;
    wire.write(&publish_packet(ask, &[0; 20_000], false)).await;
    wire.closed().await;
    assert!(hub.events.try_recv().is_err(), "neither was heard");
}

#[tokio::test]
async fn one_address_opens_so_many_enrolments_at_once() {
    let hub = Hub::start().await;
    let site = hub.enrol("tower-1");
    let mut open = Vec::new();
    while let Ok(wire) = Wire::open(&site, port(&hub), false).await {
        open.push(wire);
        assert!(open.len() <= 8, "a ninth enrolment of one address was let in");
    }
    assert_eq!(open.len(), 8);
}
