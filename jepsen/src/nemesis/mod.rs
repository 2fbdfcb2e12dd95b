//! The one that breaks things. What it did, and whether that took, is part of the history.

mod clocks;
mod fault;
mod long_writes;
mod network;
mod replace;
mod schedule;
mod strike;

use std::sync::Arc;

use crate::cluster::Cluster;
use crate::edn::Edn;
use crate::history::{Actor, Kind, Recorder};
use crate::pace::Pace;
use crate::workload::Process;

pub use fault::{FAULTS, Fault};
pub use schedule::{Planned, Schedule};
use strike::{Begun, Strike};

/// Name of the event that ends a fault.
pub const HEAL: &str = "heal";

/// How the outcome of failed syncs ends when the process went on, which it may not.
pub const SURVIVED: &str = "; it went on";

/// How the outcome of lost long packets ends when no write that takes them came through.
pub const BLOCKED: &str = "; none came through";

/// What became of an ordered fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultOutcome {
    /// It was seen to take.
    Installed(String),
    /// Nobody can say whether it did.
    Indeterminate(String),
}

/// Breaks one thing at a time.
pub struct Nemesis<'a> {
    cluster: Arc<Cluster>,
    recorder: Arc<Recorder>,
    /// Finds the leader.
    scout: Process<'a>,
    schedule: Schedule,
}

impl<'a> Nemesis<'a> {
    /// A nemesis that follows `schedule`.
    pub fn new(
        cluster: Arc<Cluster>,
        recorder: Arc<Recorder>,
        scout: Process<'a>,
        schedule: Schedule,
    ) -> Self {
        Self {
            cluster,
            recorder,
            scout,
            schedule,
        }
    }

    /// Breaks things until the phase ends, and leaves nothing broken.
    ///
    /// # Errors
    /// A node cannot be started again, or the history cannot be written.
    pub fn run_until(&mut self, pace: &Pace) -> anyhow::Result<()> {
        while let Some(planned) = self.schedule.next() {
            if !pace.wait(planned.quiet) {
                break;
            }
            self.strike(planned, pace)?;
        }
        Ok(())
    }

    /// One fault from its beginning to its end, which comes even when the phase ends first.
    fn strike(&mut self, planned: Planned, pace: &Pace) -> anyhow::Result<()> {
        let name = planned.fault.to_string();
        self.record(Kind::Invoke, &name, Edn::Nil, None)?;
        let mut strike = Strike::new(&self.cluster, &self.scout, planned.seed);
        let mut active = match strike.begin(planned.fault)? {
            Begun::Skipped(why) => return self.record(Kind::Fail, &name, Edn::Nil, Some(why)),
            Begun::Active(active) => active,
        };
        let nodes = active.nodes.iter().map(|node| Edn::from(node.as_str()));
        let value = Edn::map([
            ("nodes", Edn::Vector(nodes.collect())),
            ("what", Edn::from(active.what.as_str())),
        ]);
        self.record(Kind::Info, &name, value, None)?;
        tracing::info!(fault = name, nodes = ?active.nodes, active.what, "broken");
        // A lease is outlived or it is not, and so is the time until a path is known to have become narrow: these faults take
        // their time even when the phase ends.
        let whole = Pace::default();
        let pace = match planned.fault {
            Fault::PauseWorker | Fault::Mtu => &whole,
            _ => pace,
        };
        strike.hold(&mut active, planned.hold, pace)?;
        let outcome = strike.end(active)?;
        let (word, detail) = match outcome {
            FaultOutcome::Installed(detail) => ("installed", detail),
            FaultOutcome::Indeterminate(detail) => ("indeterminate", detail),
        };
        tracing::info!(fault = name, outcome = word, detail, "healed");
        let value = Edn::map([
            ("fault", Edn::keyword(name)),
            ("outcome", Edn::keyword(word)),
            ("detail", Edn::from(detail.as_str())),
        ]);
        self.record(Kind::Info, HEAL, value, None)
    }

    fn record(&self, kind: Kind, f: &str, value: Edn, error: Option<String>) -> anyhow::Result<()> {
        Ok(self
            .recorder
            .record(Actor::Nemesis, kind, f, value, error)?)
    }
}
