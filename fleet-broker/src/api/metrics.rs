//! What the API counts about itself, for Prometheus. Never a series for each object or cluster.

use std::fmt;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::Api;
use super::reply::bytes_response;
use crate::resources::Kind;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The API's own numbers.
#[derive(Debug)]
pub(super) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<VerbLabels, Histogram>,
    refusals: Family<RefusalLabels, Counter>,
    watches: Family<KindLabels, Gauge>,
    objects: Family<KindLabels, Gauge>,
    registry: Registry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: Verb,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: KindLabel,
}

/// The method of a request; what clients invent counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Verb(&'static str);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct KindLabel(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: Refused,
}

/// Why a request was refused before it was looked at. Never whose it was: names would make a series each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Refused {
    /// Its token is none.
    Unauthenticated,
    /// Its address has come with too many that are none.
    Guesses,
    /// Its role does not allow it.
    Forbidden,
    /// Its token has made too many requests.
    Rate,
    /// Its token has too many watches open.
    Watches,
    /// Its token has too many uploads under way.
    Uploads,
}

/// A watch that is counted as long as this lives.
pub(super) struct OpenWatch(Gauge);

impl Metrics {
    pub(super) fn new() -> Metrics {
        let requests = Family::default();
        let seconds = Family::<VerbLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.000_5, 2.0, 14))
        });
        let (watches, objects) = (Family::default(), Family::default());
        let mut registry = Registry::with_prefix("edgefleet");
        registry.register("api_requests", "Requests answered", requests.clone());
        registry.register("api_request_seconds", "Time until the answer began", seconds.clone());
        let refusals = Family::default();
        registry.register("api_refusals", "Requests refused for whose they were", refusals.clone());
        registry.register("api_watches", "Watches that are open", watches.clone());
        registry.register("objects", "Objects by kind", objects.clone());
        Metrics { requests, seconds, refusals, watches, objects, registry }
    }

    /// Counts a refusal.
    pub(super) fn refused(&self, reason: Refused) {
        self.refusals.get_or_create(&RefusalLabels { reason }).inc();
    }

    /// Counts a watch for as long as what is returned lives.
    pub(super) fn open_watch(&self, kind: Kind) -> OpenWatch {
        let gauge = self.watches.get_or_create(&KindLabels { kind: KindLabel(kind) }).clone();
        gauge.inc();
        OpenWatch(gauge)
    }

    fn text(&self, count: impl Fn(Kind) -> usize) -> Result<String, fmt::Error> {
        for kind in Kind::ALL {
            let objects = i64::try_from(count(kind)).unwrap_or(i64::MAX);
            self.objects.get_or_create(&KindLabels { kind: KindLabel(kind) }).set(objects);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Answers with all numbers.
pub(super) async fn serve(State(api): State<Api>) -> Response {
    let text = api.hub.read(|registry| api.metrics.text(|kind| registry.count(kind)));
    match text {
        Ok(text) => bytes_response(StatusCode::OK, CONTENT_TYPE, text),
        Err(error) => bytes_response(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
    }
}

/// Counts a request and its time.
pub(super) async fn record(State(api): State<Api>, request: Request, next: Next) -> Response {
    let verb = Verb::of(request.method());
    let start = Instant::now();
    let response = next.run(request).await;
    let code = response.status().as_u16();
    api.metrics.requests.get_or_create(&RequestLabels { verb, code }).inc();
    api.metrics.seconds.get_or_create(&VerbLabels { verb }).observe(start.elapsed().as_secs_f64());
    response
}

impl Verb {
    fn of(method: &Method) -> Verb {
        let known = ["GET", "POST", "PUT", "PATCH", "DELETE"];
        Verb(known.into_iter().find(|known| method == known).unwrap_or("OTHER"))
    }
}

impl EncodeLabelValue for Verb {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

impl EncodeLabelValue for Refused {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let name = match self {
            Refused::Unauthenticated => "unauthenticated",
            Refused::Guesses => "guesses",
            Refused::Forbidden => "forbidden",
            Refused::Rate => "rate",
            Refused::Watches => "watches",
            Refused::Uploads => "uploads",
        };
        name.encode(encoder)
    }
}

impl EncodeLabelValue for KindLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.0.name().encode(encoder)
    }
}
