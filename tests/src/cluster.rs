//! The Kubernetes cluster that the tests share.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::setting::setting;

/// The kubeconfig of an administrator of the cluster that the tests may use.
///
/// # Errors
///
/// When the tests were started without a cluster.
pub fn kubeconfig() -> Result<PathBuf> {
    let path = setting("EDGEFLEET_TEST_KUBECONFIG").context(
        "this test needs a Kubernetes cluster: run it by tests/run, which starts one, \
         or set EDGEFLEET_TEST_KUBECONFIG to the kubeconfig of one that it may change",
    )?;
    Ok(path.into())
}

/// A program that `tests/run` builds for the tests: `kubectl`, `helm`, or `control-plane` for a cluster of one's own.
///
/// # Errors
///
/// When there is none.
pub fn tool(name: &str) -> Result<PathBuf> {
    provided("EDGEFLEET_TEST_TOOLS", name)
}

/// A client that others wrote and `tests/run` gets for the tests: `informer`, or `python` with the official client.
///
/// # Errors
///
/// When there is none.
pub fn client_of_others(name: &str) -> Result<PathBuf> {
    provided("EDGEFLEET_TEST_CLIENTS", name)
}

fn provided(folder: &str, name: &str) -> Result<PathBuf> {
    let folder = setting(folder)
        .with_context(|| format!("this test needs {name}: run it by tests/run, which builds it"))?;
    let program = PathBuf::from(folder).join(name);
    ensure!(program.is_file(), "{} is missing: remove its folder and run tests/run", program.display());
    Ok(program)
}

/// Runs kubectl on the shared cluster: [`Kubectl::run`].
///
/// # Errors
///
/// Those of [`kubeconfig`] and of [`Kubectl::run`].
pub async fn kubectl(arguments: &[&str]) -> Result<String> {
    Kubectl::new(kubeconfig()?)?.run(arguments).await
}

/// The real kubectl, for the cluster of one kubeconfig.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// kubectl for any kubeconfig: the shared cluster's, or that of a hub under test.
    ///
    /// # Errors
    ///
    /// When `tests/run` has not built kubectl.
    pub fn new(kubeconfig: PathBuf) -> Result<Self> {
        Ok(Self { program: tool("kubectl")?, kubeconfig })
    }

    /// Runs kubectl and returns what it printed to its standard output.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or fails: the error holds what it printed to its standard error.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with_input(arguments, "").await
    }

    /// [`Kubectl::run`] with something on its standard input, for `-f -`.
    ///
    /// # Errors
    ///
    /// Those of [`Kubectl::run`].
    pub async fn run_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let what = || format!("kubectl {}", arguments.join(" "));
        let mut command = Command::from(self.command(arguments));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("start {}", self.program.display()))?;

        let mut stdin = child.stdin.take().context("kubectl has a standard input")?;
        let writing = async move {
            // A kubectl that has no use for its input closes it.
            let _ = stdin.write_all(input.as_bytes()).await;
        };
        let ((), output) = tokio::join!(writing, child.wait_with_output());
        let output = output.with_context(what)?;
        if !output.status.success() {
            bail!("{}: {}", what(), String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8(output.stdout).with_context(what)
    }

    /// The command that [`Kubectl::run`] runs, for one that does not end by itself.
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        let folder = self.kubeconfig.parent().unwrap_or(&self.kubeconfig);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            // What kubectl remembers of a cluster must not outlive it: the next may have its port.
            .env("KUBECACHEDIR", folder.join("cache"));
        command
    }
}

/// A namespace of the shared cluster for one test, deleted when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    kubectl: Kubectl,
    name: String,
}

impl Namespace {
    /// Creates a namespace whose name nobody else has; it begins with `prefix`.
    ///
    /// # Errors
    ///
    /// Those of [`kubectl`].
    pub async fn create(prefix: &str) -> Result<Self> {
        let kubectl = Kubectl::new(kubeconfig()?)?;
        let object =
            format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"generateName":"{prefix}-"}}}}"#);
        let arguments = ["create", "-f", "-", "-o", "jsonpath={.metadata.name}"];
        let name = kubectl.run_with_input(&arguments, &object).await?;
        Ok(Self { kubectl, name })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs kubectl in this namespace: [`Kubectl::run`].
    ///
    /// # Errors
    ///
    /// Those of [`Kubectl::run`].
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl.run(&[&["--namespace", &self.name], arguments].concat()).await
    }

    /// Applies manifests (YAML or JSON) in this namespace, as `kubectl apply --server-side` does.
    ///
    /// # Errors
    ///
    /// Those of [`Kubectl::run`].
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        let arguments = ["--namespace", &self.name, "apply", "--server-side", "-f", "-"];
        self.kubectl.run_with_input(&arguments, manifests).await
    }
}

impl Drop for Namespace {
    #[allow(clippy::print_stderr, reason = "the test runner shows it beside the failure")]
    fn drop(&mut self) {
        let mut command = self.kubectl.command(&["delete", "namespace", &self.name, "--wait=false"]);
        match command.output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("delete namespace {}: {error}", self.name),
        }
    }
}
