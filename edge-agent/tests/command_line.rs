//! What a stranger may do wrong with the program's arguments and files: each is named, with what to do.
#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

use protocol::{
    enrol::{JoinCode, JoinSecret},
    ids::{ClusterId, Digest, FleetId, TokenId},
};
use tempfile::TempDir;

/// A user without rights.
const NOBODY: u32 = 65534;

/// A configuration with all that it must have.
fn minimal() -> String {
    let root = "00".repeat(32);
    format!(
        "cluster = \"tower-1\"\nfleet = \"north\"\nroot = \"{root}\"\nbroker = \"hub:8883\"\nenrol = \"hub:8884\"\n"
    )
}

/// Runs the program in `folder`; it must end with this code and say all of this, the folder's name left out.
#[track_caller]
fn check(folder: &Path, arguments: &str, code: i32, expected: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-agent"));
    ends(command.args(arguments.split(' ')).current_dir(folder).env_clear(), arguments, code, expected);
}

#[track_caller]
fn ends(command: &mut Command, what: &str, code: i32, expected: &[&str]) {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{what}: {said}");
    for part in expected {
        assert!(said.contains(part), "{what}: {said}\n  lacks {part}");
    }
    assert!(output.stdout.is_empty(), "{what}: data of a failed command");
}

#[test]
fn a_configuration_is_refused_by_line_and_key() {
    let cases: [(String, &[&str]); 9] = [
        (
            minimal() + "hartbeat_seconds = 60\n",
            &["line 6", "unknown field `hartbeat_seconds`", "`heartbeat_seconds`"],
        ),
        (minimal() + "log = \"xml\"\n", &["line 6", "log = \"xml\"", "expected `text` or `json`"]),
        (minimal() + "heartbeat_seconds = 1\n", &["line 6", "heartbeat_seconds is 10 to "]),
        (minimal() + "keepalive_seconds = 3601\n", &["line 6", "keepalive_seconds is 5 to 3600"]),
        (minimal() + "log_level\n", &["line 6", "expected `=`"]),
        (minimal().replace("hub:8883", "hub"), &["line 4", "write host:port, such as hub.example.com:8883"]),
        (minimal().replace("tower-1", "T 1"), &["line 1", "use 3 to 63 of a-z, 0-9 and '-'"]),
        (minimal().replace("0000", "00"), &["line 3", "it must be 32 bytes long"]),
        ("fleet = \"north\"\n".to_owned(), &["missing field `cluster`"]),
    ];
    let folder = TempDir::new().unwrap();
    for (text, expected) in cases {
        fs::write(folder.path().join("config.toml"), text).unwrap();
        check(
            folder.path(),
            "run --config config.toml",
            2,
            &[&["edge-agent: config.toml: "], expected].concat(),
        );
    }
    let join = "cannot read gone.toml: give the file that `edge-agent join` wrote";
    check(folder.path(), "run --config gone.toml", 2, &[join]);
}

#[test]
fn a_kubeconfig_is_refused_by_file_and_field() {
    let cluster = "contexts: [{name: a, context: {cluster: c, user: u}}]\ncurrent-context: a\nusers: [{name: u, user: {token: t}}]\n\
        clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n";
    let cases: [(&str, &[&str]); 5] = [
        ("nonsense: [\n", &["k.yaml is not a kubeconfig: ", "line 1, column 11"]),
        ("kind: Config\n", &["k.yaml: contexts: there are none: is it the right file?"]),
        (
            "contexts: [{name: a, context: {cluster: c}}]\n",
            &["k.yaml: current-context: not set; choose one of [\"a\"]"],
        ),
        (
            "current-context: b\ncontexts: [{name: a, context: {cluster: c}}]\n",
            &["k.yaml: contexts: no context named \"b\"; it has [\"a\"]"],
        ),
        (cluster, &["k.yaml: clusters[c].cluster.certificate-authority-data: missing"]),
    ];
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("config.toml"), minimal() + "kubernetes = \"k.yaml\"\n").unwrap();
    let gone = "k.yaml: check that it exists and that the agent's user may read it";
    check(folder.path(), "run --config config.toml", 1, &["edge-agent: cannot read ", gone]);
    for (text, expected) in cases {
        fs::write(folder.path().join("k.yaml"), text).unwrap();
        check(folder.path(), "run --config config.toml", 1, expected);
    }
    // Nor does it run outside a pod without one.
    fs::write(folder.path().join("config.toml"), minimal()).unwrap();
    let pod = ["KUBERNETES_SERVICE_HOST is not set", "write the path of a kubeconfig into its configuration"];
    check(folder.path(), "run --config config.toml", 1, &pod);
}

/// A code works once: a machine that could not run afterwards does not use it up.
#[test]
fn a_wrong_kubeconfig_is_found_before_the_code_is_used() {
    let hub = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    hub.set_nonblocking(true).unwrap();
    let address = hub.local_addr().unwrap().to_string();
    let code = JoinCode {
        cluster: ClusterId::new("tower-1").unwrap(),
        fleet: FleetId::new("north").unwrap(),
        enrol: address.clone(),
        broker: address,
        ca_pin: Digest::of(b"ca"),
        root: Digest::of(b"root"),
        token: TokenId::new("0123456789abcdef").unwrap(),
        secret: JoinSecret::new([2; 16]),
    };
    let folder = TempDir::new().unwrap();
    let arguments = format!("join {code} --state state --kubeconfig gone.yaml");
    check(folder.path(), &arguments, 1, &["edge-agent: cannot read ", "gone.yaml: check that it exists"]);
    let asked = hub.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(asked, Err(std::io::ErrorKind::WouldBlock), "the hub was asked");
    assert!(!folder.path().join("state").exists(), "it left something behind");
    check(
        folder.path(),
        "join nonsense",
        2,
        &["copy the whole line that starts with \"ef1-\" from `edgefleet cluster add`"],
    );
}

#[test]
fn who_speaks_with_no_agent_or_may_not_is_told() {
    let folder = TempDir::new().unwrap();
    let nobody = "no agent answers at state/control.sock: is it running, and is this its state directory?";
    for arguments in ["status --state state", "release --state state", "hold --state state --reason crane"] {
        check(folder.path(), arguments, 1, &[nobody]);
    }
    check(folder.path(), "hold --state state --reason ", 1, &["give a reason: the hub shows it"]);
    check(folder.path(), "hold --state state", 2, &["--reason <REASON>"]);

    // Only its owner may look into the folder, and root is not asked.
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    // A copy, for the program's own folder may be closed to others too.
    let program = folder.path().join("edge-agent");
    fs::copy(env!("CARGO_BIN_EXE_edge-agent"), &program).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(program);
    command.args(["status", "--state"]).arg(&locked);
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if root {
        command.uid(NOBODY).gid(NOBODY);
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(if root { 0o700 } else { 0 })).unwrap();
    let denied = "locked/control.sock: run this as the agent's user, or as root";
    ends(&mut command, "status", 1, &["edge-agent: no right to use ", denied]);
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
}
