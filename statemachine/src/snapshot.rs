//! The state as bytes: a header that names version and sections, then the sections, each with its hash.
//!
//! Indexes are not part of the image; they are rebuilt from what they follow from, and the whole is validated before
//! it replaces anything.

use riftmesh_base::limits::SNAPSHOT_BYTES_MAX;
use riftmesh_base::{BlobHash, DecodeError, codec, decode, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::invariants::Violation;
use crate::level::LEVEL;
use crate::state::State;

mod older;

use older::{NodesV1, QueueV1};

const MAGIC: [u8; 4] = *b"RMst";
/// Rises with the meaning or the bytes of a section. A build that knows several reads the older ones too.
const VERSION: u16 = 5;
/// In the order they follow each other, each with the first version that has it. An older image lacks the later ones,
/// and what they would hold is empty: nothing that was known then could have filled them.
const SECTIONS: [(&str, u16); 15] = [
    ("head", 1),
    ("clients", 1),
    ("nodes", 1),
    ("queue", 1),
    ("matches", 1),
    ("configurations", 1),
    ("locks", 2),
    ("settings", 2),
    ("tenants", 3),
    ("level", 3),
    ("trust", 4),
    ("holds", 5),
    ("archive", 5),
    ("drains", 5),
    ("authorities", 5),
];

/// What the header says of a section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SectionHeader {
    name: String,
    bytes: u64,
    hash: BlobHash,
}

/// Why an image cannot be restored. Nothing was changed; the image is damaged or of another build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Larger than an image may be.
    #[error("image of {found} bytes: at most {SNAPSHOT_BYTES_MAX} are allowed")]
    Large {
        /// Its length.
        found: usize,
    },
    /// The header is damaged or of another version.
    #[error("image header: {0}")]
    Header(DecodeError),
    /// Other sections than this version has, or a wrong length.
    #[error("image sections: {0}")]
    Sections(String),
    /// A section's bytes do not have the hash the header gives.
    #[error("image section `{0}` is damaged: its hash does not match")]
    Hash(&'static str),
    /// A section does not decode.
    #[error("image section `{section}`: {error}")]
    Section {
        /// Which.
        section: &'static str,
        /// Why.
        error: DecodeError,
    },
    /// The cluster behaves by a level that this build does not know.
    #[error(
        "image of a cluster at level {found}: this build knows levels up to {LEVEL}; upgrade it"
    )]
    Level {
        /// The level.
        found: u32,
    },
    /// The image decodes to a state that breaks a rule.
    #[error("the image breaks {} rules, first: {}", .0.len(), .0[0])]
    Invalid(Vec<Violation>),
}

impl State {
    /// The state's image. Equal states give equal bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let sections = [
            encode(&self.head),
            encode(&self.clients),
            encode(&self.nodes),
            encode(&self.queue),
            encode(&self.matches),
            encode(&self.configurations),
            encode(&self.locks),
            encode(&self.settings),
            encode(&self.tenants),
            encode(&self.level),
            encode(&self.trust),
            encode(&self.holds),
            encode(&self.archive),
            encode(&self.drains),
            encode(&self.authorities),
        ];
        let headers = SECTIONS
            .iter()
            .zip(&sections)
            .map(|((name, _), bytes)| SectionHeader {
                name: (*name).to_owned(),
                bytes: bytes.len() as u64,
                hash: BlobHash::of(bytes),
            });
        let headers: Vec<SectionHeader> = headers.collect();
        let mut image = codec::seal(MAGIC, VERSION, &encode(&headers));
        sections.iter().for_each(|section| image.extend(section));
        image
    }

    /// Reads an image back: checks every hash, rebuilds the indexes and validates the result.
    ///
    /// # Errors
    /// [`RestoreError`]; the image must be fetched again or replaced by an older one.
    pub fn restore(image: &[u8]) -> Result<Self, RestoreError> {
        if image.len() > SNAPSHOT_BYTES_MAX {
            return Err(RestoreError::Large { found: image.len() });
        }
        let (version, header, mut rest) = open(image)?;
        let headers: Vec<SectionHeader> = decode(header).map_err(RestoreError::Header)?;
        let expected = SECTIONS.into_iter().filter(|(_, since)| *since <= version);
        let expected: Vec<&'static str> = expected.map(|(name, _)| name).collect();
        let named = headers.iter().map(|header| header.name.as_str());
        if !named.eq(expected.iter().copied()) {
            return Err(RestoreError::Sections(format!(
                "{} found, {} expected in version {version}",
                headers.len(),
                expected.len()
            )));
        }
        let mut headers = headers.iter().zip(expected);
        let mut state = Self {
            head: section(&mut headers, &mut rest)?,
            clients: section(&mut headers, &mut rest)?,
            nodes: if version < 3 {
                section::<NodesV1>(&mut headers, &mut rest)?.into()
            } else {
                section(&mut headers, &mut rest)?
            },
            queue: if version < 3 {
                section::<QueueV1>(&mut headers, &mut rest)?.into()
            } else {
                section(&mut headers, &mut rest)?
            },
            matches: section(&mut headers, &mut rest)?,
            configurations: section(&mut headers, &mut rest)?,
            locks: later_section(&mut headers, &mut rest)?,
            settings: later_section(&mut headers, &mut rest)?,
            tenants: later_section(&mut headers, &mut rest)?,
            level: later_section(&mut headers, &mut rest)?,
            trust: later_section(&mut headers, &mut rest)?,
            holds: later_section(&mut headers, &mut rest)?,
            archive: later_section(&mut headers, &mut rest)?,
            drains: later_section(&mut headers, &mut rest)?,
            authorities: later_section(&mut headers, &mut rest)?,
        };
        if !rest.is_empty() {
            let left = format!("{} bytes left over behind the last one", rest.len());
            return Err(RestoreError::Sections(left));
        }
        if state.level.0 > LEVEL {
            return Err(RestoreError::Level {
                found: state.level.0,
            });
        }
        state.rebuild();
        match state.validate() {
            Ok(()) => Ok(state),
            Err(violations) => Err(RestoreError::Invalid(violations)),
        }
    }

    /// A hash of everything in the state. Replicas at the same index must have the same; it costs an encoding.
    pub fn hash(&self) -> BlobHash {
        BlobHash::of(&self.snapshot())
    }

    fn rebuild(&mut self) {
        self.clients.rebuild();
        self.queue.rebuild();
        self.matches.rebuild();
        self.locks.rebuild();
        self.holds.rebuild(self.queue.records());
        for configuration in self.configurations.values_mut() {
            configuration.ledger.rebuild();
            configuration.registry.rebuild();
        }
        for record in self.queue.records() {
            let session = record.state.lease().map(|lease| lease.session);
            if let Some(session) = session.and_then(|id| self.nodes.sessions.get_mut(&id)) {
                session.reserve(record.id, record.spec.needs, &record.terms);
            }
        }
    }
}

/// Version, header and sections of an image of any version that this build reads.
fn open(image: &[u8]) -> Result<(u16, &[u8], &[u8]), RestoreError> {
    let found = image.get(4..6).and_then(|bytes| bytes.try_into().ok());
    let older = found
        .map(u16::from_le_bytes)
        .filter(|v| *v < VERSION && *v > 0);
    let version = older.unwrap_or(VERSION);
    match codec::open(MAGIC, version, image) {
        Ok((header, rest)) => Ok((version, header, rest)),
        Err(error) => Err(RestoreError::Header(error)),
    }
}

/// Takes the next section off `rest`; empty when the image is older than that section.
fn later_section<'h, T: DeserializeOwned + Default>(
    headers: &mut impl ExactSizeIterator<Item = (&'h SectionHeader, &'static str)>,
    rest: &mut &[u8],
) -> Result<T, RestoreError> {
    if headers.len() == 0 {
        return Ok(T::default());
    }
    section(headers, rest)
}

/// Takes the next section off `rest`.
fn section<'h, T: DeserializeOwned>(
    headers: &mut impl Iterator<Item = (&'h SectionHeader, &'static str)>,
    rest: &mut &[u8],
) -> Result<T, RestoreError> {
    let missing = || RestoreError::Sections("one is missing".to_owned());
    let (header, name) = headers.next().ok_or_else(missing)?;
    let bytes = usize::try_from(header.bytes).map_err(|_| missing())?;
    let (section, behind) = rest.split_at_checked(bytes).ok_or_else(|| {
        RestoreError::Sections(format!("`{name}` is cut off: {bytes} bytes announced"))
    })?;
    *rest = behind;
    if BlobHash::of(section) != header.hash {
        return Err(RestoreError::Hash(name));
    }
    decode(section).map_err(|error| RestoreError::Section {
        section: name,
        error,
    })
}
