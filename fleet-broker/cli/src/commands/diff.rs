//! `edgefleet diff`: what a change would do, before it is made.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use fleet_broker::resources::{API_VERSION, Application, ApplicationSpec, Assignment, Cluster, Kind};
use protocol::{
    ceilings,
    documents::{Ceilings, Release},
    ids::{AppId, Name},
    time::UnixSeconds,
};
use serde_json::Value;

use super::{CommandError, Context, cluster::HubArguments, hub_runtime};
use crate::{
    bundle::{Bundle, BundleError},
    clock,
    diff::{self, Fleet, How, Move, Side, Told},
    hub::Hub,
    output::Output,
    source::{self, SourceError, SourceText},
    yaml,
};

/// As many bytes as tell a bundle's file from a manifest.
const HEAD_BYTES: u64 = 64;

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  edgefleet diff application.yaml
  edgefleet diff gateway.bundle
  edgefleet diff gateway.bundle application.yaml

Exit codes: 0 nothing differs, 1 something differs, more than 1 it could not be told.")]
pub struct Diff {
    /// Files or folders of Applications, files of bundles, or - for standard input
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<PathBuf>,
    /// Which hub
    #[command(flatten)]
    hub: HubArguments,
}

/// Files of bundles.
type BundleFiles = Vec<(PathBuf, Bundle)>;

/// An Application as it would be, and where that comes from.
struct Wanted {
    id: AppId,
    spec: ApplicationSpec,
    origin: String,
}

impl Diff {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        trouble(self.compare(context))
    }

    fn compare(&self, context: &mut Context<'_>) -> Result<bool, CommandError> {
        let (bundles, texts) = read(&self.sources, context.stdin)?;
        let wanted = applications(&texts)?;
        let now = context.now;
        // All of it or nothing: half a comparison would pass for a whole one.
        let (differs, shown) = hub_runtime()?.block_on(async {
            let hub = Hub::open(&self.hub.kubeconfig).await?;
            let (clusters, assignments) = (hub.clusters().await?, hub.assignments().await?);
            let mut comparing =
                Comparing { hub, clusters, assignments, bundles: BTreeMap::new(), now, shown: Vec::new() };
            let wanted = comparing.take(bundles, wanted).await?;
            let mut differs = false;
            for application in &wanted {
                differs |= comparing.application(application).await?;
            }
            Ok::<_, CommandError>((differs, comparing.shown))
        })?;
        shown.iter().try_for_each(|part| part.print(&mut context.output))?;
        Ok(differs)
    }
}

/// Compares two bundles' files.
pub(super) fn bundles(old: &Path, new: &Path, context: &mut Context<'_>) -> Result<(), CommandError> {
    let open = |path: &Path| Bundle::open(path).map_err(CommandError::bundle("compare", path));
    let mut compare = || {
        let objects = |path: &Path, bundle: &Bundle| {
            bundle.objects(&BTreeMap::new()).map_err(CommandError::bundle("compare", path))
        };
        let (from, to) = (open(old)?, open(new)?);
        let (before, after) = (objects(old, &from)?, objects(new, &to)?);
        let name = |path: &Path| path.display().to_string();
        let (from, to) = (name(old), name(new));
        let differences =
            diff::differences(Side { name: &from, objects: &before }, Side { name: &to, objects: &after });
        differences.iter().try_for_each(|one| context.output.diff(&one.text))?;
        Ok(!differences.is_empty())
    };
    trouble(compare())
}

/// As `diff` and `kubectl diff` do: 1 is a difference, so whatever else would be 1 is not.
fn trouble(compared: Result<bool, CommandError>) -> Result<(), CommandError> {
    match compared {
        Ok(false) => Ok(()),
        Ok(true) => Err(CommandError::Differs),
        Err(error) => Err(CommandError::Trouble(Box::new(error))),
    }
}

/// Sorts the sources into bundles and manifests.
fn read(sources: &[PathBuf], stdin: &mut dyn Read) -> Result<(BundleFiles, Vec<SourceText>), CommandError> {
    let (mut bundles, mut manifests) = (Vec::new(), Vec::new());
    for path in sources {
        if is_bundle(path)? {
            let bundle = Bundle::open(path).map_err(CommandError::bundle("compare", path))?;
            bundles.push((path.clone(), bundle));
        } else {
            manifests.push(path.clone());
        }
    }
    Ok((bundles, source::read(&manifests, false, stdin)?))
}

fn is_bundle(path: &Path) -> Result<bool, SourceError> {
    if path.as_os_str() == "-" || path.is_dir() {
        return Ok(false);
    }
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    read.map_err(|source| SourceError::Read { path: path.display().to_string(), source })?;
    Ok(Bundle::is_bundle(&head))
}

/// The Applications in manifests, held to the hub's own rules.
fn applications(texts: &[SourceText]) -> Result<Vec<Wanted>, CommandError> {
    let mut found = Vec::new();
    for text in texts {
        let documents = yaml::read(&text.text).map_err(|error| {
            let yaml::YamlError { line, column, problem } = error;
            CommandError::Application(format!("{}:{line}:{column}: {problem}", text.name))
        })?;
        for document in documents {
            let origin = format!("{}:{} (document {})", text.name, document.line, document.number);
            let wanted = application(document.value, &text.name);
            found.push(wanted.map_err(|problem| CommandError::Application(format!("{origin}: {problem}")))?);
        }
    }
    Ok(found)
}

fn application(value: Value, source: &str) -> Result<Wanted, String> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    if (api_version, kind) != (API_VERSION, Kind::Application.name()) {
        let found = if kind.is_empty() {
            "this document has no kind".to_owned()
        } else {
            format!("this is a {kind} of {api_version:?}")
        };
        return Err(format!("{found}; give an Application of {API_VERSION}, or a bundle's file"));
    }
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    if namespace.is_empty() {
        return Err(format!("Application {name} has no metadata.namespace: it is the tenant's name"));
    }
    let id =
        AppId::new(namespace, name).map_err(|error| format!("Application {namespace}/{name}: {error}"))?;
    let decoded = Kind::Application.decode(value, None).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        format!("Application {id} is not valid: {}", errors.join("; "))
    })?;
    if let Some(field) = decoded.unknown.first() {
        return Err(format!(
            "Application {id} has no field {field}; `kubectl explain application` lists them"
        ));
    }
    let typed: Application = serde_json::from_value(decoded.value).map_err(|error| error.to_string())?;
    Ok(Wanted { id, spec: typed.spec, origin: source.to_owned() })
}

/// A part of what is printed.
enum Shown {
    Line(String),
    Diff(String),
}

impl Shown {
    fn print(&self, output: &mut Output<'_>) -> io::Result<()> {
        match self {
            Self::Line(text) => output.line(text),
            Self::Diff(text) => output.diff(text),
        }
    }
}

/// A comparison under way.
struct Comparing {
    hub: Hub,
    clusters: Vec<Cluster>,
    assignments: Vec<Assignment>,
    /// Bundles by tenant and name; none where the hub has none.
    bundles: BTreeMap<(Name, String), Option<Bundle>>,
    now: UnixSeconds,
    shown: Vec<Shown>,
}

impl Comparing {
    /// Takes up bundles that may not be published yet, and has each that no manifest is about stand for its
    /// Application.
    async fn take(
        &mut self,
        bundles: BundleFiles,
        mut wanted: Vec<Wanted>,
    ) -> Result<Vec<Wanted>, CommandError> {
        for (path, bundle) in bundles {
            let (id, release) = (bundle.release().app.clone(), bundle.release());
            let name = format!("{}-{}", id.name, release.version);
            let published = self.hub.bundle(&id.tenant, &name).await?;
            if published.is_some_and(|published| published.release() != release) {
                let problem = format!("the hub has another bundle {name}; build it with another --version");
                return Err(CommandError::Application(format!("{}: {problem}", path.display())));
            }
            if !wanted.iter().any(|one| one.id == id) {
                let live = self.hub.application(&id).await?.ok_or_else(|| {
                    let what = "is not on the hub; give the file that will make it too";
                    CommandError::NotThere(format!("{}: Application {id} {what}", path.display()))
                })?;
                let spec = ApplicationSpec { bundle: name.clone(), ..live.spec };
                wanted.push(Wanted { id: id.clone(), spec, origin: path.display().to_string() });
            }
            self.bundles.insert((id.tenant, name), Some(bundle));
        }
        Ok(wanted)
    }

    /// Shows what would change for one Application. Whether anything would.
    async fn application(&mut self, wanted: &Wanted) -> Result<bool, CommandError> {
        let Wanted { id, spec, origin } = wanted;
        let wrong =
            |problem: String| CommandError::Application(format!("{origin}: Application {id}: {problem}"));
        let live = self.hub.application(id).await?;
        let generation = live.as_ref().and_then(|live| live.metadata.generation).unwrap_or_default();
        let live = live.map(|live| live.spec);
        let fleet = Fleet { clusters: &self.clusters, assignments: &self.assignments };
        let mut plan = diff::plan(id, spec, live.as_ref(), fleet).map_err(wrong)?;
        let release = self.release(id, &spec.bundle).await?;
        diff::check_values(spec, release).map_err(wrong)?;
        let not_after = release.not_after;
        let text = |spec: &ApplicationSpec| yaml::write(&serde_json::json!({ "spec": spec }));
        let before = live.as_ref().map(text).unwrap_or_default();
        let old_name = if live.is_some() { format!("hub Application {id}") } else { "/dev/null".to_owned() };
        let changed = diff::unified(&before, &text(spec), &old_name, &format!("{origin} Application {id}"));
        if changed.is_empty() && plan.moves.is_empty() {
            return Ok(false);
        }
        // An approval names the generation that the change makes.
        let generation = generation + i64::from(!changed.is_empty());
        plan.approval = plan.approval.map(|reason| reason.replace("GENERATION", &generation.to_string()));
        self.shown.extend(diff::summary(id, &plan).into_iter().map(Shown::Line));
        if not_after < self.now && !plan.moves.is_empty() {
            let expired = format!("bundle {} expired at {}", spec.bundle, clock::rfc3339(not_after));
            self.line(&format!("it would wait: {expired}; build and sign it anew"));
        }
        self.shown.push(Shown::Diff(changed));
        for step in &plan.moves {
            self.step(id, step).await?;
        }
        Ok(true)
    }

    fn line(&mut self, text: &str) {
        self.shown.push(Shown::Line(text.to_owned()));
    }

    /// The release that an Application names.
    async fn release(&mut self, id: &AppId, bundle: &str) -> Result<&Release, CommandError> {
        let found = self.load(id, bundle).await?.map(Bundle::release);
        let release = found.ok_or_else(|| {
            let what = "push it, or give its file too";
            CommandError::NotThere(format!("bundle {bundle} is not in namespace {}: {what}", id.tenant))
        })?;
        if &release.app == id {
            return Ok(release);
        }
        let of = &release.app;
        Err(CommandError::Application(format!("bundle {bundle} is of application {of}, not of {id}")))
    }

    async fn load(&mut self, id: &AppId, name: &str) -> Result<Option<&Bundle>, CommandError> {
        let key = (id.tenant.clone(), name.to_owned());
        if !self.bundles.contains_key(&key) {
            let found = self.hub.bundle(&id.tenant, name).await?;
            self.bundles.insert(key.clone(), found);
        }
        Ok(self.bundles.get(&key).and_then(Option::as_ref))
    }

    async fn step(&mut self, id: &AppId, step: &Move) -> Result<(), CommandError> {
        self.line("");
        self.line(&diff::headline(step));
        if let Some(why) = diff::looked_at(step) {
            self.line(why);
            return Ok(());
        }
        let now = match &step.from {
            Some(told) => self.load(id, &told.bundle).await?.map(|bundle| told.settable(bundle.release())),
            None => None,
        };
        let from = self.side(id, now.as_ref().or(step.from.as_ref())).await?;
        let to = self.side(id, step.to.as_ref()).await?;
        let (Some(from), Some(to)) = (from, to) else {
            self.line("what runs there is no longer published, so its objects cannot be compared");
            return Ok(());
        };
        let differences = diff::differences(from.side(), to.side());
        self.shown.extend(diff::parameters(&from.values, &to.values).into_iter().map(Shown::Line));
        self.line(&diff::counts(&differences, to.objects.len()));
        let deleted = differences.iter().filter(|one| one.how == How::Removed).count();
        let allowed = ceilings::deletes_allowed(to.ceilings.as_ref(), from.objects.len()) as usize;
        if step.to.is_some() && deleted > allowed {
            let rule = format!("{deleted} objects would be deleted, {allowed} are allowed");
            self.line(&format!("clusters may refuse: {rule}; build it with a higher --max-deletes"));
        }
        self.shown.extend(differences.into_iter().map(|one| Shown::Diff(one.text)));
        Ok(())
    }

    /// What is applied on one side; none where that is not known any more.
    async fn side(&mut self, id: &AppId, told: Option<&Told>) -> Result<Option<Applied>, CommandError> {
        let Some(told) = told else { return Ok(Some(Applied::default())) };
        let Some(bundle) = self.load(id, &told.bundle).await? else { return Ok(None) };
        let about = |source: BundleError| CommandError::Bundle {
            action: "compare",
            file: format!("bundle {}", told.bundle),
            source: Box::new(source),
        };
        let release = bundle.release();
        let objects = bundle.objects(&told.values).map_err(about)?;
        let values = release.resolve(&told.values).map_err(|error| about(BundleError::Parameters(error)))?;
        let ceilings = Some(release.ceilings.clone());
        Ok(Some(Applied { name: told.bundle.clone(), objects, values, ceilings }))
    }
}

/// What one side of a move applies.
#[derive(Default)]
struct Applied {
    name: String,
    objects: Vec<Value>,
    values: BTreeMap<String, String>,
    ceilings: Option<Ceilings>,
}

impl Applied {
    fn side(&self) -> Side<'_> {
        Side { name: &self.name, objects: &self.objects }
    }
}
