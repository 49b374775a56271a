//! The hub's API: HTTPS, shaped so that Kubernetes clients are its clients.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{any, delete, get, post, put};
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use protocol::verify::Trust;
use rustls::ServerConfig;
use tokio::sync::{Semaphore, mpsc};

use crate::backup;
use crate::controller::Question;
use crate::hub::Hub;

pub mod access;
pub mod auth;
mod backups;
mod blobs;
mod body;
mod carry;
mod core;
mod discovery;
mod health;
mod https;
mod join;
mod metrics;
mod negotiate;
mod openapi;
mod params;
mod read;
mod reply;
mod review;
mod revoke;
mod target;
#[cfg(test)]
mod tests;
mod tokens;
mod watch;
mod write;

use access::Access;
use https::TlsOnly;
use metrics::Metrics;
use reply::Refusal;

/// How long requests may go on after the hub was told to stop. Watches, which have no end, are cut off then.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Most watches at once: consoles and controllers of a large team, each holding a connection.
const WATCHES_MAX: usize = 1024;
/// Most uploads at once: each holds its content in memory until it is complete.
const UPLOADS_MAX: usize = 4;

/// What every request handler is given.
#[derive(Clone, Debug)]
struct Api {
    hub: Hub,
    access: Access,
    metrics: Arc<Metrics>,
    /// One permit for each watch that may still be opened.
    watches: Arc<Semaphore>,
    /// One permit for each upload that may still begin.
    uploads: Arc<Semaphore>,
    /// One permit for the backup that may be made.
    backups: Arc<Semaphore>,
    /// What backups are made of.
    backup: Option<Arc<backup::Source>>,
    /// Where the fleet is asked: for join codes and revocations, and about its recovery.
    questions: mpsc::Sender<Question>,
    /// By whose word releases are believed.
    trust: Option<Arc<Trust>>,
}

/// The API on these objects, for whoever bears a token, as far as its role goes. The fleet is asked through
/// `questions`. Bundles that no cluster would believe by `trust` are refused, and backups are made of `backup`; without
/// them, which is an API without a fleet, none is.
pub fn router(
    hub: Hub,
    access: Access,
    questions: mpsc::Sender<Question>,
    trust: Option<Arc<Trust>>,
    backup: Option<Arc<backup::Source>>,
) -> Router {
    let api = Api {
        hub,
        access,
        metrics: Arc::new(Metrics::new()),
        watches: Arc::new(Semaphore::new(WATCHES_MAX)),
        uploads: Arc::new(Semaphore::new(UPLOADS_MAX)),
        backups: Arc::new(Semaphore::new(1)),
        backup,
        questions,
        trust,
    };
    let authenticated = Router::new()
        .route("/api", get(discovery::core_versions))
        .route("/api/v1", get(discovery::core_resources))
        .route("/api/v1/events", get(target::all_events))
        .route("/api/v1/namespaces", get(core::namespaces))
        .route("/api/v1/namespaces/{namespace}", get(core::namespace))
        .route("/api/v1/namespaces/{namespace}/events", get(target::events))
        .route("/api/v1/namespaces/{namespace}/events/{name}", get(target::event))
        .route("/apis", get(discovery::groups))
        .route("/apis/edgefleet.dev", get(discovery::group))
        .route("/apis/edgefleet.dev/v1alpha1", get(discovery::resources))
        .route("/apis/edgefleet.dev/v1alpha1/clusters/{name}/export", post(carry::export))
        .route("/apis/edgefleet.dev/v1alpha1/clusters/{name}/join", post(join::create))
        .route("/apis/edgefleet.dev/v1alpha1/clusters/{name}/report", post(carry::report))
        .route("/apis/edgefleet.dev/v1alpha1/clusters/{name}/revoke", post(revoke::create))
        .route("/apis/edgefleet.dev/v1alpha1/tokens", get(tokens::list).post(tokens::create))
        .route("/apis/edgefleet.dev/v1alpha1/tokens/{name}", delete(tokens::revoke))
        .route("/apis/edgefleet.dev/v1alpha1/{*path}", any(target::serve))
        .route("/apis/authentication.k8s.io", get(discovery::group))
        .route("/apis/authentication.k8s.io/v1", get(discovery::resources))
        .route("/apis/authentication.k8s.io/v1/selfsubjectreviews", post(review::identity))
        .route("/apis/authorization.k8s.io", get(discovery::group))
        .route("/apis/authorization.k8s.io/v1", get(discovery::resources))
        .route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", post(review::access))
        .route("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", post(review::rules))
        .route("/openapi/v2", get(openapi::nothing))
        .route("/openapi/v3", get(openapi::index))
        .route("/openapi/v3/apis/edgefleet.dev/v1alpha1", get(openapi::document))
        .route("/blobs/sha256/{digest}", put(blobs::put).get(blobs::get))
        .route("/backup", get(backups::get))
        .route("/recovery", get(backups::recovery))
        .route("/recovery/accept", post(backups::accept))
        .route("/metrics", get(metrics::serve))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(api.clone(), auth::require));
    let public = Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/version", get(health::version))
        .method_not_allowed_fallback(unknown_method);
    public.merge(authenticated).layer(from_fn_with_state(api.clone(), metrics::record)).with_state(api)
}

/// Serves `router` on `listener` until `stop` is ready. The TLS configuration should offer `h2` and `http/1.1` by
/// ALPN: kubectl prefers the former.
///
/// # Errors
/// When the listener does not work.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let handle = Handle::new();
    let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(tls)).acceptor(TlsOnly);
    let server = axum_server::from_tcp(listener)?
        .acceptor(acceptor)
        .handle(handle.clone())
        .serve(router.into_make_service_with_connect_info::<SocketAddr>());
    let mut server = pin!(server);
    tokio::select! {
        result = &mut server => result,
        () = stop => {
            handle.graceful_shutdown(Some(SHUTDOWN_GRACE));
            server.await
        }
    }
}

async fn unknown_path(request: Request) -> Result<Response, Refusal> {
    Err(reply::unknown_path(request.uri().path()))
}

async fn unknown_method() -> Result<Response, Refusal> {
    Err(reply::unknown_method())
}
