//! The receiving end of a blob: written aside, hashed while it arrives, synced and renamed only when it is whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use riftmesh_base::BlobHash;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::link::{CallError, Target};

/// Why a blob did not appear at its destination.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    /// Our disk's fault.
    #[error("{path}: {error}", path = .path.display())]
    Disk {
        /// What was being written.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The sender's fault.
    #[error("asked for {expected}, received {length} bytes that hash to {found}")]
    Hash {
        /// The blob asked for.
        expected: BlobHash,
        /// What its bytes hash to.
        found: BlobHash,
        /// How many bytes came.
        length: u64,
    },
}

/// Numbers the files written aside by this process, so that two fetches of one blob do not share one.
static ASIDE: AtomicU64 = AtomicU64::new(0);

/// A blob being received. Dropped before [`BlobSink::finish`], it leaves nothing behind.
pub(crate) struct BlobSink {
    file: File,
    aside: Aside,
    into: PathBuf,
    hasher: blake3::Hasher,
    length: u64,
}

impl BlobSink {
    /// Opens a file next to `into`.
    pub(crate) async fn create(into: &Path) -> Result<Self, BlobError> {
        let number = ASIDE.fetch_add(1, Ordering::Relaxed);
        let mut name = into.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}-{number}.part", std::process::id()));
        let path = into.with_file_name(name);
        let file = File::create_new(&path).await.map_err(disk(&path))?;
        Ok(Self {
            file,
            aside: Aside(Some(path)),
            into: into.to_owned(),
            hasher: blake3::Hasher::new(),
            length: 0,
        })
    }

    /// Appends what arrived.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.file.write_all(bytes).await.map_err(disk(&self.into))
    }

    /// Checks the hash, makes the bytes durable and moves them into place; gives their number.
    pub(crate) async fn finish(mut self, expected: BlobHash) -> Result<u64, BlobError> {
        let found = BlobHash(*self.hasher.finalize().as_bytes());
        if found != expected {
            return Err(BlobError::Hash {
                expected,
                found,
                length: self.length,
            });
        }
        let into = disk(&self.into);
        self.file.flush().await.map_err(&into)?;
        self.file.sync_all().await.map_err(&into)?;
        if let Some(path) = &self.aside.0 {
            tokio::fs::rename(path, &self.into).await.map_err(&into)?;
        }
        self.aside.0 = None;
        sync_folder(&self.into).await.map_err(&into)?;
        Ok(self.length)
    }
}

/// The file written aside; removed on drop unless it was moved into place.
struct Aside(Option<PathBuf>);

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "a partial blob was left behind");
        }
    }
}

/// A rename is durable once the folder is.
async fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).await?.sync_all().await
}

fn disk(path: &Path) -> impl Fn(io::Error) -> BlobError {
    move |error| BlobError::Disk {
        path: path.to_owned(),
        error,
    }
}

/// A blob error in the words of the link.
pub(crate) fn blame(target: Target, error: BlobError) -> CallError {
    match error {
        BlobError::Disk { .. } => CallError::Local(error.to_string()),
        BlobError::Hash { .. } => CallError::Corrupt {
            target,
            reason: error.to_string(),
        },
    }
}
