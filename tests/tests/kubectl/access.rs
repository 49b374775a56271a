//! Several people use one hub: each sees and does what their token's role allows, until it ends.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgefleet::hub::Hub as Client;
use fleet_broker::logic::access::Role;
use tests::{Kubectl, Process, kubeconfig, wait_for};

use super::{SOON, TestHub, script};

/// kubectl's arguments, and parts of what it says.
type Row = (&'static str, &'static [&'static str]);

const VIEWER: &[Row] = &[
    ("auth whoami", &["ann", "edgefleet:viewer", "system:authenticated"]),
    ("auth can-i get clusters", &["yes"]),
    ("auth can-i watch applications -n radio", &["yes"]),
    ("auth can-i delete clusters", &["no"]),
    ("auth can-i create clusters --subresource=join", &["no"]),
    ("auth can-i get /metrics", &["yes"]),
    ("auth can-i '*' '*'", &["no"]),
    (
        "auth can-i --list",
        &["clusters.edgefleet.dev", "[get list watch]", "selfsubjectreviews", "[/metrics]"],
    ),
    ("get clusters", &["tower-0001"]),
    ("get --raw /metrics", &["edgefleet_objects{kind=\"Cluster\"} 1"]),
    (
        "delete cluster tower-0001",
        &[
            "Error from server (Forbidden): clusters.edgefleet.dev \"tower-0001\" is forbidden: User \"ann\" cannot delete \
           resource \"clusters\" in API group \"edgefleet.dev\" at the cluster scope",
        ],
    ),
    ("label cluster tower-0001 a=b", &["(Forbidden)", "User \"ann\" cannot patch resource \"clusters\""]),
    ("get --raw /apis/edgefleet.dev/v1alpha1/tokens", &["(Forbidden)", "cannot list resource \"tokens\""]),
];

const OPERATOR: &[Row] = &[
    ("auth whoami -o jsonpath='{.status.userInfo.username}'", &["bob"]),
    ("auth can-i delete clusters", &["yes"]),
    ("auth can-i create clusters --subresource=join", &["yes"]),
    ("auth can-i patch clusters --subresource=status", &["no"]),
    ("label cluster tower-0001 a=b", &["tower-0001 labeled"]),
    ("get --raw /apis/edgefleet.dev/v1alpha1/tokens", &["(Forbidden)"]),
    (
        "delete --raw /apis/edgefleet.dev/v1alpha1/tokens/ann",
        &["User \"bob\" cannot delete resource \"tokens\""],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_may_what_their_role_allows_until_it_ends() -> Result<()> {
    let hub = TestHub::start().await?;
    hub.kubectl.run_with_input(&["create", "-f", "-"], script::CLUSTER).await?;
    let ann = bearer(&hub, "ann", Role::Viewer).await?;
    let bob = bearer(&hub, "bob", Role::Operator).await?;
    for (kubectl, rows) in [(&ann, VIEWER), (&bob, OPERATOR)] {
        for (command, parts) in rows {
            let said = say(kubectl, command).await?;
            for part in *parts {
                ensure!(said.contains(part), "kubectl {command}: {part:?} is not in what it said:\n{said}");
            }
        }
    }

    let mut watching = Process::spawn("watch", &ann.command(&["get", "clusters", "-w"]))?;
    watching.printed("tower-0001", SOON).await?;
    client(&hub).await?.revoke_token("ann").await?;
    watching.wait(SOON).await?;
    let said = say(&ann, "get clusters").await?;
    ensure!(said.contains("Unauthorized"), "{said}");
    ensure!(say(&bob, "get clusters").await?.contains("tower-0001"));

    // A restart changes nothing of it.
    let hub = hub.restart().await?;
    let names: Vec<String> =
        client(&hub).await?.tokens().await?.into_iter().map(|token| token.name).collect();
    ensure!(names == ["admin", "bob"], "{names:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_in_time_and_its_watches_with_it() -> Result<()> {
    let hub = TestHub::start().await?;
    hub.kubectl.run_with_input(&["create", "-f", "-"], script::CLUSTER).await?;
    let expires = now() + Duration::from_secs(10);
    let ann =
        kubectl(&hub, "ann", client(&hub).await?.create_token("ann", Role::Viewer, Some(expires)).await?)?;
    let mut watching = Process::spawn("watch", &ann.command(&["get", "clusters", "-w"]))?;
    watching.printed("tower-0001", SOON).await?;
    watching.wait(Duration::from_secs(60)).await?;
    wait_for("the end of the token", SOON, async || {
        let said = say(&ann, "get clusters").await?;
        ensure!(said.contains("Unauthorized"), "{said}");
        Ok(())
    })
    .await
}

/// Refusals that need no resource to be there: a real API server asks who may first, too.
const REFUSED: &[&str] = &[
    "delete --raw /apis/edgefleet.dev/v1alpha1/clusters/x",
    "delete --raw /apis/edgefleet.dev/v1alpha1/namespaces/radio/applications/x",
    "create --raw /apis/edgefleet.dev/v1alpha1/clusters/x/join -f -",
    "create --raw /apis/edgefleet.dev/v1alpha1/clusters -f -",
    "get --raw /apis/edgefleet.dev/v1alpha1/tokens",
    "get --raw /nothing",
    "auth can-i delete namespaces",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_refuses_in_the_same_words() -> Result<()> {
    let hub = TestHub::start().await?;
    let ann = bearer(&hub, "ann", Role::Viewer).await?;
    let real = Kubectl::new(kubeconfig()?)?;
    for command in REFUSED {
        let (ours, theirs) = (say(&ann, command).await?, say(&real, &format!("{command} --as=ann")).await?);
        ensure!(ours == theirs, "kubectl {command}\nthe hub:        {ours}\nan API server: {theirs}");
    }
    Ok(())
}

/// Whoever makes requests as fast as it can waits alone. That it is told to wait, which takes a fast machine over real
/// connections, is tested on the API itself.
#[tokio::test(flavor = "multi_thread")]
async fn one_token_in_a_loop_starves_no_other() -> Result<()> {
    let hub = TestHub::start().await?;
    let greedy = client_of(&hub, "greedy", Role::Viewer).await?;
    let modest = client_of(&hub, "modest", Role::Viewer).await?;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let greedy = greedy.clone();
        asking.spawn(async move {
            loop {
                let answer = greedy.clusters().await;
                if let Err(error) = answer.as_ref()
                    && error.code() != Some(429)
                {
                    return format!("{error:?}");
                }
            }
        });
    }
    for _ in 0..20 {
        modest.clusters().await.context("the other token is served")?;
    }
    ensure!(asking.try_join_next().is_none(), "the loop was answered otherwise than with objects or 429");
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "the hub goes by the wall clock, and so does what it is told")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

async fn bearer(hub: &TestHub, name: &str, role: Role) -> Result<Kubectl> {
    let made = client(hub).await?.create_token(name, role, None).await?;
    kubectl(hub, name, made)
}

fn kubectl(hub: &TestHub, name: &str, made: String) -> Result<Kubectl> {
    let path = hub.folder.path().join(format!("{name}.kubeconfig"));
    fs::write(&path, made)?;
    Kubectl::new(path)
}

async fn client(hub: &TestHub) -> Result<Client> {
    Ok(Client::open(&super::kubeconfig_path(hub.folder.path())).await?)
}

async fn client_of(hub: &TestHub, name: &str, role: Role) -> Result<Client> {
    bearer(hub, name, role).await?;
    Ok(Client::open(&hub.folder.path().join(format!("{name}.kubeconfig"))).await?)
}

/// All that kubectl prints, whether it fails or not: `can-i` answers with a failure.
async fn say(kubectl: &Kubectl, command: &str) -> Result<String> {
    let arguments = script::split(command);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = tokio::process::Command::from(kubectl.command(&arguments));
    let output = command.stdin(std::process::Stdio::null()).kill_on_drop(true).output().await?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8(text)?)
}
