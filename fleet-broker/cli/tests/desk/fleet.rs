//! A hub, with clusters that are registered and never connect.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use edgefleet::{clock, hub::Hub};
use fleet_broker::{
    keys::{self, Charter},
    pki::CERTIFICATE_LIFETIME,
    resources::AssignmentState,
    serve::{self, Running, ServeConfig},
};
use protocol::ids::{ClusterId, FleetId, Name};
use tokio::runtime::Runtime;

use super::{Desk, Run};

/// Longest wait for anything that should happen; reached only by a test that fails.
const SOON: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A hub with three registered clusters: two of stage prod, of which one is in region north, and one of stage test.
pub(crate) struct Fleet {
    pub(crate) desk: Desk,
    pub(crate) runtime: Runtime,
    pub(crate) operator: Hub,
    hub: Option<Running>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let desk = Desk(tempfile::tempdir().unwrap());
        let runtime = Runtime::new().unwrap();
        let fleet = FleetId::new("acme").unwrap();
        let authority = serve::certificate_authority(&desk.path("hub"), fleet.as_str()).unwrap();
        let charter = Charter {
            fleet,
            tenant: Name::new("radio").unwrap(),
            namespaces: vec!["radio".parse().unwrap()],
            ca_pins: vec![authority.pin()],
            issued: clock::now(),
            not_after: clock::now().plus(60 * 60),
        };
        keys::generate(&charter).unwrap().write(&desk.path("keys")).unwrap();
        let (hub, operator) = runtime.block_on(async {
            let hub = start_hub(&desk).await;
            let operator = Hub::open(&hub.kubeconfig).await.unwrap();
            for (name, stage, region) in
                [("tower-1", "prod", "north"), ("tower-2", "prod", "south"), ("tower-3", "test", "south")]
            {
                let labels =
                    [("stage".to_owned(), stage.to_owned()), ("region".to_owned(), region.to_owned())];
                operator.add_cluster(&ClusterId::new(name).unwrap(), &labels).await.unwrap();
            }
            (hub, operator)
        });
        Self { desk, runtime, operator, hub: Some(hub) }
    }

    /// Builds and signs a version of the application with these objects.
    pub(crate) fn build(&self, version: &str, manifests: &str) {
        let parameters = "- {name: level, enum: [debug, info], default: info, \
            targets: [{kind: ConfigMap, name: gateway, pointer: /data/level}]}";
        self.desk.write("parameters.yaml", parameters);
        let build = format!(
            "bundle build - --app radio/gateway --version {version} --parameters parameters.yaml \
             --allow-plaintext-secrets -o {version}.bundle"
        );
        self.desk.run_with(&build, manifests).ok();
        self.desk.run(&format!("bundle sign {version}.bundle --key keys/release-1.key")).ok();
    }

    pub(crate) fn hub_run(&self, arguments: &str) -> Run {
        self.desk.run(&format!("{arguments} --kubeconfig hub/hub.kubeconfig"))
    }

    /// Where clusters reach the hub, as `doctor` is told.
    pub(crate) fn ports(&self) -> String {
        let addresses = &self.hub.as_ref().unwrap().addresses;
        let (broker, enrol) = (addresses.clusters.port(), addresses.bootstrap.unwrap().port());
        format!("--broker-port {broker} --enrol-port {enrol}")
    }

    pub(crate) fn diff(&self, sources: &str) -> Run {
        self.hub_run(&format!("diff {sources}"))
    }

    /// Stops the hub in order.
    pub(crate) fn stop(&mut self) {
        self.runtime.block_on(self.hub.take().unwrap().stop());
    }

    /// Starts the hub again.
    pub(crate) fn start(&mut self) {
        self.hub = Some(self.runtime.block_on(start_hub(&self.desk)));
    }

    /// Where the hub's API listens.
    pub(crate) fn api_port(&self) -> String {
        self.hub.as_ref().unwrap().api.port().to_string()
    }

    /// Applies an application, and waits until the clusters were told to run just this.
    pub(crate) fn apply(&self, application: &str, expected: &[(&str, &str)]) {
        let value = edgefleet::yaml::read(application).unwrap().remove(0).value;
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(cluster, bundle)| ((*cluster).to_owned(), (*bundle).to_owned())).collect();
        self.runtime.block_on(async {
            self.operator.put_application(value).await.unwrap();
            let mut found = BTreeMap::new();
            let told = async {
                let mut looks = tokio::time::interval(LOOK_EVERY);
                while found != expected {
                    looks.tick().await;
                    let assignments = self.operator.assignments().await.unwrap();
                    let statuses = assignments.into_iter().filter_map(|one| one.status);
                    let statuses = statuses.filter(|status| status.state != AssignmentState::Removing);
                    found = statuses.map(|status| (status.cluster, status.bundle)).collect();
                }
            };
            let in_time = tokio::time::timeout(SOON, told).await.is_ok();
            assert!(in_time, "{found:?} where {expected:?} should be");
        });
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let hub = self.hub.take();
        self.runtime.block_on(async {
            if let Some(hub) = hub {
                hub.stop().await;
            }
        });
    }
}

async fn start_hub(desk: &Desk) -> Running {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = ServeConfig {
        directory: desk.path("hub"),
        api: any,
        broker: any,
        enrol: any,
        advertise: "127.0.0.1".to_owned(),
        root: fs::read(desk.path("keys/root.cose")).unwrap(),
        director: keys::load_signing_key(&desk.path("keys/director.key")).unwrap().key,
        certificate_lifetime: CERTIFICATE_LIFETIME,
    };
    serve::start(config).await.unwrap()
}
