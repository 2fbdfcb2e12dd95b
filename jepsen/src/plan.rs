//! What a run is asked to do. Kept in its folder, so that it can be judged and done again.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum as _;
use serde_json::{Value, json};

use crate::nemesis::Fault;
use crate::net::Isolation;
use crate::site::SiteLayout;
use crate::workload::Workload;

/// Name of the plan in a run's folder.
pub const PLAN_FILE: &str = "plan.json";

/// A run.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// How many nodes, and on what.
    pub layout: SiteLayout,
    /// How long faults go on.
    pub time: Duration,
    /// Choices of clients and nemesis follow from it; the processes' timing does not.
    pub seed: u64,
    /// What the clients do.
    pub workloads: Vec<Workload>,
    /// Threads of clients for each workload.
    pub clients: usize,
    /// Which faults.
    pub faults: Vec<Fault>,
    /// What the cluster learns.
    pub configuration: String,
}

impl RunPlan {
    /// The arguments of `riftmesh-jepsen` that do this again, but for the binary and the folder.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["run".to_owned()];
        let layout = &self.layout;
        for (name, value) in [
            ("net", layout.net.to_string()),
            ("workload", listed(&self.workloads)),
            ("nemesis", listed(&self.faults)),
            ("nodes", layout.voters.to_string()),
            ("workers", layout.workers.to_string()),
            ("clients", self.clients.to_string()),
            ("time", self.time.as_secs().to_string()),
            ("seed", self.seed.to_string()),
            ("port", layout.port.to_string()),
            ("configuration", self.configuration.clone()),
        ] {
            arguments.extend([format!("--{name}"), value]);
        }
        arguments
    }

    /// The command that does this again.
    pub fn command(&self) -> String {
        format!("riftmesh-jepsen {}", self.arguments().join(" "))
    }

    /// Checks numbers that nothing else checks.
    ///
    /// # Errors
    /// Says which is out of bounds.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.workloads.is_empty(), "--workload needs at least one");
        ensure!((1..=64).contains(&self.clients), "--clients takes 1 to 64");
        ensure!(
            (1..=86_400).contains(&self.time.as_secs()),
            "--time takes 1 to 86400 seconds"
        );
        let works = self.workloads.contains(&Workload::Queue);
        ensure!(
            !works || self.layout.workers > 0,
            "the queue workload needs --workers"
        );
        let votes_move = self.workloads.contains(&Workload::Members);
        ensure!(
            !votes_move || self.layout.voters >= 5,
            "the members workload needs --nodes 5 or more: one of them is without its vote most of the time"
        );
        ensure!(
            !votes_move || !self.faults.contains(&Fault::Wipe),
            "the members workload and the wipe fault both change who votes; leave one of them out"
        );
        Ok(())
    }

    /// Writes the plan into `folder`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let layout = &self.layout;
        let plan = json!({
            "net": layout.net.to_string(),
            "workload": listed(&self.workloads),
            "nemesis": listed(&self.faults),
            "nodes": layout.voters,
            "workers": layout.workers,
            "clients": self.clients,
            "time": self.time.as_secs(),
            "seed": self.seed,
            "port": layout.port,
            "configuration": self.configuration,
            "command": self.command(),
        });
        let path = folder.join(PLAN_FILE);
        std::fs::write(&path, format!("{plan:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads the plan of a run's folder.
    ///
    /// # Errors
    /// It is missing, or a field is missing or not what it should be.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(PLAN_FILE);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let plan = serde_json::from_str(&text).map_err(anyhow::Error::from);
        plan.and_then(|plan| Self::from_json(&plan))
            .with_context(|| path.display().to_string())
    }

    fn from_json(plan: &Value) -> anyhow::Result<Self> {
        let text = |name: &str| {
            plan[name]
                .as_str()
                .with_context(|| format!("`{name}` is no text"))
        };
        let number = |name: &str| {
            plan[name]
                .as_u64()
                .with_context(|| format!("`{name}` is no number"))
        };
        let named = |name: &str| anyhow::anyhow!("`{name}` is not known");
        let net = text("net")?;
        let workloads = text("workload")?.split(',');
        Ok(Self {
            layout: SiteLayout {
                voters: number("nodes")?.try_into()?,
                workers: number("workers")?.try_into()?,
                net: Isolation::from_str(net, false).map_err(|_| named(net))?,
                port: number("port")?.try_into()?,
            },
            time: Duration::from_secs(number("time")?),
            seed: number("seed")?,
            workloads: workloads
                .map(|name| Workload::from_str(name, false).map_err(|_| named(name)))
                .collect::<anyhow::Result<_>>()?,
            clients: number("clients")?.try_into()?,
            faults: Fault::parse_list(text("nemesis")?)?,
            configuration: text("configuration")?.to_owned(),
        })
    }
}

fn listed(names: &[impl ToString]) -> String {
    names
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a folder says of its run is what the run was asked to do.
    #[test]
    fn plans_round_trip() {
        let plan = RunPlan {
            layout: SiteLayout {
                voters: 5,
                workers: 2,
                net: Isolation::Namespaces,
                port: 17_700,
            },
            time: Duration::from_secs(60),
            seed: u64::MAX,
            workloads: vec![Workload::Register, Workload::Lock],
            clients: 8,
            faults: Fault::parse_list("bridge,loss").unwrap(),
            configuration: "hex8_2p".to_owned(),
        };
        let folder = tempfile::tempdir().unwrap();
        plan.write(folder.path()).unwrap();
        let read = RunPlan::read(folder.path()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{plan:?}"));
        assert!(plan.command().contains("--nemesis bridge,loss --nodes 5"));
        std::fs::write(folder.path().join(PLAN_FILE), "{}").unwrap();
        let error = RunPlan::read(folder.path()).unwrap_err();
        assert!(format!("{error:#}").ends_with("`net` is no text"));
    }
}
