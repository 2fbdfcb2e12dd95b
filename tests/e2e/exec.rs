//! A job's process as its node sees it: told to save and stop, it leaves a file from which another process goes on, and
//! the two together make what one would have made.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use riftmesh_base::BlobHash;
use riftmesh_learning::segment::Segment;
use serde_json::{Value, json};

/// A job's process with its assignment, and its stdin: when that is dropped the process takes its node for gone.
fn start(assignment: &Value) -> (Child, ChildStdin) {
    fs::create_dir_all(assignment["out"].as_str().unwrap()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_riftmesh"))
        .args(["job", "exec"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{assignment}").unwrap();
    (child, stdin)
}

/// Runs a job's process to its end; `save` asks it to stop after its first report of progress. Gives its last line.
fn exec(assignment: &Value, save: bool) -> Value {
    let (mut child, mut stdin) = start(assignment);
    let mut last = Value::Null;
    let mut asked = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        last = serde_json::from_str(&line.unwrap()).unwrap();
        let some = last["done"].as_u64().is_some_and(|done| done > 0);
        if save && some && !asked {
            asked = true;
            writeln!(stdin, "save").unwrap();
        }
    }
    let done = last["say"] == "done";
    assert_eq!(child.wait().unwrap().success(), done, "{last}");
    last
}

/// Runs a job's process until it says that it can go on from somewhere, and kills it.
fn first_saved(assignment: &Value) -> Value {
    let (mut child, _stdin) = start(assignment);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let saved = lines.into_iter().find(|line| line["say"] == "saved");
    child.kill().unwrap();
    child.wait().unwrap();
    saved.expect("saved")["saved"].clone()
}

fn assignment(folder: &Path, out: &str, payload: &Value, resume: Option<&Value>) -> Value {
    json!({
        "job": "j3",
        "configuration": "hex8_2p",
        "payload": payload,
        "seed": 11,
        "champion": null,
        "inputs": {},
        "manifests": {},
        "resume": resume,
        "out": folder.join(out),
        "optimizers": folder.join("optimizers"),
        "device": "cpu",
    })
}

/// The games of a segment by their number.
fn games(file: &Value) -> Vec<riftmesh_learning::record::GameRecord> {
    let mut games = Segment::read(Path::new(file.as_str().unwrap()))
        .unwrap()
        .games;
    games.sort_by_key(|game| game.number);
    games
}

#[test]
fn a_job_process_saves_and_another_goes_on() {
    let desk = tempfile::tempdir().unwrap();
    let folder = desk.path();
    let payload = json!({
        "do": "selfplay", "beginner": "heuristic", "seed": 7, "games": 40, "simulations": 4,
        "full_percent": 100, "shape": "tiny",
    });
    let whole = exec(&assignment(folder, "whole", &payload, None), false);
    let part = exec(&assignment(folder, "part", &payload, None), true);
    assert_eq!(part["say"], "stopped", "{part}");
    let saved = &part["saved"];
    let first = games(&saved["file"]);
    assert_eq!(saved["done"], first.len());
    assert!((1..40).contains(&first.len()), "{part}");
    let rest = assignment(folder, "rest", &payload, Some(&saved["file"]));
    let rest = exec(&rest, false);
    assert_eq!(rest["made"]["games"], 40);
    assert_eq!(games(&rest["made"]["file"]), games(&whole["made"]["file"]));

    let segment = &whole["made"]["file"];
    let hash = BlobHash::of(&fs::read(segment.as_str().unwrap()).unwrap()).to_string();
    let payload = json!({
        "do": "train", "seed": 7, "shape": "tiny", "parent": null, "segments": [hash], "steps": 60,
        "batch": 16, "rows": 100,
    });
    let train = |out: &str, resume: Option<&Value>, save| {
        let mut assignment = assignment(folder, out, &payload, resume);
        assignment["inputs"] = json!({ hash.as_str(): segment });
        exec(&assignment, save)
    };
    let weights = |line: &Value| fs::read(line["made"]["weights"].as_str().unwrap()).unwrap();
    let whole = train("network", None, false);
    let part = train("half", None, true);
    assert_eq!(part["say"], "stopped", "{part}");
    let rest = train("other half", Some(&part["saved"]["file"]), false);
    assert!(weights(&whole) == weights(&rest), "{part} {rest}");

    // Unasked it writes down how far it is, so that a process that is killed is not all lost; what comes of going on from
    // there, and of having been written down often, is the same network.
    let often = |out: &str| {
        let mut assignment = assignment(folder, out, &payload, None);
        assignment["inputs"] = json!({ hash.as_str(): segment });
        assignment["save_every"] = json!(1);
        assignment
    };
    let first = first_saved(&often("killed"));
    let rest = train("after the kill", Some(&first["file"]), false);
    assert!(weights(&whole) == weights(&rest), "{first} {rest}");
    assert!(weights(&whole) == weights(&exec(&often("often"), false)));

    // A match says that it cannot go on, and a file that is no pause is no reason to fail.
    let payload = json!({
        "do": "evaluate", "seed": 7, "shape": "tiny", "candidate": "heuristic", "opponent": {"untrained": {"simulations": 8}},
        "games": 400,
    });
    let part = exec(&assignment(folder, "match", &payload, None), true);
    assert_eq!(part, json!({"say": "stopped", "saved": null}));
    let anew = train("anew", Some(segment), false);
    assert!(weights(&whole) == weights(&anew));
}
