//! Callers that each do one thing after the other, and what they saw.

use std::future::Future;
use std::time::{Duration, Instant};

/// What the callers of one or more runs saw.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    times: Vec<Duration>,
    seconds: f64,
    /// Processor seconds that the processes called took meanwhile.
    pub processor_seconds: f64,
    pub failures: usize,
    pub last_failure: Option<String>,
}

impl Seen {
    pub fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.seconds += other.seconds;
        self.processor_seconds += other.processor_seconds;
        self.failures += other.failures;
        self.last_failure = other.last_failure.or(self.last_failure.take());
    }

    pub fn count(&self) -> usize {
        self.times.len()
    }

    pub fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.seconds.max(1e-9)
    }

    /// Microseconds of processor that a call cost those called; on a busy machine the one figure that means something.
    pub fn processor_micros(&self) -> f64 {
        self.processor_seconds * 1e6 / (self.times.len() as f64).max(1.0)
    }

    /// Milliseconds within which this share of the calls was answered.
    pub fn at(&mut self, share: f64) -> f64 {
        self.times.sort_unstable();
        quantile(&self.times, share)
    }
}

/// Of sorted times, in milliseconds.
pub fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted
        .get(index)
        .map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// `callers` callers for `length`, each calling `act(caller)` again as soon as it is answered.
pub async fn run<F>(
    callers: usize,
    length: Duration,
    act: impl Fn(usize) -> F + Clone + Send + 'static,
) -> Seen
where
    F: Future<Output = Result<(), String>> + Send,
{
    let began = Instant::now();
    let end = began + length;
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let act = act.clone();
            tokio::spawn(async move {
                let mut seen = Seen::default();
                while Instant::now() < end {
                    let began = Instant::now();
                    match act(caller).await {
                        Ok(()) => seen.times.push(began.elapsed()),
                        Err(failure) => {
                            seen.failures += 1;
                            seen.last_failure = Some(failure);
                        }
                    }
                }
                seen
            })
        })
        .collect();
    let mut all = Seen::default();
    for task in tasks {
        match task.await {
            Ok(seen) => all.add(seen),
            Err(error) => all.last_failure = Some(error.to_string()),
        }
    }
    all.seconds = began.elapsed().as_secs_f64();
    all
}
