//! Run after run, over all workloads and faults, until the time is over.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::nemesis::{Fault, HEAL};
use crate::net::Isolation;
use crate::plan::RunPlan;
use crate::reaper::Reaper;
use crate::report::{self, RESULTS_FILE};
use crate::site::SiteLayout;
use crate::verdict::Validity;
use crate::workload::Workload;

/// The summary's files in the store.
const SUMMARY: &str = "campaign";

/// What to do, and with what.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// This program.
    pub program: PathBuf,
    /// The binary under test.
    pub binary: PathBuf,
    /// Where runs are kept.
    pub store: PathBuf,
    /// How nodes are kept apart.
    pub net: Isolation,
    /// Time of faults in each run.
    pub time: Duration,
    /// Seed of the first run.
    pub seed: u64,
    /// When the last run begins at the latest.
    pub length: Duration,
}

/// A kind of run: voters, workers, workloads, faults, and whether it needs a wire and disks.
struct Kind {
    voters: u16,
    workers: u16,
    workloads: &'static [Workload],
    faults: &'static str,
    apart: bool,
}

const fn kind(
    voters: u16,
    workers: u16,
    workloads: &'static [Workload],
    faults: &'static str,
    apart: bool,
) -> Kind {
    Kind {
        voters,
        workers,
        workloads,
        faults,
        apart,
    }
}

use Workload::{Lock, Members, Queue, Register, Repeat, Watch};

/// Every fault meets every workload of clients once in a round.
const KINDS: &[Kind] = &[
    kind(3, 1, &[Register, Lock, Repeat], "process", false),
    kind(5, 0, &[Register, Lock, Repeat], "network", true),
    kind(3, 0, &[Register, Lock, Repeat], "frames", true),
    kind(3, 0, &[Register, Lock, Repeat], "disk", true),
    kind(
        3,
        1,
        &[Queue],
        "kill-leader,kill-follower,kill-worker,pause",
        false,
    ),
    kind(3, 1, &[Queue], "pause-worker,drain,kill-leader", false),
    kind(
        5,
        0,
        &[Register, Lock, Repeat],
        "kill-leader,kill-quorum,kill-all,pause-leader",
        false,
    ),
    kind(
        3,
        1,
        &[Queue],
        "halves,isolate-leader,bridge,loss,delay",
        true,
    ),
    kind(
        3,
        0,
        &[Register, Lock, Repeat],
        "isolate-leader,bridge,one-way,flapping",
        true,
    ),
    kind(3, 0, &[Register, Lock, Repeat], "wipe", true),
    kind(
        5,
        0,
        &[Register, Members],
        "kill-leader,kill-follower,pause,isolate-leader,one-way",
        true,
    ),
    kind(
        3,
        0,
        &[Lock, Watch],
        "kill-leader,kill-follower,pause,isolate-leader,flapping",
        true,
    ),
    kind(3, 0, &[Register, Lock, Repeat], "sync", false),
    kind(3, 0, &[Register, Lock, Repeat], "clock", false),
];

/// How long writes may be away because of a fault, in milliseconds: at half of its times, and at the longest (the bar is
/// for all but a hundredth). For a machine that has nothing else to do.
struct Bar {
    fault: Fault,
    middle: Option<i64>,
    longest: i64,
}

const BARS: &[Bar] = &[
    Bar {
        fault: Fault::KillLeader,
        middle: Some(800),
        longest: 1_500,
    },
    Bar {
        fault: Fault::Bridge,
        middle: None,
        longest: 2_500,
    },
];

/// One run that is over.
struct Done {
    plan: RunPlan,
    folder: String,
    /// None for the harness's own trouble.
    validity: Option<Validity>,
}

/// Runs the campaign and writes its summary after every run.
///
/// # Errors
/// A run cannot be started, or the summary cannot be written.
pub fn run(campaign: &Campaign) -> anyhow::Result<Validity> {
    std::fs::create_dir_all(&campaign.store)?;
    let reaper = Reaper::start(&campaign.program)?;
    let began = Instant::now();
    let kinds: Vec<_> = KINDS
        .iter()
        .filter(|kind| campaign.net == Isolation::Namespaces || !kind.apart)
        .collect();
    let mut done = Vec::new();
    for (number, kind) in (0..).zip(kinds.into_iter().cycle()) {
        if began.elapsed() >= campaign.length {
            break;
        }
        let plan = plan(campaign, kind, number)?;
        tracing::info!(command = plan.command(), "run");
        let validity = one(campaign, &plan, &reaper)?;
        let latest = std::fs::read_link(campaign.store.join("latest")).unwrap_or_default();
        done.push(Done {
            plan,
            folder: latest.display().to_string(),
            validity,
        });
        write(campaign, &done, began.elapsed())?;
    }
    let worst = done
        .iter()
        .map(|run| run.validity.unwrap_or(Validity::Unknown))
        .max();
    Ok(worst.unwrap_or(Validity::Unknown))
}

fn plan(campaign: &Campaign, kind: &Kind, number: u64) -> anyhow::Result<RunPlan> {
    Ok(RunPlan {
        layout: SiteLayout {
            voters: kind.voters,
            workers: kind.workers,
            net: campaign.net,
            port: 17_700,
        },
        time: campaign.time,
        seed: campaign.seed + number,
        workloads: kind.workloads.to_vec(),
        clients: 4,
        faults: Fault::parse_list(kind.faults)?,
        configuration: "hex8_2p".to_owned(),
    })
}

/// One run, as a process of its own: what it leaves behind by mistake ends with it.
fn one(campaign: &Campaign, plan: &RunPlan, reaper: &Reaper) -> anyhow::Result<Option<Validity>> {
    let mut child = Command::new(&campaign.program)
        .args(plan.arguments())
        .arg("--binary")
        .arg(&campaign.binary)
        .arg("--store")
        .arg(&campaign.store)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", campaign.program.display()))?;
    reaper.adopt(child.id())?;
    let status = child.wait()?;
    reaper.release(child.id())?;
    Ok(match status.code() {
        Some(0) => Some(Validity::Valid),
        Some(1) => Some(Validity::Invalid),
        Some(2) => Some(Validity::Unknown),
        Some(3) => None,
        other => bail!("a run ended with {other:?} ({status})"),
    })
}

fn write(campaign: &Campaign, done: &[Done], elapsed: Duration) -> anyhow::Result<()> {
    let word = |run: &Done| {
        run.validity
            .map_or("harness error".to_owned(), |of| of.to_string())
    };
    let rows: Vec<_> = done
        .iter()
        .map(|run| json!({"folder": run.folder, "validity": word(run), "command": run.plan.command()}))
        .collect();
    let summary = json!({"seconds": elapsed.as_secs(), "runs": rows});
    let path = campaign.store.join(SUMMARY).with_extension("json");
    std::fs::write(&path, format!("{summary:#}\n"))?;

    let mut text = format!(
        "# Campaign\n\n{} runs in {} s.\n\n",
        done.len(),
        elapsed.as_secs()
    );
    text.push_str("| run | verdict | command |\n|---|---|---|\n");
    for run in done {
        writeln!(
            text,
            "| {} | {} | `{}` |",
            run.folder,
            word(run),
            run.plan.command()
        )?;
    }
    text.push_str(&availability(campaign, done)?);
    Ok(std::fs::write(
        campaign.store.join(SUMMARY).with_extension("md"),
        text,
    )?)
}

/// How often each fault took, and what it did to writes, over all runs.
fn availability(campaign: &Campaign, done: &[Done]) -> anyhow::Result<String> {
    let mut faults: BTreeMap<String, (usize, Vec<i64>, Vec<i64>)> = BTreeMap::new();
    for run in done {
        let folder = campaign.store.join(&run.folder);
        for row in outages_of(&folder) {
            let name = row["fault"].as_str().unwrap_or_default().to_owned();
            let (_, longest, recovery) = faults.entry(name).or_default();
            longest.extend(row["longest_outage_ms"].as_i64());
            recovery.extend(row["recovery_ms"].as_i64());
        }
        for name in installed_in(&folder) {
            faults.entry(name).or_default().0 += 1;
        }
    }
    let mut text = "\n| fault | installed | outage p50 / max ms | bar | recovery p50 / max ms |\n|---|---|---|---|---|\n"
        .to_owned();
    for (fault, (installed, mut longest, mut recovery)) in faults {
        let (outage, back) = (spread(&mut longest), spread(&mut recovery));
        let bar = judged(&fault, &longest);
        writeln!(
            text,
            "| {fault} | {installed} | {outage} | {bar} | {back} |"
        )?;
    }
    Ok(text)
}

/// The bar of a fault, and whether its outages, in order, are below.
fn judged(fault: &str, outages: &[i64]) -> String {
    let named = |bar: &&Bar| bar.fault.to_string() == fault;
    let (Some(bar), Some(longest)) = (BARS.iter().find(named), outages.last()) else {
        return "-".to_owned();
    };
    let middle = outages.get(outages.len() / 2);
    let below = bar.middle.is_none_or(|most| middle <= Some(&most)) && *longest <= bar.longest;
    let word = if below { "met" } else { "missed" };
    let most = bar.middle.map_or("-".to_owned(), |most| most.to_string());
    format!("{most} / {}: {word}", bar.longest)
}

fn outages_of(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(RESULTS_FILE)).unwrap_or_default();
    let results: Value = serde_json::from_str(&text).unwrap_or_default();
    results["availability"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Names of the faults that took in a run, once for each time.
fn installed_in(folder: &Path) -> Vec<String> {
    let Ok(history) = report::read_history(folder) else {
        return Vec::new();
    };
    let heals = history.events.iter().filter(|event| event.f == HEAL);
    let installed = heals
        .filter(|event| event.value.get("outcome").and_then(|of| of.text()) == Some("installed"));
    let names = installed.filter_map(|event| Some(event.value.get("fault")?.text()?.to_owned()));
    names.collect()
}

fn spread(values: &mut [i64]) -> String {
    values.sort_unstable();
    match (values.get(values.len() / 2), values.last()) {
        (Some(middle), Some(most)) => format!("{middle} / {most}"),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kinds of run name faults that exist, and together all of them.
    #[test]
    fn a_round_meets_every_fault() {
        let mut all: Vec<_> = KINDS
            .iter()
            .flat_map(|kind| Fault::parse_list(kind.faults).unwrap())
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all, Fault::parse_list("all").unwrap());
        assert_eq!(spread(&mut [3, 1, 2]), "2 / 3");
        assert_eq!(spread(&mut []), "-");
    }

    /// A fault with a bar is held against it, by its middle and by its longest outage.
    #[test]
    fn outages_are_held_against_their_bars() {
        assert_eq!(judged("kill-leader", &[300, 700, 1_500]), "800 / 1500: met");
        assert_eq!(
            judged("kill-leader", &[300, 900, 1_500]),
            "800 / 1500: missed"
        );
        assert_eq!(judged("bridge", &[2_501]), "- / 2500: missed");
        assert_eq!(judged("bridge", &[]), "-");
        assert_eq!(judged("pause", &[9_000]), "-");
    }
}
