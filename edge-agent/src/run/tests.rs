use rcgen::{CertificateParams, KeyPair};
use tokio::sync::oneshot;

use super::*;
use crate::{
    cluster::sim::{LiveCluster, Settings, SimCluster},
    config::{Address, Kubernetes, LogFormat, LogLevel},
    control::{Reply, Request},
    journal::JournalError,
    testing::Fleet,
};

/// A state directory as `join` leaves it, of a cluster whose hub is out of reach.
fn joined(folder: &Path) -> Config {
    let (fleet, state) = (Fleet::new(), StateDir::new(folder));
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["tower-1".into()]).unwrap().self_signed(&key).unwrap();
    fs::write(state.identity_key(), hex::encode([5; 32])).unwrap();
    fs::write(state.connection(), certificate.pem() + &key.serialize_pem()).unwrap();
    fs::write(state.ca(), certificate.pem()).unwrap();
    fs::write(state.root(), &fleet.root).unwrap();
    Config {
        cluster: fleet.cluster.clone(),
        fleet: fleet.id.clone(),
        root: fleet.trust.root_digest(),
        broker: Address { host: "127.0.0.1".into(), port: 9 },
        enrol: Some(Address { host: "127.0.0.1".into(), port: 9 }),
        state: folder.to_owned(),
        kubernetes: Kubernetes::Simulated,
        heartbeat_seconds: 3600,
        keepalive_seconds: 600,
        log: LogFormat::Text,
        log_level: LogLevel::Info,
    }
}

fn cluster() -> LiveCluster {
    LiveCluster::new(SimCluster::new(Settings::default().into()))
}

async fn start(config: Config) -> Result<(), RunError> {
    run(config, cluster(), Boundaries::default(), std::future::pending()).await
}

#[tokio::test]
async fn a_running_agent_is_asked_at_its_socket_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let config = joined(folder.path());
    let socket = config.state_dir().control();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { stopped.await.unwrap_or_default() };
    let agent = run(config.clone(), cluster(), Boundaries::default(), shutdown);
    let scene = async {
        let ask = async |request: Request| {
            let socket = socket.clone();
            tokio::task::spawn_blocking(move || control::ask(&socket, &request)).await.unwrap()
        };
        let Ok(Reply::Status(status)) = ask(Request::Status).await else { panic!("no status") };
        assert_eq!((status.cluster.as_str(), status.hub.connected), ("tower-1", false));
        let hold = Request::Hold { reason: "crane on site".into() };
        assert_eq!(ask(hold).await.unwrap(), Reply::Done);
        let Ok(Reply::Status(status)) = ask(Request::Status).await else { panic!("no status") };
        assert_eq!(status.hold.map(|hold| hold.reason), Some("crane on site".into()));

        let second = start(config.clone()).await.unwrap_err();
        let is_locked = matches!(&second, RunError::Drive(DriveError::Journal(JournalError::Locked { .. })));
        assert!(is_locked, "{second:?}");
        stop.send(()).unwrap();
    };
    let (ended, ()) = tokio::join!(agent, scene);
    ended.unwrap();
    assert!(!socket.exists());
    let error = control::ask(&socket, &Request::Status).unwrap_err().to_string();
    assert!(error.contains("is it running"), "{error}");
}

#[tokio::test]
async fn what_is_wrong_with_the_state_directory_is_named() {
    let check = async |damage: &dyn Fn(&StateDir), expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let config = joined(folder.path());
        damage(&config.state_dir());
        let error = start(config).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}: {expected}");
    };
    check(&|state| fs::remove_file(state.identity_key()).unwrap(), "identity.key: has this machine joined?")
        .await;
    check(&|state| fs::write(state.identity_key(), "abc").unwrap(), "identity.key does not hold a key").await;
    check(&|state| fs::write(state.root(), "abc").unwrap(), "root.cose is not the root document").await;
    check(&|state| fs::remove_file(state.ca()).unwrap(), "cannot start the link").await;
}
