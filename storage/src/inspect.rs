//! Looking at a stopped node's directory without changing it.
//!
//! ```text
//! StoppedNode::open(data directory)      whose it is; no node can start on it while the value lives
//!   .node() .cluster()
//!   .log()      -> Option<StoppedLog>    .report: LogReport   engine, size on disk, vote, commit mark, purge point,
//!                                                             range, count and bytes of the entries
//!                                        .entries(from, to, bytes_max)   the entries themselves
//!   .snapshot() -> Option<StoppedSnapshot>   .report: SnapshotReport   sizes and hashes of its sections
//!                                            .saved:  SavedSnapshot    the sections
//!   .blob(hash, bytes_max) -> Option<Vec<u8>>
//! ```
//!
//! Votes, marks, entries, meta and image are bytes here as everywhere in this crate; who wrote them can read them.
//! What is damaged is an error that names the file and what does not fit, not a report with holes.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use riftmesh_base::{BlobHash, ClusterId, NodeId};
use tempfile::TempDir;

use crate::blobs;
use crate::disk::HostDisk;
use crate::durable;
use crate::error::StorageError;
use crate::format::{self, Marker};
use crate::log::{LogEngine, LogHead};
use crate::segments::{self, SegmentLog};
use crate::sled_log::{self, SledLog};
use crate::snapshots::{DiskSnapshots, SavedSnapshot};

/// Bytes of entries read at a time while a log is summed up.
const READ_BYTES: usize = 4 << 20;

/// The directory of a node that does not run. Other inspections may look at the same time; a node may not start.
#[derive(Debug)]
pub struct StoppedNode {
    path: PathBuf,
    marker: Marker,
    /// Carries the lock, if the node ever started.
    _lock: Option<File>,
}

/// Which engine wrote a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// [`SledLog`].
    Sled,
    /// [`SegmentLog`].
    Segments,
}

impl LogKind {
    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = [Self::Sled, Self::Segments].into_iter();
        all.find(|kind| kind.name() == name)
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Segments => "segments",
        }
    }
}

/// What a log holds, in numbers. Every entry was read and its checksum fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogReport {
    /// The log's directory.
    pub path: PathBuf,
    /// Who wrote it.
    pub kind: LogKind,
    /// Bytes of its files as allocated on disk.
    pub disk_bytes: u64,
    /// Vote, commit mark, purge point, and first and last index.
    pub head: LogHead,
    /// Number of entries.
    pub entries: u64,
    /// Bytes of all entries.
    pub entry_bytes: u64,
    /// Bytes of the longest entry.
    pub entry_bytes_max: u64,
}

/// A log opened for looking.
pub struct StoppedLog {
    /// What it holds.
    pub report: LogReport,
    engine: Box<dyn LogEngine>,
    /// Where the copy lives that a writing engine was opened on.
    _copy: Option<TempDir>,
}

/// What a snapshot's file holds, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotReport {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub file_bytes: u64,
    /// Bytes of the meta section.
    pub meta_bytes: u64,
    /// BLAKE3 of the meta section.
    pub meta_hash: BlobHash,
    /// Bytes of the state's image.
    pub image_bytes: u64,
    /// BLAKE3 of the image: two nodes at the same index have the same.
    pub image_hash: BlobHash,
}

/// A snapshot with its report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedSnapshot {
    /// Its numbers.
    pub report: SnapshotReport,
    /// Its sections.
    pub saved: SavedSnapshot,
}

impl StoppedNode {
    /// Takes a look at the data directory `path`.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] when it is no data directory or of another format version,
    /// [`StorageError::InUse`] when a node runs on it, [`StorageError::Damaged`] for a damaged marker, else
    /// [`StorageError::Io`].
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let marker = format::read_marker(path)?.ok_or_else(|| StorageError::Foreign {
            path: path.to_owned(),
            reason: "it is no riftmesh data directory; name the directory that the node was started with".to_owned(),
        })?;
        Ok(Self {
            _lock: lock_shared(path)?,
            path: path.to_owned(),
            marker,
        })
    }

    /// The node that lives here.
    pub fn node(&self) -> NodeId {
        self.marker.node
    }

    /// The cluster it belongs to, if it ever belonged to one.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.marker.cluster
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log; none when the node never had one. A log on sled is copied to the temporary directory and opened
    /// there, since sled writes when it opens.
    ///
    /// # Errors
    /// [`StorageError::Damaged`], with what does not fit, or [`StorageError::Io`].
    pub fn log(&self) -> Result<Option<StoppedLog>, StorageError> {
        let path = self.path.join(format::RAFT).join(format::LOG);
        let Some(place) = sled_log::resting_place(&path) else {
            return Ok(None);
        };
        let disk_bytes = sled_log::size_on_disk(&place)?;
        if segments::is_here(&place) {
            let engine = SegmentLog::look(&place)?;
            let report = sum_up(&engine, &place, LogKind::Segments, disk_bytes)?;
            return Ok(Some(StoppedLog {
                report,
                engine: Box::new(engine),
                _copy: None,
            }));
        }
        look_at_sled(&place, disk_bytes).map(Some)
    }

    /// The snapshot; none when the node never made or received one.
    ///
    /// # Errors
    /// [`StorageError::Damaged`], with the section that does not fit, or [`StorageError::Io`].
    pub fn snapshot(&self) -> Result<Option<StoppedSnapshot>, StorageError> {
        let directory = self.path.join(format::RAFT).join(format::SNAPSHOTS);
        let path = DiskSnapshots::file(&directory);
        let Some(saved) = DiskSnapshots::read(&HostDisk, &path)? else {
            return Ok(None);
        };
        let data = fs::metadata(&path).map_err(|e| StorageError::io("inspect", &path, &e))?;
        let report = SnapshotReport {
            path,
            file_bytes: data.len(),
            meta_bytes: saved.meta.len() as u64,
            meta_hash: BlobHash::of(&saved.meta),
            image_bytes: saved.image.len() as u64,
            image_hash: BlobHash::of(&saved.image),
        };
        Ok(Some(StoppedSnapshot { report, saved }))
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, hash: &BlobHash) -> PathBuf {
        blobs::place(&self.path.join(format::BLOBS), hash)
    }

    /// The bytes under the name of a blob, not checked against it; none when there is no such file.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when it is longer than `bytes_max`, which no blob of the kind looked for is, or
    /// [`StorageError::Io`].
    pub fn blob(&self, hash: &BlobHash, bytes_max: u64) -> Result<Option<Vec<u8>>, StorageError> {
        let path = self.blob_path(hash);
        let length = fs::metadata(&path).map_or(0, |data| data.len());
        if length > bytes_max {
            let why = format!("it has {length} bytes, and at most {bytes_max} are possible");
            return Err(StorageError::damaged(&path, why));
        }
        durable::read_file(&HostDisk, &path)
    }
}

impl StoppedLog {
    /// Entries `from..to`, as [`LogEngine::read`] gives them.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] or [`StorageError::Io`].
    pub fn entries(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StorageError> {
        self.engine.read(from, to, bytes_max)
    }
}

/// Fails while a node runs here; keeps one from starting as long as the file is open.
fn lock_shared(path: &Path) -> Result<Option<File>, StorageError> {
    let name = path.join(format::LOCK);
    let file = match File::open(&name) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StorageError::io("open", &name, &e)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(e)) => Err(StorageError::io("lock", &name, &e)),
    }
}

fn look_at_sled(place: &Path, disk_bytes: u64) -> Result<StoppedLog, StorageError> {
    let copy = tempfile::tempdir()
        .map_err(|e| StorageError::io("create a directory in", &std::env::temp_dir(), &e))?;
    let target = copy.path().join(format::LOG);
    copy_directory(place, &target)?;
    let told = |error| at_original(error, &target, place);
    let engine = SledLog::open_as_is(&target).map_err(told)?;
    let report = sum_up(&engine, place, LogKind::Sled, disk_bytes).map_err(told)?;
    Ok(StoppedLog {
        report,
        engine: Box::new(engine),
        _copy: Some(copy),
    })
}

fn sum_up(
    engine: &dyn LogEngine,
    path: &Path,
    kind: LogKind,
    disk_bytes: u64,
) -> Result<LogReport, StorageError> {
    let head = engine.head()?;
    let (mut next, end) = head
        .entries
        .map_or((0, 0), |(first, last)| (first, last + 1));
    let mut report = LogReport {
        path: path.to_owned(),
        kind,
        disk_bytes,
        head,
        entries: 0,
        entry_bytes: 0,
        entry_bytes_max: 0,
    };
    while next < end {
        let read = engine.read(next, end, READ_BYTES)?;
        let Some((last, _)) = read.last() else {
            return Err(StorageError::damaged(
                path,
                format!("entry {next} is missing"),
            ));
        };
        next = last + 1;
        for (_, bytes) in &read {
            report.entries += 1;
            report.entry_bytes += bytes.len() as u64;
            report.entry_bytes_max = report.entry_bytes_max.max(bytes.len() as u64);
        }
    }
    Ok(report)
}

fn copy_directory(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::create_dir(to).map_err(|e| StorageError::io("create", to, &e))?;
    let list = fs::read_dir(from).map_err(|e| StorageError::io("list", from, &e))?;
    for entry in list {
        let entry = entry.map_err(|e| StorageError::io("list", from, &e))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_directory(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(|e| StorageError::io("copy", &source, &e))?;
        }
    }
    Ok(())
}

/// An error about the copy, told about the original, which is what the reader can do something about.
fn at_original(error: StorageError, copy: &Path, original: &Path) -> StorageError {
    match error {
        StorageError::Damaged { path, reason } => StorageError::Damaged {
            path: match path.strip_prefix(copy) {
                Ok(rest) if rest.as_os_str().is_empty() => original.to_owned(),
                Ok(rest) => original.join(rest),
                Err(_) => path,
            },
            reason,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::DataDir;
    use crate::log::{LogOp, PurgePoint};
    use crate::snapshots::SnapshotSlot as _;

    /// Every file below `path` with its bytes.
    fn files(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() {
                found.extend(files(&entry));
            } else {
                let bytes = fs::read(&entry).unwrap();
                found.push((entry, bytes));
            }
        }
        found.sort();
        found
    }

    fn sled(path: &Path) -> Box<dyn LogEngine> {
        Box::new(SledLog::open(path).unwrap())
    }

    fn segments(path: &Path) -> Box<dyn LogEngine> {
        Box::new(SegmentLog::open(path).unwrap())
    }

    fn node_with_data(path: &Path, open: fn(&Path) -> Box<dyn LogEngine>) -> LogHead {
        let mut data = DataDir::open(path, || NodeId(7)).unwrap();
        data.join_cluster(ClusterId([1; 16])).unwrap();
        let log = open(&data.raft().join(format::LOG));
        let mut ops: Vec<LogOp> = (1..=9)
            .map(|index| LogOp::Append {
                index,
                bytes: vec![index as u8; index as usize],
            })
            .collect();
        ops.push(LogOp::Vote(b"term 2".to_vec()));
        ops.push(LogOp::Purge(PurgePoint {
            index: 4,
            mark: b"four".to_vec(),
        }));
        log.write(&ops).unwrap();
        let slot = DiskSnapshots::open(&data.raft().join(format::SNAPSHOTS)).unwrap();
        slot.save(b"meta", b"image").unwrap();
        log.head().unwrap()
    }

    /// A stopped node's log and snapshot are found as they were left, and no file is changed by looking.
    #[test]
    fn looking_tells_everything_and_changes_nothing() {
        tells_everything(sled, LogKind::Sled);
        tells_everything(segments, LogKind::Segments);
    }

    fn tells_everything(open: fn(&Path) -> Box<dyn LogEngine>, kind: LogKind) {
        let dir = tempfile::tempdir().unwrap();
        let head = node_with_data(dir.path(), open);
        let before = files(dir.path());
        let node = StoppedNode::open(dir.path()).unwrap();
        assert_eq!(
            (node.node(), node.cluster()),
            (NodeId(7), Some(ClusterId([1; 16])))
        );

        let log = node.log().unwrap().unwrap();
        assert_eq!((log.report.kind, &log.report.head), (kind, &head));
        assert_eq!(
            (
                log.report.entries,
                log.report.entry_bytes,
                log.report.entry_bytes_max
            ),
            (5, 35, 9)
        );
        assert!(log.report.disk_bytes > 0);
        assert_eq!(log.entries(6, 7, 0).unwrap(), [(6, vec![6; 6])]);

        let snapshot = node.snapshot().unwrap().unwrap();
        assert_eq!(
            (&snapshot.saved.meta[..], &snapshot.saved.image[..]),
            (&b"meta"[..], &b"image"[..])
        );
        assert_eq!(snapshot.report.image_hash, BlobHash::of(b"image"));
        assert_eq!(
            (snapshot.report.meta_bytes, snapshot.report.image_bytes),
            (4, 5)
        );
        drop((log, snapshot, node));
        assert_eq!(files(dir.path()), before);
    }

    /// A node that runs is not looked at, and none starts while someone looks; two may look.
    #[test]
    fn a_running_node_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let running = DataDir::open(dir.path(), || NodeId(7)).unwrap();
        assert!(matches!(
            StoppedNode::open(dir.path()),
            Err(StorageError::InUse { .. })
        ));
        drop(running);
        let one = StoppedNode::open(dir.path()).unwrap();
        let two = StoppedNode::open(dir.path()).unwrap();
        assert!(matches!(
            DataDir::open(dir.path(), || NodeId(8)),
            Err(StorageError::InUse { .. })
        ));
        assert!(one.log().unwrap().is_none() && two.snapshot().unwrap().is_none());
    }

    /// Directories that are none of ours are refused in words, and stay as they were.
    #[test]
    fn other_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = StoppedNode::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("no riftmesh data directory"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// Damage is told of the file it is in, not of a copy.
    #[test]
    fn damage_is_told_of_the_original() {
        let dir = tempfile::tempdir().unwrap();
        node_with_data(dir.path(), segments);
        let snapshot = dir.path().join("raft/snapshots/snapshot");
        let mut bytes = fs::read(&snapshot).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&snapshot, bytes).unwrap();
        let node = StoppedNode::open(dir.path()).unwrap();
        let error = node.snapshot().unwrap_err().to_string();
        assert!(error.contains(&snapshot.display().to_string()), "{error}");
        node.log().unwrap().unwrap();
    }
}
