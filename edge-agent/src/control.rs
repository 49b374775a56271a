//! The control socket: how somebody at the site speaks with a running agent.
//!
//! A Unix socket in the state directory, for its owner only. A client writes one line of JSON, a [`Request`],
//! and reads one, a [`Reply`]. Clients are served one after another, each for a bounded time.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::debug;

use crate::status::Status;

/// Longest request in bytes: a record of a carried file, in base64, with its name around it.
const REQUEST_BYTES: u64 = (protocol::limits::MESSAGE_BYTES as u64).div_ceil(3) * 4 + 1024;

/// Longest reply in bytes: a status of as many applications as a cluster may have, with their messages.
const REPLY_BYTES: u64 = 1 << 20;

/// How long one client may take. The agent answers between two events, or, while it rests, at once.
const SERVE_WITHIN: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// How is it?
    Status,
    /// Nobody changes this site now.
    Hold {
        /// Why.
        reason: String,
    },
    /// The hold is over.
    Release,
    /// Somebody looked at this machine's clock: it is right.
    ConfirmClock,
    /// Takes a record of a file from the hub.
    Carry {
        /// The record, as it stands in the file.
        #[serde(with = "as_base64")]
        record: Vec<u8>,
    },
    /// Gives a report for the hub.
    Report {
        /// Which of them, counted from zero.
        index: usize,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "camelCase")]
pub enum Reply {
    /// So it is.
    Status(Box<Status>),
    /// It is done, and on disk.
    Done,
    /// A report.
    Report {
        /// Its envelope.
        #[serde(with = "as_base64")]
        envelope: Vec<u8>,
        /// How many there are.
        count: usize,
    },
    /// It was not done.
    Failed {
        /// Why.
        message: String,
    },
}

/// A request and where its answer goes.
#[derive(Debug)]
pub struct Ask {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Reply>,
}

/// A control socket that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It cannot be made.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Whoever asks may not.
    #[error("no right to use {}: run this as the agent's user, or as root", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody answers.
    #[error("no agent answers at {}: is it running, and is this its state directory?", path.display())]
    Ask {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Listens at `path`. Whoever has the journal open has the socket too: one left behind is replaced.
pub fn listen(path: &Path) -> Result<UnixListener, ControlError> {
    let failed = |source| ControlError::Listen { path: path.to_owned(), source };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Serves clients until the agent is gone.
pub async fn serve(listener: UnixListener, asks: mpsc::Sender<Ask>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        match timeout(SERVE_WITHIN, answer(&mut stream, &asks)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "a client of the control socket was not served"),
            Err(_) => debug!("a client of the control socket was too slow"),
        }
        if asks.is_closed() {
            return;
        }
    }
}

async fn answer(stream: &mut UnixStream, asks: &mpsc::Sender<Ask>) -> io::Result<()> {
    let mut line = Vec::new();
    let (reader, mut writer) = stream.split();
    let mut reader = tokio::io::BufReader::new(reader.take(REQUEST_BYTES));
    reader.read_until(b'\n', &mut line).await?;
    let reply = match serde_json::from_slice(&line) {
        Ok(request) => consult(request, asks).await,
        Err(error) => {
            Reply::Failed { message: format!("not a request of at most {REQUEST_BYTES} bytes: {error}") }
        }
    };
    let mut bytes = serde_json::to_vec(&reply).map_err(io::Error::other)?;
    bytes.push(b'\n');
    writer.write_all(&bytes).await
}

async fn consult(request: Request, asks: &mpsc::Sender<Ask>) -> Reply {
    let (reply, answer) = oneshot::channel();
    let gone = || Reply::Failed { message: "the agent is stopping".to_owned() };
    if asks.send(Ask { request, reply }).await.is_err() {
        return gone();
    }
    answer.await.unwrap_or_else(|_| gone())
}

/// Whether an agent listens at `path`.
pub fn answers(path: &Path) -> bool {
    // One that does not let us in is one that runs.
    let gone = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
    !std::os::unix::net::UnixStream::connect(path).is_err_and(|error| gone.contains(&error.kind()))
}

/// Asks the agent that listens at `path`. Blocks.
pub fn ask(path: &Path, request: &Request) -> Result<Reply, ControlError> {
    exchange(path, request).map_err(|source| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            return ControlError::Denied { path, source };
        }
        ControlError::Ask { path, source }
    })
}

fn exchange(path: &Path, request: &Request) -> io::Result<Reply> {
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(SERVE_WITHIN))?;
    stream.set_write_timeout(Some(SERVE_WITHIN))?;
    let mut bytes = serde_json::to_vec(request)?;
    bytes.push(b'\n');
    stream.write_all(&bytes)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(REPLY_BYTES)).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

/// Bytes in a line of JSON.
mod as_base64 {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_one_line_of_json() {
        let check = |line: &str, expected: Option<Request>| {
            assert_eq!(serde_json::from_str(line).ok(), expected, "{line}");
        };
        check(r#"{"request":"status"}"#, Some(Request::Status));
        let hold = Request::Hold { reason: "crane".into() };
        check(r#"{"request":"hold","reason":"crane"}"#, Some(hold));
        check(r#"{"request":"release"}"#, Some(Request::Release));
        let carry = Request::Carry { record: vec![1, 2, 3, 4] };
        check(r#"{"request":"carry","record":"AQIDBA=="}"#, Some(carry));
        check(r#"{"request":"carry","record":"AQIDBA"}"#, None);
        check(r#"{"request":"confirmClock"}"#, Some(Request::ConfirmClock));
        check(r#"{"request":"report","index":3}"#, Some(Request::Report { index: 3 }));
        check(r#"{"request":"hold"}"#, None);
        check(r#"{"request":"reboot"}"#, None);
        check("", None);
    }
}
