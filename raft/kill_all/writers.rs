//! Those who write while voters are killed, and the book of what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use riftmesh_statemachine::job::{JobKind, JobSpec};
use riftmesh_statemachine::{Body, Command, Origin, Reply};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::group::{Clients, VOTERS};
use crate::voter::{Answer, Ask};

/// A writer learns what came of its last command within this, or something is wrong.
const LEARN_MAX: Duration = Duration::from_secs(60);
/// Pause of a writer whom nobody served.
const ASIDE: Duration = Duration::from_millis(20);

/// What payloads of a round begin with; of all rounds without one.
pub fn beginning(round: Option<u64>) -> String {
    round.map_or_else(|| "r".to_owned(), |round| format!("r{round}-"))
}

/// Payloads that were sent, and those of them that were acknowledged.
#[derive(Default)]
pub struct Ledger {
    sent: Mutex<BTreeSet<String>>,
    acknowledged: Mutex<BTreeSet<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// How many were acknowledged.
    pub fn count(&self) -> usize {
        lock(&self.acknowledged).len()
    }

    /// Judges what a voter holds of a round, or of all.
    pub fn judge(&self, round: Option<u64>, held: &BTreeMap<&str, usize>) -> Result<(), String> {
        let beginning = beginning(round);
        let (sent, acknowledged) = (lock(&self.sent), lock(&self.acknowledged));
        let mut wanted = acknowledged.iter().filter(|p| p.starts_with(&beginning));
        if let Some(lost) = wanted.find(|payload| !held.contains_key(payload.as_str())) {
            return Err(format!("{lost} was acknowledged and is lost"));
        }
        if let Some((twice, count)) = held.iter().find(|(_, count)| **count > 1) {
            return Err(format!("{twice} was carried out {count} times"));
        }
        match held.keys().find(|payload| !sent.contains(**payload)) {
            Some(invented) => Err(format!("{invented} was never sent")),
            None => Ok(()),
        }
    }
}

/// The writers of one round.
pub struct Writers {
    over: Arc<AtomicBool>,
    tasks: JoinSet<Result<(), String>>,
}

impl Writers {
    /// Starts `count` writers.
    pub fn start(clients: &Arc<Clients>, ledger: &Arc<Ledger>, round: u64, count: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let writer = Writer {
                clients: Arc::clone(clients),
                ledger: Arc::clone(ledger),
                over: Arc::clone(&over),
                round,
                number,
            };
            tasks.spawn(writer.run());
        }
        Self { over, tasks }
    }

    /// Lets every writer learn what came of its last command.
    ///
    /// # Errors
    /// One never learned it, or was told something that makes no sense.
    pub async fn finish(mut self) -> Result<(), String> {
        self.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|e| e.to_string())??;
        }
        Ok(())
    }
}

struct Writer {
    clients: Arc<Clients>,
    ledger: Arc<Ledger>,
    over: Arc<AtomicBool>,
    round: u64,
    number: usize,
}

impl Writer {
    async fn run(self) -> Result<(), String> {
        let mut seq = 0;
        while !self.over.load(Ordering::Relaxed) {
            seq += 1;
            self.write(seq).await?;
        }
        Ok(())
    }

    /// Submits one job and repeats it until it is acknowledged.
    async fn write(&self, seq: u64) -> Result<(), String> {
        let payload = format!("{}w{}-{seq}", beginning(Some(self.round)), self.number);
        lock(&self.ledger.sent).insert(payload.clone());
        let configuration = "hex8_2p".parse().map_err(|e| format!("{e:?}"))?;
        let job = JobSpec::plain(JobKind::Selfplay, configuration, payload.clone());
        let ask = Ask::Propose(Command {
            origin: Some(Origin {
                // A number of its own for every writer of every round.
                client: self.round << 16 | self.number as u64 | 1 << 63,
                seq,
            }),
            body: Body::Submit { jobs: vec![job] },
        });
        let until = Instant::now() + LEARN_MAX;
        let mut to = self.number;
        while Instant::now() < until {
            match self.clients.ask(self.number, to % VOTERS, &ask).await {
                Ok(Answer::Applied(_, Reply::Submitted { .. })) => {
                    lock(&self.ledger.acknowledged).insert(payload);
                    return Ok(());
                }
                Ok(Answer::Applied(_, other)) => return Err(format!("{payload}: {other:?}")),
                Ok(_) | Err(_) => to += 1,
            }
            if to % VOTERS == self.number % VOTERS {
                sleep(ASIDE).await;
            }
        }
        Err(format!("{payload}: no answer within {LEARN_MAX:?}"))
    }
}
