//! The fleet's keys and what its tenant released: the same for every seed, so that what is signed once need not be signed
//! again in each run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use edge_agent::logic::object::ObjectRef;
use edgefleet::{
    bundle::Bundle,
    manifest::{self, Rules},
    release::{self, Plan},
    source::SourceText,
};
use protocol::{
    codec,
    cose::{self, Binding},
    documents::{Document as _, ReleaseRole, Role, Root},
    ids::{AppId, Digest, FleetId, KeyId, Name},
    keys::SigningKey,
    order::Epoch,
    time::UnixSeconds,
    verify::Trust,
};
use serde_json::Value;
use zeroize::Zeroizing;

/// When virtual time begins: in January 2027.
pub const START: UnixSeconds = UnixSeconds(1_800_000_000);

/// The fleet, and its one tenant and namespace.
pub const FLEET: &str = "north";
/// The tenant, who has one namespace of the same name.
pub const TENANT: &str = "radio";

/// How long keys and releases are good for.
const YEARS_SECONDS: u64 = 3 * 365 * 24 * 60 * 60;

const ROOTS: [u8; 2] = [1, 2];
const DIRECTOR: u8 = 3;
const RELEASE: u8 = 4;

/// The applications, each with two releases that an operator moves between.
const APPLICATIONS: [&str; 2] = ["gateway", "probe"];

/// Keys, trust and releases.
pub struct Charter {
    /// What agents trust.
    pub trust: Trust,
    /// The hub's key.
    pub director: Arc<SigningKey>,
    /// What was released: for each application, one release after the other.
    pub releases: Vec<Published>,
}

/// A release as it was published.
pub struct Published {
    /// Of which application.
    pub app: AppId,
    /// The bundle's name.
    pub bundle: String,
    /// The release's envelope.
    pub envelope: Vec<u8>,
    /// Digest of the envelope.
    pub digest: Digest,
    /// Digest of the content.
    pub pack: Digest,
    /// The content, compressed.
    pub packed: Arc<[u8]>,
    /// What it consists of, as it is signed.
    pub objects: Vec<(ObjectRef, Value)>,
}

impl Charter {
    /// Makes all of it.
    ///
    /// # Errors
    /// When what is released here is not valid.
    pub fn new() -> Result<Self> {
        let releases = APPLICATIONS.iter().flat_map(|name| [1, 2].map(|version| publish(name, version)));
        Ok(Self {
            trust: trust()?,
            director: Arc::new(key(DIRECTOR)),
            releases: releases.collect::<Result<_>>()?,
        })
    }

    /// The release whose envelope has this digest.
    pub fn release(&self, digest: &Digest) -> Option<&Published> {
        self.releases.iter().find(|published| published.digest == *digest)
    }
}

/// The identity key of a cluster.
pub fn cluster_key(number: usize) -> SigningKey {
    let mut seed = [0xc1; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    SigningKey::from_seed(Zeroizing::new(seed))
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(Zeroizing::new([seed; 32]))
}

fn ids(seeds: &[u8]) -> Vec<KeyId> {
    seeds.iter().map(|seed| key(*seed).public().id()).collect()
}

fn trust() -> Result<Trust> {
    let seeds = [&ROOTS[..], &[DIRECTOR, RELEASE]].concat();
    let root = Root {
        fleet: FleetId::new(FLEET)?,
        version: 1,
        min_epoch: Epoch(1),
        issued: START,
        not_after: START.plus(YEARS_SECONDS),
        keys: seeds.iter().map(|seed| key(*seed).public()).collect(),
        root: Role { threshold: 2, keys: ids(&ROOTS) },
        director: Role { threshold: 1, keys: ids(&[DIRECTOR]) },
        releases: vec![ReleaseRole {
            tenant: Name::new(TENANT)?,
            namespaces: vec![TENANT.parse()?],
            keys: ids(&[RELEASE]),
            threshold: 1,
            privileged_threshold: 2,
        }],
        ca_pins: Vec::new(),
        prev: None,
    };
    let binding = Binding { kind: Root::TYPE, fleet: &root.fleet, cluster: None };
    let keys = ROOTS.map(key);
    Ok(Trust::given(&cose::sign_many(binding, &codec::encode(&root), &keys.each_ref()))?)
}

fn publish(name: &str, version: u64) -> Result<Published> {
    let app = AppId::new(TENANT, name)?;
    let mut plan = Plan::new(app.clone(), format!("1.0.{version}"), version, START.plus(YEARS_SECONDS));
    plan.max_deletes = Some(2);
    let rules =
        Rules { namespace: Name::new(TENANT)?, cluster_scoped: BTreeSet::new(), plaintext_secrets: false };
    let text = SourceText { name: name.to_owned(), text: manifests(name, version) };
    let built = release::build(&plan, manifest::parse(&[text], &rules)?.objects)?;
    let mut bundle = Bundle::new(&built)?;
    bundle.sign(&FleetId::new(FLEET)?, &key(RELEASE))?;
    let objects = bundle.objects(&BTreeMap::new())?;
    let objects = objects.into_iter().map(|object| Ok((ObjectRef::of(&object)?, object)));
    let envelope = bundle.envelope().context("it was signed")?.to_vec();
    Ok(Published {
        bundle: format!("{}-{}", app.name, bundle.release().version),
        digest: Digest::of(&envelope),
        pack: bundle.release().pack,
        packed: bundle.pack_zstd().into(),
        objects: objects.collect::<Result<_>>()?,
        app,
        envelope,
    })
}

/// The first release has an object that the second has not, so that moving between them prunes.
pub(crate) fn manifests(name: &str, version: u64) -> String {
    let config = |what: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}-{what}, namespace: {TENANT}}}\n\
             data: {{version: '{version}', level: info}}\n"
        )
    };
    let workload = format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {TENANT}}}\n\
         spec:\n  replicas: 1\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
         spec: {{containers: [{{name: {name}, image: 'registry.example/{name}:{version}'}}]}}\n"
    );
    let more = if version == 1 { config("old") } else { String::new() };
    config("settings") + &workload + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_believed() {
        let charter = Charter::new().unwrap();
        for published in &charter.releases {
            let release = charter.trust.release(&published.envelope).unwrap();
            assert_eq!(release.digest(), published.digest);
            assert_eq!(release.objects.len(), published.objects.len());
        }
        assert_eq!(charter.releases[0].objects.len(), charter.releases[1].objects.len() + 1);
    }
}
