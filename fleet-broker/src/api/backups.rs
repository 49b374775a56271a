//! `GET /backup`: everything that another machine needs to be this hub. `/recovery`: how far a hub is that began
//! another life, and leave to change clusters again.

use std::io::{self, Write};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::Api;
use super::body;
use super::reply::{self, Refusal, bytes_response, json_response};
use crate::controller::Question;
use crate::logic::fleet::recovery::{Cause, Standing};
use crate::logic::registry::failure;

/// Pieces that wait to be sent: then reading the store waits for whoever takes them.
const PIECES: usize = 4;

/// Longest piece, in bytes.
const PIECE: usize = 64 * 1024;

/// Longest reason for accepting, in bytes.
const REASON_LEN_MAX: usize = 1024;

/// Streams a backup, made now. One at a time: each copies the store.
pub(super) async fn get(State(api): State<Api>) -> Result<Response, Refusal> {
    let source = api.backup.clone().ok_or_else(|| reply::unknown_path("/backup"))?;
    let permit = Arc::clone(&api.backups).try_acquire_owned().map_err(|_| reply::too_many("backups"))?;
    let prepared = source.prepare().await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        failure::new(500, "InternalError", format!("Internal error occurred: {error}{cause}"))
    })?;
    let (pieces, taken) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let written = prepared.write(io::BufWriter::with_capacity(PIECE, Pieces(pieces.clone())));
        if let Err(error) = written {
            // Cut off without an end: whoever takes it sees that it is not whole.
            tracing::error!(%error, "a backup was not finished");
            drop(pieces.blocking_send(Err(error)));
        }
    });
    let body = stream::unfold(taken, async |mut taken| taken.recv().await.map(|piece| (piece, taken)));
    Ok(bytes_response(StatusCode::OK, "application/x-tar", Body::from_stream(body)))
}

/// How far the hub is, if it began another life.
pub(super) async fn recovery(State(api): State<Api>) -> Result<Response, Refusal> {
    let (answer, standing) = oneshot::channel();
    ask(&api, Question::Standing(answer), standing).await
}

/// Accepts what the hub learned from its clusters: changes go on.
pub(super) async fn accept(State(api): State<Api>, request: Request) -> Result<Response, Refusal> {
    let body = body::json(request).await?;
    let reason = body["reason"].as_str().map(str::trim).unwrap_or_default().to_owned();
    if reason.is_empty() || reason.len() > REASON_LEN_MAX {
        let rule = format!("give a \"reason\" of 1 to {REASON_LEN_MAX} bytes");
        return Err(failure::bad_request(rule).into());
    }
    let (answer, standing) = oneshot::channel();
    ask(&api, Question::Accept { reason, answer }, standing).await
}

async fn ask(
    api: &Api,
    question: Question,
    standing: oneshot::Receiver<Option<Standing>>,
) -> Result<Response, Refusal> {
    let stopping = || failure::new(503, "ServiceUnavailable", "the hub is stopping".to_owned());
    api.questions.send(question).await.map_err(|_| stopping())?;
    let standing = standing.await.map_err(|_| stopping())?;
    Ok(json_response(StatusCode::OK, &json!({"recovery": standing.as_ref().map(shown)})))
}

fn shown(standing: &Standing) -> Value {
    let Standing { recovery, joined, unheard, found } = standing;
    let found: Vec<Value> = found
        .iter()
        .map(|(app, clusters)| json!({"application": app.to_string(), "clusters": clusters}))
        .collect();
    json!({
        "cause": match recovery.cause {
            Cause::Restored { .. } => "Restored",
            Cause::RolledBack { .. } => "RolledBack",
        },
        "message": recovery.cause.text(),
        "incarnation": recovery.incarnation.to_string(),
        "began": recovery.began,
        "accepted": recovery.accepted.as_ref().map(|accepted| json!({"at": accepted.at, "reason": accepted.reason})),
        "joined": joined,
        "notHeardOf": unheard,
        "foundOtherwise": found,
    })
}

/// Hands on what is written.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "whoever asked for the backup has gone");
        self.0.blocking_send(Ok(Bytes::copy_from_slice(piece))).map_err(gone)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
