//! All voters are killed with signal 9 at once while writers call them, and started again, round after round. Real
//! processes, real disks, QUIC on loopback.
//!
//! After every round: whatever was acknowledged, in this round or before, is in the state of every voter exactly once;
//! nothing is there twice or was never sent; the states' hashes are equal. A writer that does not know what came of a
//! command repeats it under the same number until it does.
//!
//! Without arguments it is a test program of a few rounds; `cargo xtask soak kill-all --rounds 200` runs more.
#![expect(
    clippy::print_stdout,
    reason = "a test program reports to its runner on standard output"
)]

#[path = "../examples/voters/group.rs"]
#[expect(dead_code, reason = "the benchmark measures more")]
mod group;
#[path = "../examples/voters/voter.rs"]
mod voter;
mod writers;

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use riftmesh_base::{BlobHash, LogIndex, Seed};
use riftmesh_storage::LogKind;

use crate::group::{Group, VOTERS};
use crate::voter::{Answer, Ask};
use crate::writers::{Ledger, Writers};

/// Rounds of the everyday run.
const ROUNDS: u64 = 2;
/// Writers at once.
const WRITERS: usize = 24;
/// A round's writers write for at least this long before the power goes, and at most this much longer.
const LOAD_MIN: Duration = Duration::from_millis(100);
const LOAD_SPREAD_MS: u64 = 900;
/// The voters' states have to meet within this.
const MEET_MAX: Duration = Duration::from_secs(30);
/// All rounds' payloads are looked at again every so many rounds, and at the end.
const ALL_EVERY: u64 = 25;

struct Plan {
    rounds: u64,
    seed: Seed,
}

fn plan(arguments: &[String]) -> Result<Plan, String> {
    let mut plan = Plan {
        rounds: ROUNDS,
        seed: Seed(1),
    };
    let mut words = arguments.iter();
    while let Some(name) = words.next() {
        let number = |text: Option<&String>| -> Result<u64, String> {
            let text = text.ok_or_else(|| format!("{name} takes a number"))?;
            text.parse()
                .map_err(|_| format!("{name}: `{text}` is no number"))
        };
        match name.as_str() {
            "--rounds" => plan.rounds = number(words.next())?,
            "--seed" => plan.seed = Seed(number(words.next())?),
            other => return Err(format!("there is no option {other}; --rounds N, --seed S")),
        }
    }
    Ok(plan)
}

/// Whether the arguments are those of the standard test runner, and if so whether this program is wanted.
fn wanted_by_runner(arguments: &[String]) -> Option<bool> {
    let own = arguments
        .iter()
        .any(|text| text == "--rounds" || text == "--seed");
    if own {
        return None;
    }
    let listing = arguments.iter().any(|text| text == "--list");
    let mut filters = arguments
        .iter()
        .filter(|text| !text.starts_with('-'))
        .peekable();
    let named =
        filters.peek().is_none() || filters.any(|filter| "kill_all".contains(filter.as_str()));
    Some(named && !listing)
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "voter") {
        return code(serve(&arguments).await);
    }
    let given = match wanted_by_runner(&arguments) {
        Some(false) => {
            println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out");
            return ExitCode::SUCCESS;
        }
        Some(true) => Vec::new(),
        None => arguments,
    };
    let outcome = run(&given).await;
    let (word, passed, failed) = if outcome.is_ok() {
        ("ok", 1, 0)
    } else {
        ("FAILED", 0, 1)
    };
    println!(
        "test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    code(outcome)
}

fn code(outcome: Result<(), Box<dyn Error>>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    voter::run(voter::Identity::from_arguments(arguments)?).await
}

async fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let plan = plan(arguments)?;
    let directory = tempfile::tempdir_in(".")?;
    let mut group = Group::start(directory.path(), LogKind::Sled).await?;
    let ledger = Arc::new(Ledger::default());
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for round in 0..plan.rounds {
        let writers = Writers::start(&group.clients, &ledger, round, WRITERS);
        let spread = plan.seed.derive("load", round).0 % LOAD_SPREAD_MS;
        tokio::time::sleep(LOAD_MIN + Duration::from_millis(spread)).await;
        group.kill_all()?;
        let killed = Instant::now();
        for number in 0..VOTERS {
            group.spawn(number)?;
        }
        group.leader().await?;
        let back = killed.elapsed();
        slowest = slowest.max(back);
        writers.finish().await?;
        group.settled().await?;
        let (index, hash) = check(&group, &ledger, Some(round))
            .await
            .map_err(|e| format!("round {round}: {e}"))?;
        if (round + 1) % ALL_EVERY == 0 || round + 1 == plan.rounds {
            check(&group, &ledger, None)
                .await
                .map_err(|e| format!("after round {round}: {e}"))?;
        }
        println!(
            "round {round}: {} acknowledged so far, a leader {} ms after the kill, entry {index}, state {hash}",
            ledger.count(),
            back.as_millis()
        );
    }
    println!(
        "{} rounds in {:.0} s: {} commands acknowledged, none lost, none twice, states equal; a leader after {} ms at most",
        plan.rounds,
        began.elapsed().as_secs_f64(),
        ledger.count(),
        slowest.as_millis()
    );
    Ok(())
}

/// Compares what every voter holds, of one round or of all, with what writers were told; gives where they all stand.
async fn check(
    group: &Group,
    ledger: &Ledger,
    round: Option<u64>,
) -> Result<(LogIndex, BlobHash), String> {
    let deadline = Instant::now() + MEET_MAX;
    loop {
        let mut seen = Vec::new();
        for number in 0..VOTERS {
            let ask = Ask::Payloads(writers::beginning(round));
            match group.clients.ask(0, number, &ask).await? {
                Answer::Payloads(index, hash, payloads) => seen.push((index, hash, payloads)),
                other => return Err(format!("voter {number} answered {other:?}")),
            }
        }
        // Nobody writes now, so they soon stand at the same entry.
        if seen.iter().any(|(index, ..)| *index != seen[0].0) {
            if Instant::now() > deadline {
                return Err(format!("the voters do not meet within {MEET_MAX:?}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        for (number, (_, hash, payloads)) in seen.iter().enumerate() {
            if *hash != seen[0].1 {
                return Err(format!(
                    "the state of voter {number} is {hash}, of voter 0 {}",
                    seen[0].1
                ));
            }
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            payloads
                .iter()
                .for_each(|p| *counts.entry(p).or_default() += 1);
            ledger
                .judge(round, &counts)
                .map_err(|e| format!("voter {number}: {e}"))?;
        }
        return Ok((seen[0].0, seen[0].1));
    }
}
