//! Junk sent to running members over QUIC: random and mutated datagrams from nobody, and datagrams and the beginnings of
//! streams from a peer that has a certificate and has gone wrong. Nothing may panic, memory stays bounded, and the members
//! go on seeing each other.
//!
//! Without arguments a test of some seconds; `cargo test --release -p riftmesh-tests --test junk -- 1000000` sends as many.
#![expect(
    clippy::print_stdout,
    reason = "a test program reports to its runner on standard output"
)]

mod attacker;

use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use riftmesh_base::NodeId;
use riftmesh_membership::NodeState;
use riftmesh_tests::mesh::live::LiveMembers;

use crate::attacker::{Attacker, Kind};

/// Pieces of junk of the everyday run.
const COUNT: u64 = 20_000;
/// Of the choices; a run repeats as far as the network does.
const SEED: u64 = 1;
/// Sent between two looks at the members.
const ROUND: u64 = 2_000;
/// Longer than the news of a false verdict takes to spread.
const REST: Duration = Duration::from_secs(4);
/// What the process may grow by, attacker included.
const GROWTH_KIB_MAX: u64 = 256 << 10;

static PANICS: AtomicUsize = AtomicUsize::new(0);

fn main() -> ExitCode {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        print(panic);
    }));
    // A filter meant for other test programs is no number.
    let given = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(given.unwrap_or(COUNT))),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => {
            println!("test result: ok. 1 passed; 0 failed; 0 ignored");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}\ntest result: FAILED. 0 passed; 1 failed; 0 ignored");
            ExitCode::FAILURE
        }
    }
}

async fn run(count: u64) -> Result<(), Box<dyn Error>> {
    let members = LiveMembers::start(3)?;
    members.settle().await?;
    let mut attacker = Attacker::new(&members, SEED).await?;
    let (begin, resident) = (Instant::now(), resident_kib()?);
    let mut most = resident;
    while attacker.sent() < count {
        for _ in 0..ROUND.min(count - attacker.sent()) {
            attacker.send().await?;
        }
        check(&members)?;
        most = most.max(resident_kib()?);
        let grown = most.saturating_sub(resident);
        if grown > GROWTH_KIB_MAX {
            return Err(format!("memory grew by {grown} KiB").into());
        }
    }
    // Whoever was harmed is missed within a few seconds.
    tokio::time::sleep(REST).await;
    check(&members)?;
    members.settle().await?;
    let kinds = Kind::ALL.map(|kind| format!("{} {kind}", attacker.count(kind)));
    println!(
        "{} pieces of junk in {:.1} s: {}; memory {} KiB, at most {} KiB more; {} calls taken by the members, {} handshakes refused",
        attacker.sent(),
        begin.elapsed().as_secs_f64(),
        kinds.join(", "),
        resident,
        most - resident,
        members.calls(),
        members.refusals(),
    );
    Ok(())
}

/// All members are well, in their own eyes and in those of the others.
fn check(members: &LiveMembers) -> Result<(), Box<dyn Error>> {
    let panics = PANICS.load(Ordering::SeqCst);
    if panics > 0 {
        return Err(format!("{panics} panics").into());
    }
    for (observer, view) in members.views() {
        for node in members.nodes() {
            let seen = view.get(node).map(|seen| (seen.state, seen.generation));
            // Every member was started in its first generation, and one that was given up would return in another.
            let is_well = matches!(seen, Some((NodeState::Alive | NodeState::Suspect, 1)));
            if !is_well {
                return Err(format!("{observer} sees {node} as {seen:?}").into());
            }
        }
        let strangers = |id: &NodeId| !members.nodes().any(|node| node == *id);
        let count = view.nodes.keys().filter(|id| strangers(id)).count();
        if count > 1 {
            return Err(format!("{observer} knows {count} nodes that do not exist").into());
        }
    }
    Ok(())
}

/// What this process has in memory.
fn resident_kib() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("no VmRSS in /proc/self/status")?.parse()?)
}
