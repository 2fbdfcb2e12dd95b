//! The engine against games of the public reference engine: every legal list, position, hash and result.

#![expect(
    clippy::unwrap_used,
    reason = "test code: a failed step is a failed test"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use flate2::read::GzDecoder;
use riftmesh_rules::contract::check_contract;
use riftmesh_rules::record::{VerifiedGame, verify_game};

/// The recorded games in `folder`, sorted; none when the folder is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".jsonl.gz"));
    files.sort();
    files
}

/// Replays every `step`-th game of `file`.
fn verify_file(file: &Path, step: usize) -> Vec<VerifiedGame> {
    let lines = BufReader::new(GzDecoder::new(File::open(file).unwrap())).lines();
    let verify = |line: std::io::Result<String>| match verify_game(&line.unwrap()) {
        Ok(game) => game,
        Err(mismatch) => panic!("{}: {mismatch}", file.display()),
    };
    lines.step_by(step).map(verify).collect()
}

/// Replays games of all `files` on all cores; `step` says which of a file.
fn verify_all(files: &[PathBuf], step: impl Fn(&Path) -> usize + Sync) -> Vec<VerifiedGame> {
    let next = AtomicUsize::new(0);
    let verified = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let games = verify_file(file, step(file));
                    verified.lock().unwrap().extend(games);
                }
            });
        }
    });
    verified.into_inner().unwrap()
}

/// After the sample in this folder: all boards, player counts, rare endings and the pie rule. See its README.
#[test]
fn committed_sample_is_reproduced() {
    let games = verify_all(
        &files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")),
        |_| 1,
    );
    assert!(games.len() >= 100, "the sample has {} games", games.len());
}

/// After everything there is, where the full set lies beside the repository; the long games are
/// thinned out to keep the test short (the command line replays all of them).
#[test]
fn full_set_is_reproduced_where_present() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/ringrift/games");
    verify_all(&files(&folder), |file| {
        let name = file.file_name().unwrap().to_string_lossy();
        let large = name.starts_with("square19") || name.starts_with("hexagonal");
        match (large, name.ends_with("p.jsonl.gz")) {
            (true, true) => 4,
            (true, false) | (false, true) => 2,
            (false, false) => 1,
        }
    });
}

/// After the hand-written single-move cases of the reference project, which cover effects that games rarely show.
#[test]
fn contract_cases_hold_where_present() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/ringrift/contract/vectors.json");
    let Ok(json) = fs::read_to_string(file) else {
        return;
    };
    assert_eq!(check_contract(&json), Ok(31));
}
