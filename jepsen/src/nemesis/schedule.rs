//! When which fault comes. Pure: the same seed, the same schedule.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::Fault;

/// One fault of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Nothing is broken for so long before it.
    pub quiet: Duration,
    /// What is broken.
    pub fault: Fault,
    /// For how long.
    pub hold: Duration,
    /// Its own choices, such as whom it hits, follow from it.
    pub seed: u64,
}

/// Faults without end, each of those ordered once in every turn.
#[derive(Debug)]
pub struct Schedule {
    faults: Vec<Fault>,
    turn: Vec<Fault>,
    rng: StdRng,
}

impl Schedule {
    /// A schedule of `faults`.
    pub fn new(faults: &[Fault], seed: u64) -> Self {
        Self {
            faults: faults.to_vec(),
            turn: Vec::new(),
            rng: StdRng::seed_from_u64(seed ^ 0x6e65_6d65_7369_7321),
        }
    }
}

impl Iterator for Schedule {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        if self.turn.is_empty() {
            self.turn.clone_from(&self.faults);
            self.turn.shuffle(&mut self.rng);
        }
        let fault = self.turn.pop()?;
        let quiet = Duration::from_millis(self.rng.random_range(2_000..5_000));
        let hold = match fault {
            Fault::Pause | Fault::PauseLeader => match self.rng.random_bool(0.2) {
                true => 12_000..30_000,
                false => 1_000..12_000,
            },
            // A session may be silent for its time to live of 30 s and a grace of 10 s.
            Fault::PauseWorker => 42_000..50_000,
            Fault::KillLeader | Fault::KillFollower | Fault::KillWorker => 500..4_000,
            // The node has to start first.
            Fault::ClockBase | Fault::ClockRate | Fault::ClockJump | Fault::ClockStrobe => {
                8_000..16_000
            }
            // Time to lose a few packets, to learn of it, and to write with shorter ones.
            Fault::Mtu => 10_000..16_000,
            Fault::KillQuorum | Fault::KillAll => 200..3_000,
            _ => 4_000..10_000,
        };
        Some(Planned {
            quiet,
            fault,
            hold: Duration::from_millis(self.rng.random_range(hold)),
            seed: self.rng.random(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::fault::FAULTS;

    /// The same seed breaks the same things in the same order, and no fault is left out of a turn.
    #[test]
    fn schedules_follow_from_their_seed() {
        let faults: Vec<_> = FAULTS.iter().map(|(fault, ..)| *fault).collect();
        let first = |seed| Schedule::new(&faults, seed).take(60).collect::<Vec<_>>();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
        for turn in first(1).chunks_exact(faults.len()) {
            let mut seen: Vec<_> = turn.iter().map(|planned| planned.fault).collect();
            seen.sort_unstable();
            assert_eq!(seen, faults);
        }
        assert_eq!(Schedule::new(&[], 1).next(), None);
    }
}
