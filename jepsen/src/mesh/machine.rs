//! One machine of the eight: a network namespace, a node in it, and the command line as somebody there would use it.

use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::net::namespace::{self, Namespace};
use crate::reaper::kill_group;

/// The port of every node.
pub const PORT: u16 = 7_700;
/// A question is answered within two seconds; a machine with all cores busy is given more.
const ANSWER_SECONDS: &str = "10";

/// A machine.
pub struct Machine {
    /// Its node's name and its namespace's.
    pub name: String,
    /// Where its node listens.
    pub address: Ipv4Addr,
    namespace: Arc<Namespace>,
    folder: PathBuf,
    binary: PathBuf,
    child: Option<Child>,
}

impl Machine {
    /// A machine in `namespace`, with its files below `folder`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(
        name: &str,
        number: u8,
        namespace: Namespace,
        folder: &Path,
        binary: &Path,
    ) -> anyhow::Result<Self> {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self {
            name: name.to_owned(),
            address: namespace::address(number),
            namespace: Arc::new(namespace),
            folder,
            binary: binary.to_owned(),
            child: None,
        })
    }

    /// Starts the node with these options of `node run`; its directory, name and address are given.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self, options: &[&str]) -> anyhow::Result<()> {
        let path = self.folder.join("node.log");
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot write {}", path.display()))?;
        let listen = format!("{}:{PORT}", self.address);
        let mut command = Command::new(&self.binary);
        command
            .args(["node", "run", "--dir", "data", "--name", &self.name])
            .args(["--listen", &listen])
            .args(options)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let child = self.namespace.within(|| command.spawn())?;
        let child = child.with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// `kill -9` for the node and its jobs.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the node does not run")?;
        kill_group(child.id())?;
        child.wait()?;
        Ok(())
    }

    /// Stops the node and its jobs where they are.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("the node does not run")?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process_group(group.context("no process id")?, signal)?)
    }

    /// Starts a command of the binary here that goes on telling.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn listen(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let child = self.namespace.within(|| command.spawn())?;
        child.with_context(|| format!("cannot start {}", self.binary.display()))
    }

    /// Whether the node's process has not ended.
    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Moves the machine to another address; a node on it has to be started again.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn move_to(&mut self, address: Ipv4Addr) -> anyhow::Result<()> {
        namespace::replace_address(&self.name, self.address, address)?;
        self.address = address;
        Ok(())
    }

    /// Runs a command of the binary here and gives what it printed.
    ///
    /// # Errors
    /// It fails, or does not answer in time.
    pub fn say(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.run(arguments)?;
        ensure!(
            output.status.success(),
            "`riftmesh {}` on {}: {} {}",
            arguments.join(" "),
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Asks the node with `--json`; the answer without its envelope. A cluster that is not well answers too.
    ///
    /// # Errors
    /// There is no answer.
    pub fn ask(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut with_json = arguments.to_vec();
        with_json.push("--json");
        let output = self.run(&with_json)?;
        let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!(
                "`riftmesh {}` on {}: {said}",
                arguments.join(" "),
                self.name
            )
        })?;
        answer.get("answer").cloned().context("no answer in it")
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new("timeout");
        command
            .arg(ANSWER_SECONDS)
            .arg(&self.binary)
            .args(arguments)
            .stdin(Stdio::null());
        let output = self.namespace.within(|| command.output())?;
        output.context("cannot start `timeout` (package coreutils)")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.child.is_some()
            && let Err(error) = self.kill()
        {
            tracing::warn!(name = self.name, %error, "could not be ended");
        }
    }
}
