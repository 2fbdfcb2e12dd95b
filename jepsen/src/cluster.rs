//! Real processes of the binary under test: start, kill, pause.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// What a node is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// Such as `v1` or `w1`.
    pub name: String,
    /// Votes, or only works.
    pub voter: bool,
    /// QUIC and HTTP, both on loopback.
    pub address: SocketAddr,
}

/// A cluster of processes on this machine.
pub struct Cluster {
    binary: PathBuf,
    folder: PathBuf,
    seed: u64,
    plans: Vec<NodePlan>,
    children: Mutex<Vec<Option<Child>>>,
}

impl Cluster {
    /// Makes the cluster's credential below `folder`. Nothing is started yet.
    ///
    /// # Errors
    /// The binary is missing or does not do its part.
    pub fn create(
        binary: &Path,
        folder: &Path,
        plans: Vec<NodePlan>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        ensure!(
            binary.is_file(),
            "{} is not there; build it with `cargo build`, or name another with --binary",
            binary.display()
        );
        let status = Command::new(binary)
            .args(["cluster", "create", "--out"])
            .arg(folder.join("cluster.credential"))
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        ensure!(status.success(), "`cluster create` failed ({status})");
        let children = plans.iter().map(|_| None).collect();
        Ok(Self {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            seed,
            plans,
            children: Mutex::new(children),
        })
    }

    /// The nodes, voters first.
    pub fn nodes(&self) -> &[NodePlan] {
        &self.plans
    }

    /// The HTTP addresses of the voters.
    pub fn voters(&self) -> Vec<SocketAddr> {
        let voters = self.plans.iter().filter(|plan| plan.voter);
        voters.map(|plan| plan.address).collect()
    }

    /// Starts node `number`, with what is in its data directory. A node that runs is left alone.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, number: usize) -> anyhow::Result<()> {
        let plan = &self.plans[number];
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = &mut children[number]
            && child.try_wait()?.is_none()
        {
            return Ok(());
        }
        let log_path = self.folder.join(format!("{}.log", plan.name));
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("cannot write {}", log_path.display()))?;
        let child = Command::new(&self.binary)
            .args(self.arguments(plan))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        children[number] = Some(child);
        Ok(())
    }

    fn arguments(&self, plan: &NodePlan) -> Vec<String> {
        let voters: Vec<_> = self.voters().iter().map(ToString::to_string).collect();
        let path = |name: &str| self.folder.join(name).display().to_string();
        let mut arguments = vec!["node".to_owned(), "run".to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        option("dir", path(&plan.name));
        option("name", plan.name.clone());
        option("credential", path("cluster.credential"));
        option("listen", plan.address.to_string());
        option("http", plan.address.to_string());
        option("seeds", voters.join(","));
        option("seed", self.seed.to_string());
        if plan.voter {
            option("role", "voter".to_owned());
            option("bootstrap-expect", voters.len().to_string());
            option("slots", "0".to_owned());
        } else {
            option("role", "worker".to_owned());
            option("slots", "1".to_owned());
        }
        arguments
    }

    /// Whether node `number` has a process that has not ended.
    pub fn is_running(&self, number: usize) -> bool {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let child = children[number].as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// `kill -9`, and waits for the end.
    ///
    /// # Errors
    /// There is no such process.
    pub fn kill(&self, number: usize) -> anyhow::Result<()> {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = children[number].take().context("the node does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Stops the process where it is, as a virtual machine's pause does. Its job children go on.
    ///
    /// # Errors
    /// There is no such process.
    pub fn pause(&self, number: usize) -> anyhow::Result<()> {
        self.signal(number, Signal::STOP)
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    /// There is no such process.
    pub fn resume(&self, number: usize) -> anyhow::Result<()> {
        self.signal(number, Signal::CONT)
    }

    fn signal(&self, number: usize, signal: Signal) -> anyhow::Result<()> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let child = children[number].as_ref().context("the node does not run")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("the process has no usable id")?, signal)?;
        Ok(())
    }
}

impl Drop for Cluster {
    /// Nothing outlives a run.
    fn drop(&mut self) {
        for number in 0..self.plans.len() {
            if self.is_running(number)
                && let Err(error) = self.kill(number)
            {
                tracing::warn!(node = self.plans[number].name, %error, "could not be stopped");
            }
        }
    }
}
