//! `POST .../clusters/NAME/export`: a file that brings a cluster its updates without a link.
//! `POST .../clusters/NAME/report`: takes reports of it that were carried here. Subresources that are created and never
//! read, as `serviceaccounts/token` is.

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::stream;
use protocol::carry::{CarryError, Reader, Record, Way, Writer};
use protocol::documents::{Chunk, Encoding};
use protocol::ids::{ClusterId, Digest};
use protocol::limits;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::Api;
use super::body;
use super::reply::{Refusal, bytes_response, json_response};
use crate::controller::{CarryQuestion, Question};
use crate::logic::fleet::carry::{CarryRefusal, Export};
use crate::logic::fleet::messages;
use crate::logic::registry::failure::{self, Failure};
use crate::resources::{API_VERSION, Kind};
use crate::store::{Store, StoreError};

/// Frames that wait to be sent: then reading the store waits for whoever takes them.
const FRAMES: usize = 8;

/// Most reports in one file: one for each application, though a report carries many.
const REPORTS_MAX: usize = limits::APPLICATIONS;

/// Longest file of reports, in bytes: reports of as many applications as a cluster may have take less.
const REPORTS_LEN_MAX: usize = 4 * 1024 * 1024;

/// What can be said about an export.
#[derive(Debug, Deserialize)]
pub(super) struct ExportQuery {
    /// With the content that the cluster said it has.
    #[serde(default)]
    full: bool,
}

/// Streams a file for a cluster, made now.
pub(super) async fn export(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(ExportQuery { full }): Query<ExportQuery>,
) -> Result<Response, Refusal> {
    let cluster = cluster(&name)?;
    let (answer, export) = oneshot::channel();
    let request = Question::Carry(CarryQuestion::Export { cluster, full, answer });
    api.questions.send(request).await.map_err(|_| stopping())?;
    let export = export.await.map_err(|_| stopping())?.map_err(|refusal| refused(&refusal))?;
    let store = api.hub.store().clone();
    check_len(&store, &export).await?;
    let (frames, taken) = mpsc::channel(FRAMES);
    tokio::spawn(async move {
        if let Err(error) = write(*export, &store, &frames).await {
            // Cut off without an end: whoever takes it sees that it is not whole.
            tracing::error!(%error, "an export was not finished");
            drop(frames.send(Err(error)).await);
        }
    });
    let body = stream::unfold(taken, async |mut taken| taken.recv().await.map(|frame| (frame, taken)));
    Ok(bytes_response(StatusCode::OK, "application/octet-stream", Body::from_stream(body)))
}

/// Takes a file of reports.
pub(super) async fn report(
    State(api): State<Api>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let cluster = cluster(&name)?;
    let bytes = body::bytes_up_to(request, REPORTS_LEN_MAX).await?;
    let envelopes = reports(&cluster, &bytes)?;
    let (answer, taken) = oneshot::channel();
    let request = Question::Carry(CarryQuestion::Reports { cluster, envelopes, answer });
    api.questions.send(request).await.map_err(|_| stopping())?;
    let taken = taken.await.map_err(|_| stopping())?.map_err(|refusal| refused(&refusal))?;
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": "CarriedReport",
        "metadata": {"name": name},
        "status": {"taken": taken},
    });
    Ok(json_response(StatusCode::CREATED, &body))
}

/// All content is here, and the file is not longer than any may be: found out before it begins.
async fn check_len(store: &Store, export: &Export) -> Result<(), Refusal> {
    let mut total = 0;
    for release in &export.releases {
        let Some(blob) = store.blob(*release.pack.as_bytes()).await.map_err(store_failed)? else {
            let message =
                format!("content {} is not at this hub: push its bundle again", release.pack.short());
            return Err(failure::new(409, "Conflict", message).into());
        };
        // What stands around a piece takes less than a 64th of it; the last may be short.
        let bytes = release.envelope.len() as u64 + blob.zstd_len;
        total += bytes + bytes / 64 + 2 * limits::CHUNK_BYTES as u64;
    }
    if total > limits::CARRY_BYTES {
        let message =
            format!("the file would have {total} bytes, at most {} are allowed", limits::CARRY_BYTES);
        return Err(failure::new(409, "Conflict", message).into());
    }
    Ok(())
}

type Frames = mpsc::Sender<Result<Vec<u8>, StoreError>>;

async fn write(export: Export, store: &Store, frames: &Frames) -> Result<(), StoreError> {
    let (mut writer, begin) = Writer::begin(export.label);
    let send = async |bytes: Vec<u8>| frames.send(Ok(bytes)).await.is_ok();
    let mut alive = send(begin).await;
    for record in [Record::Head(export.head), Record::Desired(export.desired)] {
        alive = alive && send(writer.put(&record)).await;
    }
    let put = |writer: &mut Writer, chunk: &Chunk| writer.put(&Record::Piece(chunk.encode()));
    for release in &export.releases {
        let total = release.envelope.len() as u64;
        for (index, bytes) in release.envelope.chunks(limits::CHUNK_BYTES).enumerate() {
            let offset = (index * limits::CHUNK_BYTES) as u64;
            let (target, bytes) = (release.digest, bytes.to_vec());
            let chunk = Chunk { target, encoding: Encoding::Plain, total, offset, bytes };
            alive = alive && send(put(&mut writer, &chunk)).await;
        }
    }
    for release in &export.releases {
        let mut offset = 0;
        // Whoever took it may have gone.
        while alive && let Some(chunks) = window(store, release.pack, offset).await? {
            for chunk in chunks {
                offset = chunk.offset + chunk.bytes.len() as u64;
                alive = alive && send(put(&mut writer, &chunk)).await;
            }
        }
    }
    if alive {
        send(writer.end()).await;
    }
    Ok(())
}

/// The pieces at `offset` of stored content; none at its end.
async fn window(store: &Store, pack: Digest, offset: u64) -> Result<Option<Vec<Chunk>>, StoreError> {
    let corrupt = || StoreError::Corrupt { what: "a blob is shorter than its record".to_owned() };
    let blob = store.blob(*pack.as_bytes()).await?.ok_or_else(corrupt)?;
    if offset >= blob.zstd_len {
        return Ok(None);
    }
    let len = limits::CHUNK_BYTES * limits::WINDOW_CHUNKS;
    let bytes = store.read_blob(*pack.as_bytes(), offset, len).await?;
    if bytes.is_empty() {
        return Err(corrupt());
    }
    Ok(Some(messages::window(pack, Encoding::Zstd, blob.zstd_len, offset, &bytes)))
}

/// The reports in a file of this cluster.
fn reports(cluster: &ClusterId, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
    let bad = |error: CarryError| failure::bad_request(format!("nothing of the file is taken: {error}"));
    let (mut reader, label) = Reader::open(bytes).map_err(bad)?;
    if label.way != Way::ToHub || &label.cluster != cluster {
        let message = format!(
            "the file carries {} of cluster {}, not reports of cluster {cluster}: nothing of it is taken",
            label.way, label.cluster
        );
        return Err(failure::bad_request(message));
    }
    let mut envelopes = Vec::new();
    while let Some(record) = reader.read().map_err(bad)? {
        match record {
            Record::Report(envelope) if envelopes.len() < REPORTS_MAX => envelopes.push(envelope),
            Record::Report(_)
            | Record::Label(_)
            | Record::Head(_)
            | Record::Desired(_)
            | Record::Piece(_)
            | Record::End(_) => {
                return Err(failure::bad_request("the file holds more than reports".to_owned()));
            }
        }
    }
    Ok(envelopes)
}

fn cluster(name: &str) -> Result<ClusterId, Refusal> {
    Ok(ClusterId::new(name).map_err(|_| failure::not_found(Kind::Cluster, name))?)
}

fn refused(refusal: &CarryRefusal) -> Failure {
    match refusal {
        CarryRefusal::Unknown(cluster) => failure::not_found(Kind::Cluster, cluster.as_str()),
        CarryRefusal::NotAdmitted(_)
        | CarryRefusal::Recovering(_)
        | CarryRefusal::NoBundle { .. }
        | CarryRefusal::Unsigned(_)
        | CarryRefusal::Forged(_)
        | CarryRefusal::FormerLife(_) => failure::new(409, "Conflict", refusal.to_string()),
    }
}

fn stopping() -> Failure {
    failure::new(503, "ServiceUnavailable", "the hub is stopping".to_owned())
}

fn store_failed(error: StoreError) -> Failure {
    failure::new(500, "InternalError", format!("Internal error occurred: {error}"))
}
