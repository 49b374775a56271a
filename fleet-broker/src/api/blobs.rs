//! Content, named by its digest: uploaded once, checked while it arrives, kept compressed.

use axum::body::{Body, HttpBody};
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use futures::{StreamExt, stream};
use serde_json::json;

use super::Api;
use super::reply::{self, Refusal, bytes_response, json_response};
use crate::logic::registry::failure::{self, Failure};
use crate::store::{BLOB_MAX_LEN, BlobError, BlobInfo, BlobWriter, Store, StoreError, Write};

/// How much of a blob is read at once, in bytes.
const READ_LEN: usize = 256 * 1024;
/// The header with the length of the content, which is sent compressed.
const CONTENT_LEN_HEADER: HeaderName = HeaderName::from_static("x-edgefleet-content-length");

/// Takes content. 201 when it is new, 200 when it was here: then what is kept is compared, and mended if the disk
/// has damaged it.
pub(super) async fn put(
    State(api): State<Api>,
    Path(digest): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let digest = parse_digest(&digest)?;
    let known = api.hub.store().blob(digest).await.map_err(store_failed)?.is_some();
    let _permit = api.uploads.try_acquire().map_err(|_| reply::too_many("uploads"))?;
    let body = request.into_body();
    if body.size_hint().lower() > BLOB_MAX_LEN as u64 {
        return Err(refused(&BlobError::TooLong).into());
    }
    let mut writer = BlobWriter::new().map_err(|error| refused(&error))?;
    let mut pieces = body.into_data_stream();
    let mut len = 0;
    while let Some(piece) = pieces.next().await {
        let piece =
            piece.map_err(|error| failure::bad_request(format!("the upload was cut off: {error}")))?;
        len += piece.len() as u64;
        writer.write(&piece).map_err(|error| refused(&error))?;
    }
    let blob = writer.finish(digest).map_err(|error| refused(&error))?;
    api.hub.store().commit(vec![Write::PutBlob(blob)]).await.map_err(store_failed)?;
    let code = if known { StatusCode::OK } else { StatusCode::CREATED };
    Ok(json_response(code, &info_json(digest, len)))
}

/// Gives content back, as the zstd frame in which it is kept.
pub(super) async fn get(State(api): State<Api>, Path(digest): Path<String>) -> Result<Response, Refusal> {
    let digest = parse_digest(&digest)?;
    let store = api.hub.store().clone();
    let Some(info) = store.blob(digest).await.map_err(store_failed)? else {
        let message = format!("there is no blob sha256:{}", hex::encode(digest));
        return Err(failure::new(404, "NotFound", message).into());
    };
    let mut response =
        bytes_response(StatusCode::OK, "application/zstd", Body::from_stream(frame(store, digest, info)));
    put_len(response.headers_mut(), CONTENT_LENGTH, info.zstd_len);
    put_len(response.headers_mut(), CONTENT_LEN_HEADER, info.len);
    Ok(response)
}

fn frame(
    store: Store,
    digest: [u8; 32],
    info: BlobInfo,
) -> impl futures::Stream<Item = Result<Vec<u8>, StoreError>> {
    stream::try_unfold((store, 0), move |(store, offset)| async move {
        if offset >= info.zstd_len {
            return Ok(None);
        }
        let bytes = store.read_blob(digest, offset, READ_LEN).await?;
        let next = offset + bytes.len() as u64;
        if bytes.is_empty() {
            return Err(StoreError::Corrupt { what: "a blob is shorter than its record".to_owned() });
        }
        Ok(Some((bytes, (store, next))))
    })
}

fn parse_digest(text: &str) -> Result<[u8; 32], Failure> {
    let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let bytes = if lower { hex::decode(text).ok() } else { None };
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        failure::bad_request(format!("{text:?} is no SHA-256 digest: 64 lower case hexadecimal digits"))
    })
}

fn info_json(digest: [u8; 32], len: u64) -> serde_json::Value {
    json!({"digest": format!("sha256:{}", hex::encode(digest)), "length": len})
}

fn put_len(headers: &mut HeaderMap, name: HeaderName, len: u64) {
    headers.insert(name, HeaderValue::from(len));
}

fn refused(error: &BlobError) -> Failure {
    match error {
        BlobError::TooLong => failure::too_large(error.to_string()),
        BlobError::Digest { actual: _ } => failure::bad_request(error.to_string()),
        BlobError::Compress(_) => failure::new(500, "InternalError", error.to_string()),
    }
}

fn store_failed(error: StoreError) -> Failure {
    failure::new(500, "InternalError", format!("Internal error occurred: {error}"))
}
