//! The data directory: whose it is, which format it has, and that one process uses it at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use riftmesh_base::codec::{open, seal};
use riftmesh_base::{ClusterId, DecodeError, NodeId, decode, encode};
use serde::{Deserialize, Serialize};

use crate::disk::HostDisk;
use crate::durable;
use crate::error::StorageError;

const MAGIC: [u8; 4] = *b"RMdd";
/// Format of everything below the data directory. Raised by any change that an older build would misread.
const VERSION: u16 = 1;
const MARKER: &str = "riftmesh.node";
pub(crate) const LOCK: &str = "lock";
/// Below the data directory: where the Raft log and the snapshot live.
pub(crate) const RAFT: &str = "raft";
/// Below the data directory: where the blobs live.
pub(crate) const BLOBS: &str = "blobs";
/// Below [`DataDir::raft`]: the log's directory.
pub const LOG: &str = "log";
/// Below [`DataDir::raft`]: the snapshot's directory.
pub const SNAPSHOTS: &str = "snapshots";

/// Who a data directory belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub node: NodeId,
    pub cluster: Option<ClusterId>,
}

/// A data directory, held exclusively until the value is dropped or the process ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    marker: Marker,
    /// Carries the lock.
    _lock: File,
}

impl DataDir {
    /// Opens the data directory at `path`. A missing or empty directory becomes the home of `newborn()`, which is
    /// not called otherwise.
    ///
    /// # Errors
    /// [`StorageError::InUse`] when another process holds it, [`StorageError::Foreign`] when it holds other
    /// files or was written by another format version, [`StorageError::Damaged`] for a damaged marker.
    pub fn open(path: &Path, newborn: impl FnOnce() -> NodeId) -> Result<Self, StorageError> {
        durable::create_directory(&HostDisk, path)?;
        refuse_foreign_files(path)?;
        let lock = lock(path)?;
        let marker = match read_marker(path)? {
            Some(marker) => marker,
            None => {
                let marker = Marker {
                    node: newborn(),
                    cluster: None,
                };
                write_marker(path, &marker)?;
                marker
            }
        };
        Ok(Self {
            path: path.to_owned(),
            marker,
            _lock: lock,
        })
    }

    /// The node that lives here.
    pub fn node(&self) -> NodeId {
        self.marker.node
    }

    /// The cluster it belongs to, once it belongs to one.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.marker.cluster
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the Raft log and the snapshot live.
    pub fn raft(&self) -> PathBuf {
        self.path.join(RAFT)
    }

    /// Where the blobs live.
    pub fn blobs(&self) -> PathBuf {
        self.path.join(BLOBS)
    }

    /// Records the cluster, durable on return. A directory never changes its cluster.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] when it belongs to another cluster, else [`StorageError::Io`].
    pub fn join_cluster(&mut self, cluster: ClusterId) -> Result<(), StorageError> {
        match self.marker.cluster {
            Some(own) if own == cluster => Ok(()),
            Some(own) => Err(StorageError::Foreign {
                path: self.path.clone(),
                reason: format!(
                    "it belongs to cluster {own}, not {cluster}; use a fresh directory to join another cluster"
                ),
            }),
            None => {
                let marker = Marker {
                    cluster: Some(cluster),
                    ..self.marker
                };
                write_marker(&self.path, &marker)?;
                self.marker = marker;
                Ok(())
            }
        }
    }
}

/// A directory without a marker must be empty, so that a mistyped path never mixes our files with others'.
fn refuse_foreign_files(path: &Path) -> Result<(), StorageError> {
    if path.join(MARKER).exists() {
        return Ok(());
    }
    let list = fs::read_dir(path).map_err(|e| StorageError::io("list", path, &e))?;
    for entry in list {
        let name = entry
            .map_err(|e| StorageError::io("list", path, &e))?
            .file_name();
        let name = name.to_string_lossy();
        // Left by a first start that was interrupted.
        let ours = name == LOCK || Path::new(MARKER).with_extension("tmp").as_os_str() == &*name;
        if !ours {
            return Err(StorageError::Foreign {
                path: path.to_owned(),
                reason: format!(
                    "it is no riftmesh data directory and not empty (it holds `{name}`); name an empty or new one"
                ),
            });
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, StorageError> {
    let name = path.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|e| StorageError::io("open", &name, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(e)) => Err(StorageError::io("lock", &name, &e)),
    }
}

pub(crate) fn read_marker(path: &Path) -> Result<Option<Marker>, StorageError> {
    let name = path.join(MARKER);
    let Some(bytes) = durable::read_file(&HostDisk, &name)? else {
        return Ok(None);
    };
    let sealed = open(MAGIC, VERSION, &bytes);
    match sealed.and_then(|(payload, _)| decode(payload)) {
        Ok(marker) => Ok(Some(marker)),
        Err(DecodeError::Version {
            found, supported, ..
        }) => Err(StorageError::Foreign {
            path: path.to_owned(),
            reason: format!(
                "its format version is {found} and this build reads {supported}; run the riftmesh that wrote it"
            ),
        }),
        Err(e) => Err(StorageError::damaged(&name, e)),
    }
}

fn write_marker(path: &Path, marker: &Marker) -> Result<(), StorageError> {
    let bytes = seal(MAGIC, VERSION, &encode(marker));
    durable::replace_file(&HostDisk, &path.join(MARKER), &[&bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node's identity is made once and found again; a second user is turned away while the first is there.
    #[test]
    fn one_node_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = DataDir::open(&path, || NodeId(7)).unwrap();
        let second = DataDir::open(&path, || NodeId(8));
        assert!(matches!(second, Err(StorageError::InUse { .. })));
        drop(first);
        assert_eq!(
            DataDir::open(&path, || NodeId(8)).unwrap().node(),
            NodeId(7)
        );
    }

    /// The cluster is recorded for good.
    #[test]
    fn a_directory_never_changes_its_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let mut data = DataDir::open(dir.path(), || NodeId(7)).unwrap();
        data.join_cluster(ClusterId([1; 16])).unwrap();
        drop(data);
        let mut data = DataDir::open(dir.path(), || NodeId(8)).unwrap();
        assert_eq!(data.cluster(), Some(ClusterId([1; 16])));
        data.join_cluster(ClusterId([1; 16])).unwrap();
        let error = data.join_cluster(ClusterId([2; 16])).unwrap_err();
        assert!(error.to_string().contains("fresh directory"), "{error}");
    }

    /// Other people's files, damage and newer formats are told apart, in words, and nothing is touched.
    #[test]
    fn strange_directories_are_refused_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), b"").unwrap();
        let error = DataDir::open(dir.path(), || NodeId(7)).unwrap_err();
        assert!(error.to_string().contains("thesis.tex"), "{error}");
        assert!(!dir.path().join(MARKER).exists());

        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), || NodeId(7)).unwrap());
        let marker = dir.path().join(MARKER);
        let good = fs::read(&marker).unwrap();
        fs::write(&marker, seal(MAGIC, VERSION + 1, b"?")).unwrap();
        let error = DataDir::open(dir.path(), || NodeId(7)).unwrap_err();
        assert!(error.to_string().contains("format version is 2"), "{error}");
        fs::write(&marker, &good[..good.len() - 1]).unwrap();
        let error = DataDir::open(dir.path(), || NodeId(7)).unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    }

    /// A first start that was killed before it wrote its marker can be repeated.
    #[test]
    fn an_interrupted_first_start_can_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOCK), b"").unwrap();
        fs::write(dir.path().join("riftmesh.tmp"), b"half").unwrap();
        assert_eq!(
            DataDir::open(dir.path(), || NodeId(7)).unwrap().node(),
            NodeId(7)
        );
    }
}
