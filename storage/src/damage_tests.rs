//! Damage on a real disk, for each engine: bits flipped and tails cut or overwritten in a stopped log. It is refused
//! with an error that names the place, or holds everything that was acknowledged; never less in silence.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crash_tests::copy_directory;
use crate::error::StorageError;
use crate::faulty_disk::Draw;
use crate::log::{LogEngine, LogOp, PurgePoint};
use crate::log_suite::Model;
use crate::segments::SegmentLog;
use crate::sled_log::SledLog;

type Opened = Result<Arc<dyn LogEngine>, StorageError>;

fn sled(path: &Path) -> Opened {
    Ok(Arc::new(SledLog::open(path)?))
}

fn segments(path: &Path) -> Opened {
    Ok(Arc::new(SegmentLog::open(path)?))
}

/// A stopped log with some history, and what it held.
fn stopped_log(path: &Path, open: fn(&Path) -> Opened) -> Model {
    let log = open(path).unwrap();
    for batch in 0..60_u64 {
        let mut ops: Vec<LogOp> = (batch * 5 + 1..batch * 5 + 6)
            .map(|index| LogOp::Append {
                index,
                bytes: index.to_be_bytes().repeat(30),
            })
            .collect();
        if batch.is_multiple_of(20) {
            ops.push(LogOp::Vote(format!("term {batch}").into_bytes()));
        }
        if batch == 40 {
            ops.push(LogOp::Purge(PurgePoint {
                index: 50,
                mark: b"fifty".to_vec(),
            }));
        }
        log.write(&ops).unwrap();
    }
    Model::of(&*log)
}

/// What opening a damaged copy came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Refused,
    Whole,
    Less,
}

/// Opens `path`; an engine that panics has stopped too, as the process would.
fn outcome(path: &Path, open: fn(&Path) -> Opened, expected: &Model) -> Outcome {
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let log = open(path).ok()?;
        log.read(0, u64::MAX, usize::MAX).ok()?;
        Some(Model::of(&*log))
    }));
    match looked {
        Ok(Some(found)) if found == *expected => Outcome::Whole,
        Ok(Some(_)) => Outcome::Less,
        Ok(None) | Err(_) => Outcome::Refused,
    }
}

/// The largest file of a log, which is where the entries are.
fn main_file(path: &Path) -> PathBuf {
    let files = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.is_file())
        .max_by_key(|file| fs::metadata(file).unwrap().len())
        .unwrap()
}

/// Damages copies of a stopped log with `damage` and counts what opening them comes to: refused, whole, less.
fn tries(
    open: fn(&Path) -> Opened,
    count: u64,
    prepare: fn(&Path),
    damage: fn(&mut [u8], &mut Draw),
) -> [usize; 3] {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let expected = stopped_log(&live, open);
    let mut counts = [0; 3];
    for seed in 0..count {
        let image = dir.path().join(format!("image{seed}"));
        copy_directory(&live, &image);
        prepare(&image);
        let file = main_file(&image);
        let mut bytes = fs::read(&file).unwrap();
        damage(&mut bytes, &mut Draw(seed));
        fs::write(&file, bytes).unwrap();
        counts[outcome(&image, open, &expected) as usize] += 1;
        fs::remove_dir_all(&image).unwrap();
    }
    counts
}

/// Flips a bit in a byte that is not zero; the rest of a file may never have been used.
fn flip(bytes: &mut [u8], draw: &mut Draw) {
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    bytes[used[draw.below(used.len())]] ^= 1 << draw.below(8);
}

fn nothing(_: &Path) {}

#[test]
fn a_flipped_bit_never_loses_anything_in_silence() {
    let [refused, whole, less] = tries(segments, 100, nothing, flip);
    assert_eq!((refused, whole, less), (100, 0, 0), "segments");
    let [refused, whole, less] = tries(sled, 60, nothing, flip);
    println!("sled: {refused} refused, {whole} harmless");
    assert_eq!(
        less, 0,
        "sled lost something in silence; {refused} refused, {whole} whole"
    );
    assert!(refused > 0, "no flip did any harm");
}

/// What sled alone does about it, and why writes are counted beside it. Should this ever fail because sled notices by
/// itself, the counting can go.
#[test]
fn sled_alone_loses_in_silence() {
    let without = |path: &Path| fs::remove_file(path.join("watermark")).unwrap();
    let [refused, whole, less] = tries(sled, 60, without, flip);
    println!(
        "sled without its watermark: {refused} refused, {whole} harmless, {less} lost in silence"
    );
    assert!(less > 0, "{refused} refused, {whole} whole");
}

/// A tail that is overwritten, as by a stray write.
#[test]
fn an_overwritten_tail_is_refused() {
    let overwrite = |bytes: &mut [u8], draw: &mut Draw| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let begin = end - 200 - draw.below(2_000);
        bytes[begin..=end].fill(0xEE);
    };
    assert_eq!(
        tries(segments, 20, nothing, overwrite),
        [20, 0, 0],
        "segments"
    );
    let [_, _, less] = tries(sled, 20, nothing, overwrite);
    assert_eq!(less, 0, "sled lost something in silence");
}

/// The directory of one engine is no log for the other, and stays as it was.
#[test]
fn engines_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("sled"), dir.path().join("segments"));
    stopped_log(&one, sled);
    stopped_log(&other, segments);
    let error = segments(&one).map(drop).unwrap_err();
    assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
    let error = sled(&other).map(drop).unwrap_err();
    assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
    assert!(!other.join("db").exists());
}
