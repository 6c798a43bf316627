//! podman's own import of an image. Its Docker-compatible one keeps each archive in its temporary directory for ever
//! (podman's issue 28531).

use std::io;

use bootrace_model::foreign::tail;
use form_urlencoded::Serializer;
use futures_util::{Stream, TryStreamExt};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Frame},
    client::conn::http1::handshake,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

use super::{engine::ContainerEngine, error::Error};

/// The first version with this call; later ones answer it as well.
const PATH: &str = "/v3.0.0/libpod/images/import";
/// The longest answer that is read, in bytes.
const LONGEST: usize = 64 << 10;
/// The longest part of a reason that an error shows, in bytes.
const SHOWN: usize = 500;

/// podman's answer to what it can't do.
#[derive(Deserialize)]
pub(crate) struct Refusal {
    pub(crate) message: String,
}

/// Imports an archive as the image `reference`, with these instructions.
///
/// # Errors
/// When podman does not answer or refuses, with its reason.
pub(super) async fn import(
    reference: &str,
    changes: &[String],
    files: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Result<(), Error> {
    let failed = |why: String| Error::Engine {
        engine: ContainerEngine::Podman.name(),
        tried: format!("import {reference}"),
        why,
    };
    let address = ContainerEngine::Podman.address().map_err(|unusable| unusable.refusal.clone())?;
    let socket = address.uri.strip_prefix("unix://").unwrap_or(&address.uri);
    let stream = UnixStream::connect(socket).await.map_err(|e| failed(format!("{socket}: {e}")))?;
    let (mut requests, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|e| failed(e.to_string()))?;
    let mut query = Serializer::new(String::new());
    query.append_pair("reference", reference);
    changes.iter().for_each(|change| {
        query.append_pair("changes", change);
    });
    let request = Request::post(format!("{PATH}?{}", query.finish()))
        .header(HOST, "podman")
        .header(CONTENT_TYPE, "application/x-tar")
        .body(StreamBody::new(Box::pin(files.map_ok(Frame::data))))
        .map_err(|e| failed(e.to_string()))?;
    // The connection ends with the sender.
    let answer = async move {
        let response = requests.send_request(request).await.map_err(|e| failed(e.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        Ok::<_, Error>((status, body.map_err(|e| failed(e.to_string()))?.to_bytes()))
    };
    let (answer, _) = tokio::join!(answer, connection);
    let (status, body) = answer?;
    match status {
        StatusCode::OK => Ok(()),
        _ => {
            let refusal = serde_json::from_slice::<Refusal>(&body);
            let why = refusal.map_or_else(|_| format!("HTTP status {status}"), |refusal| refusal.message);
            Err(failed(tail(&why, SHOWN)))
        }
    }
}
