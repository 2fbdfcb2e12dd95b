//! What is special about sled; what every engine has to do is in the suite.

use std::fs;

use super::*;

fn append(index: u64, bytes: Vec<u8>) -> LogOp {
    LogOp::Append { index, bytes }
}

/// The known way to make sled unopenable: a snapshot of its page table that a crash cut short.
#[test]
fn a_partial_page_table_snapshot_does_not_lock_us_out() {
    let dir = tempfile::tempdir().unwrap();
    let log = SledLog::open(dir.path()).unwrap();
    log.write(&[append(1, b"kept".to_vec())]).unwrap();
    drop(log);
    fs::write(dir.path().join("snap.FFFFFFFFFFFFFFFF.generating"), b"cut").unwrap();
    let log = SledLog::open(dir.path()).unwrap();
    assert_eq!(log.read(0, 9, 1 << 20).unwrap(), [(1, b"kept".to_vec())]);
}

/// sled never syncs its side files for large pages: no entry, however large, may end up there.
#[test]
fn large_entries_stay_in_the_synced_file() {
    let dir = tempfile::tempdir().unwrap();
    let log = SledLog::open(dir.path()).unwrap();
    for index in 1..20 {
        log.write(&[append(index, vec![index as u8; 300_000])])
            .unwrap();
    }
    drop(log);
    assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0);
    let log = SledLog::open(dir.path()).unwrap();
    let entries = log.read(1, 20, usize::MAX).unwrap();
    assert!(
        entries
            .iter()
            .all(|(i, bytes)| *bytes == vec![*i as u8; 300_000])
    );
}

/// A flipped byte under an entry's key is reported as damage with the entry's number, never served.
#[test]
fn a_damaged_entry_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = SledLog::open(dir.path()).unwrap();
    log.write(&[append(1, b"one".to_vec()), append(2, b"two".to_vec())])
        .unwrap();
    let change = |sled: &OpenSled| {
        let mut value = sled.tree.get(key(2, 0)).unwrap().unwrap().to_vec();
        *value.last_mut().unwrap() ^= 1;
        sled.tree.insert(key(2, 0), value).unwrap();
        Ok(())
    };
    log.with_sled(change).unwrap();
    let error = log.read(1, 3, 1 << 20).unwrap_err().to_string();
    assert!(error.contains("entry 2"), "{error}");
}

/// A missing entry makes the log refuse to open.
#[test]
fn a_gap_is_refused_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = SledLog::open(dir.path()).unwrap();
    let ops: Vec<LogOp> = (1..5).map(|i| append(i, vec![0; 9])).collect();
    log.write(&ops).unwrap();
    let change = |sled: &OpenSled| {
        sled.tree.remove(key(3, 0)).unwrap();
        sled.sync()
    };
    log.with_sled(change).unwrap();
    drop(log);
    assert!(matches!(
        SledLog::open(dir.path()),
        Err(StorageError::Damaged { .. })
    ));
}

/// Rewriting keeps everything, and a crash between its two renames is repaired at the next open.
#[test]
fn a_rewrite_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = SledLog::open(&path).unwrap();
    log.write(&[LogOp::Vote(b"v".to_vec()), append(0, b"zero".to_vec())])
        .unwrap();
    let head = log.head().unwrap();
    log.rewrite().unwrap();
    assert_eq!(log.head().unwrap(), head);
    drop(log);
    fs::rename(&path, path.with_extension("old")).unwrap();
    fs::create_dir(path.with_extension("fresh")).unwrap();
    let log = SledLog::open(&path).unwrap();
    assert_eq!(log.head().unwrap(), head);
    assert!(!path.with_extension("fresh").exists());
}

/// A log in steady use, with every entry purged sooner or later, stays within its bound although sled never gives
/// anything back; and it is all there after every rewrite, for those who read meanwhile and after a restart.
#[test]
fn the_directory_stays_within_its_bound() {
    const BOUND: u64 = 8 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = SledLog::open_bounded(&path, BOUND).unwrap();
    let (mut largest, mut shrank) = (0, 0);
    let mut before = 0;
    for batch in 0..1_200_u64 {
        let first = batch * 40 + 1;
        let mut ops: Vec<LogOp> = (first..first + 40)
            .map(|index| append(index, vec![index as u8; 300]))
            .collect();
        if batch % 25 == 24 {
            let index = first.saturating_sub(400);
            ops.push(LogOp::Purge(PurgePoint {
                index,
                mark: Vec::new(),
            }));
        }
        log.write(&ops).unwrap();
        let now = log.disk_bytes().unwrap();
        largest = largest.max(now);
        shrank += u64::from(now + BOUND / 2 < before);
        before = now;
        if batch % 100 == 0 {
            let (first, last) = log.head().unwrap().entries.unwrap();
            let entries = log.read(first, last + 1, usize::MAX).unwrap();
            assert_eq!(entries.len() as u64, last - first + 1);
            assert!(
                entries
                    .iter()
                    .all(|(i, bytes)| *bytes == vec![*i as u8; 300])
            );
        }
    }
    println!("largest {largest} bytes, shrank {shrank} times");
    assert!(
        shrank > 0,
        "it was never rewritten, at {largest} bytes at most"
    );
    // Between two looks it may grow by what that many writes take.
    assert!(largest < 3 * BOUND, "{largest} bytes");
    let head = log.head().unwrap();
    drop(log);
    let log = SledLog::open(&path).unwrap();
    assert_eq!(log.head().unwrap(), head);
}
