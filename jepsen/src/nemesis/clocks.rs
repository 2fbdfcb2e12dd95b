//! Faults of clocks: which clock a voter gets, and what becomes of it while the fault is on.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Fault;
use crate::dress::{Dress, set_wall};
use crate::pace::Pace;

/// The farthest that a wall clock jumps.
const JUMP_SECONDS_MAX: i64 = 2 * 86_400;

/// A wall clock that does not stay.
#[derive(Debug)]
pub struct WallClock {
    file: PathBuf,
    /// Jumps to and fro, and not once.
    strobes: bool,
}

/// The clock that a voter gets for `fault`, and its wall clock if that is to move.
///
/// # Errors
/// A file cannot be written.
pub fn clock(
    fault: Fault,
    file: PathBuf,
    rng: &mut StdRng,
) -> anyhow::Result<(Dress, Option<WallClock>)> {
    Ok(match fault {
        Fault::ClockBase => {
            let base = Duration::from_secs(rng.random_range(3_600..30 * 86_400));
            (Dress::Base(base), None)
        }
        Fault::ClockRate => {
            let off = rng.random_range(50..300);
            let rate = match rng.random_bool(0.5) {
                true => 1_000 + off,
                false => 1_000 - off,
            };
            (Dress::Rate(rate), None)
        }
        _ => {
            set_wall(&file, 0)?;
            let strobes = fault == Fault::ClockStrobe;
            let wall = WallClock {
                file: file.clone(),
                strobes,
            };
            (Dress::Wall(file), Some(wall))
        }
    })
}

impl WallClock {
    /// Moves it for `time`, or until the phase ends.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn drive(&self, time: Duration, pace: &Pace, rng: &mut StdRng) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut jump = || rng.random_range(-JUMP_SECONDS_MAX..=JUMP_SECONDS_MAX);
        if !self.strobes {
            // Half of the time with the right clock, so that the jump meets a node that is at work.
            if pace.wait(time / 2) {
                set_wall(&self.file, jump())?;
                pace.wait(time / 2);
            }
            return Ok(());
        }
        while began.elapsed() < time {
            set_wall(&self.file, jump())?;
            if !pace.wait(Duration::from_millis(300)) {
                break;
            }
            set_wall(&self.file, 0)?;
            if !pace.wait(Duration::from_millis(300)) {
                break;
            }
        }
        Ok(())
    }
}
