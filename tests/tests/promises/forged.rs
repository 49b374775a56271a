//! The broker between hub and agent is not believed. What it forges, alters, replays or mixes up is refused, changes
//! nothing, and is told to everybody who asks.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use edgefleet::clock;
use fleet_broker::{keys, resources::AssignmentState, serve, store::Store};
use protocol::{
    codec,
    cose::{self, Binding, Envelope},
    documents::{Chunk, Desired, Document, DocumentType, Head},
    ids::{ClusterId, Digest, FleetId},
    keys::SigningKey,
    topics::Downward,
};
use serde_json::{Value, json};
use tests::wait_for;

use crate::manifests::WEB_SERVICE;
use crate::{
    fleet_keys::KEYS,
    fleet_keys::OTHER_KEYS,
    harness::{SOON, Site},
    relay::Relay,
};

/// How long a forged head says that it is fresh.
const FRESH_SECONDS: u64 = 3600;

/// A cluster of the same fleet that never joins; the hub signs for it all the same.
const NEIGHBOUR: &str = "neighbour";

/// What a broker says, and how the agent calls its refusals.
struct Attack {
    what: &'static str,
    says: Vec<(Downward, Vec<u8>)>,
    refused_as: &'static [&'static str],
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_forges_is_refused_and_told() -> Result<()> {
    let (mut site, relay) = relayed("forged").await?;
    let bundle = site.deliver(&manifests(&site.name, "one")).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;
    let seen = relay.heard(Downward::Head).len();
    let neighbours = signed_for_neighbour(&mut site).await?;
    relay.hears(Downward::Head, seen).await?;
    site.condition("Connected").await?;

    let before = State::of(&site).await?;
    let mut reasons = BTreeMap::new();
    for attack in forgeries(&site, &relay, neighbours)? {
        let counts = refuses(&site, &relay, &attack, &before).await?;
        reasons.extend(counts);
    }
    site.link.lead_to(site.hub_address());
    is_told(&site, &reasons).await?;
    // The next honest change is nobody's business but the hub's.
    let bundle = site.deliver(&manifests(&site.name, "two")).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;
    is_told(&site, &reasons).await?;
    site.object("configmap", "greeting", |found| found["data"]["GREETING"] == json!("two")).await?;

    // Nothing but the signature was wrong with what was forged: signed rightly, it takes the application away.
    let seen = relay.heard(Downward::Head).len();
    site.link.lead_to(relay.address());
    relay.hears(Downward::Head, seen).await?;
    let (fleet, cluster) = (FleetId::new(&*site.name)?, ClusterId::new(&*site.name)?);
    let director = director(&site, KEYS)?;
    let sign = |kind: DocumentType, payload: &[u8]| {
        cose::sign_one(Binding { kind, fleet: &fleet, cluster: Some(&cluster) }, payload, &director)
    };
    for (topic, bytes) in forge(&site, &relay, &sign)? {
        relay.say(topic, &bytes).await?;
    }
    site.gone("configmap", "greeting").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_alters_or_says_again_is_refused_and_told() -> Result<()> {
    let (mut site, relay) = relayed("altered").await?;
    let first = site.deliver(&manifests(&site.name, "one")).await?;
    site.assigned(&first, AssignmentState::Updated).await?;
    let last = |topic| relay.heard(topic).last().cloned().context("the hub said it");
    let (old_head, old_desired) = (last(Downward::Head)?, last(Downward::Desired)?);
    let answer = relay.heard(Downward::Head).first().cloned().context("the first hello was answered")?;
    let seen = relay.heard(Downward::Head).len();
    relay.kick();
    relay.hears(Downward::Head, seen).await?;
    site.condition("Connected").await?;
    let mut reasons = BTreeMap::new();

    // The news is held back, and said with another bit.
    let before = State::of(&site).await?;
    relay.withhold(&[Downward::Head, Downward::Desired, Downward::Blob]);
    let seen = relay.heard(Downward::Desired).len();
    let second = site.deliver(&manifests(&site.name, "two")).await?;
    let desired = relay.hears(Downward::Desired, seen).await?;
    let head = last(Downward::Head)?;
    let attacks = [
        attack(
            "a desired state without its head",
            vec![(Downward::Desired, desired.clone())],
            &["Unannounced"],
        ),
        attack("a head with another bit", vec![(Downward::Head, flipped(&head))], &["Head"]),
        attack(
            "a desired state with another bit",
            vec![(Downward::Head, head.clone()), (Downward::Desired, flipped(&desired))],
            &["Desired"],
        ),
        attack("the answer to an earlier hello", vec![(Downward::Head, answer)], &["Replay"]),
    ];
    for attack in attacks {
        reasons.extend(refuses(&site, &relay, &attack, &before).await?);
    }

    // The news arrives, but not what it names.
    let mut seen = relay.heard(Downward::Blob).len();
    relay.say(Downward::Desired, &desired).await?;
    let accepted = wait_for("the new desired state at the agent", SOON, async || {
        let now = State::of(&site).await?;
        ensure!(now.desired != before.desired, "{}", now.desired);
        Ok(now)
    })
    .await?;
    ensure!(accepted.objects == before.objects, "{:#?}", accepted.objects);
    let attacks = [
        attack("an older desired state", vec![(Downward::Desired, old_desired)], &["Rollback"]),
        attack("an older head that is fresh", vec![(Downward::Head, old_head)], &["Replay", "Rollback"]),
    ];
    for attack in attacks {
        reasons.extend(refuses(&site, &relay, &attack, &accepted).await?);
    }
    for what in ["an altered release", "altered content"] {
        let mut next = async || {
            let piece = relay.hears(Downward::Blob, seen).await?;
            seen = relay.heard(Downward::Blob).len();
            anyhow::Ok(piece)
        };
        let said = attack(what, vec![(Downward::Blob, altered(&next().await?)?)], &["Content"]);
        reasons.extend(refuses(&site, &relay, &said, &accepted).await?);
        // It is asked for again, and comes as it is.
        relay.say(Downward::Blob, &next().await?).await?;
    }
    relay.withhold(&[]);
    site.assigned(&second, AssignmentState::Updated).await?;
    site.object("configmap", "greeting", |found| found["data"]["GREETING"] == json!("two")).await?;
    site.link.lead_to(site.hub_address());
    is_told(&site, &reasons).await?;
    let third = site.deliver(&manifests(&site.name, "three")).await?;
    site.assigned(&third, AssignmentState::Updated).await.map(drop)
}

/// A site whose agent speaks to the hub through a relay.
async fn relayed(promise: &str) -> Result<(Site, Relay)> {
    let site = Site::start(promise).await?;
    let authority = serve::certificate_authority(&site.folder.path().join("hub"), &site.name)?;
    let cluster = ClusterId::new(&*site.name)?;
    let relay = Relay::start(&authority, site.hub_address(), cluster, &site.state()).await?;
    site.link.lead_to(relay.address());
    relay.hears(Downward::Head, 0).await?;
    site.condition("Connected").await?;
    Ok((site, relay))
}

/// What the hub signed for another cluster: its store says it.
async fn signed_for_neighbour(site: &mut Site) -> Result<Vec<u8>> {
    let labels = [("stage".to_owned(), "test".to_owned())];
    site.operator.add_cluster(&ClusterId::new(NEIGHBOUR)?, &labels).await?;
    wait_for("the neighbour's assignment", SOON, async || {
        let shown = site.operator.assignments().await?;
        let named = |one: &&fleet_broker::resources::Assignment| {
            one.status.as_ref().is_some_and(|status| status.cluster == NEIGHBOUR)
        };
        ensure!(shown.iter().any(|one| named(&one)), "{shown:#?}");
        Ok(())
    })
    .await?;
    site.stop_hub().await?;
    let documents = {
        let store = Store::open(&site.folder.path().join("hub/hub.sqlite"))?;
        store.documents("desired").await?
    };
    site.start_hub().await?;
    let found = documents.into_iter().find(|(key, _)| key == NEIGHBOUR);
    Ok(found.context("the hub signed for the neighbour")?.1)
}

/// A head and a desired state that would take the application away, signed in every way but the right one; and
/// what is right, in the wrong place.
fn forgeries(site: &Site, relay: &Relay, neighbours: Vec<u8>) -> Result<Vec<Attack>> {
    let last = |topic| relay.heard(topic).last().cloned().context("the hub said it");
    let (head, ack) = (last(Downward::Head)?, last(Downward::Ack)?);
    let desired = last(Downward::Desired)?;
    let (director, foreign) = (director(site, KEYS)?, director(site, OTHER_KEYS)?);
    let (fleet, cluster) = (FleetId::new(&*site.name)?, ClusterId::new(&*site.name)?);
    let (other_fleet, neighbour) = (FleetId::new("other")?, ClusterId::new(NEIGHBOUR)?);
    let forged = |fleet: &FleetId, cluster: &ClusterId, key: &SigningKey| {
        let sign = |kind: DocumentType, payload: &[u8]| {
            cose::sign_one(Binding { kind, fleet, cluster: Some(cluster) }, payload, key)
        };
        forge(site, relay, &sign)
    };
    let plain = forge(site, relay, &|_: DocumentType, payload: &[u8]| payload.to_vec());
    let both = &["Head", "Desired"];
    Ok(vec![
        attack("signed by a director of another fleet", forged(&fleet, &cluster, &foreign)?, both),
        attack("signed by the director for another fleet", forged(&other_fleet, &cluster, &director)?, both),
        attack("signed by the director for another cluster", forged(&fleet, &neighbour, &director)?, both),
        attack("another cluster's, from the hub", vec![(Downward::Desired, neighbours)], &["Desired"]),
        attack("signed by nobody", plain?, both),
        attack("a desired state where heads come", vec![(Downward::Head, desired.clone())], &["Head"]),
        attack("a head where desired states come", vec![(Downward::Desired, head.clone())], &["Desired"]),
        attack("a desired state where acknowledgements come", vec![(Downward::Ack, desired)], &["Ack"]),
        attack("an acknowledgement with another bit", vec![(Downward::Ack, flipped(&ack))], &["Ack"]),
        attack("a head where content comes", vec![(Downward::Blob, head)], &["Content"]),
    ])
}

/// The next desired state, without the application, and a head that answers this very connection.
fn forge(
    site: &Site,
    relay: &Relay,
    sign: &dyn Fn(DocumentType, &[u8]) -> Vec<u8>,
) -> Result<Vec<(Downward, Vec<u8>)>> {
    let heard = |topic| relay.heard(topic).last().cloned().context("the hub said it");
    let mut desired: Desired = claimed(&heard(Downward::Desired)?)?;
    let mut head: Head = claimed(&heard(Downward::Head)?)?;
    let now = clock::now();
    (desired.order, desired.prev) = (head.order, Some(head.desired));
    desired.order.seq += 1;
    desired.issued = now;
    desired.releases.clear();
    desired.remove = vec![site.app()?];
    let signed = sign(Desired::TYPE, &codec::encode(&desired));
    head.order = desired.order;
    head.desired = Digest::of(&signed);
    head.hub_time = now;
    head.fresh_until = now.plus(FRESH_SECONDS);
    head.nonce = Some(relay.hello()?.nonce);
    Ok(vec![(Downward::Head, sign(Head::TYPE, &codec::encode(&head))), (Downward::Desired, signed)])
}

fn director(site: &Site, folder: &str) -> Result<SigningKey> {
    Ok(keys::load_signing_key(&site.folder.path().join(folder).join("director.key"))?.key)
}

fn claimed<T: Document>(bytes: &[u8]) -> Result<T> {
    let envelope = Envelope::parse_one(T::TYPE, bytes)?;
    Ok(codec::decode(T::TYPE.name(), envelope.claimed_payload())?)
}

fn attack(what: &'static str, says: Vec<(Downward, Vec<u8>)>, refused_as: &'static [&'static str]) -> Attack {
    Attack { what, says, refused_as }
}

/// With one bit of its payload turned.
fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

/// A piece of content of the same length that is other content.
fn altered(piece: &[u8]) -> Result<Vec<u8>> {
    let mut chunk = Chunk::decode(piece)?;
    let last = chunk.bytes.last_mut().context("a piece holds something")?;
    *last ^= 1;
    Ok(chunk.encode())
}

/// Carries out an attack, and waits until all of it is refused; nothing else changes. Returns how often each reason
/// was counted by then.
#[allow(clippy::print_stdout, reason = "what was refused, and how, is for whoever reads along")]
async fn refuses(
    site: &Site,
    relay: &Relay,
    attack: &Attack,
    before: &State,
) -> Result<BTreeMap<String, u64>> {
    let counted = |counts: &BTreeMap<String, u64>| -> u64 {
        attack.refused_as.iter().filter_map(|reason| counts.get(*reason)).sum()
    };
    let earlier = counted(&refusals(site)?);
    for (topic, bytes) in &attack.says {
        relay.say(*topic, bytes).await?;
    }
    // Of the news that an attack needs to be worth its while, the honest head is believed.
    let wanted = earlier + u64::try_from(attack.refused_as.len().min(attack.says.len()))?;
    let counts = wait_for(&format!("{} to be refused", attack.what), SOON, async || {
        let counts = refusals(site)?;
        ensure!(counted(&counts) >= wanted, "{counts:?}");
        Ok(counts)
    })
    .await?;
    let after = State::of(site).await?;
    ensure!(&after == before, "{} changed something: {before:#?}\n{after:#?}", attack.what);
    println!("{}: refused as {:?}", attack.what, attack.refused_as);
    Ok(counts.into_iter().filter(|(reason, _)| attack.refused_as.contains(&reason.as_str())).collect())
}

/// How often the agent refused something, by reason, as it says itself.
fn refusals(site: &Site) -> Result<BTreeMap<String, u64>> {
    let status: Value = serde_json::from_str(&site.status(&["--json"])?)?;
    let conditions = status["conditions"].as_array().context("it has conditions")?;
    let refusal = |one: &Value| {
        let reason = one["type"].as_str()?.strip_prefix("Refused")?;
        let count = one["message"].as_str()?.split_once(" times, last: ")?.0.parse().ok()?;
        Some((reason.to_owned(), count))
    };
    Ok(conditions.iter().filter_map(refusal).collect())
}

/// Waits until the hub tells of every refusal, and makes sure that the site does.
#[allow(clippy::print_stdout, reason = "what was refused, and how, is for whoever reads along")]
async fn is_told(site: &Site, reasons: &BTreeMap<String, u64>) -> Result<()> {
    let text = site.status(&[])?;
    for (reason, least) in reasons {
        let kind = format!("Refused{reason}");
        let message = wait_for(&format!("{least} of {kind}"), SOON, async || {
            let message = site.told(&kind).await?;
            let (count, why) = message.split_once(" times, last: ").context("it says how often")?;
            ensure!(count.parse::<u64>()? >= *least && !why.is_empty(), "{kind}: {message}");
            Ok(message)
        })
        .await?;
        ensure!(text.contains(&format!("! {kind}: {reason}: ")), "{text}");
        println!("at the hub: {kind}: {message}");
    }
    Ok(())
}

/// What an attack must not change.
#[derive(Debug, PartialEq, Eq)]
struct State {
    /// The desired state that the agent holds.
    desired: String,
    /// Every object of the application, in its version.
    objects: BTreeMap<String, String>,
    /// Whether the agent still speaks with whom it takes for the hub.
    connected: bool,
}

impl State {
    async fn of(site: &Site) -> Result<Self> {
        let status: Value = serde_json::from_str(&site.status(&["--json"])?)?;
        let label = format!("applyset.kubernetes.io/part-of={}", site.apply_set()?);
        let found =
            site.kubectl(&["get", "namespaces,configmaps,services", "-l", &label, "-o", "json"]).await?;
        let found: Value = serde_json::from_str(&found)?;
        let items = found["items"].as_array().context("a list has items")?;
        let version = |object: &Value| {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            (
                format!("{} {}", object["kind"], text("name")),
                format!("{} {}", text("uid"), text("resourceVersion")),
            )
        };
        Ok(Self {
            desired: status["desired"].to_string(),
            objects: items.iter().map(version).collect(),
            connected: status["hub"]["connected"] == json!(true),
        })
    }
}

fn manifests(namespace: &str, greeting: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: greeting}}
data: {{GREETING: {greeting}}}
---
{WEB_SERVICE}
"
    )
}
