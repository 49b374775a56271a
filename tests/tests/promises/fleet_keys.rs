//! The keys of a site's fleet.

use std::path::Path;

use anyhow::Result;
use edgefleet::clock;
use fleet_broker::{
    keys::{self, Charter},
    serve,
};
use protocol::{
    codec,
    cose::{self, Binding},
    documents::{Document as _, NamespacePattern, Root},
    ids::{FleetId, Name},
    keys::SigningKey,
};

/// The folder of the fleet's keys.
pub(crate) const KEYS: &str = "keys";

/// The folder with the other tenant's release keys.
pub(crate) const OTHER_KEYS: &str = "other-keys";

/// How long keys are good for: longer than anybody opens what a release of today has written.
const KEYS_SECONDS: u64 = 100 * 365 * 24 * 60 * 60;

pub(crate) fn other_tenant(name: &str) -> String {
    format!("{name}-other")
}

/// Makes the keys of a fleet with two tenants. Beside the second tenant's stands a director that is not the fleet's.
pub(crate) fn make_keys(folder: &Path, name: &str, namespaces: &[&str]) -> Result<()> {
    let fleet = FleetId::new(name)?;
    let authority = serve::certificate_authority(&folder.join("hub"), fleet.as_str())?;
    let now = clock::now();
    let charter = |tenant: &str, namespaces: &[&str]| -> Result<Charter> {
        let reached = [tenant]
            .into_iter()
            .chain(namespaces.iter().copied())
            .map(|name| name.parse::<NamespacePattern>());
        Ok(Charter {
            fleet: fleet.clone(),
            tenant: Name::new(tenant)?,
            namespaces: reached.collect::<Result<_, _>>()?,
            ca_pins: vec![authority.pin()],
            issued: now,
            not_after: now.plus(KEYS_SECONDS),
        })
    };
    let mut keys = keys::generate(&charter(name, namespaces)?)?;
    let other = keys::generate(&charter(&other_tenant(name), &[])?)?;
    keys.document.keys.extend(other.release.iter().map(SigningKey::public));
    keys.document.releases.extend(other.document.releases.clone());
    let signers: Vec<&SigningKey> = keys.root.iter().collect();
    keys.envelope = sign_root(&keys.document, &signers);
    keys.write(&folder.join(KEYS))?;
    Ok(other.write(&folder.join(OTHER_KEYS))?)
}

/// Signs a root document.
pub(crate) fn sign_root(root: &Root, signers: &[&SigningKey]) -> Vec<u8> {
    let binding = Binding { kind: Root::TYPE, fleet: &root.fleet, cluster: None };
    cose::sign_many(binding, &codec::encode(root), signers)
}
