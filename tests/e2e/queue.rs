//! Jobs that people enter: with terms of their own, giving way to each other, and found again when they are over.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::UNIX_EPOCH;

use riftmesh_base::BlobHash;
use serde_json::Value;

use crate::join::Mesh;

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Runs a command on the first voter's machine that has to succeed; gives what it printed.
fn order(mesh: &Mesh, args: &[&str]) -> String {
    let output = mesh.voters[0].riftmesh(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    stdout(&output).trim().to_owned()
}

/// Runs a command that has to fail with exit code 1; gives what it said.
fn refused(mesh: &Mesh, args: &[&str]) -> String {
    let output = mesh.voters[0].riftmesh(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn job(mesh: &Mesh, id: &str) -> Value {
    mesh.ask(&format!("/v1/jobs/{id}")).unwrap_or_default()
}

/// The state of a job; of one that somebody holds `leased`, whoever that is.
fn state(mesh: &Mesh, id: &str) -> String {
    let job = job(mesh, id);
    let held = job["state"].get("leased").map(|_| "leased");
    let named = held.or_else(|| job["state"].as_str());
    named.unwrap_or_default().to_owned()
}

fn progress(mesh: &Mesh, id: &str) -> Option<u64> {
    let job = job(mesh, id);
    let held = job["state"].get("leased").is_some();
    job["progress"][0].as_u64().filter(|done| held && *done > 0)
}

const SELFPLAY: &str = r#"{"do":"selfplay","beginner":"heuristic","seed":7,"games":4000,"simulations":16,"shape":"tiny"}"#;
const MATCH: &str = r#"{"do":"evaluate","seed":7,"shape":"tiny","candidate":"heuristic","opponent":"random","games":4}"#;

fn submit<'a>(terms: &[&'a str]) -> Vec<&'a str> {
    let words = ["job", "submit", "--configuration", "hex8_2p"];
    [&words, terms].concat()
}

/// The files of the worker's blobs.
fn blobs(mesh: &Mesh) -> BTreeSet<PathBuf> {
    let files = |dir: PathBuf| {
        std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    let shards = files(mesh.worker.dir.join("data/blobs"));
    shards.flat_map(files).collect()
}

/// Puts a blob beside the worker's, long ago.
fn plant(mesh: &Mesh, bytes: &[u8]) -> PathBuf {
    let name = BlobHash::of(bytes).to_string();
    let shard = mesh.worker.dir.join("data/blobs").join(&name[..2]);
    let path = shard.join(name);
    std::fs::write(&path, bytes).unwrap();
    let file = File::open(&path).unwrap();
    file.set_modified(UNIX_EPOCH).unwrap();
    path
}

/// The only slot is taken by a long job when an urgent one comes. The long one saves what it has and gives way, the urgent
/// one is done, and the long one goes on from where it was. Ended, both are in the history, and what was saved leaves the disk.
#[test]
fn a_running_job_gives_way_and_goes_on() {
    let mut mesh = Mesh::start();
    let seeds = mesh.seeds.clone();
    let token = mesh.token(&["--expires", "1h"]);
    order(&mesh, &["config", "set", "blobs.keep-unnamed", "3s"]);
    mesh.worker
        .start(&seeds, &["--join", token.as_str(), "--slots", "1"]);
    let long = submit(&["--payload", SELFPLAY, "--priority", "200", "--gives-way"]);
    let early = refused(&mesh, &long);
    assert!(early.contains("cluster upgrade"), "{early}");
    mesh.wait("the level of this build", || {
        mesh.voters[0].riftmesh(&["cluster", "upgrade"]);
        mesh.voters[0]
            .riftmesh(&long)
            .status
            .success()
            .then_some(())
    });
    let twice = submit(&["--payload", SELFPLAY, "--key", "same", "--after", "j1"]);
    let wrong = refused(&mesh, &submit(&["--payload", SELFPLAY, "--after", "j9999"]));
    assert!(wrong.contains("j9999"), "{wrong}");
    assert_eq!(
        order(&mesh, &twice),
        order(&mesh, &twice),
        "one key, one job"
    );

    let longs = mesh.ask("/v1/jobs?kind=selfplay&limit=1000").unwrap();
    let is_long = |job: &&Value| job["spec"]["priority"] == 200;
    let long = longs.as_array().unwrap().iter().find(is_long).unwrap();
    let long = long["id"].as_str().unwrap().to_owned();
    mesh.wait("the long job has made games", || progress(&mesh, &long));

    let urgent = order(&mesh, &submit(&["--payload", MATCH, "--priority", "255"]));
    mesh.wait("the urgent job is done", || {
        (state(&mesh, &urgent) == "done").then_some(())
    });
    let goes_on = format!("the job goes on job={long} from=");
    let saved: u64 = mesh.wait("the long job goes on", || {
        let log = mesh.worker.log();
        let line = log.lines().rfind(|line| line.contains(&goes_on))?;
        line.rsplit(' ').next()?.parse().ok()
    });
    assert!(saved > 0, "it had made games");
    let done = mesh.wait("the long job makes more games", || progress(&mesh, &long));
    assert!(done >= saved, "{done} of at least {saved}");
    assert_eq!(job(&mesh, &long)["failures"], 0);

    let saves = blobs(&mesh);
    assert!(!saves.is_empty(), "what it saved is a blob");
    let stray = plant(&mesh, b"nothing names this");
    mesh.wait("what nothing names is gone", || {
        (!stray.exists()).then_some(())
    });
    assert!(
        saves.is_subset(&blobs(&mesh)),
        "a save stays while its job may need it"
    );

    order(&mesh, &["job", "cancel", &long]);
    mesh.wait("it is over", || {
        (state(&mesh, &long) == "cancelled").then_some(())
    });
    mesh.wait("its save is of no use any more and goes", || {
        saves.is_disjoint(&blobs(&mesh)).then_some(())
    });
    let one = order(&mesh, &["job", "history", &urgent]);
    assert!(one.contains("done"), "{one}");
    let page = |from: &[&str]| {
        let words = ["job", "history", "--limit", "1", "--json"];
        let text = order(&mesh, &[&words, from].concat());
        serde_json::from_str::<Value>(&text).unwrap()["answer"].clone()
    };
    let first = page(&[]);
    let second = page(&["--from", first["next"].as_str().unwrap()]);
    assert_ne!(first["jobs"][0]["id"], second["jobs"][0]["id"]);
    let nowhere = refused(&mesh, &["job", "history", "j999999"]);
    assert!(nowhere.contains("no job j999999 has ended"), "{nowhere}");

    mesh.voters[0].kill();
    let data = mesh.voters[0].dir.join("data");
    let inspected = Command::new(env!("CARGO_BIN_EXE_riftmesh"))
        .args(["inspect", "archive"])
        .arg(data)
        .output()
        .unwrap();
    assert!(inspected.status.success(), "{inspected:?}");
    let archive = stdout(&inspected);
    assert!(archive.contains("no job has left the state"), "{archive}");
}
