//! Clusters without an agent: what a hub takes for one, for benchmarks that need thousands.

use anyhow::{Context, Result, ensure};
use fleet_broker::keys::{self, Charter, FleetKeys};
use protocol::{
    codec,
    cose::{self, Binding},
    documents::{
        self, AppReport, AppState, Ceilings, Condition, ConditionStatus, Counts, Desired, Document as _,
        Head, Hello, Release, ReleaseRef, Report,
    },
    ids::{AppId, ClusterId, Digest, FleetId, JournalId, Name, Nonce},
    keys::SigningKey,
    order::Order,
    time::UnixSeconds,
    topics::Downward,
    verify::{ByCluster, Trust},
};
use zeroize::Zeroizing;

/// The fleet, its one tenant and that tenant's one application.
pub const FLEET: &str = "bench";
/// The one application's name.
pub const APPLICATION: &str = "web";

/// How long keys and releases are good for.
const YEAR_SECONDS: u64 = 365 * 24 * 60 * 60;

/// Keys for a fleet of one tenant.
///
/// # Errors
///
/// When there is no randomness.
pub fn fleet_keys(ca_pins: Vec<Digest>, now: UnixSeconds) -> Result<FleetKeys> {
    Ok(keys::generate(&Charter {
        fleet: FleetId::new(FLEET)?,
        tenant: Name::new(FLEET)?,
        namespaces: vec![FLEET.parse()?],
        ca_pins,
        issued: now,
        not_after: now.plus(YEAR_SECONDS),
    })?)
}

/// A signed release of the application, without objects.
///
/// # Errors
///
/// When there is no release key.
pub fn release(keys: &FleetKeys, version: u64, now: UnixSeconds) -> Result<Vec<u8>> {
    let release = Release {
        app: AppId::new(FLEET, APPLICATION)?,
        version: format!("1.0.{version}"),
        counter: version,
        floor: 0,
        pack: Digest::of(b""),
        objects: Vec::new(),
        scope: vec![Name::new(FLEET)?],
        parameters: Vec::new(),
        ceilings: Ceilings::default(),
        not_after: now.plus(YEAR_SECONDS),
    };
    let key = keys.release.first().context("a tenant has release keys")?;
    let binding = Binding { kind: Release::TYPE, fleet: &FleetId::new(FLEET)?, cluster: None };
    Ok(cose::sign_many(binding, &codec::encode(&release), &[key]))
}

/// A cluster as far as the hub sees it: it believes what is rightly signed for it, and says that all is well.
#[derive(Debug)]
pub struct Spoke {
    /// Which cluster.
    pub id: ClusterId,
    /// Its identity key.
    pub key: SigningKey,
    journal: JournalId,
    seq: u64,
    /// Place and digest of what it holds, and the digest of the release in it.
    held: Option<(Order, Digest, Option<Digest>)>,
}

impl Spoke {
    /// The cluster of a number.
    ///
    /// # Errors
    ///
    /// When the number is too long for a name.
    pub fn new(number: usize) -> Result<Self> {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&u64::try_from(number)?.to_be_bytes());
        let id = ClusterId::new(format!("tower-{number:05}"))?;
        let key = SigningKey::from_seed(Zeroizing::new(seed));
        let journal = JournalId::new(*b"a cluster's life");
        Ok(Self { id, key, journal, seq: 0, held: None })
    }

    /// What it says first.
    pub fn hello(&self, now: UnixSeconds) -> Vec<u8> {
        self.sign(&Hello {
            cluster: self.id.clone(),
            journal: self.journal,
            documents: documents::VERSIONS.to_vec(),
            root_version: 1,
            incarnation: None,
            order: self.held.map(|held| held.0).unwrap_or_default(),
            desired: self.held.map(|held| held.1),
            nonce: Nonce::new(*b"a nonce, used up"),
            clock: now,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// Takes what the hub said, and believes it if an agent would. True for a desired state that was not held before.
    ///
    /// # Errors
    ///
    /// When it is not rightly signed for this cluster.
    pub fn take(&mut self, trust: &Trust, topic: Downward, bytes: &[u8]) -> Result<bool> {
        match topic {
            Downward::Head => {
                trust.director::<Head>(&self.id, bytes)?;
                Ok(false)
            }
            Downward::Desired => {
                let desired = trust.director::<Desired>(&self.id, bytes)?;
                ensure!(
                    self.held.is_none_or(|held| held.0 < desired.order),
                    "{} is told twice: {:?}",
                    self.id,
                    desired.order
                );
                let release = desired.releases.first().map(|release| release.release);
                self.held = Some((desired.order, desired.digest(), release));
                Ok(true)
            }
            Downward::Ack | Downward::Ask | Downward::Blob | Downward::Root => Ok(false),
        }
    }

    /// A report with news: the application is in another state than before.
    ///
    /// # Errors
    ///
    /// When the application has no name.
    pub fn report(&mut self, now: UnixSeconds) -> Result<Vec<u8>> {
        self.seq += 1;
        self.say(now)
    }

    /// The same report again.
    ///
    /// # Errors
    ///
    /// When the application has no name.
    pub fn say(&self, now: UnixSeconds) -> Result<Vec<u8>> {
        let release = self.held.and_then(|held| held.2);
        let app = release.map(|release| self.application(release)).transpose()?;
        let apps: Vec<AppReport> = app.into_iter().collect();
        Ok(self.sign(&Report {
            cluster: self.id.clone(),
            journal: self.journal,
            report_seq: self.seq,
            order: self.held.map(|held| held.0).unwrap_or_default(),
            digest: Report::digest_of(&apps),
            apps,
            conditions: Vec::new(),
            clock: now,
            kubernetes: "v1.36.3".into(),
            agent: env!("CARGO_PKG_VERSION").into(),
        }))
    }

    fn application(&self, release: Digest) -> Result<AppReport> {
        let applied = ReleaseRef { digest: release, version: "1.0.1".into(), counter: 1 };
        let well = self.seq.is_multiple_of(2);
        let condition = |kind: &str, holds: bool| Condition {
            kind: kind.into(),
            status: if holds { ConditionStatus::True } else { ConditionStatus::False },
            reason: "AsExpected".into(),
            message: "20 of 20 objects are healthy".to_owned(),
        };
        Ok(AppReport {
            app: AppId::new(FLEET, APPLICATION)?,
            state: if well { AppState::Available } else { AppState::Progressing },
            accepted: Some(applied.clone()),
            applied: Some(applied),
            reverted: None,
            rejected: None,
            preview: None,
            conditions: vec![
                condition("Applied", true),
                condition("Available", well),
                condition("Progressing", !well),
                condition("Degraded", false),
                condition("Drifted", false),
            ],
            worst: None,
            counts: Counts::default(),
            drift: Vec::new(),
        })
    }

    fn sign<T: ByCluster + serde::Serialize>(&self, document: &T) -> Vec<u8> {
        let fleet = FleetId::new(FLEET).expect("the name of the fleet is one");
        let binding = Binding { kind: T::TYPE, fleet: &fleet, cluster: Some(&self.id) };
        cose::sign_one(binding, &codec::encode(document), &self.key)
    }
}
