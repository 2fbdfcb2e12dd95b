//! The report of an `up`: matches that are run as jobs in the cluster, printed with Wilson intervals.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use riftmesh_base::{ConfigurationName, JobId, Seed};
use riftmesh_learning::stats::MatchScore;
use riftmesh_statemachine::job::{JobRecord, JobState, MatchRecord, Output, Player};

use super::view::View;
use crate::answers::{MatchRequest, ProgressAnswer, StatusAnswer};
use crate::chores::settings::{LoopSettings, Preset};
use crate::cli::Asker;

/// Games of each match of the final report.
const FINAL_GAMES: u32 = 200;
/// Games of the check after five minutes.
const EARLY_GAMES: u32 = 100;
/// When that is.
const EARLY_AT: Duration = Duration::from_secs(300);
/// The budget named by the acceptance of the loop.
const STRONG_SIMULATIONS: u32 = 32;
/// The final report gives up after this long.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// A match being played for the report.
struct Match {
    label: String,
    goal: &'static str,
    jobs: Vec<JobId>,
}

/// What has been asked for so far.
pub struct Report {
    configuration: ConfigurationName,
    settings: LoopSettings,
    /// Distinguishes the matches of this `up` from those of earlier ones in the same directory.
    run: u64,
    early: Option<Match>,
    early_done: bool,
}

impl Report {
    /// Nothing asked for yet.
    pub fn new(configuration: ConfigurationName, preset: Preset, seed: u64) -> Self {
        let settings = LoopSettings::preset(preset, configuration.clone(), Seed(seed));
        Self {
            configuration,
            settings,
            run: riftmesh_base::time::wall_clock().0,
            early: None,
            early_done: false,
        }
    }

    /// Asks for, and later gives, the check after five minutes.
    pub fn advance(
        &mut self,
        elapsed: Duration,
        progress: &ProgressAnswer,
        asker: &Asker,
    ) -> Vec<String> {
        if self.early_done || elapsed < EARLY_AT {
            return Vec::new();
        }
        match &self.early {
            None => {
                let games = EARLY_GAMES.min(self.settings.games_per_match * 3);
                let candidate = champion(progress, 0);
                self.early = self
                    .ask(
                        asker,
                        "at 5 minutes, bare policy against random",
                        "goal 70 %",
                        candidate,
                        Player::Random,
                        games,
                    )
                    .ok();
                Vec::new()
            }
            Some(early) => match results(asker, early) {
                Ok(Some((wins, losses))) => {
                    self.early_done = true;
                    vec![line(early, wins, losses)]
                }
                Ok(None) => Vec::new(),
                Err(error) => {
                    self.early_done = true;
                    vec![format!("{}: {error}", early.label)]
                }
            },
        }
    }

    /// Plays the final matches and prints them. True if all were played. An interrupt ends it.
    pub fn finish(
        &self,
        asker: &Asker,
        interrupts: &Receiver<()>,
        view: &mut View,
        begin: Instant,
    ) -> bool {
        let Some(progress) = progress(asker, interrupts) else {
            view.event("report: no node answers, so there is none");
            return false;
        };
        summary(&progress).iter().for_each(|line| view.event(line));
        let games = if self.settings.match_simulations < 8 {
            20
        } else {
            FINAL_GAMES
        };
        let strong = STRONG_SIMULATIONS.min(self.settings.match_simulations * 2);
        let mut waiting = Vec::new();
        let wanted = [
            (
                format!("champion at n = {strong} against random"),
                "goal 180 of 200",
                champion(&progress, strong),
                Player::Random,
            ),
            (
                "champion's bare policy against random".to_owned(),
                "goal 70 %",
                champion(&progress, 0),
                Player::Random,
            ),
            (
                format!(
                    "champion against the untrained network, both at n = {}",
                    self.settings.match_simulations
                ),
                "goal 65 % lower bound",
                champion(&progress, self.settings.match_simulations),
                Player::Untrained {
                    simulations: self.settings.match_simulations,
                },
            ),
        ];
        for (label, goal, candidate, opponent) in wanted {
            if candidate == opponent {
                view.event(&format!("{label}: not played, there is no champion yet"));
                continue;
            }
            match self.ask(asker, &label, goal, candidate, opponent, games) {
                Ok(asked) => waiting.push(asked),
                Err(error) => view.event(&format!("{label}: {error}")),
            }
        }
        let asked_all = waiting.len() == 3;
        view.event(&format!(
            "report: playing {games} games for each of {} matches",
            waiting.len()
        ));
        self.collect(asker, interrupts, view, begin, waiting) && asked_all
    }

    fn collect(
        &self,
        asker: &Asker,
        interrupts: &Receiver<()>,
        view: &mut View,
        begin: Instant,
        mut waiting: Vec<Match>,
    ) -> bool {
        let start = Instant::now();
        let mut complete = true;
        while !waiting.is_empty() && start.elapsed() < PATIENCE {
            waiting.retain(|one| match results(asker, one) {
                Ok(Some((wins, losses))) => {
                    view.event(&line(one, wins, losses));
                    false
                }
                Ok(None) => true,
                Err(error) => {
                    complete = false;
                    view.event(&format!("{}: {error}", one.label));
                    false
                }
            });
            let status = asker.get::<StatusAnswer>("/v1/status");
            view.show(
                begin.elapsed(),
                status
                    .as_ref()
                    .map(|envelope| &envelope.answer)
                    .map_err(ToString::to_string),
            );
            match interrupts.recv_timeout(Duration::from_secs(2)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for job in waiting.iter().flat_map(|one| &one.jobs) {
            // Those that are done refuse it, and the cluster may be gone: neither matters to somebody who leaves.
            drop(asker.post::<JobId>(&format!("/v1/jobs/{job}/cancel"), &()));
        }
        complete && waiting.is_empty()
    }

    fn ask(
        &self,
        asker: &Asker,
        label: &str,
        goal: &'static str,
        candidate: Player,
        opponent: Player,
        games: u32,
    ) -> anyhow::Result<Match> {
        let request = MatchRequest {
            configuration: self.configuration.clone(),
            candidate,
            opponent,
            games,
            key: format!("report/{}/{label}", self.run),
        };
        // Repeating is safe: the key names the match.
        let mut last = None;
        for _ in 0..5 {
            match asker.post::<Vec<JobId>>("/v1/matches", &request) {
                Ok(envelope) => {
                    return Ok(Match {
                        label: label.to_owned(),
                        goal,
                        jobs: envelope.answer,
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        anyhow::bail!(
            "the cluster did not take the match: {}",
            last.map_or_else(String::new, |error| error.to_string())
        )
    }
}

/// The champion at a budget, or the untrained network if there is none.
fn champion(progress: &ProgressAnswer, simulations: u32) -> Player {
    match &progress.champion {
        Some(champion) => Player::Model {
            model: champion.model,
            simulations,
        },
        None => Player::Untrained { simulations },
    }
}

fn progress(asker: &Asker, interrupts: &Receiver<()>) -> Option<ProgressAnswer> {
    for _ in 0..15 {
        if let Ok(envelope) = asker.get::<Vec<ProgressAnswer>>("/v1/progress") {
            return envelope.answer.into_iter().next();
        }
        if interrupts.recv_timeout(Duration::from_secs(1)).is_ok() {
            return None;
        }
    }
    None
}

/// Wins and losses of a match once all its jobs are done.
fn results(asker: &Asker, wanted: &Match) -> anyhow::Result<Option<(u32, u32)>> {
    let (mut wins, mut losses) = (0, 0);
    for id in &wanted.jobs {
        // No answer now is not an end: the cluster may be electing.
        let Ok(envelope) = asker.get::<JobRecord>(&format!("/v1/jobs/{id}")) else {
            return Ok(None);
        };
        let job = envelope.answer;
        match job.state {
            JobState::Done => {
                for output in job.outputs {
                    if let Output::Match(MatchRecord {
                        wins: won,
                        losses: lost,
                        ..
                    }) = output
                    {
                        wins += won;
                        losses += lost;
                    }
                }
            }
            JobState::Dead | JobState::Cancelled => {
                anyhow::bail!("{id} ended without a result: {}", job.note)
            }
            JobState::Waiting
            | JobState::Delayed { .. }
            | JobState::Ready
            | JobState::Leased(_)
            | JobState::Cancelling(_) => return Ok(None),
        }
    }
    Ok(Some((wins, losses)))
}

fn summary(progress: &ProgressAnswer) -> Vec<String> {
    let mut lines = vec![format!(
        "report: {} self-play games, {} rows",
        progress.games, progress.rows
    )];
    for verdict in &progress.verdicts {
        let word = if verdict.promoted {
            "promoted"
        } else {
            "rejected"
        };
        lines.push(format!(
            "  #{} {} {word}: {}",
            verdict.number,
            verdict.model.short(),
            verdict.reason
        ));
    }
    lines
}

fn line(played: &Match, wins: u32, losses: u32) -> String {
    let games = wins + losses;
    let (low, high) = MatchScore { wins, losses }.wilson();
    format!(
        "{}: {wins} of {games} ({:.1} %, 95 % interval {:.1} to {:.1} %; {})",
        played.label,
        100.0 * f64::from(wins) / f64::from(games.max(1)),
        100.0 * low,
        100.0 * high,
        played.goal
    )
}
