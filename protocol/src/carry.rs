//! The file that carries what would else pass over a link: down to a site, or a site's reports back up.
//!
//! A magic line, then records, each behind its length: a label, what is carried, and a digest of all before it. What
//! is carried is the very bytes that travel over a link, so whoever takes it believes no more than there: the label
//! and the digest are for people and against damage, and prove nothing.

use std::{
    fmt,
    io::{self, Read},
};

use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, DecodeError},
    ids::{AppId, ClusterId, Digest, FleetId, Hasher},
    limits,
    order::Order,
    time::UnixSeconds,
};

/// The first line of every such file. Another version of the format has another number.
pub const MAGIC: &[u8; 17] = b"edgefleet carry 1";

/// Bytes of a record's length, which stands before it.
const LENGTH_BYTES: usize = 4;

/// One thing in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// What the file is. The first record, and no other.
    Label(Label),
    /// The envelope of a [`crate::documents::CarryHead`].
    Head(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The envelope of a [`crate::documents::Desired`].
    Desired(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A piece of content: an encoded [`crate::documents::Chunk`].
    Piece(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The envelope of a [`crate::documents::Report`].
    Report(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Digest of every byte before this record. The last record, and no other.
    End(Digest),
}

/// What a file says of itself, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Of which fleet.
    pub fleet: FleetId,
    /// For, or from, which cluster.
    pub cluster: ClusterId,
    /// When it was made, by the clock of who made it.
    pub made: UnixSeconds,
    /// Which way it goes, and what follows.
    pub way: Way,
}

/// Which way a file goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// From the hub to a cluster.
    ToCluster {
        /// The desired state that it brings.
        order: Order,
        /// After this nothing of it starts.
        valid_until: UnixSeconds,
        /// What the cluster shall run.
        apps: Vec<Carried>,
    },
    /// From a cluster to the hub.
    ToHub,
}

/// One application in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// Which.
    pub app: AppId,
    /// Version of its release.
    pub version: String,
    /// Whether release and content are in the file; if not, the cluster said that it has them.
    pub included: bool,
    /// Why the hub permits no start of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// It does not begin as one.
    #[error("it is not a file of `edgefleet export` or `edge-agent report`, or of a newer version of them")]
    Magic,
    /// It is longer than any may be.
    #[error("it is larger than {} bytes, which no such file is", limits::CARRY_BYTES)]
    TooLarge,
    /// It stops before its end.
    #[error("it ends after {offset} bytes, before its own end: copy it again")]
    Truncated {
        /// Where it ends.
        offset: u64,
    },
    /// Its bytes are not those that were written.
    #[error("it is damaged near byte {offset}: {problem}; copy it again")]
    Damaged {
        /// Where the damage was noticed.
        offset: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// A record is not one.
    #[error("it is damaged near byte {offset}: copy it again")]
    Record {
        /// Where the record starts.
        offset: u64,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
}

/// Makes a file, record by record; the bytes are for the caller to write.
pub struct Writer {
    hasher: Hasher,
}

impl Writer {
    /// Starts a file: its first bytes.
    pub fn begin(label: Label) -> (Self, Vec<u8>) {
        let mut writer = Self { hasher: Hasher::new() };
        writer.hasher.update(MAGIC);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(writer.put(&Record::Label(label)));
        (writer, bytes)
    }

    /// The next bytes.
    pub fn put(&mut self, record: &Record) -> Vec<u8> {
        let bytes = framed(record);
        self.hasher.update(&bytes);
        bytes
    }

    /// The last bytes.
    pub fn end(self) -> Vec<u8> {
        framed(&Record::End(self.hasher.finish()))
    }
}

fn framed(record: &Record) -> Vec<u8> {
    let payload = codec::encode(record);
    let len = u32::try_from(payload.len()).expect("a record is smaller than a message");
    [&len.to_be_bytes(), payload.as_slice()].concat()
}

/// Reads a file, one record in memory at a time.
pub struct Reader<R> {
    input: R,
    hasher: Hasher,
    offset: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the label.
    pub fn open(input: R) -> Result<(Self, Label), CarryError> {
        let mut reader = Self { input, hasher: Hasher::new(), offset: 0 };
        let mut magic = [0; MAGIC.len()];
        match reader.fill(&mut magic) {
            Ok(()) if &magic == MAGIC => reader.hasher.update(&magic),
            Ok(()) | Err(CarryError::Truncated { .. }) => return Err(CarryError::Magic),
            Err(error) => return Err(error),
        }
        match reader.parse()? {
            Record::Label(label) => Ok((reader, label)),
            Record::Head(_) | Record::Desired(_) | Record::Piece(_) | Record::Report(_) | Record::End(_) => {
                Err(reader.damaged("it has no label"))
            }
        }
    }

    /// The next of what is carried; none once the end was reached and all of it was as it was written.
    pub fn read(&mut self) -> Result<Option<Record>, CarryError> {
        let hasher = self.hasher.clone();
        match self.parse()? {
            Record::Label(_) => Err(self.damaged("a second label")),
            Record::End(digest) if digest != hasher.finish() => Err(self.damaged("its digest differs")),
            Record::End(_) => {
                let mut more = [0];
                match self.fill(&mut more) {
                    Err(CarryError::Truncated { .. }) => Ok(None),
                    Ok(()) => Err(self.damaged("bytes follow its end")),
                    Err(error) => Err(error),
                }
            }
            carried @ (Record::Head(_) | Record::Desired(_) | Record::Piece(_) | Record::Report(_)) => {
                Ok(Some(carried))
            }
        }
    }

    fn parse(&mut self) -> Result<Record, CarryError> {
        let start = self.offset;
        let mut length = [0; LENGTH_BYTES];
        self.fill(&mut length)?;
        let len = u32::from_be_bytes(length) as usize;
        if len > limits::MESSAGE_BYTES {
            return Err(CarryError::Damaged { offset: start, problem: "a record is too long" });
        }
        if self.offset + len as u64 > limits::CARRY_BYTES {
            return Err(CarryError::TooLarge);
        }
        let mut payload = vec![0; len];
        self.fill(&mut payload)?;
        self.hasher.update(&length);
        self.hasher.update(&payload);
        codec::decode("record", &payload).map_err(|source| CarryError::Record { offset: start, source })
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), CarryError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => return Err(CarryError::Truncated { offset: self.offset }),
                Ok(read) => (filled, self.offset) = (filled + read, self.offset + read as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CarryError::Read(error)),
            }
        }
        Ok(())
    }

    fn damaged(&self, problem: &'static str) -> CarryError {
        CarryError::Damaged { offset: self.offset, problem }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ToCluster { .. } => "updates for a cluster",
            Self::ToHub => "reports for the hub",
        })
    }
}
