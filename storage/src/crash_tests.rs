//! Crashes: after every write, and of a process killed while it writes. Whatever was acknowledged is there
//! afterwards. (The page cache survives a killed process; power cuts are in `power_tests`, for the engine whose disk can
//! be replaced.)

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;

use crate::log::{LogEngine, LogOp, PurgePoint};
use crate::log_suite::Model;
use crate::segments::SegmentLog;
use crate::sled_log::SledLog;
use crate::writer::LogWriter;

type Open = fn(&Path) -> Arc<dyn LogEngine>;

fn sled(path: &Path) -> Arc<dyn LogEngine> {
    Arc::new(SledLog::open(path).unwrap())
}

fn segments(path: &Path) -> Arc<dyn LogEngine> {
    Arc::new(SegmentLog::open(path).unwrap())
}

const ENGINES: [(&str, Open); 2] = [("sled", sled), ("segments", segments)];

pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The files as they are after each write, opened by a fresh engine, hold exactly what was acknowledged: appends,
/// votes, truncations, and purges with the entries behind them.
#[test]
fn stopping_after_any_write_loses_nothing() {
    for (_, open) in ENGINES {
        stops_after_any_write(open);
    }
}

fn stops_after_any_write(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("log");
    let engine = open(&live);
    let append = |index: u64| LogOp::Append {
        index,
        bytes: format!("entry {index}").into_bytes(),
    };
    let mut writes: Vec<Vec<LogOp>> = (1..=12).map(|index| vec![append(index)]).collect();
    writes.push(vec![
        LogOp::Vote(b"term 2".to_vec()),
        LogOp::TruncateFrom(9),
        append(9),
    ]);
    writes.push(vec![LogOp::Purge(PurgePoint {
        index: 5,
        mark: b"five".to_vec(),
    })]);
    writes.push(vec![append(10), LogOp::Committed(b"ten".to_vec())]);
    writes.push(vec![LogOp::Purge(PurgePoint {
        index: 20,
        mark: b"twenty".to_vec(),
    })]);
    writes.push(vec![append(21)]);
    for (i, ops) in writes.iter().enumerate() {
        engine.write(ops).unwrap();
        let image = dir.path().join(format!("image{i}"));
        copy_directory(&live, &image);
        let found = Model::of(&*open(&image));
        assert_eq!(found, Model::of(&*engine), "after write {i}");
    }
}

const CHILD_DIRECTORY: &str = "RIFTMESH_CRASH_TEST_DIRECTORY";
const CHILD_ENGINE: &str = "RIFTMESH_CRASH_TEST_ENGINE";

/// The body of the child process below; does nothing in a normal test run.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD_DIRECTORY) else {
        return;
    };
    let engine = std::env::var(CHILD_ENGINE).unwrap();
    let (_, open) = ENGINES
        .into_iter()
        .find(|(name, _)| *name == engine)
        .unwrap();
    let engine = open(Path::new(&directory));
    let mut index = engine.head().unwrap().entries.map_or(0, |(_, last)| last);
    let writer = LogWriter::start(engine, 64).unwrap();
    let mut stdout = std::io::stdout();
    loop {
        let (acked, acks) = channel();
        for _ in 0..8 {
            index += 1;
            let bytes = index.to_be_bytes().repeat(40);
            let mut ops = vec![LogOp::Append { index, bytes }];
            if index.is_multiple_of(100) {
                let mark = Vec::new();
                ops.push(LogOp::Purge(PurgePoint {
                    index: index - 50,
                    mark,
                }));
            }
            let acked = acked.clone();
            let ack = Box::new(move |result: Result<(), _>| {
                result.unwrap();
                acked.send(index).unwrap();
            });
            writer.submit(ops, ack);
        }
        for index in acks.iter().take(8) {
            writeln!(stdout, "acked {index}").unwrap();
        }
        stdout.flush().unwrap();
    }
}

/// Kills a writing process at arbitrary moments, over and over on one directory: every entry it acknowledged is
/// there, or lies behind the purge point.
#[test]
fn a_killed_writer_loses_nothing_it_acknowledged() {
    for (name, open) in ENGINES {
        kill_and_look(name, open);
    }
}

fn kill_and_look(name: &str, open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "crash_tests::child_that_writes_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD_DIRECTORY, &log)
            .env(CHILD_ENGINE, name)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acked = lines
            .map_while(Result::ok)
            .filter_map(|line| line.rsplit_once("acked ")?.1.parse::<u64>().ok())
            .take(40 + 37 * round)
            .last()
            .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let engine = open(&log);
        let (first, last) = engine.head().unwrap().entries.unwrap();
        assert!(
            last >= acked,
            "acknowledged up to {acked}, found up to {last}"
        );
        for (index, bytes) in engine.read(first, last + 1, usize::MAX).unwrap() {
            assert_eq!(bytes, index.to_be_bytes().repeat(40));
        }
    }
}
