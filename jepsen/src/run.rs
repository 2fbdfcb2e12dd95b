//! A run from its first process to its verdict: form, break, heal, read, judge.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::checker;
use crate::cluster::{Cluster, NodePlan};
use crate::history::Recorder;
use crate::nemesis::{Fault, Nemesis};
use crate::pace::Pace;
use crate::report;
use crate::verdict::Finding;
use crate::workload::{Clients, Process};

/// How long a cluster may take to form.
const FORM_MAX: Duration = Duration::from_secs(60);
/// After the faults, a cluster that finishes no job for this long is stuck. Longer than a session's time to live, its
/// grace and a slow job together.
const STUCK_AFTER: Duration = Duration::from_secs(240);
/// A cluster that does finish jobs may take this long to finish them all; after that the machine is too slow to tell.
const SETTLE_MAX: Duration = Duration::from_secs(600);

/// What to run.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// The binary under test.
    pub binary: PathBuf,
    /// Where the run's folder goes; it must be empty or new.
    pub folder: PathBuf,
    /// Voters.
    pub voters: u16,
    /// Workers, with one slot each.
    pub workers: u16,
    /// How long faults go on.
    pub time: Duration,
    /// Choices of clients and nemesis follow from it; the processes' timing does not.
    pub seed: u64,
    /// Which faults.
    pub faults: Vec<Fault>,
    /// First of the loopback ports.
    pub port: u16,
    /// What the cluster learns.
    pub configuration: String,
    /// The command that does this again.
    pub replay: String,
}

/// Runs a plan and judges it.
///
/// # Errors
/// The harness failed: nothing was learnt about the cluster, for better or worse.
pub fn run(plan: &RunPlan) -> anyhow::Result<Vec<Finding>> {
    let nodes = nodes(plan)?;
    make_folder(plan)?;
    let history_path = plan.folder.join(report::HISTORY_FILE);
    let file = File::create(&history_path)
        .with_context(|| format!("cannot write {}", history_path.display()))?;
    let recorder = Arc::new(Recorder::new(Box::new(file)));
    let cluster = Arc::new(Cluster::create(
        &plan.binary,
        &plan.folder,
        nodes,
        plan.seed,
    )?);
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
            plan.folder.display()
        );
    }
    tracing::info!(leader = scout.leader(), "the cluster has formed");
    chaos(plan, &cluster, &recorder, &clients)?;

    tracing::info!("healing");
    for number in 0..cluster.nodes().len() {
        cluster.start(number)?;
    }
    let settled = settle(&scout);
    clients.process(plan.seed).read_finally()?;
    let history = recorder.history();
    let mut findings = checker::judge(&history, &plan.faults);
    findings.push(settled);
    report::write(&plan.folder, &history, &findings, &plan.replay)?;
    Ok(findings)
}

/// Waits until every job of ours is over and every voter knows the leader.
fn settle(scout: &Process<'_>) -> Finding {
    const PROPERTY: &str = "heals";
    let (pace, began) = (Pace::default(), Instant::now());
    let (mut fewest, mut progressed) = (usize::MAX, began);
    while began.elapsed() < SETTLE_MAX {
        let left = scout.unfinished();
        if left == Some(0) && scout.is_led_everywhere() {
            let seconds = began.elapsed().as_secs();
            return Finding::valid(
                PROPERTY,
                format!("every voter led and all matches over after {seconds} s"),
            );
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
    type Work = fn(&mut Process<'_>, &Pace) -> anyhow::Result<()>;
    let work: [Work; 4] = [
        |process, pace| process.submit_until(pace),
        |process, pace| process.submit_until(pace),
        |process, pace| process.read_until(pace),
        |process, pace| process.probe_until(pace),
    ];
    let (faults_end, work_end) = (&Pace::default(), &Pace::default());
    std::thread::scope(|scope| {
        let workers: Vec<_> = work
            .into_iter()
            .map(|work| {
                let mut process = clients.process(plan.seed);
                scope.spawn(move || work(&mut process, work_end))
            })
            .collect();
        let scout = clients.process(plan.seed);
        let mut nemesis = Nemesis::new(Arc::clone(cluster), Arc::clone(recorder), scout, plan.seed);
        let breaking = scope.spawn(move || nemesis.run_until(faults_end, &plan.faults));
        // Sleeps for the phase; nobody ends it early.
        Pace::default().wait(plan.time);
        faults_end.end();
        let broken = join(breaking);
        work_end.end();
        workers.into_iter().map(join).chain([broken]).collect()
    })
}

fn join(thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>) -> anyhow::Result<()> {
    thread
        .join()
        .unwrap_or_else(|_| bail!("a thread of the harness panicked"))
}

/// The nodes at their ports, which have to be free.
fn nodes(plan: &RunPlan) -> anyhow::Result<Vec<NodePlan>> {
    ensure!((1..=9).contains(&plan.voters), "--nodes takes 1 to 9");
    ensure!(plan.workers <= 8, "--workers takes 0 to 8");
    let names = (1..=plan.voters)
        .map(|n| (format!("v{n}"), true))
        .chain((1..=plan.workers).map(|n| (format!("w{n}"), false)));
    names
        .enumerate()
        .map(|(offset, (name, voter))| {
            let port = plan
                .port
                .checked_add(u16::try_from(offset)?)
                .context("--port is too high")?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            TcpListener::bind(address)
                .with_context(|| format!("{address} is taken; choose another --port"))?;
            Ok(NodePlan {
                name,
                voter,
                address,
            })
        })
        .collect()
}

fn make_folder(plan: &RunPlan) -> anyhow::Result<()> {
    let folder = &plan.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let used = std::fs::read_dir(folder)?.next().is_some();
    ensure!(
        !used,
        "{} is not empty; a run keeps its folder to itself",
        folder.display()
    );
    Ok(())
}
