//! Power cuts, torn writes, full and broken disks, flipped bits: the segmented log, the snapshot and the blobs on the
//! disk that remembers. Every case is drawn from a seed that its failure names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blobs::BlobStore;
use crate::error::StorageError;
use crate::faulty_disk::{DiskFault, Draw, FaultyDisk, Image, PowerLoss};
use crate::log::{LogEngine, LogOp, PurgePoint};
use crate::log_suite::Model;
use crate::segments::SegmentLog;
use crate::snapshots::{DiskSnapshots, SnapshotSlot};

const LOG: &str = "/node/log";
/// Small files, so that a short run goes through several.
const SEGMENT_BYTES: u64 = 6_000;

fn open(disk: &FaultyDisk) -> Result<SegmentLog, StorageError> {
    SegmentLog::open_on(Arc::new(disk.clone()), Path::new(LOG), SEGMENT_BYTES)
}

/// The changes of one write: mostly appends, of a few bytes or of several sectors, with zeros in them.
fn draw_write(draw: &mut Draw, model: &mut Model) -> Vec<LogOp> {
    let mut ops = Vec::new();
    for _ in 0..=draw.below(4) {
        let next = model.next();
        let op = match draw.below(12) {
            0 => LogOp::Vote(draw.next().to_be_bytes().to_vec()),
            1 => LogOp::Committed(draw.next().to_be_bytes().to_vec()),
            2 => LogOp::TruncateFrom(next.saturating_sub(draw.below(3) as u64)),
            3 => LogOp::Purge(PurgePoint {
                index: next.saturating_sub(draw.below(6) as u64).max(1),
                mark: vec![7; draw.below(30)],
            }),
            _ => {
                let len = if draw.below(3) == 0 {
                    draw.below(2_500)
                } else {
                    draw.below(60)
                };
                let byte = if draw.below(4) == 0 {
                    0
                } else {
                    draw.next() as u8
                };
                LogOp::Append {
                    index: next,
                    bytes: vec![byte; len],
                }
            }
        };
        model.apply(&op);
        ops.push(op);
    }
    ops
}

/// A log that took some writes, and what it held after each.
struct Run {
    disk: FaultyDisk,
    /// After opening and after each write: how many steps the disk had taken, and what had to be there from then on.
    acked: Vec<(usize, Model)>,
}

fn run(seed: u64, writes: usize) -> Run {
    let disk = FaultyDisk::default();
    let log = open(&disk).unwrap();
    let (mut draw, mut model) = (Draw(seed), Model::default());
    let mut acked = vec![(0, model.clone())];
    for _ in 0..writes {
        let ops = draw_write(&mut draw, &mut model);
        log.write(&ops).unwrap();
        acked.push((disk.steps(), model.clone()));
    }
    assert_eq!(Model::of(&log), model);
    Run { disk, acked }
}

impl Run {
    /// What may be found after a crash at `step`: what was acknowledged, with or without the write under way.
    fn allowed(&self, step: usize) -> &[(usize, Model)] {
        let done = self.acked.iter().take_while(|(at, _)| *at <= step).count();
        &self.acked[done - 1..self.acked.len().min(done + 1)]
    }
}

/// Losses worth trying at `step`; tears at the edges of bytes, checksums and sectors.
fn losses(disk: &FaultyDisk, step: usize, draw: &mut Draw) -> Vec<PowerLoss> {
    let mut losses = vec![PowerLoss::Nothing, PowerLoss::Unsynced];
    losses.extend((0..3).map(|_| PowerLoss::Some(draw.next())));
    if let Some(len) = disk.written_before(step) {
        let cuts = [
            0,
            1,
            7,
            495,
            496,
            507,
            511,
            512,
            513,
            len / 2,
            len.saturating_sub(512),
            len - 1,
        ];
        for cut in cuts.into_iter().filter(|cut| *cut < len) {
            losses.extend([PowerLoss::Torn(cut), PowerLoss::Zeroed(cut)]);
        }
    }
    losses
}

/// Opens what a crash left, checks it, crashes again somewhere in what opening did, and writes on.
fn survives(run: &Run, step: usize, loss: PowerLoss, draw: &mut Draw, told: &str) {
    let allowed = run.allowed(step);
    let fits = |log: &SegmentLog| {
        let found = Model::of(log);
        assert!(
            allowed.iter().any(|(_, model)| *model == found),
            "{told}: found {found:?}"
        );
        found
    };
    let disk = FaultyDisk::of(&run.disk.crash(step, loss));
    let log = open(&disk).unwrap_or_else(|e| panic!("{told}: {e}"));
    let mut model = fits(&log);

    let again = disk.crash(draw.below(disk.steps() + 1), PowerLoss::Some(draw.next()));
    let again =
        open(&FaultyDisk::of(&again)).unwrap_or_else(|e| panic!("{told}, opened twice: {e}"));
    fits(&again);

    let ops = draw_write(draw, &mut model);
    log.write(&ops).unwrap();
    let last = FaultyDisk::of(&disk.crash(disk.steps(), PowerLoss::Unsynced));
    let log = open(&last).unwrap_or_else(|e| panic!("{told}, written on: {e}"));
    assert_eq!(Model::of(&log), model, "{told}, written on");
}

/// A crash after every single step of random runs, in every way of losing what was not synced: the log opens, and holds
/// everything acknowledged and of the write under way all or nothing.
#[test]
fn the_log_survives_a_crash_at_every_step() {
    let mut crashes = 0;
    for seed in 0..12 {
        let run = run(seed, 24);
        let mut draw = Draw(!seed);
        for step in 0..=run.disk.steps() {
            for loss in losses(&run.disk, step, &mut draw) {
                let told = format!("seed {seed}, step {step}, {loss:?}");
                survives(&run, step, loss, &mut draw, &told);
                crashes += 1;
            }
        }
    }
    println!("{crashes} crashes");
    assert!(crashes > 5_000, "only {crashes} crashes were tried");
}

/// The number of the sector that an error names, if it names one.
fn offset_named(error: &StorageError) -> Option<u64> {
    let text = error.to_string();
    let rest = text.split("offset ").nth(1)?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// One flipped bit anywhere in any file of an acknowledged log: it is not opened, and the error names the file and the
/// sector. In a log that is open already, the entry is refused.
#[test]
fn the_log_refuses_a_flipped_bit() {
    for seed in 0..6 {
        let run = run(seed, 24);
        let image = run.disk.image();
        let mut draw = Draw(!seed);
        for (path, bytes) in &image.files {
            for _ in 0..400 {
                let bit = draw.below(bytes.len() * 8);
                let mut damaged = image.clone();
                damaged.files.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
                let told = format!("seed {seed}, {} bit {bit}", path.display());
                let error = open(&FaultyDisk::of(&damaged))
                    .map(|_| told.clone())
                    .unwrap_err();
                assert!(
                    error.to_string().contains(path.to_str().unwrap()),
                    "{told}: {error}"
                );
                assert_eq!(
                    offset_named(&error),
                    Some((bit / 8 / 512 * 512) as u64),
                    "{told}: {error}"
                );
            }
        }
    }
}

/// A file that is gone, or one that was cut, anywhere but where a crash could have done it, is refused by name.
#[test]
fn the_log_refuses_missing_and_cut_files() {
    let run = (0..50)
        .map(|seed| run(seed, 40))
        .find(|run| run.disk.image().files.len() >= 4)
        .expect("a run that leaves several files");
    let image = run.disk.image();
    let paths: Vec<&PathBuf> = image.files.keys().collect();
    for (at, path) in paths.iter().enumerate().take(paths.len() - 1) {
        let mut damaged = image.clone();
        damaged.files.remove(*path);
        match open(&FaultyDisk::of(&damaged)) {
            Err(error) => assert!(matches!(error, StorageError::Damaged { .. }), "{error}"),
            // The oldest file may have been waiting to be removed.
            Ok(log) => assert_eq!(
                (at, Model::of(&log)),
                (0, run.acked.last().unwrap().1.clone())
            ),
        }
        for cut in [0, 1, 512, 700] {
            let mut damaged = image.clone();
            damaged.files.get_mut(*path).unwrap().truncate(cut);
            let error = open(&FaultyDisk::of(&damaged)).map(drop).unwrap_err();
            // A cut between two batches shows in the file behind it.
            assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
        }
    }
}

/// Files that are none of ours are refused by name and left alone.
#[test]
fn the_log_refuses_other_files() {
    let mut image = run(1, 3).disk.image();
    image
        .files
        .insert(PathBuf::from("/node/log/thesis.tex"), Vec::new());
    let error = open(&FaultyDisk::of(&image)).map(drop).unwrap_err();
    assert!(
        matches!(&error, StorageError::Foreign { reason, .. } if reason.contains("thesis.tex")),
        "{error}"
    );
}

/// A write that fails, whatever the reason, is the engine's last, also when the disk would work again. A new process
/// finds everything acknowledged, and what it then acknowledges survives a power cut: it does not build on what a
/// failed sync left in the page cache.
#[test]
fn an_error_is_the_end_of_the_engine() {
    for seed in 0..4 {
        let steps = run(seed, 16).disk.steps();
        for (fault, step) in [DiskFault::NoSpace, DiskFault::SyncFails]
            .into_iter()
            .flat_map(|fault| (0..steps).map(move |step| (fault, step)))
        {
            let told = format!("seed {seed}, {fault:?} at step {step}");
            let disk = FaultyDisk::default();
            disk.fail_after(step, fault);
            let (mut draw, mut model) = (Draw(seed), Model::default());
            let mut before = model.clone();
            if let Ok(log) = open(&disk) {
                let failed = loop {
                    before = model.clone();
                    let ops = draw_write(&mut draw, &mut model);
                    if let Err(error) = log.write(&ops) {
                        break error;
                    }
                };
                assert!(
                    matches!(failed, StorageError::Io { .. }),
                    "{told}: {failed}"
                );
                assert!(disk.repair(), "{told} did not happen");
                let refused = log.write(&[LogOp::Vote(vec![1])]).unwrap_err();
                assert!(
                    matches!(refused, StorageError::Stopped(_)),
                    "{told}: {refused}"
                );
            }
            disk.repair();
            let log = open(&disk).unwrap_or_else(|e| panic!("{told}: {e}"));
            let mut found = Model::of(&log);
            assert!(found == before || found == model, "{told}: found {found:?}");
            for _ in 0..2 {
                log.write(&draw_write(&mut draw, &mut found)).unwrap();
            }
            let cut = FaultyDisk::of(&disk.crash(disk.steps(), PowerLoss::Unsynced));
            let log = open(&cut).unwrap_or_else(|e| panic!("{told}, power cut: {e}"));
            assert_eq!(Model::of(&log), found, "{told}, power cut");
        }
    }
}

/// A disk that takes only a part of each write is none of the log's concern.
#[test]
fn short_writes_are_continued() {
    for step in 0..run(2, 8).disk.steps() {
        let disk = FaultyDisk::default();
        disk.fail_after(step, DiskFault::Short);
        let log = open(&disk).unwrap();
        let (mut draw, mut model) = (Draw(2), Model::default());
        for _ in 0..8 {
            log.write(&draw_write(&mut draw, &mut model)).unwrap();
        }
        let cut = FaultyDisk::of(&disk.crash(disk.steps(), PowerLoss::Unsynced));
        assert_eq!(Model::of(&open(&cut).unwrap()), model);
    }
}

fn slot(disk: &FaultyDisk) -> Result<DiskSnapshots, StorageError> {
    DiskSnapshots::open_on(Arc::new(disk.clone()), Path::new("/node/snapshots"))
}

fn image_of(number: usize) -> Vec<u8> {
    vec![number as u8; number * 700]
}

/// A crash after every step of saving snapshots leaves the last one acknowledged, or the next, whole.
#[test]
fn a_snapshot_survives_a_crash_at_every_step() {
    let disk = FaultyDisk::default();
    let saving = slot(&disk).unwrap();
    let mut acked = vec![0];
    for number in 1..5 {
        saving.save(b"meta", &image_of(number)).unwrap();
        acked.push(disk.steps());
    }
    let mut draw = Draw(5);
    for step in 0..=disk.steps() {
        let done = acked.iter().take_while(|at| **at <= step).count() - 1;
        for loss in losses(&disk, step, &mut draw) {
            let left = FaultyDisk::of(&disk.crash(step, loss));
            let found = slot(&left)
                .unwrap()
                .load()
                .unwrap()
                .map(|saved| saved.image);
            let of = |number| (number > 0).then(|| image_of(number));
            assert!(
                found == of(done) || found == of(done + 1),
                "step {step}, {loss:?}"
            );
        }
    }
}

/// A save that failed is the slot's last; a new process finds the old snapshot or the new one.
#[test]
fn an_error_is_the_end_of_the_slot() {
    for fault in [DiskFault::NoSpace, DiskFault::SyncFails] {
        let disk = FaultyDisk::default();
        let saving = slot(&disk).unwrap();
        saving.save(b"meta", &image_of(1)).unwrap();
        for more in 0..3 {
            let failing = slot(&disk).unwrap();
            disk.fail_after(disk.steps() + more, fault);
            let Err(error) = failing.save(b"meta", &image_of(2)) else {
                assert!(
                    !disk.repair(),
                    "{fault:?} after {more} steps went unnoticed"
                );
                continue;
            };
            assert!(matches!(error, StorageError::Io { .. }), "{error}");
            disk.repair();
            let refused = failing.save(b"meta", &image_of(3)).unwrap_err();
            assert!(matches!(refused, StorageError::Stopped(_)), "{refused}");
            let found = slot(&disk).unwrap().load().unwrap().unwrap().image;
            assert!(found == image_of(1) || found == image_of(2));
        }
    }
}

fn blobs(disk: &FaultyDisk) -> BlobStore {
    BlobStore::open_on(Arc::new(disk.clone()), Path::new("/node/blobs")).unwrap()
}

/// A crash after every step of putting blobs: each one acknowledged is there, and each one that is there is whole.
#[test]
fn blobs_survive_a_crash_at_every_step() {
    let disk = FaultyDisk::default();
    let store = blobs(&disk);
    let begin = disk.steps();
    let mut acked = Vec::new();
    for number in 1..5 {
        let hash = store.put(&image_of(number)).unwrap();
        acked.push((disk.steps(), hash));
    }
    let mut draw = Draw(6);
    for step in begin..=disk.steps() {
        for loss in losses(&disk, step, &mut draw) {
            let store = blobs(&FaultyDisk::of(&disk.crash(step, loss)));
            for (_, hash) in acked.iter().filter(|(at, _)| *at <= step) {
                store
                    .verify(hash)
                    .unwrap_or_else(|e| panic!("step {step}, {loss:?}: {e}"));
            }
            for (hash, _) in store.list().unwrap() {
                store.verify(&hash).unwrap();
            }
        }
    }
}

/// Putting a blob that has its name already, but perhaps not durably, makes the name durable before it says so.
#[test]
fn a_blob_put_again_is_durable() {
    let disk = FaultyDisk::default();
    let store = blobs(&disk);
    let begin = disk.steps();
    store.put(b"weights").unwrap();
    // The process is killed at each step of that, and a new one puts the blob again.
    for step in begin..=disk.steps() {
        let disk = stop_at(begin, step);
        let store = blobs(&disk);
        let hash = store.put(b"weights").unwrap();
        let cut = FaultyDisk::of(&disk.crash(disk.steps(), PowerLoss::Unsynced));
        blobs(&cut)
            .verify(&hash)
            .unwrap_or_else(|e| panic!("stopped at {step}: {e}"));
    }
}

/// A disk on which a blob was put until a sync failed, at the first one after `step`; nothing was durable by it.
fn stop_at(begin: usize, step: usize) -> FaultyDisk {
    let disk = FaultyDisk::default();
    let store = blobs(&disk);
    assert_eq!(disk.steps(), begin);
    disk.fail_after(step, DiskFault::SyncFails);
    let outcome = store.put(b"weights");
    if outcome.is_err() {
        let refused = store.put(b"weights").unwrap_err();
        assert!(matches!(refused, StorageError::Stopped(_)), "{refused}");
    }
    disk.repair();
    disk
}

/// The disk itself, or nothing above is worth anything: what is synced stays, what is not may go, in the ways asked for.
#[test]
fn the_disk_forgets_what_is_not_synced() {
    use crate::disk::FileSystem as _;
    let disk = FaultyDisk::default();
    disk.create_directory(Path::new("/d")).unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    let file = disk.create(Path::new("/d/f")).unwrap();
    file.write_at(b"old", 0).unwrap();
    file.sync().unwrap();
    let content = |loss| {
        let image: Image = disk.crash(disk.steps(), loss);
        image.files.into_values().next()
    };
    assert_eq!(
        content(PowerLoss::Unsynced),
        None,
        "its name was never synced"
    );
    assert_eq!(content(PowerLoss::Nothing), Some(b"old".to_vec()));
    disk.sync_directory(Path::new("/d")).unwrap();
    file.write_at(b"newer", 0).unwrap();
    assert_eq!(content(PowerLoss::Unsynced), Some(b"old".to_vec()));
    assert_eq!(content(PowerLoss::Torn(1)), Some(b"nld".to_vec()));
    assert_eq!(content(PowerLoss::Zeroed(1)), Some(b"n\0\0\0\0".to_vec()));
    disk.fail_after(0, DiskFault::SyncFails);
    file.sync().unwrap_err();
    file.sync().unwrap();
    assert_eq!(
        content(PowerLoss::Unsynced),
        Some(b"old".to_vec()),
        "a later sync does not help"
    );
    assert_eq!(
        disk.image().files.into_values().next(),
        Some(b"newer".to_vec())
    );
}
