//! A bundle that no cluster would believe is refused when it is published, with a message that says which file, which
//! object of the hub, and what to do.
#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

use fleet_broker::{
    keys,
    pki::CERTIFICATE_LIFETIME,
    serve::{self, Running, ServeConfig},
};
use tempfile::TempDir;

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gateway}\ndata: {level: info}\n";

/// Runs `edgefleet` in a folder with arguments that hold no spaces. Returns its messages, and whether it succeeded.
fn edgefleet(folder: &Path, arguments: &str) -> (String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgefleet"));
    let output = command.args(arguments.split(' ')).current_dir(folder).output().unwrap();
    (String::from_utf8(output.stderr).unwrap(), output.status.success())
}

/// A hub in `folder` with the keys that stand there.
async fn start_hub(folder: &Path) -> Running {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = ServeConfig {
        directory: folder.join("hub"),
        api: local,
        broker: local,
        enrol: local,
        advertise: "127.0.0.1".to_owned(),
        root: fs::read(folder.join("keys/root.cose")).unwrap(),
        director: keys::load_signing_key(&folder.join("keys/director.key")).unwrap().key,
        certificate_lifetime: CERTIFICATE_LIFETIME,
    };
    serve::start(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_cluster_would_believe_is_not_published() {
    let desk = TempDir::new().unwrap();
    let folder = desk.path();
    fs::write(folder.join("config.yaml"), CONFIG).unwrap();
    fs::write(
        folder.join("outside.yaml"),
        CONFIG.replace("name: gateway", "name: gateway, namespace: video"),
    )
    .unwrap();
    let init = "--fleet acme --tenant radio --namespace radio";
    for keys in ["keys", "strange"] {
        assert!(edgefleet(folder, &format!("keys init {keys} {init}")).1);
    }
    let hub = start_hub(folder).await;
    let cases = [
        ("config.yaml", "strange", Some("release is not signed by 1 of the keys that may")),
        ("outside.yaml", "keys", Some("namespace video is outside its keys' scope")),
        ("config.yaml", "keys", None),
    ];
    for (source, keys, refused) in cases {
        let build = format!("bundle build {source} --app radio/gateway --version 1.0.0 -o out.bundle");
        assert!(edgefleet(folder, &build).1);
        assert!(edgefleet(folder, &format!("bundle sign out.bundle --key {keys}/release-1.key")).1);
        let (said, done) = edgefleet(folder, "bundle push out.bundle --kubeconfig hub/hub.kubeconfig");
        let expected = match refused {
            Some(why) => vec![
                "cannot publish out.bundle",
                "\"gateway-1.0.0\" is invalid",
                why,
                "edgefleet bundle sign",
            ],
            None => vec!["published gateway-1.0.0 in namespace radio"],
        };
        assert_eq!(done, refused.is_none(), "{said}");
        for part in expected {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
    }
    hub.stop().await;
}
