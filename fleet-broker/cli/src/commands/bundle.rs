//! `edgefleet bundle`: build, sign and check what is sent to clusters.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use protocol::{
    documents::{ObjectEntry, Release},
    ids::{AppId, KeyId, Name},
};
use serde_json::{Value, json};

use super::{
    CommandError, Context,
    arguments::{AdoptArgument, Expiry, Format, expiry},
    cluster::HubArguments,
    diff, hub_runtime,
};
use crate::{
    bundle::Bundle,
    clock,
    hub::Hub,
    keys::{self, KeyRole, SigningKeyFile},
    manifest::{self, GroupKind, Rules},
    output,
    release::{self, IgnoreOption, ParameterSpec, Plan},
    source::{self, SourceError},
};

/// Largest file of parameters: a release may have 64, each a few hundred bytes.
const PARAMETER_FILE_BYTES: u64 = 1024 * 1024;

/// What can be done with bundles.
#[derive(Debug, Subcommand)]
pub enum Bundles {
    /// Make a bundle of manifests
    ///
    /// Reads Kubernetes manifests the way kubectl does, puts the objects into the order in which they are
    /// applied, and writes a bundle, which then has to be signed. Kustomizations and Helm charts are rendered
    /// first: pipe the output of `kubectl kustomize` or `helm template` in.
    Build(Box<Build>),
    /// Add signatures to a bundle
    ///
    /// One release key suffices for a bundle whose objects all live in namespaces; one with cluster-scoped
    /// objects needs two. Checks first that the bundle holds what it says.
    Sign(Sign),
    /// Check a bundle as a cluster does before it installs it
    ///
    /// Checks who signed and what they may release, expiry, and every object. Fails if anything is wrong.
    Verify(Verify),
    /// Show what a bundle says it holds, without checking who signed it
    Show(Show),
    /// Show how the objects of one bundle differ from those of another
    ///
    /// Leaves 0 behind if nothing differs, 1 if something does, and more than 1 if it could not be told. Checks
    /// that the bundles hold what they say, not who signed them.
    Diff(Compare),
    /// Publish a signed bundle on the hub
    ///
    /// Uploads its content, then the bundle. Clusters run it once an Application names it. Publishing the same
    /// bundle again changes nothing.
    Push(Push),
}

/// Arguments of `bundle diff`.
#[derive(Debug, Args)]
pub struct Compare {
    /// The file of the bundle that is
    old: PathBuf,
    /// The file of the bundle that would be
    new: PathBuf,
}

/// Arguments of `bundle push`.
#[derive(Debug, Args)]
pub struct Push {
    /// The bundle's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Which hub
    #[command(flatten)]
    hub: HubArguments,
}

impl Push {
    fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let bundle = Bundle::open(&self.file).map_err(CommandError::bundle("publish", &self.file))?;
        let pushed =
            hub_runtime()?.block_on(async { Hub::open(&self.hub.kubeconfig).await?.push(&bundle).await });
        let file = self.file.display().to_string();
        pushed.map_err(|source| CommandError::Publish { file, source })?;
        let release = bundle.release();
        let (app, version) = (&release.app, &release.version);
        context.output.note(&format!("published {}-{version} in namespace {}", app.name, app.tenant))?;
        Ok(())
    }
}

/// Arguments of `bundle build`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  edgefleet bundle build manifests/ --app radio/gateway --version 1.4.2 -o gateway.bundle
  kubectl kustomize overlays/prod | edgefleet bundle build - --app radio/gateway --version 1.4.2 -o gateway.bundle")]
pub struct Build {
    /// Files or folders of manifests (*.yaml, *.yml, *.json), or - for standard input
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<PathBuf>,
    /// Look into folders inside folders too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// The application, as TENANT/NAME
    #[arg(long, value_name = "TENANT/NAME")]
    app: AppId,
    /// The version people read, such as 1.4.2
    #[arg(long)]
    version: String,
    /// The bundle's file
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    file: PathBuf,
    /// The namespace of objects that name none [default: the tenant's name]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<Name>,
    /// A kind of custom resource that lives outside namespaces and whose definition is not in the bundle; may
    /// be given several times
    #[arg(long, value_name = "KIND.GROUP")]
    cluster_scoped: Vec<GroupKind>,
    /// Ship Secrets with their data, readable by everyone who gets hold of the bundle
    #[arg(long)]
    allow_plaintext_secrets: bool,
    /// Counts up with every release of the application [default: the time in seconds]
    #[arg(long, value_name = "N")]
    counter: Option<u64>,
    /// The lowest counter clusters may go back to once this release proved healthy there
    #[arg(long, value_name = "N", default_value_t = 0)]
    floor: u64,
    /// When it may no longer be newly installed: a span such as 365d, or a time
    #[arg(long, value_name = "WHEN", default_value = "365d", value_parser = expiry)]
    expires: Expiry,
    /// A file of the parameters that may be set without building anew
    #[arg(long, value_name = "FILE")]
    parameters: Option<PathBuf>,
    /// What to do with an object that is already on a cluster and not Edgefleet's
    #[arg(long, value_enum, default_value = "IfIdentical", value_name = "WHETHER")]
    adopt: AdoptArgument,
    /// How many objects moving to this release may delete on a cluster [default: 10, or 10 % of what it holds]
    #[arg(long, value_name = "N")]
    max_deletes: Option<u32>,
    /// A field that is left to others, such as Deployment/gateway:/spec/replicas; may be given several times
    #[arg(long, value_name = "KIND[/NAME]:POINTER")]
    ignore: Vec<IgnoreOption>,
    /// The release can cut a cluster's own link, so clusters go back by themselves if they lose it
    #[arg(long)]
    affects_link: bool,
}

/// Arguments of `bundle sign`.
#[derive(Debug, Args)]
pub struct Sign {
    /// The bundle's file; the signatures are written into it
    file: PathBuf,
    /// A release key to sign with; may be given several times
    #[arg(short, long = "key", value_name = "KEY", required = true)]
    keys: Vec<PathBuf>,
}

/// Arguments of `bundle verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The bundle's file
    file: PathBuf,
    /// The fleet's root document, which says who may sign what
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// How to print what it holds
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

/// Arguments of `bundle show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The bundle's file
    file: PathBuf,
    /// How to print what it holds
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl Bundles {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        match self {
            Self::Build(arguments) => build(arguments, context),
            Self::Sign(arguments) => sign(arguments, context),
            Self::Verify(arguments) => verify(arguments, context),
            Self::Show(arguments) => show(arguments, context),
            Self::Diff(arguments) => diff::bundles(&arguments.old, &arguments.new, context),
            Self::Push(arguments) => arguments.run(context),
        }
    }
}

fn build(arguments: &Build, context: &mut Context<'_>) -> Result<(), CommandError> {
    let parameters = arguments.parameters.as_deref().map(parameters).transpose()?.unwrap_or_default();
    let texts = source::read(&arguments.sources, arguments.recursive, context.stdin)?;
    let rules = Rules {
        namespace: arguments.namespace.clone().unwrap_or_else(|| arguments.app.tenant.clone()),
        cluster_scoped: arguments.cluster_scoped.iter().cloned().collect(),
        plaintext_secrets: arguments.allow_plaintext_secrets,
    };
    let manifests = manifest::parse(&texts, &rules)?;
    manifests.warnings.iter().try_for_each(|warning| context.output.warning(warning))?;
    let built = release::build(&plan(arguments, parameters, context), manifests.objects)?;
    let about = CommandError::bundle("write", &arguments.file);
    let bundle = Bundle::new(&built).map_err(about)?;
    bundle.save(&arguments.file).map_err(about)?;
    let release = bundle.release();
    context.output.line(&arguments.file.display().to_string())?;
    context.output.note(&format!(
        "Built {} {} (counter {}): {}. Sign it with {}.",
        release.app,
        release.version,
        release.counter,
        size(&bundle),
        if release.is_privileged() {
            "two release keys, for its cluster-scoped objects"
        } else {
            "a release key"
        },
    ))?;
    Ok(())
}

fn plan(arguments: &Build, parameters: Vec<ParameterSpec>, context: &Context<'_>) -> Plan {
    Plan {
        app: arguments.app.clone(),
        version: arguments.version.clone(),
        counter: arguments.counter.unwrap_or(context.now.0),
        floor: arguments.floor,
        not_after: arguments.expires.from(context.now),
        parameters,
        ignore: arguments.ignore.clone(),
        adopt: arguments.adopt.into(),
        max_deletes: arguments.max_deletes,
        affects_link: arguments.affects_link,
    }
}

fn parameters(path: &Path) -> Result<Vec<ParameterSpec>, CommandError> {
    let file = path.display().to_string();
    let mut text = String::new();
    let read = File::open(path).and_then(|open| open.take(PARAMETER_FILE_BYTES).read_to_string(&mut text));
    read.map_err(|source| SourceError::Read { path: file.clone(), source })?;
    Ok(release::read_parameters(&file, &text)?)
}

fn sign(arguments: &Sign, context: &mut Context<'_>) -> Result<(), CommandError> {
    let about = CommandError::bundle("sign", &arguments.file);
    let mut bundle = Bundle::open(&arguments.file).map_err(about)?;
    let keys = arguments.keys.iter().map(|path| release_key(path, context));
    let keys = keys.collect::<Result<Vec<SigningKeyFile>, CommandError>>()?;
    if let Some((one, other)) =
        keys.iter().zip(keys.iter().skip(1)).find(|(one, other)| one.fleet != other.fleet)
    {
        let message = format!("the keys are of two fleets, {} and {}", one.fleet, other.fleet);
        return Err(CommandError::Usage(message));
    }
    keys.iter().try_for_each(|file| bundle.sign(&file.fleet, &file.key)).map_err(about)?;
    bundle.save(&arguments.file).map_err(about)?;
    let release = bundle.release();
    context.output.line(&arguments.file.display().to_string())?;
    let signers = bundle.claimed_signers();
    let still = if release.is_privileged() && signers.len() < 2 {
        "; its cluster-scoped objects need one more"
    } else {
        ""
    };
    context.output.note(&format!(
        "Signed {} {} with {}{still}.",
        release.app,
        release.version,
        plural(signers.len(), "key")
    ))?;
    Ok(())
}

fn release_key(path: &Path, context: &mut Context<'_>) -> Result<SigningKeyFile, CommandError> {
    let file = keys::load_signing_key(path)?;
    if file.role != KeyRole::Release {
        let message =
            format!("{} is a {} key; bundles are signed by release keys", path.display(), file.role);
        return Err(CommandError::Usage(message));
    }
    if file.exposed {
        let warning = format!("others may read the private key {0}; run chmod 600 {0}", path.display());
        context.output.warning(&warning)?;
    }
    Ok(file)
}

fn verify(arguments: &Verify, context: &mut Context<'_>) -> Result<(), CommandError> {
    let about = CommandError::bundle("verify", &arguments.file);
    let trust = keys::load_root(&arguments.root)?;
    let bundle = Bundle::open(&arguments.file).map_err(about)?;
    let release = bundle.verify(&trust, context.now).map_err(about)?;
    print(&bundle, release.signers(), arguments.output, context)?;
    let root = trust.root();
    context.output.note(&format!(
        "Every cluster of fleet {} that trusts root {} may install it.",
        root.fleet, root.version
    ))?;
    if context.now > root.not_after {
        let expired = clock::rfc3339(root.not_after);
        context.output.warning(&format!("{} expired at {expired}", arguments.root.display()))?;
    }
    Ok(())
}

fn show(arguments: &Show, context: &mut Context<'_>) -> Result<(), CommandError> {
    let about = CommandError::bundle("show", &arguments.file);
    let bundle = Bundle::open(&arguments.file).map_err(about)?;
    print(&bundle, &bundle.claimed_signers(), arguments.output, context)?;
    Ok(())
}

fn print(bundle: &Bundle, signers: &[KeyId], format: Format, context: &mut Context<'_>) -> io::Result<()> {
    let release = bundle.release();
    let output = &mut context.output;
    if format == Format::Json {
        return output.json(&to_json(bundle, signers));
    }
    let ceilings = &release.ceilings;
    output.line(&format!("release      {} {}", release.app, release.version))?;
    output.line(&format!(
        "counter      {}, clusters go back to {} at the lowest",
        release.counter, release.floor
    ))?;
    output.line(&format!("expires      {}", clock::rfc3339(release.not_after)))?;
    output.line(&format!("content      {}", size(bundle)))?;
    output.line(&format!("adopts       {:?}", ceilings.adopt))?;
    if let Some(most) = ceilings.max_deletes {
        output.line(&format!("deletes      at most {}", plural(most as usize, "object")))?;
    }
    if ceilings.affects_link {
        output.line("link         clusters go back by themselves if they lose their link")?;
    }
    for rule in &ceilings.ignore_differences {
        let name = rule.name.as_deref().map_or_else(String::new, |name| format!(" {name}"));
        output.line(&format!("ignores      {} of {}{name}", rule.pointers.join(", "), rule.kind))?;
    }
    for parameter in &release.parameters {
        let default = parameter.default.as_deref().map_or("as it was built", |default| default);
        output.line(&format!("parameter    {}: {default} by default", parameter.name))?;
    }
    match signers {
        [] => output.line("signed       by nobody yet")?,
        some => some.iter().try_for_each(|key| output.line(&format!("signed by    {key}")))?,
    }
    output.line("")?;
    let header = ["KIND", "NAMESPACE", "NAME", "BYTES", "SHA256"];
    output.table(&header, release.objects.iter().map(row).collect())
}

fn row(object: &ObjectEntry) -> Vec<String> {
    vec![
        object.kind.clone(),
        object.namespace.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        object.name.as_str().to_owned(),
        object.len.to_string(),
        object.sha256.short(),
    ]
}

fn to_json(bundle: &Bundle, signers: &[KeyId]) -> Value {
    let release: &Release = bundle.release();
    let object = |object: &ObjectEntry| {
        json!({
            "group": object.group, "version": object.version, "kind": object.kind,
            "namespace": object.namespace.as_ref().map(Name::as_str), "name": object.name.as_str(),
            "bytes": object.len, "sha256": object.sha256.to_string(),
        })
    };
    json!({
        "application": release.app.to_string(),
        "version": release.version,
        "counter": release.counter,
        "floor": release.floor,
        "expires": clock::rfc3339(release.not_after),
        "pack": format!("sha256:{}", release.pack),
        "bytes": release.pack_len(),
        "compressedBytes": bundle.pack_zstd().len(),
        "signedBy": signers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "objects": release.objects.iter().map(object).collect::<Vec<_>>(),
    })
}

fn size(bundle: &Bundle) -> String {
    let release = bundle.release();
    let (plain, small) = (output::bytes(release.pack_len()), output::bytes(bundle.pack_zstd().len() as u64));
    format!("{}, {plain}, {small} compressed", plural(release.objects.len(), "object"))
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
