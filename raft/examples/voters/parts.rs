//! Commits and reads against etcd, leaders killed, everything restarted, the disk after many commands.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use riftmesh_statemachine::Body;
use riftmesh_statemachine::setting::{Expected, SettingWrite};
use tokio::sync::mpsc;

use crate::etcd::Etcd;
use crate::figures::{Figures, number};
use crate::group::{Clients, Group, VOTERS, bytes_below};
use crate::load::{self, Seen, quantile};
use crate::voter::{Answer, Ask};
use crate::{Plan, jobs, process};

/// Callers at once; the first stands for an idle group.
const CALLERS: [usize; 4] = [1, 8, 64, 512];
/// Callers of the reads.
const READERS: [usize; 2] = [1, 64];
/// Writers at each voter while leaders are killed.
const WRITERS: usize = 4;
/// Pause of a writer whose voter does not lead.
const ASIDE: Duration = Duration::from_millis(5);
/// Commands at once while the disk is filled.
const FILLERS: usize = 512;
const VALUE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn key(caller: usize) -> String {
    format!("bench/{caller}")
}

fn write(caller: usize) -> Body {
    Body::WriteSetting(SettingWrite {
        key: key(caller),
        value: Some(VALUE.to_owned()),
        expected: Expected::Any,
        author: "bench".to_owned(),
        guard: None,
    })
}

async fn commits(clients: &Arc<Clients>, leader: usize, callers: usize, plan: &Plan) -> Seen {
    let clients = Arc::clone(clients);
    load::run(callers, plan.seconds, move |caller| {
        let clients = Arc::clone(&clients);
        async move { clients.order(caller, leader, write(caller)).await.map(drop) }
    })
    .await
}

async fn reads(clients: &Arc<Clients>, leader: usize, callers: usize, plan: &Plan) -> Seen {
    let clients = Arc::clone(clients);
    load::run(callers, plan.seconds, move |caller| {
        let clients = Arc::clone(&clients);
        async move {
            match clients.ask(caller, leader, &Ask::Read(key(caller))).await? {
                Answer::Value(Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        }
    })
    .await
}

/// One 64-byte value per command, each caller its own key; then the same keys are read.
pub async fn commits_and_reads(
    plan: &Plan,
    figures: &Figures,
    group: &Group,
    etcd: Option<&Etcd>,
) -> Result<(), Box<dyn Error>> {
    for (figure, sizes, writes) in [
        ("commit", &CALLERS[..], true),
        ("read", &READERS[..], false),
    ] {
        for callers in sizes.iter().copied() {
            let (mut ours, mut theirs) = (Seen::default(), Seen::default());
            for _ in 0..plan.rounds {
                let leader = group.settled().await?;
                let run = match writes {
                    true => commits(&group.clients, leader, callers, plan).boxed(),
                    false => reads(&group.clients, leader, callers, plan).boxed(),
                };
                ours.add(costed(&group.processes(), run).await);
                if let Some(etcd) = etcd {
                    let run = of_etcd(etcd, callers, writes, plan);
                    theirs.add(costed(&etcd.processes(), run).await);
                }
            }
            say_load(figures, figure, "riftmesh", callers, &mut ours, plan)?;
            if let Some(etcd) = etcd {
                say_load(figures, figure, &etcd.version, callers, &mut theirs, plan)?;
                figures.say(
                    "ratio to etcd",
                    [
                        ("of", figure.into()),
                        ("callers", callers.into()),
                        (
                            "per_second",
                            number(ours.per_second() / theirs.per_second()),
                        ),
                        ("p50", number(ours.at(0.5) / theirs.at(0.5))),
                        ("p99", number(ours.at(0.99) / theirs.at(0.99))),
                        (
                            "processor",
                            number(ours.processor_micros() / theirs.processor_micros()),
                        ),
                    ],
                )?;
            }
        }
    }
    Ok(())
}

/// Runs a load, and notes what it cost these processes.
async fn costed(processes: &[u32], run: impl Future<Output = Seen>) -> Seen {
    let before = process::seconds(processes);
    let mut seen = run.await;
    seen.processor_seconds = process::seconds(processes) - before;
    seen
}

async fn of_etcd(etcd: &Etcd, callers: usize, writes: bool, plan: &Plan) -> Seen {
    let connections: Arc<[_]> = (0..callers).map(|caller| etcd.caller(caller)).collect();
    load::run(callers, plan.seconds, move |caller| {
        let connection = connections[caller].clone();
        async move {
            match writes {
                true => connection.put(&key(caller), VALUE.as_bytes()).await,
                false => connection.get(&key(caller)).await,
            }
        }
    })
    .await
}

fn say_load(
    figures: &Figures,
    figure: &str,
    system: &str,
    callers: usize,
    seen: &mut Seen,
    plan: &Plan,
) -> Result<(), Box<dyn Error>> {
    figures.say(
        figure,
        [
            ("system", system.into()),
            ("callers", callers.into()),
            ("per_second", number(seen.per_second())),
            ("p50_ms", number(seen.at(0.5))),
            ("p99_ms", number(seen.at(0.99))),
            ("count", seen.count().into()),
            ("processor_micros_per_call", number(seen.processor_micros())),
            ("rounds", plan.rounds.into()),
            ("failures", seen.failures.into()),
            ("last_failure", seen.last_failure.clone().into()),
        ],
    )?;
    Ok(())
}

/// Kills the leader while writers at every voter write on; the time until the first command that was sent afterwards
/// is committed.
pub async fn kill_leaders(
    plan: &Plan,
    figures: &Figures,
    group: &mut Group,
) -> Result<(), Box<dyn Error>> {
    let (committed, mut news) = mpsc::channel(4_096);
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..VOTERS * WRITERS)
        .map(|caller| {
            let (clients, committed) = (Arc::clone(&group.clients), committed.clone());
            let over = Arc::clone(&over);
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    match clients.order(caller, caller % VOTERS, write(caller)).await {
                        // Fails when nobody listens any more, or not fast enough: there are others.
                        Ok(_) => drop(committed.try_send((sent, Instant::now()))),
                        Err(_) => tokio::time::sleep(ASIDE).await,
                    }
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for _ in 0..plan.kills {
        let leader = group.settled().await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        while news.try_recv().is_ok() {}
        let killed = Instant::now();
        group.kill(leader)?;
        while let Some((sent, done)) = news.recv().await {
            if sent > killed {
                times.push(done - killed);
                break;
            }
        }
        group.spawn(leader)?;
    }
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await?;
    }
    times.sort_unstable();
    figures.say(
        "leader kill to first commit",
        [
            ("p50_ms", number(quantile(&times, 0.5))),
            ("p99_ms", number(quantile(&times, 0.99))),
            ("max_ms", number(quantile(&times, 1.0))),
            ("kills", times.len().into()),
            ("writers", (VOTERS * WRITERS).into()),
        ],
    )?;
    Ok(())
}

/// Kills all voters with many jobs in the state, starts them again, and waits for a confirmed read.
pub async fn restart(
    plan: &Plan,
    figures: &Figures,
    group: &mut Group,
) -> Result<(), Box<dyn Error>> {
    let leader = group.settled().await?;
    let jobs = jobs::fill(group, leader, plan.jobs).await?;
    group.settled().await?;
    for round in 0..plan.rounds {
        group.kill_all()?;
        let began = Instant::now();
        for number in 0..VOTERS {
            group.spawn(number)?;
        }
        let leader = group.leader().await?;
        let elected = began.elapsed();
        let read = group.clients.ask(0, leader, &Ask::Read(key(0))).await?;
        let ready = began.elapsed();
        if !matches!(read, Answer::Value(_)) {
            return Err(format!("the read gave {read:?}").into());
        }
        figures.say(
            "restart of all voters",
            [
                ("jobs", jobs.into()),
                ("round", round.into()),
                ("leader_ms", number(elected.as_secs_f64() * 1e3)),
                ("read_ms", number(ready.as_secs_f64() * 1e3)),
            ],
        )?;
    }
    say_size(figures, group, "size with jobs").await
}

/// Writes many commands and looks at the disk and the memory they left behind.
pub async fn disk(plan: &Plan, figures: &Figures, group: &Group) -> Result<(), Box<dyn Error>> {
    let leader = group.settled().await?;
    let left = Arc::new(AtomicUsize::new(plan.commands));
    let began = Instant::now();
    let fillers: Vec<_> = (0..FILLERS)
        .map(|caller| {
            let (clients, left) = (Arc::clone(&group.clients), Arc::clone(&left));
            tokio::spawn(async move {
                let take = |n: usize| n.checked_sub(1);
                let mut failures = 0;
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                    .is_ok()
                {
                    let done = clients.order(caller, leader, write(caller)).await;
                    failures += usize::from(done.is_err());
                }
                failures
            })
        })
        .collect();
    let mut failures = 0;
    for filler in fillers {
        failures += filler.await?;
    }
    figures.say(
        "many commands",
        [
            ("commands", (plan.commands - failures).into()),
            ("seconds", number(began.elapsed().as_secs_f64())),
            ("failures", failures.into()),
        ],
    )?;
    group.settled().await?;
    say_size(figures, group, "size after many commands").await
}

async fn say_size(figures: &Figures, group: &Group, figure: &str) -> Result<(), Box<dyn Error>> {
    let leader = group.leader().await?;
    let state = match group.clients.ask(0, leader, &Ask::StateBytes).await? {
        Answer::StateBytes(bytes) => bytes,
        other => return Err(format!("{other:?}").into()),
    };
    let status = group.clients.status(leader).await.ok_or("no status")?;
    let kept = status.last_log.unwrap_or_default().0 - status.purged.unwrap_or_default().0;
    for (number_of, process) in group.processes().into_iter().enumerate() {
        let (now, most) = process::memory(process);
        figures.say(
            figure,
            [
                ("voter", number_of.into()),
                ("leads", (number_of == leader).into()),
                (
                    "disk_mb",
                    number(bytes_below(&group.directory_of(number_of))? as f64 / 1e6),
                ),
                ("state_mb", number(state as f64 / 1e6)),
                ("entries_kept", kept.into()),
                ("memory_mb", number(now)),
                ("memory_most_mb", number(most)),
            ],
        )?;
    }
    Ok(())
}
