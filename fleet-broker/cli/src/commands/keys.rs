//! `edgefleet keys`: make a fleet's keys, and show what they may do.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use protocol::{
    documents::{NamespacePattern, Role, Root},
    ids::{Digest, FleetId, Name},
    keys::PublicKey,
    verify::Trust,
};
use serde_json::{Value, json};

use super::{
    CommandError, Context,
    arguments::{Expiry, Format, expiry},
};
use crate::{
    clock,
    keys::{self, Charter, KeyError, KeyRole, ROOT_FILE},
};

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make the keys of a new fleet and its signed root document
    ///
    /// Writes the new folder DIR with three root keys (two of them sign the next root), one director key (for
    /// the hub), two release keys (one signs a release; both sign one that holds cluster-scoped objects), the
    /// public half of each, and root.cose, which tells clusters which keys to trust.
    Init(Init),
    /// Show the keys in a folder or file, and what a root document lets them do
    Show(Show),
}

/// Arguments of `keys init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  edgefleet keys init acme-keys --fleet acme --tenant radio --namespace 'radio-*'"
)]
pub struct Init {
    /// The folder to make; it must not be there yet
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The fleet's id: 3 to 63 of a-z, 0-9 and '-'
    #[arg(long, value_name = "ID")]
    fleet: FleetId,
    /// The tenant whose applications the release keys sign
    #[arg(long, value_name = "NAME")]
    tenant: Name,
    /// A namespace the tenant's releases may reach, or with a '*' at its end every namespace that starts so;
    /// may be given several times [default: the tenant's name]
    #[arg(long = "namespace", value_name = "NAME")]
    namespaces: Vec<NamespacePattern>,
    /// SHA-256 of the public key (SubjectPublicKeyInfo) of an authority the hub's certificates come from, in
    /// hexadecimal; may be given several times
    #[arg(long = "ca-pin", value_name = "HEX")]
    ca_pins: Vec<Digest>,
    /// When the root expires: a span such as 365d, or a time
    #[arg(long, value_name = "WHEN", default_value = "365d", value_parser = expiry)]
    expires: Expiry,
}

/// Arguments of `keys show`.
#[derive(Debug, Args)]
pub struct Show {
    /// A folder of keys, a key (*.key, *.pub) or a root document (root.cose)
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl Keys {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        match self {
            Self::Init(arguments) => init(arguments, context),
            Self::Show(arguments) => show(arguments, context),
        }
    }
}

fn init(arguments: &Init, context: &mut Context<'_>) -> Result<(), CommandError> {
    let own = || arguments.tenant.as_str().parse::<NamespacePattern>();
    let namespaces = match arguments.namespaces.as_slice() {
        [] => vec![own().map_err(|error| CommandError::Usage(error.to_string()))?],
        some => some.to_vec(),
    };
    let keys = keys::generate(&Charter {
        fleet: arguments.fleet.clone(),
        tenant: arguments.tenant.clone(),
        namespaces,
        ca_pins: arguments.ca_pins.clone(),
        issued: context.now,
        not_after: arguments.expires.from(context.now),
    })?;
    keys.write(&arguments.folder)?;
    let folder = arguments.folder.display();
    context.output.line(&format!("{folder}"))?;
    context.output.note(&format!(
        "Made the keys of fleet {}. What goes where:\n  \
         {folder}/root-*.key       offline, each in another place; two of them sign the next root\n  \
         {folder}/director.key     the hub\n  \
         {folder}/release-*.key    CI or approvers; both sign what is cluster-scoped\n  \
         {folder}/{ROOT_FILE}        the hub, and whoever checks bundles; it holds no secret",
        arguments.fleet
    ))?;
    Ok(())
}

fn show(arguments: &Show, context: &mut Context<'_>) -> Result<(), CommandError> {
    let found = Found::at(&arguments.path)?;
    for path in &found.exposed {
        let advice = format!("run chmod 600 {0}", path.display());
        context.output.warning(&format!("others may read the private key {}; {advice}", path.display()))?;
    }
    match arguments.output {
        Format::Json => context.output.json(&found.to_json())?,
        Format::Table => print(&found, context)?,
    }
    Ok(())
}

/// What a path holds.
#[derive(Default)]
struct Found {
    keys: Vec<FoundKey>,
    root: Option<Trust>,
    exposed: Vec<PathBuf>,
}

struct FoundKey {
    file: String,
    role: KeyRole,
    half: &'static str,
    fleet: FleetId,
    key: PublicKey,
}

impl Found {
    fn at(path: &Path) -> Result<Self, KeyError> {
        let cannot_read = |source: io::Error| KeyError::Read { path: path.to_owned(), source };
        let mut found = Self::default();
        if !fs::metadata(path).map_err(cannot_read)?.is_dir() {
            found.add(path)?;
            return Ok(found);
        }
        let entries = fs::read_dir(path).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let mut paths: Vec<PathBuf> = entries.map_err(cannot_read)?.iter().map(fs::DirEntry::path).collect();
        paths.sort();
        let known = |path: &PathBuf| {
            path.extension().is_some_and(|end| end == "key" || end == "pub" || end == "cose")
        };
        paths.iter().filter(|path| known(path)).try_for_each(|path| found.add(path))?;
        match found.keys.is_empty() && found.root.is_none() {
            true => Err(cannot_read(io::Error::new(io::ErrorKind::NotFound, "it holds no keys"))),
            false => Ok(found),
        }
    }

    fn add(&mut self, path: &Path) -> Result<(), KeyError> {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match path.extension().and_then(|end| end.to_str()) {
            Some("cose") => self.root = Some(keys::load_root(path)?),
            Some("pub") => {
                let keys::PublicKeyFile { role, fleet, key } = keys::load_public_key(path)?;
                self.keys.push(FoundKey { file, role, half: "public", fleet, key });
            }
            _ => {
                let keys::SigningKeyFile { role, fleet, key, exposed } = keys::load_signing_key(path)?;
                if exposed {
                    self.exposed.push(path.to_owned());
                }
                self.keys.push(FoundKey { file, role, half: "private", fleet, key: key.public() });
            }
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let key = |found: &FoundKey| {
            json!({
                "file": found.file, "role": found.role.name(), "half": found.half,
                "fleet": found.fleet.as_str(), "id": found.key.id().to_string(),
            })
        };
        let keys: Vec<Value> = self.keys.iter().map(key).collect();
        json!({ "keys": keys, "root": self.root.as_ref().map(root_json) })
    }
}

fn root_json(trust: &Trust) -> Value {
    let root = trust.root();
    let role = |role: &Role| json!({ "threshold": role.threshold, "keys": texts(&role.keys) });
    let releases: Vec<Value> = root
        .releases
        .iter()
        .map(|role| {
            json!({
                "tenant": role.tenant.as_str(), "namespaces": texts(&role.namespaces), "keys": texts(&role.keys),
                "threshold": role.threshold, "privilegedThreshold": role.privileged_threshold,
            })
        })
        .collect();
    json!({
        "fleet": root.fleet.as_str(), "version": root.version, "epoch": root.min_epoch.0,
        "digest": format!("sha256:{}", trust.root_digest()),
        "issued": clock::rfc3339(root.issued), "expires": clock::rfc3339(root.not_after),
        "root": role(&root.root), "director": role(&root.director), "releases": releases,
        "caPins": texts(&root.ca_pins),
    })
}

fn print(found: &Found, context: &mut Context<'_>) -> Result<(), CommandError> {
    let output = &mut context.output;
    if !found.keys.is_empty() {
        let row = |key: &FoundKey| {
            vec![
                key.file.clone(),
                key.role.to_string(),
                key.half.to_owned(),
                key.fleet.to_string(),
                key.key.id().to_string(),
            ]
        };
        output.table(&["FILE", "ROLE", "HALF", "FLEET", "ID"], found.keys.iter().map(row).collect())?;
    }
    let Some(trust) = &found.root else { return Ok(()) };
    if !found.keys.is_empty() {
        output.line("")?;
    }
    for line in root_lines(trust) {
        output.line(&line)?;
    }
    if context.now > trust.root().not_after {
        output.warning("the root expired; sign its successor with two root keys")?;
    }
    Ok(())
}

fn root_lines(trust: &Trust) -> Vec<String> {
    let root: &Root = trust.root();
    let mut lines = vec![
        format!("root         fleet {}, version {}, epoch {}", root.fleet, root.version, root.min_epoch.0),
        format!("digest       sha256:{}", trust.root_digest()),
        format!("issued       {}", clock::rfc3339(root.issued)),
        format!("expires      {}", clock::rfc3339(root.not_after)),
        format!("next root    signed by {} of {} root keys", root.root.threshold, root.root.keys.len()),
    ];
    for role in &root.releases {
        let namespaces = texts(&role.namespaces).join(", ");
        lines.push(format!(
            "releases     of tenant {} in namespaces {namespaces}: signed by {} of {} release keys, by {} if they \
             hold cluster-scoped objects",
            role.tenant,
            role.threshold,
            role.keys.len(),
            role.privileged_threshold
        ));
    }
    let pins = match root.ca_pins.as_slice() {
        [] => "none; make the keys with --ca-pin, or sign a next root that has one".to_owned(),
        pins => texts(pins).join(", "),
    };
    lines.push(format!("CA pins      {pins}"));
    lines
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}
