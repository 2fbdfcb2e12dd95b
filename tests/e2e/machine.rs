//! One machine under test: a directory, a port, and the real binary run in it as a person would.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Time between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A node that is refused says so and ends within this time.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

/// A machine with at most one node.
pub struct Machine {
    pub name: String,
    pub dir: PathBuf,
    pub port: u16,
    node: Option<Child>,
}

impl Machine {
    /// A machine with an empty directory below `folder`.
    pub fn new(folder: &Path, name: &str, port: u16) -> Self {
        let dir = folder.join(name);
        fs::create_dir(&dir).unwrap();
        Self {
            name: name.to_owned(),
            dir,
            port,
            node: None,
        }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn command(&self, seeds: &str, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_riftmesh"));
        command
            .current_dir(&self.dir)
            .args(["node", "run", "--dir", "data", "--seeds", seeds])
            .args(["--listen", &self.address(), "--http", &self.address()])
            .args(["--name", &self.name, "--preset", "smoke"])
            .args(options)
            .stdin(Stdio::null());
        command
    }

    /// Starts the node; its log goes to a file.
    pub fn start(&mut self, seeds: &str, options: &[&str]) {
        let path = self.dir.join("node.log");
        let mut file = File::options();
        let log = file.create(true).append(true).open(path).unwrap();
        let node = self
            .command(seeds, options)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.node = Some(node.unwrap());
    }

    /// Runs a node that is to be refused; gives what it said.
    pub fn refused(&self, seeds: &str, options: &[&str]) -> String {
        let mut node = self
            .command(seeds, options)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while node.try_wait().unwrap().is_none() {
            if begin.elapsed() > REFUSED_WITHIN {
                node.kill().unwrap();
                let said = node.wait_with_output().unwrap().stderr;
                panic!("it runs on: {}", String::from_utf8_lossy(&said));
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        let Output { status, stderr, .. } = node.wait_with_output().unwrap();
        assert_eq!(status.code(), Some(1));
        String::from_utf8(stderr).unwrap()
    }

    /// Ends the node without warning.
    pub fn kill(&mut self) {
        if let Some(mut node) = self.node.take() {
            node.kill().ok();
            node.wait().ok();
        }
    }

    /// Waits until the node has ended by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut node = self.node.take().unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = node.try_wait().unwrap() {
                return status;
            }
            if begin.elapsed() > REFUSED_WITHIN {
                node.kill().unwrap();
                panic!("it runs on: {}", self.log());
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// Runs a command of the binary against this machine's node.
    pub fn riftmesh(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_riftmesh"))
            .args(args)
            .args(["--addr", &self.address()])
            .output()
            .unwrap()
    }

    /// Begins a command of the binary against this machine's node that goes on for a while.
    pub fn begin(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_riftmesh"))
            .args(args)
            .args(["--addr", &self.address()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// What this machine's node answers where it answers in plain text.
    pub fn text(&self, path: &str) -> Option<String> {
        let mut response = self.get(path)?;
        response.body_mut().read_to_string().ok()
    }

    fn get(&self, path: &str) -> Option<ureq::http::Response<ureq::Body>> {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(2)))
            .build();
        let url = format!("http://{}{path}", self.address());
        ureq::Agent::from(config).get(url).call().ok()
    }

    /// What this machine's node answers, without the envelope.
    pub fn ask(&self, path: &str) -> Option<Value> {
        let mut response = self.get(path)?;
        let envelope: Value = response.body_mut().read_json().ok()?;
        Some(envelope["answer"].clone())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("node.log")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until `look` gives something; what it gave.
pub fn wait<T>(what: &str, machines: &[&Machine], mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            eprintln!("{what}: after {:.1} s", begin.elapsed().as_secs_f64());
            return found;
        }
        if begin.elapsed() > Duration::from_secs(120) {
            for machine in machines {
                let log = machine.log();
                let lines: Vec<_> = log.lines().collect();
                let last = &lines[lines.len().saturating_sub(20)..];
                eprintln!("--- {}\n{}", machine.name, last.join("\n"));
            }
            panic!("{what}: not within two minutes");
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}
