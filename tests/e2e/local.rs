//! Learning without a cluster, through the command line: play, look, export, train, match, transfer, report, Ctrl-C.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use riftmesh_learning::segment::{SEGMENT_MAGIC, Segment};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A folder in which commands run.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_riftmesh"));
        command
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    fn output(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// The JSON that a command prints, which must succeed.
    fn json(&self, line: &str) -> Value {
        let output = self.output(&format!("{line} --json"));
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a command that must fail says.
    fn refusal(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(!output.status.success(), "{line} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// The way of a researcher at one desk, from nothing to drawings.
#[test]
fn a_desk_is_enough() {
    let desk = Desk::new();
    let played = desk.json("selfplay hex8_2p --local --games 6 --simulations 4 --full-percent 100 --workers 2 --out runs/games");
    assert_eq!(played["games"], 6);
    assert_eq!(played["stopped"], false);
    assert_eq!(played["segments"].as_array().unwrap().len(), 2);

    let inspected = desk.json("data inspect runs/games");
    let accepted = |file: &Value| file["accepted"].as_u64().unwrap();
    let accepted: u64 = inspected.as_array().unwrap().iter().map(accepted).sum();
    assert_eq!(accepted, 6, "every game is another one: {inspected}");
    let exported = desk.json("data export runs/games --out games.npz");
    assert_eq!(exported["rows"], played["rows"]);

    let trained = desk.json("train runs/games --out runs/net --steps 4 --batch 32");
    assert_eq!(trained["steps"], 4);
    let looked_at = desk.json("model inspect runs/net");
    assert_eq!(looked_at["manifest"]["weights"], trained["model"]);
    assert_eq!(looked_at["unfit"], Value::Null);
    let more =
        desk.json("train runs/games --parent runs/net --out runs/net-2 --steps 2 --batch 32");
    assert_eq!(
        (&more["parent"], &more["steps_in_all"]),
        (&trained["model"], &6.into())
    );

    let cup =
        desk.json("tournament hex8_2p random heuristic runs/net-2@0 --games 4 --out runs/cup");
    assert_eq!(cup["matches"].as_array().unwrap().len(), 3);
    assert_eq!(cup["anchor"], "random");
    let duel = desk.json("match hex8_2p heuristic random --games 10 --out runs/cup");
    assert_eq!(
        duel["wins"].as_u64().unwrap() + duel["losses"].as_u64().unwrap(),
        10
    );

    let three = desk.json("transfer runs/net-2 hex8_3p --out runs/net-3p");
    assert_eq!(three["parent"], more["model"]);
    let games = desk
        .json("selfplay hex8_3p --model runs/net-3p --games 1 --simulations 2 --out runs/games-3p");
    assert_eq!(games["games"], 1);

    let report = desk.json("report runs");
    let two = &report["configurations"][0];
    assert_eq!(
        (&two["configuration"], &two["games"], &two["matches"]),
        (&"hex8_2p".into(), &6.into(), &4.into())
    );
    let kinds: Vec<String> = ["calibration", "length", "loss", "rating"]
        .map(|kind| format!("{kind}-hex8_2p.svg"))
        .into();
    for kind in kinds {
        let drawing = fs::read_to_string(desk.path("runs/report").join(&kind)).unwrap();
        assert!(drawing.starts_with("<svg"), "{kind}");
    }
}

/// The same seed plays the same games, another seed others; games of two runs never pass for repetitions.
#[test]
fn a_run_is_its_seed() {
    let desk = Desk::new();
    let play = |out: &str, seed: u32| {
        let line =
            format!("selfplay square8_2p --games 2 --simulations 2 --seed {seed} --out {out}");
        let played = desk.json(&line);
        fs::read(desk.path(played["segments"][0].as_str().unwrap())).unwrap()
    };
    let (first, again, other) = (play("a", 5), play("b", 5), play("c", 6));
    assert_eq!(first, again);
    assert_ne!(first, other);
    let exported = desk.json("data export a c --out games.npz");
    assert_eq!(
        (&exported["games"], &exported["rejected"]),
        (&4.into(), &serde_json::json!({}))
    );
    let repeated = desk.json("data export a b --out games.npz");
    assert_eq!(repeated["rejected"]["duplicate"], 2);
}

/// Ctrl-C ends a run with what is whole: the segment is finished, and the result says that it is not all.
#[test]
fn an_interrupted_run_keeps_its_games() {
    let desk = Desk::new();
    let line = "selfplay hex8_2p --games 100000 --simulations 1 --out runs --json";
    let child = desk
        .command(line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while !desk.has_game() {
        assert!(
            begin.elapsed() < Duration::from_secs(120),
            "no game was played"
        );
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let played: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(played["stopped"], true);
    let segment = Segment::read(&desk.path(played["segments"][0].as_str().unwrap())).unwrap();
    assert_eq!(segment.torn_bytes, 0);
    assert_eq!(played["games"], segment.games.len());
    assert!(!segment.games.is_empty());
}

impl Desk {
    /// Whether a segment that is being written has a game in it.
    fn has_game(&self) -> bool {
        let folders = fs::read_dir(self.path("runs"))
            .into_iter()
            .flatten()
            .flatten();
        folders
            .map(|folder| folder.path().join("games.segment.part"))
            .any(|part| {
                let bytes = fs::read(part).unwrap_or_default();
                bytes.starts_with(&SEGMENT_MAGIC) && bytes.windows(4).any(|text| text == b"RMsg")
            })
    }
}

/// What was asked for and cannot be is said before anything is made.
#[test]
fn wrong_wishes_are_refused_by_name() {
    let desk = Desk::new();
    let says = |line: &str, text: &str| {
        let said = desk.refusal(line);
        assert!(said.contains(text), "{line}: {said}");
    };
    says("selfplay hex9_2p --out runs", "hex9_2p");
    says("selfplay hex8_2p --out runs --model nowhere", "nowhere");
    says("train nothing --out runs", "there is no file nothing");
    says("match hex8_2p random@5 heuristic", "random does not search");
    says("tournament hex8_2p random random", "named twice");
    says("report nothing", "there is no folder nothing");
    fs::create_dir(desk.path("empty")).unwrap();
    says("report empty", "no segment, no manifest and no journal");
    says("data export empty --out games.npz", "no segment was found");
    fs::write(desk.path("noise"), b"RMsh and then nothing of the kind").unwrap();
    says("data export noise --out games.npz", "none of 1 segments");
    says("model inspect noise", "is no manifest");
    assert!(!Path::new(&desk.path("runs")).exists());
}
