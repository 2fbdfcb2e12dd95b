//! What three voters can do: processes of their own, QUIC on loopback, logs synced to the disk below the current
//! directory. Prints one JSON object per figure; run by `cargo xtask bench raft`.
//!
//! A voter here is consensus, state machine, log and QUIC endpoint, as in a node; gossip, HTTP and workers are left out.
//! The callers are tasks of this process, on the same cores. If `etcd` is on the PATH, three members of it get the same
//! pattern of calls, in turns with the voters and on the same disk; see `etcd.rs` for how its client differs.
//!
//! `cargo run --release -p riftmesh-raft --example voters -- [--seconds S] [--rounds N] [--kills N] [--jobs N]
//! [--commands N] [--only PART] [--engine sled|segments] [--note TEXT]`; parts are `commit`, `jobs`, `kill`, `restart` and
//! `disk`. A node's engine is sled; the other one is there to see what an engine costs.

mod etcd;
mod figures;
mod group;
mod jobs;
mod load;
mod parts;
mod process;
mod voter;

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use figures::Figures;
use group::Group;
use riftmesh_storage::LogKind;

/// What is measured, and for how long.
pub struct Plan {
    /// Of one run of one load.
    pub seconds: Duration,
    /// Runs of each load, in turns with etcd.
    pub rounds: usize,
    /// Leaders killed.
    pub kills: usize,
    /// Jobs in the state when everything is restarted.
    pub jobs: usize,
    /// Commands after which the disk is looked at.
    pub commands: usize,
    /// What the voters' logs are kept in.
    pub engine: LogKind,
    only: Option<String>,
    note: Option<String>,
}

impl Plan {
    fn from_arguments(arguments: &[String]) -> Result<Self, Box<dyn Error>> {
        let mut plan = Self {
            seconds: Duration::from_secs(5),
            rounds: 3,
            kills: 20,
            jobs: 100_000,
            commands: 1_000_000,
            engine: LogKind::Sled,
            only: None,
            note: None,
        };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("{pair:?} lacks a value").into());
            };
            match name.as_str() {
                "--seconds" => plan.seconds = Duration::from_secs_f64(value.parse()?),
                "--rounds" => plan.rounds = value.parse()?,
                "--kills" => plan.kills = value.parse()?,
                "--jobs" => plan.jobs = value.parse()?,
                "--commands" => plan.commands = value.parse()?,
                "--engine" => {
                    plan.engine = LogKind::named(value).ok_or("there is no such engine")?;
                }
                "--only" => plan.only = Some(value.clone()),
                "--note" => plan.note = Some(value.clone()),
                other => return Err(format!("there is no option {other}").into()),
            }
        }
        Ok(plan)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "voter") {
        return voter::run(voter::Identity::from_arguments(&arguments)?).await;
    }
    let plan = Plan::from_arguments(&arguments)?;
    let figures = Figures::new(plan.note.clone());
    let directory = tempfile::tempdir_in(".")?;
    if plan.wants("commit") {
        commits(&plan, &figures, directory.path()).await?;
    }
    let mut group = Group::start(&directory.path().join("work"), plan.engine).await?;
    if plan.wants("jobs") {
        jobs::measure(&plan, &figures, &group).await?;
    }
    if plan.wants("kill") {
        parts::kill_leaders(&plan, &figures, &mut group).await?;
    }
    if plan.wants("restart") {
        parts::restart(&plan, &figures, &mut group).await?;
    }
    if plan.wants("disk") {
        parts::disk(&plan, &figures, &group).await?;
    }
    Ok(())
}

/// Commits and reads, in turns with etcd, each on fresh members.
async fn commits(plan: &Plan, figures: &Figures, directory: &Path) -> Result<(), Box<dyn Error>> {
    let group = Group::start(&directory.join("voters"), plan.engine).await?;
    let etcd = etcd::Etcd::start(&directory.join("etcd")).await?;
    parts::commits_and_reads(plan, figures, &group, etcd.as_ref()).await
}
