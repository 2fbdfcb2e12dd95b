//! A run from its first process to its verdict: form, break, heal, read, judge.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::checker;
use crate::cluster::{self, Cluster};
use crate::history::Recorder;
use crate::nemesis::{Nemesis, Schedule};
use crate::pace::Pace;
use crate::plan::RunPlan;
use crate::report;
use crate::site;
use crate::verdict::Finding;
use crate::workload::{Clients, Process, Workload};

/// How long a cluster may take to form.
const FORM_MAX: Duration = Duration::from_secs(90);
/// How long every voter may take to vote and to hear the leader again after the last fault.
const HEAL_MAX: Duration = Duration::from_secs(120);
/// Clients go on for so long after that.
const AFTER_HEALING: Duration = Duration::from_secs(3);
/// After the faults, a cluster that finishes no job for this long is stuck. Longer than a session's time to live, its
/// grace and a slow job together.
const STUCK_AFTER: Duration = Duration::from_secs(240);
/// A cluster that does finish jobs may take this long to finish them all; after that the machine is too slow to tell.
const SETTLE_MAX: Duration = Duration::from_secs(600);

/// Runs `plan` with `binary` and judges it.
///
/// # Errors
/// The harness failed: nothing was learnt about the cluster, for better or worse.
pub fn run(plan: &RunPlan, binary: &Path, store: &Path) -> anyhow::Result<Vec<Finding>> {
    plan.check()?;
    let folder = report::make_folder(store, &title(plan))?;
    plan.write(&folder)?;
    let history_path = folder.join(report::HISTORY_FILE);
    let file = File::create(&history_path)
        .with_context(|| format!("cannot write {}", history_path.display()))?;
    let recorder = Arc::new(Recorder::new(Box::new(file)));
    let site = site::build(plan.layout, &folder, plan.seed)?;
    let cluster = Arc::new(Cluster::create(binary, &folder, site, plan.seed)?);
    for number in 0..cluster.nodes().len() {
        cluster.start(number)?;
    }
    let clients = Clients::new(
        Arc::clone(&cluster),
        Arc::clone(&recorder),
        plan.configuration.clone(),
    );
    let scout = clients.process(plan.seed);
    if !Pace::default().wait_until(FORM_MAX, || scout.leader().is_some()) {
        bail!(
            "no leader within {FORM_MAX:?}; see the logs in {}",
            folder.display()
        );
    }
    tracing::info!(leader = scout.leader(), folder = %folder.display(), "the cluster has formed");
    chaos(plan, &cluster, &recorder, &clients)?;

    tracing::info!("healing");
    for number in 0..cluster.nodes().len() {
        cluster.start(number)?;
    }
    if plan.workloads.contains(&Workload::Members)
        && !clients.process(plan.seed).restore_members()?
    {
        tracing::warn!("not everybody has a vote again");
    }
    let mut settled = vec![led_everywhere(&scout), nobody_panicked(&folder, &cluster)?];
    if plan.workloads.contains(&Workload::Queue) {
        settled.push(settle(&scout));
    }
    clients.process(plan.seed).read_finally(&plan.workloads)?;
    let history = recorder.history();
    let mut findings = checker::judge(&history, &plan.faults, &plan.workloads);
    findings.extend(settled);
    report::write(&folder, plan, &history, &findings)?;
    Ok(findings)
}

/// Judges the history of a run's folder again. What the run itself saw after its faults, whether all healed, is only in
/// its results, which stay.
///
/// # Errors
/// The folder is not that of a run.
pub fn judge_again(folder: &Path) -> anyhow::Result<Vec<Finding>> {
    let plan = RunPlan::read(folder)?;
    let history = report::read_history(folder)?;
    Ok(checker::judge(&history, &plan.faults, &plan.workloads))
}

/// The binary to test: the one named, or the one beside this program.
///
/// # Errors
/// This program does not know where it is.
pub fn binary(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match named {
        Some(path) => std::path::absolute(path).context("--binary"),
        None => Ok(std::env::current_exe()?.with_file_name("riftmesh")),
    }
}

fn title(plan: &RunPlan) -> String {
    let workloads: Vec<_> = plan.workloads.iter().map(ToString::to_string).collect();
    format!("{}-{}", workloads.join("-"), plan.seed)
}

/// Waits until every voter has its vote and hears the leader.
fn led_everywhere(scout: &Process<'_>) -> Finding {
    const PROPERTY: &str = "heals";
    let began = Instant::now();
    match Pace::default().wait_until(HEAL_MAX, || scout.is_led_everywhere()) {
        true => {
            let detail = format!(
                "every voter led after {:.1} s",
                began.elapsed().as_secs_f64()
            );
            Finding::valid(PROPERTY, detail)
        }
        false => Finding::invalid(
            PROPERTY,
            format!("not every voter is led after {HEAL_MAX:?}"),
        ),
    }
}

/// Looks through the logs of all nodes: a panic is a bug, whatever clients noticed of it.
fn nobody_panicked(folder: &Path, cluster: &Cluster) -> anyhow::Result<Finding> {
    const PROPERTY: &str = "nobody panicked";
    for plan in cluster.nodes() {
        let path = cluster::log_path(folder, plan);
        let log =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let log = String::from_utf8_lossy(&log);
        if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
            return Ok(Finding::invalid(
                PROPERTY,
                format!("{}: {}", plan.name, line.trim()),
            ));
        }
    }
    Ok(Finding::valid(
        PROPERTY,
        format!("{} logs", cluster.nodes().len()),
    ))
}

/// Waits until every job of ours is over.
fn settle(scout: &Process<'_>) -> Finding {
    const PROPERTY: &str = "finishes its jobs";
    let (pace, began) = (Pace::default(), Instant::now());
    let (mut fewest, mut progressed) = (usize::MAX, began);
    while began.elapsed() < SETTLE_MAX {
        let left = scout.unfinished();
        if left == Some(0) {
            let seconds = began.elapsed().as_secs();
            return Finding::valid(PROPERTY, format!("all matches over after {seconds} s"));
        }
        if left.is_some_and(|left| left < fewest) {
            (fewest, progressed) = (left.unwrap_or(fewest), Instant::now());
        }
        if progressed.elapsed() > STUCK_AFTER {
            return Finding::invalid(
                PROPERTY,
                format!("no job finished for {STUCK_AFTER:?}; unfinished: {left:?}"),
            );
        }
        pace.wait(Duration::from_millis(500));
    }
    Finding::unknown(
        PROPERTY,
        format!("still finishing jobs {SETTLE_MAX:?} after the last fault; {fewest} left"),
    )
}

/// Clients work while the nemesis breaks things. The nemesis ends first, so that nothing stays broken.
fn chaos(
    plan: &RunPlan,
    cluster: &Arc<Cluster>,
    recorder: &Arc<Recorder>,
    clients: &Clients,
) -> anyhow::Result<()> {
    let (faults_end, work_end) = (&Pace::default(), &Pace::default());
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for work in clients.work(&plan.workloads, plan.clients) {
            let mut process = clients.process(plan.seed);
            workers.push(scope.spawn(move || work(&mut process, work_end)));
        }
        for voter in 0..cluster.voters() {
            let mut process = clients.process(plan.seed);
            workers.push(scope.spawn(move || process.probe_writes_until(voter, work_end)));
        }
        let scout = clients.process(plan.seed);
        let breaker = clients.process(plan.seed);
        let schedule = Schedule::new(&plan.faults, plan.seed);
        let mut nemesis =
            Nemesis::new(Arc::clone(cluster), Arc::clone(recorder), breaker, schedule);
        let breaking = scope.spawn(move || nemesis.run_until(faults_end));
        // Sleeps for the phase; nobody ends it early.
        Pace::default().wait(plan.time);
        faults_end.end();
        let broken = join(breaking);
        // What the last fault broke is to be seen to come back.
        let pace = Pace::default();
        let back = pace.wait_until(HEAL_MAX, || scout.is_led_everywhere());
        tracing::info!(back, "the faults are over");
        pace.wait(AFTER_HEALING);
        work_end.end();
        workers.into_iter().map(join).chain([broken]).collect()
    })
}

fn join(thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>) -> anyhow::Result<()> {
    thread
        .join()
        .unwrap_or_else(|_| bail!("a thread of the harness panicked"))
}
