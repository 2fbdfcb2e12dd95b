//! openraft's own suite for stores, on every engine; and what a restart finds on disk.

use std::path::Path;
use std::sync::Arc;

use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, LogId, StorageError};
use riftmesh_storage::{LogEngine, SegmentLog, SledLog};

use crate::disk::Disk;
use crate::log_store::LogStore;
use crate::machine::Machine;
use crate::settings::RaftStore;
use crate::types::{Entry, Payload, TypeConfig, Vote};

fn stores(store: RaftStore) -> (LogStore, Machine) {
    (
        LogStore::open(store.log, store.disk.clone()).unwrap(),
        Machine::open(store.snapshots, store.disk).unwrap(),
    )
}

struct InMemory;

impl StoreBuilder<TypeConfig, LogStore, Machine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<TypeConfig>> {
        let (log, machine) = stores(RaftStore::in_memory());
        Ok(((), log, machine))
    }
}

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for OnDisk {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let (log, machine) = stores(RaftStore::on_disk(dir.path()).unwrap());
        Ok((dir, log, machine))
    }
}

struct InSegments;

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for InSegments {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let store = RaftStore {
            log: Arc::new(SegmentLog::open(&dir.path().join("log")).unwrap()),
            ..RaftStore::in_memory()
        };
        let (log, machine) = stores(store);
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_accepts_the_store_in_memory() {
    Suite::<TypeConfig, LogStore, Machine, InMemory, ()>::test_all(InMemory)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_accepts_the_store_on_disk() {
    type OnDiskSuite = Suite<TypeConfig, LogStore, Machine, OnDisk, tempfile::TempDir>;
    OnDiskSuite::test_all(OnDisk).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_accepts_the_store_in_segments() {
    type InSegmentsSuite = Suite<TypeConfig, LogStore, Machine, InSegments, tempfile::TempDir>;
    InSegmentsSuite::test_all(InSegments).await.unwrap();
}

type Opener = fn(&Path) -> Arc<dyn LogEngine>;

/// Opens the same directory again and again, once per engine.
fn engines() -> [(tempfile::TempDir, Opener); 2] {
    let dir = || tempfile::tempdir().unwrap();
    [
        (dir(), |path| Arc::new(SledLog::open(path).unwrap())),
        (dir(), |path| Arc::new(SegmentLog::open(path).unwrap())),
    ]
}

fn id(index: u64) -> LogId<openraft::impls::leader_id_adv::LeaderId<u64, u64>> {
    LogId::new(
        openraft::impls::leader_id_adv::LeaderId {
            term: 1,
            node_id: 1,
        },
        index,
    )
}

fn entry(index: u64, bytes: usize) -> Entry {
    Entry {
        log_id: id(index),
        payload: EntryPayload::Normal(Payload(vec![index as u8; bytes].into())),
    }
}

/// Vote, entries, purge point and commit mark are found again by a new store over the same directory, and reading
/// starts behind the purge point.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_finds_everything() {
    for (dir, open) in engines() {
        restarts(&|| open(dir.path())).await;
    }
}

async fn restarts(open: &dyn Fn() -> Arc<dyn LogEngine>) {
    let mut log = LogStore::open(open(), Disk::Threads).unwrap();
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    log.blocking_append((0..20).map(|i| entry(i, 100)))
        .await
        .unwrap();
    log.save_committed(Some(id(18))).await.unwrap();
    log.blocking_append([entry(20, 100)]).await.unwrap();
    log.truncate_after(Some(id(19))).await.unwrap();
    log.purge(id(4)).await.unwrap();
    drop(log);

    let mut log = LogStore::open(open(), Disk::Threads).unwrap();
    assert_eq!(
        log.read_vote().await.unwrap(),
        Some(Vote::new_committed(1, 1))
    );
    assert_eq!(log.read_committed().await.unwrap(), Some(id(18)));
    let state = log.get_log_state().await.unwrap();
    assert_eq!(
        (state.last_purged_log_id, state.last_log_id),
        (Some(id(4)), Some(id(19)))
    );
    let entries = log.try_get_log_entries(0..100).await.unwrap();
    assert_eq!(entries, (5..20).map(|i| entry(i, 100)).collect::<Vec<_>>());
}

/// A follower's message holds what one bounded read gives, whether the entries come from disk, from memory, or both;
/// reading on and on gives them all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounded_reads_fit_a_message() {
    for (dir, open) in engines() {
        reads_in_messages(&|| open(dir.path())).await;
    }
}

async fn reads_in_messages(open: &dyn Fn() -> Arc<dyn LogEngine>) {
    let mut log = LogStore::open(open(), Disk::Threads).unwrap();
    log.blocking_append((0..30).map(|i| entry(i, 200_000)))
        .await
        .unwrap();
    drop(log);
    let mut log = LogStore::open(open(), Disk::Threads).unwrap();
    log.blocking_append((30..60).map(|i| entry(i, 200_000)))
        .await
        .unwrap();
    let mut next = 0;
    while next < 60 {
        let entries = log.limited_get_log_entries(next, 60).await.unwrap();
        assert!(
            !entries.is_empty() && entries.len() < 8,
            "{} at {next}",
            entries.len()
        );
        for found in entries {
            assert_eq!(found, entry(next, 200_000));
            next += 1;
        }
    }
}
