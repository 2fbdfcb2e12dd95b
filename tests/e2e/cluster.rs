//! A cluster under test: the real binary, its processes, and what they say.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Nodes started by `up` here: three voters and a worker.
const NODES: u16 = 4;
/// Ports taken: one more for a node that a test adds.
const PORTS: u16 = NODES + 1;
/// Time between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// One `riftmesh up` in a directory of its own.
pub struct Cluster {
    dir: tempfile::TempDir,
    port: u16,
    up: Option<Child>,
    /// A node that `up` does not know.
    added: Option<Child>,
}

/// A process of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(i32);

fn envelope(address: &str, path: &str) -> Option<Value> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(2)))
        .build();
    let agent: ureq::Agent = config.into();
    let mut response = agent.get(format!("http://{address}{path}")).call().ok()?;
    response.body_mut().read_json().ok()
}

impl Cluster {
    /// An empty directory and free ports.
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            port: free_ports(PORTS),
            up: None,
            added: None,
        }
    }

    /// Starts, or resumes, `up`.
    pub fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("up.out"))
            .unwrap();
        let up = Command::new(env!("CARGO_BIN_EXE_riftmesh"))
            .args([
                "up",
                "--preset",
                "smoke",
                "--voters",
                "3",
                "--workers",
                "1",
                "--slots",
                "2",
            ])
            .args(["--port", &self.port.to_string(), "--dir"])
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.up = Some(up);
    }

    /// Starts a voter called `v4` by hand, which no one has asked for yet.
    pub fn add_voter(&mut self) {
        let own = self.added_address();
        let log = File::create(self.data().join("nodes/v4.log")).unwrap();
        let node = Command::new(env!("CARGO_BIN_EXE_riftmesh"))
            .args(["node", "run", "--name", "v4", "--preset", "smoke"])
            .args(["--listen", &own, "--http", &own])
            .args(["--seeds", &self.addresses()[..3].join(",")])
            .arg("--credential")
            .arg(self.data().join("cluster.credential"))
            .arg("--dir")
            .arg(self.data().join("nodes/v4"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.added = Some(node);
    }

    /// Where the voter of [`Cluster::add_voter`] answers.
    pub fn added_address(&self) -> String {
        format!("127.0.0.1:{}", self.port + NODES)
    }

    /// Where `up` keeps everything.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// HTTP addresses of all nodes.
    pub fn addresses(&self) -> Vec<String> {
        (self.port..self.port + NODES)
            .map(|port| format!("127.0.0.1:{port}"))
            .collect()
    }

    /// The answer of the first node that gives one, without its envelope.
    pub fn ask(&self, path: &str) -> Option<Value> {
        let asked = |address: &String| Some(envelope(address, path)?["answer"].clone());
        self.addresses().iter().find_map(asked)
    }

    /// What the voter called `name` answers, in its envelope.
    pub fn ask_voter(&self, name: &str, path: &str) -> Option<Value> {
        let number: u16 = name.trim_start_matches('v').parse().unwrap();
        envelope(&format!("127.0.0.1:{}", self.port + number - 1), path)
    }

    /// Whether the voter called `name` answers for itself, with a confirmed leader.
    pub fn answers(&self, name: &str) -> bool {
        let answer = self.ask_voter(name, "/v1/leader");
        answer
            .is_some_and(|envelope| envelope["name"] == name && envelope["mode"] == "linearizable")
    }

    /// The loop's progress.
    pub fn progress(&self) -> Option<Value> {
        let answer = self.ask("/v1/progress")?;
        answer.get(0).cloned()
    }

    /// Accepted games.
    pub fn games(&self) -> u64 {
        self.progress()
            .and_then(|progress| progress["games"].as_u64())
            .unwrap_or(0)
    }

    /// The confirmed leader's name and its term.
    pub fn leader(&self) -> Option<(String, u64)> {
        let answer = self.ask("/v1/leader")?;
        let confirmed = answer["confirmed"].as_bool()?;
        let name = answer["name"].as_str().filter(|_| confirmed)?;
        Some((name.to_owned(), answer["term"].as_u64()?))
    }

    /// Jobs as the cluster lists them.
    pub fn jobs(&self, filter: &str) -> Vec<Value> {
        let answer = self.ask(&format!("/v1/jobs?limit=1000{filter}"));
        answer
            .and_then(|jobs| jobs.as_array().cloned())
            .unwrap_or_default()
    }

    /// Runs a command of the binary against this cluster.
    pub fn riftmesh(&self, args: &[&str]) -> std::process::Output {
        let addresses = self.addresses().join(",");
        Command::new(env!("CARGO_BIN_EXE_riftmesh"))
            .args(args)
            .env("RIFTMESH_ADDR", addresses)
            .output()
            .unwrap()
    }

    /// Waits until `look` gives something.
    pub fn wait<T>(&self, within: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = look() {
                eprintln!("{what}: after {:.1} s", begin.elapsed().as_secs_f64());
                return found;
            }
            assert!(
                begin.elapsed() < within,
                "{what}: not within {within:?}\n{}",
                self.logs()
            );
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// The process of the node called `name`.
    pub fn node(&self, name: &str) -> Option<Process> {
        let dir = self.data().join("nodes").join(name);
        let dir = dir.to_string_lossy().into_owned();
        processes()
            .into_iter()
            .find(|(_, args)| args.contains(&dir))
            .map(|(process, _)| process)
    }

    /// The job children of the node called `name`.
    pub fn children(&self, name: &str) -> Vec<Process> {
        let Some(parent) = self.node(name) else {
            return Vec::new();
        };
        let exec = |args: &[String]| args.iter().any(|arg| arg == "exec");
        let found = processes()
            .into_iter()
            .filter(|(process, args)| exec(args) && parent_of(*process) == Some(parent));
        found.map(|(process, _)| process).collect()
    }

    /// Every process of the cluster, `up` first.
    pub fn everything(&self) -> Vec<Process> {
        let data = self.data().to_string_lossy().into_owned();
        let nodes = processes()
            .into_iter()
            .filter(|(_, args)| args.iter().any(|arg| arg.starts_with(&data)));
        let mut all: Vec<_> = nodes.map(|(process, _)| process).collect();
        let children = processes()
            .into_iter()
            .filter(|(process, _)| parent_of(*process).is_some_and(|parent| all.contains(&parent)));
        let children: Vec<_> = children
            .map(|(process, _)| process)
            .filter(|process| !all.contains(process))
            .collect();
        all.extend(children);
        all
    }

    /// Kills `up` and everything it started at once, without warning.
    pub fn kill_everything(&mut self) {
        let everything: BTreeSet<_> = self.everything().into_iter().collect();
        assert!(everything.len() > usize::from(NODES), "{everything:?}");
        everything.into_iter().for_each(Process::kill);
        for mut started in [self.up.take(), self.added.take()].into_iter().flatten() {
            started.wait().unwrap();
        }
    }

    /// Asks `up` to leave and waits for it; true if it said that all went well.
    pub fn stop(&mut self) -> bool {
        let Some(mut up) = self.up.take() else {
            return false;
        };
        let pid = Pid::from_child(&up);
        kill_process(pid, Signal::TERM).unwrap();
        let status = self.wait(Duration::from_secs(40), "up leaves", || {
            up.try_wait().unwrap()
        });
        status.success()
    }

    /// The last lines of every log, for a failed test.
    fn logs(&self) -> String {
        let nodes = fs::read_dir(self.data().join("nodes"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let logs = nodes.filter(|path| path.extension().is_some_and(|ext| ext == "log"));
        let mut text = String::new();
        for path in logs.chain([self.dir.path().join("up.out")]) {
            let all = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = all.lines().collect();
            text.push_str(&format!(
                "--- {}\n{}\n",
                path.display(),
                lines[lines.len().saturating_sub(15)..].join("\n")
            ));
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut up) = self.up.take() {
            self.everything().into_iter().for_each(Process::kill);
            up.kill().ok();
            up.wait().ok();
        }
        if let Some(mut added) = self.added.take() {
            added.kill().ok();
            added.wait().ok();
        }
    }
}

impl Process {
    /// Signal 9.
    pub fn kill(self) {
        // Gone already is as good.
        if let Some(pid) = Pid::from_raw(self.0) {
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

/// All processes with their arguments, from `/proc`.
fn processes() -> Vec<(Process, Vec<String>)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let args: Vec<_> = line
                .split(|byte| *byte == 0)
                .map(|arg| String::from_utf8_lossy(arg).into_owned())
                .collect();
            let ours = Path::new(args.first()?).file_name()?.to_str()? == "riftmesh";
            ours.then_some((Process(pid), args))
        })
        .collect()
}

fn parent_of(process: Process) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.0)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().map(Process)
}

/// The first of `count` ports that are free for both protocols now, and that no other caller in this process was given.
/// They lie below those that a system hands out by itself: a node that is killed and started again finds its own free.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().unwrap();
    let free = |port: &u16| {
        TcpListener::bind(("127.0.0.1", *port)).is_ok()
            && UdpSocket::bind(("127.0.0.1", *port)).is_ok()
    };
    let start = next.unwrap_or(10_000 + (std::process::id() % 1_000) as u16 * 20);
    let found = (start..32_000)
        .step_by(count.into())
        .find(|base| (*base..base + count).all(|port| free(&port)))
        .unwrap();
    *next = Some(found + count);
    found
}
