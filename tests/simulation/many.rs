//! Many seeds, each in a process of its own: this program, started again.

use std::collections::VecDeque;
use std::fmt;
use std::io::{IsTerminal as _, stderr};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use riftmesh_raft::mutants::Mutant;

use crate::REPLAY;

/// Failures shown at most.
const SHOWN: usize = 10;
/// How often progress is told where nobody watches.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// What is run with each seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// The whole simulation.
    Run,
    /// The bridge partition.
    Bridge,
    /// A follower that is cut off and comes back.
    Comeback,
}

impl Job {
    fn verb(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Bridge => "bridge",
            Self::Comeback => "comeback",
        }
    }
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Soak {
    /// With each seed.
    pub job: Job,
    /// Which seeds, the second excluded.
    pub seeds: (u64, u64),
    /// How long at most; seeds that were begun are finished.
    pub time: Duration,
    /// Processes at once.
    pub jobs: Option<usize>,
    /// Runs each seed twice and compares the traces.
    pub twice: bool,
    /// The rule that is broken.
    pub mutant: Option<Mutant>,
    /// Ends with the first failure.
    pub first: bool,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Summary {
    job: Job,
    /// How many ran.
    pub seeds: u64,
    asked: u64,
    /// How long that took.
    pub took: Duration,
    /// Simulated milliseconds until all was well again, for each situation.
    after: Vec<u64>,
    /// Seeds that failed, and why.
    pub failures: Vec<(u64, String)>,
}

impl Summary {
    /// Whether at least one seed ran and none failed.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && self.seeds > 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = self.job.verb();
        write!(
            f,
            "{verb}: {} of {} seeds in {:.1} s, {} failed",
            self.seeds,
            self.asked,
            self.took.as_secs_f64(),
            self.failures.len()
        )?;
        let mut after = self.after.clone();
        after.sort_unstable();
        if let (Some(median), Some(last)) = (after.get(after.len() / 2), after.last()) {
            write!(
                f,
                "; well again after {median} ms, at most {last} ms (simulated)"
            )?;
        }
        for (seed, why) in self.failures.iter().take(SHOWN) {
            write!(
                f,
                "\nseed {seed}: {why}\n  replay with: {REPLAY} {verb} --seed {seed} --trace"
            )?;
        }
        Ok(())
    }
}

/// Shared by the threads that run processes.
struct Board {
    next: u64,
    summary: Summary,
    told: Instant,
}

/// Runs all seeds that fit the time.
pub fn soak(soak: &Soak) -> Summary {
    let began = Instant::now();
    let board = Mutex::new(Board {
        next: soak.seeds.0,
        summary: Summary {
            job: soak.job,
            seeds: 0,
            asked: soak.seeds.1 - soak.seeds.0,
            took: Duration::ZERO,
            after: Vec::new(),
            failures: Vec::new(),
        },
        told: began,
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..soak.jobs.unwrap_or(cores).max(1) {
            scope.spawn(|| work(soak, &board, began));
        }
    });
    let mut summary = lock(&board).summary.clone();
    summary.took = began.elapsed();
    summary.failures.sort();
    summary
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(soak: &Soak, board: &Mutex<Board>, began: Instant) {
    while began.elapsed() < soak.time {
        let seed = {
            let mut board = lock(board);
            let found = soak.first && !board.summary.failures.is_empty();
            if found || board.next >= soak.seeds.1 {
                return;
            }
            board.next += 1;
            board.next - 1
        };
        let outcome = run_seed(soak, seed);
        let mut board = lock(board);
        board.summary.seeds += 1;
        match outcome {
            Ok(after) => board.summary.after.extend(after),
            Err(why) => board.summary.failures.push((seed, why)),
        }
        tell(&mut board, began);
    }
}

fn tell(board: &mut Board, began: Instant) {
    let line = format!(
        "{} of {} seeds, {} failed, {} s",
        board.summary.seeds,
        board.summary.asked,
        board.summary.failures.len(),
        began.elapsed().as_secs()
    );
    if stderr().is_terminal() {
        eprint!("\r{line}\x1b[K");
    } else if board.told.elapsed() >= TELL_EVERY {
        board.told = Instant::now();
        eprintln!("{line}");
    }
}

/// Runs a seed once or twice; gives the time it reports, or why it failed.
fn run_seed(soak: &Soak, seed: u64) -> Result<Option<u64>, String> {
    let first = run_process(soak, seed)?;
    if soak.twice && run_process(soak, seed)?.trace != first.trace {
        return Err("two runs of this seed differ".to_owned());
    }
    Ok(first.after)
}

struct Told {
    trace: String,
    after: Option<u64>,
}

fn run_process(soak: &Soak, seed: u64) -> Result<Told, String> {
    let program = std::env::current_exe().map_err(|e| format!("this program's path: {e}"))?;
    let output = Command::new(program)
        .args([soak.job.verb(), "--seed", &seed.to_string()])
        .args(
            soak.mutant
                .into_iter()
                .flat_map(|mutant| ["--mutant", mutant.as_str()]),
        )
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot start a process: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let after = |word: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(word));
        lines.next().map(str::to_owned)
    };
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last: VecDeque<&str> = stderr.lines().rev().take(3).collect();
        let why = after("breach ").unwrap_or_else(|| format!("{}: {last:?}", output.status));
        return Err(why);
    }
    Ok(Told {
        trace: after("trace ").ok_or("the process told no trace")?,
        after: after("after ").and_then(|text| text.strip_suffix(" ms")?.parse().ok()),
    })
}
