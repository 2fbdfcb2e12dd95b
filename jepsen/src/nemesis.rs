//! The one that breaks things. What it did, and whether it could, is part of the history.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};

use crate::cluster::Cluster;
use crate::edn::Edn;
use crate::history::{Actor, Kind, Recorder};
use crate::pace::Pace;
use crate::workload::Process;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// `kill -9` of the voter that leads; started again a few seconds later.
    KillLeader,
    /// `kill -9` of a voter that does not lead.
    KillFollower,
    /// `kill -9` of a worker.
    KillWorker,
    /// SIGSTOP of any node for 1 to 12 s.
    Pause,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::KillLeader => "kill-leader",
            Self::KillFollower => "kill-follower",
            Self::KillWorker => "kill-worker",
            Self::Pause => "pause",
        })
    }
}

/// Breaks one thing at a time, so that a majority is always there.
pub struct Nemesis<'a> {
    cluster: Arc<Cluster>,
    recorder: Arc<Recorder>,
    /// Finds the leader.
    scout: Process<'a>,
    rng: StdRng,
}

impl<'a> Nemesis<'a> {
    /// A nemesis whose choices follow from `seed`.
    pub fn new(
        cluster: Arc<Cluster>,
        recorder: Arc<Recorder>,
        scout: Process<'a>,
        seed: u64,
    ) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ 0x6e65_6d65_7369_7321);
        Self {
            cluster,
            recorder,
            scout,
            rng,
        }
    }

    /// Breaks things until the phase ends, each of `faults` once in every turn, and leaves nothing broken.
    ///
    /// # Errors
    /// A node cannot be started again, or the history cannot be written.
    pub fn run_until(&mut self, pace: &Pace, faults: &[Fault]) -> anyhow::Result<()> {
        let mut turn = Vec::new();
        while pace.wait(Duration::from_millis(self.rng.random_range(2_000..5_000))) {
            if turn.is_empty() {
                turn = faults.to_vec();
                turn.shuffle(&mut self.rng);
            }
            if let Some(fault) = turn.pop() {
                self.strike(fault, pace)?;
            }
        }
        Ok(())
    }

    /// One fault from its beginning to its end, which comes even when the phase ends first.
    fn strike(&mut self, fault: Fault, pace: &Pace) -> anyhow::Result<()> {
        self.record(Kind::Invoke, fault, None, None)?;
        let Some(number) = self.victim(fault) else {
            return self.record(
                Kind::Fail,
                fault,
                None,
                Some("nobody to do it to".to_owned()),
            );
        };
        let name = self.cluster.nodes()[number].name.clone();
        let long = match fault {
            Fault::Pause => {
                self.cluster.pause(number)?;
                self.rng.random_range(1_000..12_000)
            }
            _ => {
                self.cluster.kill(number)?;
                self.rng.random_range(500..4_000)
            }
        };
        self.record(Kind::Info, fault, Some(&name), None)?;
        tracing::info!(%fault, node = name, "fault");
        pace.wait(Duration::from_millis(long));
        match fault {
            Fault::Pause => self.cluster.resume(number)?,
            _ => self.cluster.start(number)?,
        }
        self.recorder.record(
            Actor::Nemesis,
            Kind::Info,
            "heal",
            Edn::from(name.as_str()),
            None,
        )?;
        Ok(())
    }

    fn record(
        &self,
        kind: Kind,
        fault: Fault,
        node: Option<&str>,
        error: Option<String>,
    ) -> anyhow::Result<()> {
        let value = Edn::map([("node", node.into())]);
        Ok(self
            .recorder
            .record(Actor::Nemesis, kind, &fault.to_string(), value, error)?)
    }

    /// Whom to break: a running node that fits the fault.
    fn victim(&mut self, fault: Fault) -> Option<usize> {
        let leader = match fault {
            Fault::KillLeader | Fault::KillFollower => Some(self.scout.leader()?),
            Fault::KillWorker | Fault::Pause => None,
        };
        let nodes = self.cluster.nodes();
        let fits = |number: &usize| {
            let plan = &nodes[*number];
            let leads = leader.as_deref() == Some(plan.name.as_str());
            self.cluster.is_running(*number)
                && match fault {
                    Fault::KillLeader => plan.voter && leads,
                    Fault::KillFollower => plan.voter && !leads,
                    Fault::KillWorker => !plan.voter,
                    Fault::Pause => true,
                }
        };
        let able: Vec<usize> = (0..nodes.len()).filter(fits).collect();
        able.choose(&mut self.rng).copied()
    }
}
