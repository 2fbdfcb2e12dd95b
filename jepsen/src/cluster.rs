//! Real processes of the binary under test: start, kill, pause, wipe.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::disk::NodeDisk;
use crate::dress::Dress;
use crate::net::namespace::Namespace;
use crate::net::wire::Wire;
use crate::reaper::{Reaper, kill_group};

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Such as `v1` or `w1`.
    pub name: String,
    /// Votes, or only works.
    pub voter: bool,
    /// Where other nodes reach it (QUIC).
    pub mesh: SocketAddr,
    /// Where clients reach it (HTTP), on the loopback of its namespace.
    pub http: SocketAddr,
    /// Where it lives, if not in the harness's own.
    pub namespace: Option<Arc<Namespace>>,
    /// Its data's own disk, if it has one.
    pub disk: Option<NodeDisk>,
}

impl NodePlan {
    /// Runs `act` where the node lives.
    ///
    /// # Errors
    /// Its namespace cannot be entered.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> std::io::Result<T> {
        match &self.namespace {
            Some(namespace) => namespace.within(act),
            None => Ok(act()),
        }
    }
}

/// What the nodes of a cluster stand on.
pub struct Site {
    /// The nodes, voters first.
    pub plans: Vec<NodePlan>,
    /// Between their namespaces, if they have them.
    pub wire: Option<Wire>,
    /// Ends the processes when the harness is killed, where no room does.
    pub reaper: Option<Reaper>,
}

/// A cluster of processes on this machine.
pub struct Cluster {
    binary: PathBuf,
    folder: PathBuf,
    seed: u64,
    site: Site,
    children: Mutex<Vec<Option<Child>>>,
    /// What each node is started in.
    dresses: Mutex<Vec<Dress>>,
    /// Voters whose disk was lost: they may not found a cluster once more.
    wiped: Mutex<BTreeSet<usize>>,
}

impl Cluster {
    /// Makes the cluster's credential below `folder`. Nothing is started yet.
    ///
    /// # Errors
    /// The binary is missing or does not do its part.
    pub fn create(binary: &Path, folder: &Path, site: Site, seed: u64) -> anyhow::Result<Self> {
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
        let children = site.plans.iter().map(|_| None).collect();
        let dresses = vec![Dress::Plain; site.plans.len()];
        Ok(Self {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            seed,
            site,
            children: Mutex::new(children),
            dresses: Mutex::new(dresses),
            wiped: Mutex::default(),
        })
    }

    /// The nodes, voters first.
    pub fn nodes(&self) -> &[NodePlan] {
        &self.site.plans
    }

    /// The wire between the nodes, if they live in namespaces.
    pub fn wire(&self) -> Option<&Wire> {
        self.site.wire.as_ref()
    }

    /// How many nodes vote.
    pub fn voters(&self) -> usize {
        self.nodes().iter().filter(|plan| plan.voter).count()
    }

    /// Starts node `number`, with what is in its data directory. A node that runs is left alone.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, number: usize) -> anyhow::Result<()> {
        let plan = &self.nodes()[number];
        let mut children = self.lock();
        if let Some(child) = &mut children[number]
            && child.try_wait()?.is_none()
        {
            return Ok(());
        }
        let log_path = log_path(&self.folder, plan);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("cannot write {}", log_path.display()))?;
        let dress = self.dress(number);
        let mut command = dress.command(&self.binary);
        command
            .args(self.arguments(number))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Its jobs are in the group too, and end with it.
            .process_group(0);
        let child = plan
            .within(|| command.spawn())?
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        if let Some(reaper) = &self.site.reaper {
            reaper.adopt(child.id())?;
        }
        children[number] = Some(child);
        Ok(())
    }

    fn arguments(&self, number: usize) -> Vec<String> {
        let plan = &self.nodes()[number];
        let is_wiped = lock(&self.wiped).contains(&number);
        let voters = self.nodes().iter().filter(|plan| plan.voter);
        let voters: Vec<_> = voters.map(|plan| plan.mesh.to_string()).collect();
        let path = |name: &str| self.folder.join(name).display().to_string();
        let mut arguments = vec!["node".to_owned(), "run".to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        option("dir", path(&plan.name));
        option("name", plan.name.clone());
        option("credential", path("cluster.credential"));
        option("listen", plan.mesh.to_string());
        option("http", plan.http.to_string());
        option("seeds", voters.join(","));
        option("seed", self.seed.to_string());
        option("preset", "smoke".to_owned());
        if plan.voter {
            option("role", "voter".to_owned());
            if !is_wiped {
                option("bootstrap-expect", voters.len().to_string());
            }
            option("slots", "0".to_owned());
        } else {
            option("role", "worker".to_owned());
            option("slots", "1".to_owned());
        }
        arguments
    }

    /// Whether node `number` has a process that has not ended.
    pub fn is_running(&self, number: usize) -> bool {
        let mut children = self.lock();
        let child = children[number].as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// `kill -9`, and waits for the end.
    ///
    /// # Errors
    /// There is no such process.
    pub fn kill(&self, number: usize) -> anyhow::Result<()> {
        let mut children = self.lock();
        let mut child = children[number].take().context("the node does not run")?;
        let id = child.id();
        child.kill()?;
        child.wait()?;
        // The jobs of a killed worker are orphans now, as they would be on its machine: they end by themselves or never.
        self.orphans(id)
    }

    /// What is left of the group of a killed node stays known to the reaper, which ends it with the run.
    fn orphans(&self, leader: u32) -> anyhow::Result<()> {
        let members = rustix::process::test_kill_process_group;
        let pid = i32::try_from(leader).ok().and_then(Pid::from_raw);
        let is_empty = pid.is_none_or(|pid| members(pid).is_err());
        match &self.site.reaper {
            Some(reaper) if is_empty => Ok(reaper.release(leader)?),
            _ => Ok(()),
        }
    }

    /// What node `number` is started in from its next start on.
    pub fn wear(&self, number: usize, dress: Dress) {
        lock(&self.dresses)[number] = dress;
    }

    fn dress(&self, number: usize) -> Dress {
        lock(&self.dresses)[number].clone()
    }

    /// The id of node `number`'s process, while it has one.
    pub fn process(&self, number: usize) -> Option<u32> {
        self.lock()[number].as_ref().map(Child::id)
    }

    /// Whether node `number` runs, and in what it was told to wear.
    pub fn is_dressed(&self, number: usize) -> bool {
        let dress = self.dress(number);
        let id = self.process(number);
        self.is_running(number) && id.is_some_and(|id| dress.is_worn(id))
    }

    /// Where files of the harness about node `number` may be.
    pub fn beside(&self, number: usize, name: &str) -> PathBuf {
        self.folder
            .join(format!("{}.{name}", self.nodes()[number].name))
    }

    /// Takes everything from the data directory of a node that does not run. A voter is a stranger then, that has to be
    /// let in again.
    ///
    /// # Errors
    /// It runs, or its files cannot be removed.
    pub fn wipe(&self, number: usize) -> anyhow::Result<()> {
        ensure!(!self.is_running(number), "a running node is not wiped");
        let folder = self.folder.join(&self.nodes()[number].name);
        // The folder itself may be where a disk is mounted.
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            match path.is_dir() {
                true => std::fs::remove_dir_all(&path)?,
                false => std::fs::remove_file(&path)?,
            }
        }
        lock(&self.wiped).insert(number);
        Ok(())
    }

    /// The state letter of node `number`'s process, such as `T` for stopped; none when it has none.
    pub fn process_state(&self, number: usize) -> Option<char> {
        let id = self.lock()[number].as_ref()?.id();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name before it is in brackets and may hold anything.
        stat.rsplit_once(") ")?.1.chars().next()
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

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Child>>> {
        lock(&self.children)
    }

    fn signal(&self, number: usize, signal: Signal) -> anyhow::Result<()> {
        let children = self.lock();
        let child = children[number].as_ref().context("the node does not run")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("the process has no usable id")?, signal)?;
        Ok(())
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a node's log is.
pub fn log_path(folder: &Path, plan: &NodePlan) -> PathBuf {
    folder.join(format!("{}.log", plan.name))
}

impl Drop for Cluster {
    /// Nothing outlives a run.
    fn drop(&mut self) {
        let children = self
            .lock()
            .iter_mut()
            .filter_map(Option::take)
            .collect::<Vec<_>>();
        for mut child in children {
            let ended = kill_group(child.id()).and_then(|()| child.wait());
            if let Err(error) = ended {
                tracing::warn!(process = child.id(), %error, "could not be ended");
            }
        }
    }
}
