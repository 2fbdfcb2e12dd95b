//! Games for Python: what is in the archive is what the games say, for readers in Rust and in Python.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use flate2::read::DeflateDecoder;
use riftmesh_base::Seed;
use riftmesh_learning::encode::{GLOBALS, PLANES};
use riftmesh_learning::evaluator::dims_of;
use riftmesh_learning::export::{ExportError, ExportSummary, export};
use riftmesh_learning::frame::Frame;
use riftmesh_learning::infer::{Inference, PositionInput};
use riftmesh_learning::npz::NpzWriter;
use riftmesh_learning::record::GameRecord;
use riftmesh_learning::replay::Reject;
use riftmesh_learning::train::untrained;
use riftmesh_learning::{CpuNet, NetShape};
use riftmesh_rules::{Board, Configuration, Position, RuleOptions, notation};
use serde_json::{Value, json};

use crate::common::{configuration, games, hex8, job, segment};

fn write(segments: &[PathBuf], out: &Path) -> Result<ExportSummary, ExportError> {
    export(segments, out, "test", &mut |_| {}, &AtomicBool::new(false))
}

/// The members of an archive, read by another reader than the writer: the directory at its end, then each member.
fn members(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let archive = rawzip::ZipArchive::from_slice(&bytes).unwrap();
    let mut found = BTreeMap::new();
    let mut entries = archive.entries();
    while let Some(entry) = entries.next_entry().unwrap() {
        let path = entry.file_path().try_normalize().unwrap();
        let name: &str = path.as_ref();
        let member = archive.get_entry(entry.wayfinder()).unwrap();
        let mut data = Vec::new();
        member
            .verifying_reader(DeflateDecoder::new(member.data()))
            .read_to_end(&mut data)
            .unwrap();
        found.insert(name.to_owned(), data);
    }
    found
}

/// What follows the header of an array.
fn numbers<const N: usize, T>(member: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let length = usize::from(u16::from_le_bytes([member[8], member[9]]));
    let body = &member[10 + length..];
    body.as_chunks::<N>()
        .0
        .iter()
        .map(|chunk| read(*chunk))
        .collect()
}

/// Every array has the dtype, shape and checksum of the list, and the games come back out of them: winners, moves as
/// texts, decisions, targets.
#[test]
fn an_archive_has_the_games() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(configuration(Board::Square8, 3), 2, 2, 41);
    let path = folder.path().join("games.npz");
    let segments = [segment(&job, folder.path(), "s")];
    let summary = write(&segments, &path).unwrap();
    let played = games(&job);
    assert_eq!(summary.games, 2);
    assert_eq!(
        summary.rows,
        played.iter().map(GameRecord::rows).sum::<usize>()
    );
    assert_eq!(summary.bytes, fs::metadata(&path).unwrap().len());

    let members = members(&path);
    let list: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
    assert_eq!(list["configuration"], "square8_3p");
    assert_eq!(members.len(), 1 + summary.arrays.len());
    for array in &summary.arrays {
        let body = numbers(
            &members[&format!("{}.npy", array.name)],
            |[byte]: [u8; 1]| byte,
        );
        assert_eq!(crc32fast::hash(&body), array.crc32, "{}", array.name);
    }
    let planes = &summary.arrays[0];
    assert_eq!(planes.shape, [summary.rows, PLANES, 8, 8]);

    let winners = numbers(&members["game_winner.npy"], |[byte]: [u8; 1]| byte);
    assert!(winners.iter().eq(played.iter().map(|game| &game.winner)));
    let actions = numbers(&members["decision_action.npy"], u32::from_le_bytes);
    let chosen = played.iter().flat_map(|game| &game.decisions);
    assert!(
        actions
            .into_iter()
            .eq(chosen.map(|decision| decision.chosen))
    );
    let probabilities = numbers(&members["policy_probability.npy"], f32::from_le_bytes);
    let sum: f32 = probabilities.iter().sum();
    assert!((sum - summary.rows as f32).abs() < 1e-2, "{sum}");
    assert_eq!(
        texts(&members["moves.npy"]),
        moves(&played[..1], job.configuration, &played[1..])
    );
}

fn texts(member: &[u8]) -> Vec<String> {
    let length = usize::from(u16::from_le_bytes([member[8], member[9]]));
    let head = String::from_utf8_lossy(&member[10..10 + length]).into_owned();
    let width = head.split("|S").nth(1).unwrap().split('\'').next().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    member[10 + length..]
        .chunks(width.parse().unwrap())
        .map(|bytes| text(bytes).trim_end_matches('\0').to_owned())
        .collect()
}

fn moves(first: &[GameRecord], configuration: Configuration, rest: &[GameRecord]) -> Vec<String> {
    let mut texts = Vec::new();
    for game in first.iter().chain(rest) {
        let mut position = Position::start(configuration, RuleOptions::default());
        for &action in &game.moves {
            texts.push(notation::format(&position, action));
            position.apply(action);
        }
    }
    texts
}

/// Damaged and foreign segments and repeated games are counted under their reasons; nothing but such is an error, and
/// leaves nothing behind.
#[test]
fn only_games_that_may_train_are_exported() {
    let folder = tempfile::tempdir().unwrap();
    let good = segment(&job(hex8(), 1, 2, 42), folder.path(), "good");
    let other = segment(
        &job(configuration(Board::Square8, 2), 1, 2, 43),
        folder.path(),
        "other",
    );
    let damaged = folder.path().join("damaged");
    let mut bytes = fs::read(&good).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let out = folder.path().join("games.npz");
    let summary = write(&[good.clone(), damaged.clone(), other, good], &out).unwrap();
    let expected = [
        Reject::Damaged,
        Reject::WrongConfiguration,
        Reject::Duplicate,
    ];
    assert_eq!(
        summary.rejected,
        BTreeMap::from(expected.map(|reason| (reason, 1)))
    );
    assert_eq!(
        (summary.games, summary.configuration.as_str()),
        (1, "hex8_2p")
    );

    let nothing = folder.path().join("nothing.npz");
    let error = write(&[damaged], &nothing).unwrap_err();
    assert!(
        matches!(error, ExportError::NoGames { segments: 1, .. }),
        "{error}"
    );
    let stopped = export(
        &[out],
        &nothing,
        "test",
        &mut |_| {},
        &AtomicBool::new(true),
    );
    assert!(stopped.is_err());
    assert!(fs::read_dir(folder.path()).unwrap().all(|entry| {
        let name = entry.unwrap().file_name();
        !name.to_string_lossy().contains("nothing")
    }));
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/python")
        .join(name)
}

/// The Python to test with: `RIFTMESH_PYTHON`, or `python3`.
fn python() -> Command {
    Command::new(std::env::var_os("RIFTMESH_PYTHON").unwrap_or_else(|| "python3".into()))
}

/// Whether Python has these modules. Says so where it has not: a test that did not run must not look like one that did.
fn has(modules: &str) -> bool {
    let there = python().args(["-c", &format!("import {modules}")]).output();
    let there = there.is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("SKIPPED: Python cannot import {modules}; set RIFTMESH_PYTHON to one that can");
    }
    there
}

fn answer(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A Python without any package reads the games, and notices a changed byte.
#[test]
fn python_reads_games_without_packages() {
    if !has("zipfile, zlib") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let job = job(hex8(), 2, 2, 44);
    let path = folder.path().join("games.npz");
    let summary = write(&[segment(&job, folder.path(), "s")], &path).unwrap();
    let read = || {
        python()
            .arg(script("games.py"))
            .arg(&path)
            .output()
            .unwrap()
    };
    let found = answer(&read());
    let played = games(&job);
    let wins = [0, 1].map(|seat| played.iter().filter(|game| game.winner == seat).count());
    assert_eq!(found["rows"], summary.rows);
    assert_eq!(found["planes"], json!([summary.rows, PLANES, 9, 9]));
    assert_eq!(found["wins"], json!(wins));
    assert_eq!(
        found["moves"],
        played.iter().map(|game| game.moves.len()).sum::<usize>()
    );
    assert_eq!(found["first_moves"][0], moves(&played, hex8(), &[])[0]);
    assert_eq!(found["value_sum"], summary.rows as f64);

    let mut bytes = fs::read(&path).unwrap();
    let third = bytes.len() / 3;
    bytes[third] ^= 4;
    fs::write(&path, bytes).unwrap();
    assert!(!read().status.success(), "a damaged archive was read");
}

/// The network in PyTorch gives our logits and values for every row of real games, to 1e-4, on boards of both kinds.
#[test]
fn pytorch_computes_the_same() {
    if !has("numpy, torch") {
        return;
    }
    for (board, players) in [(Board::Hex8, 2), (Board::Square8, 3)] {
        let configuration = configuration(board, players);
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let segments = [segment(&job(configuration, 1, 2, 45), folder.path(), "s")];
        let summary = write(&segments, &path("games.npz")).unwrap();
        let model = untrained(configuration, NetShape::Tiny, Seed(46), "test");
        model.write(&path("manifest"), &path("weights")).unwrap();
        expect(
            &path("games.npz"),
            &model.weights,
            configuration,
            &path("expected.npz"),
        );
        let output = python()
            .arg(script("network.py"))
            .args([path("weights"), path("games.npz"), path("expected.npz")])
            .output();
        let found = answer(&output.unwrap());
        assert_eq!(found["rows"], summary.rows);
        eprintln!("{configuration}: {found}");
    }
}

/// Writes what our own network says about the rows of an archive.
fn expect(
    archive: &Path,
    weights: &riftmesh_learning::Weights,
    configuration: Configuration,
    out: &Path,
) {
    let members = members(archive);
    let floats = |name: &str| numbers(&members[name], f32::from_le_bytes);
    let (planes, globals) = (floats("planes.npy"), floats("globals.npy"));
    let starts = numbers(&members["policy_start.npy"], u64::from_le_bytes);
    let index = numbers(&members["policy_index.npy"], u32::from_le_bytes);
    let frame = Frame::of(configuration.board());
    assert_eq!(weights.layout.dims, dims_of(NetShape::Tiny, configuration));
    let mut net = CpuNet::new(weights, frame);
    let inputs: Vec<PositionInput<'_>> = planes
        .chunks(PLANES * frame.area())
        .zip(globals.chunks(GLOBALS))
        .zip(starts.windows(2))
        .map(|((planes, globals), ends)| PositionInput {
            planes,
            globals,
            actions: &index[ends[0] as usize..ends[1] as usize],
            players: configuration.players(),
        })
        .collect();
    let results = net.infer(&inputs);
    let logits: Vec<f32> = results
        .iter()
        .flat_map(|result| result.logits.clone())
        .collect();
    let values: Vec<f32> = results.iter().flat_map(|result| result.values).collect();
    let mut file = NpzWriter::create(out).unwrap();
    file.array("logits", &[logits.len()], |out| out(&logits))
        .unwrap();
    file.array("values", &[inputs.len(), 4], |out| out(&values))
        .unwrap();
    file.finish(&json!({})).unwrap();
}
