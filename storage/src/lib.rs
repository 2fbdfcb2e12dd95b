//! What a node keeps on disk: the Raft log on sled, snapshots and the data directory's marker as files, and a
//! content-addressed blob store. Everything acknowledged here survives a power cut.
//!
//! This crate sees bytes: it does not know what a log entry, a vote or a snapshot means.

pub mod blobs;
pub mod durable;
pub mod error;
pub mod format;
pub mod inspect;
pub mod log;
pub mod memory_log;
pub mod sled_log;
pub mod snapshots;
pub mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod log_suite;

pub use blobs::BlobStore;
pub use error::StorageError;
pub use format::DataDir;
pub use inspect::{LogKind, LogReport, SnapshotReport, StoppedLog, StoppedNode, StoppedSnapshot};
pub use log::{LogEngine, LogHead, LogOp, PurgePoint};
pub use memory_log::MemoryLog;
pub use sled_log::SledLog;
pub use snapshots::{DiskSnapshots, MemorySnapshots, SavedSnapshot, SnapshotSlot};
pub use writer::{Ack, LogWriter, SyncTimes};
