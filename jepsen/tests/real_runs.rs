//! Short runs of the harness itself against the real binary, and what is left of a harness that was killed.
//!
//! The binary under test is looked for where `cargo test` of the whole workspace puts it. Without it there is nothing to
//! run, and the tests say so; the same goes for namespaces where the machine does not permit them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use riftmesh_jepsen::pace::Pace;

const HARNESS: &str = env!("CARGO_BIN_EXE_riftmesh-jepsen");

fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// The binary under test, beside the harness.
fn binary() -> Option<PathBuf> {
    let path = Path::new(HARNESS).with_file_name("riftmesh");
    path.is_file().then_some(path)
}

fn permits_namespaces() -> bool {
    let room = Command::new("unshare")
        .args([
            "--mount", "--net", "--pid", "--fork", "ip", "tuntap", "add", "dev", "try0", "mode",
            "tap",
        ])
        .output();
    room.is_ok_and(|output| output.status.success())
}

fn harness(binary: &Path, store: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(HARNESS);
    command
        .arg("run")
        .arg("--binary")
        .arg(binary)
        .arg("--store")
        .arg(store);
    command.args(arguments).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .join("\n")
}

/// Clients of three kinds work on three voters whose leader and another are killed: everything they were told holds, and
/// the run's folder has all that it should.
#[test]
fn clients_are_told_the_truth_while_voters_are_killed() {
    let Some(binary) = binary() else {
        return skip("the riftmesh binary is not built");
    };
    let store = tempfile::tempdir().unwrap();
    let arguments = [
        "--net",
        "loopback",
        "--workload",
        "register,lock,repeat",
        "--nemesis",
        "kill-leader,kill-follower",
        "--time",
        "25",
        "--port",
        "17810",
    ];
    let output = harness(&binary, store.path(), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for name in [
        "plan.json",
        "history.edn",
        "results.json",
        "results.edn",
        "timeline.html",
        "latency.svg",
        "rate.svg",
        "v1.log",
    ] {
        let path = store.path().join("latest").join(name);
        assert!(path.metadata().unwrap().len() > 0, "{name}");
    }
    let again = Command::new(HARNESS)
        .arg("check")
        .arg(store.path().join("latest"))
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
}

/// The same in namespaces, with the leader cut off from the others.
#[test]
fn clients_are_told_the_truth_while_the_leader_is_cut_off() {
    let (Some(binary), true) = (binary(), permits_namespaces()) else {
        return skip("the riftmesh binary is not built, or namespaces are not permitted here");
    };
    let store = tempfile::tempdir().unwrap();
    let arguments = [
        "--net",
        "namespaces",
        "--workload",
        "register,repeat",
        "--nemesis",
        "isolate-leader",
        "--time",
        "20",
    ];
    let output = harness(&binary, store.path(), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// Two voters lose their disks, one after the other: each is replaced before the next one is hit.
#[test]
fn two_voters_lose_their_disks_one_after_the_other() {
    let (Some(binary), true) = (binary(), permits_namespaces()) else {
        return skip("the riftmesh binary is not built, or namespaces are not permitted here");
    };
    let store = tempfile::tempdir().unwrap();
    let arguments = ["--net", "namespaces", "--nemesis", "wipe", "--time", "40"];
    let output = harness(&binary, store.path(), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("2 wipe"), "{}", text(&output));
}

/// A fault that cannot be done is no pass: on loopback there is no wire to cut.
#[test]
fn a_fault_that_cannot_be_done_voids_the_run() {
    let Some(binary) = binary() else {
        return skip("the riftmesh binary is not built");
    };
    let store = tempfile::tempdir().unwrap();
    let arguments = [
        "--net",
        "loopback",
        "--nodes",
        "1",
        "--nemesis",
        "halves",
        "--time",
        "8",
        "--port",
        "17820",
    ];
    let output = harness(&binary, store.path(), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(
        text(&output).contains("never: halves (there is no wire on loopback"),
        "{}",
        text(&output)
    );
}

/// Processes that name `store` in their arguments, which all of a run do.
fn processes_of(store: &Path) -> usize {
    let store = store.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(&store))
        .count()
}

/// Starts a run, waits for its three nodes, kills the harness, and waits for everything to be gone.
fn kill_mid_run(net: &[&str]) {
    let Some(binary) = binary() else {
        return skip("the riftmesh binary is not built");
    };
    let store = tempfile::tempdir().unwrap();
    let mut command = harness(&binary, store.path(), net);
    let mut child: Child = command
        .args(["--time", "600"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pace = Pace::default();
    let limit = Duration::from_secs(90);
    assert!(
        pace.wait_until(limit, || processes_of(store.path()) >= 4),
        "the harness and its nodes run"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        pace.wait_until(limit, || processes_of(store.path()) == 0),
        "processes are left"
    );
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(
        !mounts.contains(&store.path().display().to_string()),
        "a mount is left"
    );
}

/// Nothing outlives a harness that is killed.
#[test]
fn a_killed_harness_leaves_no_processes() {
    kill_mid_run(&["--net", "loopback", "--port", "17830"]);
}

/// Nor a room.
#[test]
fn a_killed_harness_leaves_no_room() {
    if !permits_namespaces() {
        return skip("namespaces are not permitted here");
    }
    kill_mid_run(&["--net", "namespaces"]);
}
