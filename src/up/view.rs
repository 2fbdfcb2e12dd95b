//! The live view: a block that is redrawn on a terminal, plain lines elsewhere.

use std::collections::VecDeque;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::answers::{ProgressAnswer, StatusAnswer};
use crate::cli::{data, leader_line, rating};

/// Rates are measured over this much of the past.
const RATE_WINDOW: Duration = Duration::from_secs(60);
/// Time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// What is on the screen.
pub struct View {
    terminal: bool,
    drawn: usize,
    games: VecDeque<(Instant, u64)>,
    last_plain: Option<Instant>,
    verdicts_shown: Option<usize>,
    answered: bool,
}

impl View {
    /// A view on a terminal, or on a pipe.
    pub fn new(terminal: bool) -> Self {
        Self {
            terminal,
            drawn: 0,
            games: VecDeque::new(),
            last_plain: None,
            verdicts_shown: None,
            answered: false,
        }
    }

    /// How long to wait before asking again.
    pub fn pause(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// A line that stays: something happened.
    pub fn event(&mut self, line: &str) {
        self.erase();
        data(line);
    }

    /// Shows the state of the cluster, or why it cannot be had.
    pub fn show(&mut self, elapsed: Duration, status: Result<&StatusAnswer, String>) {
        if let Ok(status) = &status {
            self.answered = true;
            self.verdicts(status);
            if let Some(progress) = status.progress.first() {
                self.games.push_back((Instant::now(), progress.games));
                while self
                    .games
                    .front()
                    .is_some_and(|(at, _)| at.elapsed() > RATE_WINDOW)
                {
                    self.games.pop_front();
                }
            }
        }
        let clock = riftmesh_base::Millis::from(elapsed);
        if self.terminal {
            let lines = match &status {
                Ok(status) => self.block(&clock.to_string(), status),
                Err(error) => vec![format!("{clock}  {}", self.silence(error))],
            };
            self.erase();
            lines.iter().for_each(|line| data(line));
            self.drawn = lines.len();
        } else if self.last_plain.is_none_or(|at| at.elapsed() >= PLAIN_EVERY) {
            self.last_plain = Some(Instant::now());
            match &status {
                Ok(status) => data(&self.line(&clock.to_string(), status)),
                Err(error) => data(&format!("{clock} {}", self.silence(error))),
            }
        }
    }

    /// Why there is nothing to show; before the first answer that is no news.
    fn silence(&self, error: &str) -> String {
        if self.answered {
            error.replace('\n', " ")
        } else {
            "waiting for the nodes to answer".to_owned()
        }
    }

    /// Prints each verdict once; those from before this `up` only as a count.
    fn verdicts(&mut self, status: &StatusAnswer) {
        let Some(progress) = status.progress.first() else {
            return;
        };
        let shown = self.verdicts_shown.unwrap_or(progress.verdicts.len());
        for verdict in progress.verdicts.iter().skip(shown) {
            let word = if verdict.promoted {
                "promoted"
            } else {
                "rejected"
            };
            self.event(&format!(
                "verdict: #{} {} {word}: {}",
                verdict.number,
                verdict.model.short(),
                verdict.reason
            ));
        }
        self.verdicts_shown = Some(shown.max(progress.verdicts.len()));
    }

    fn rate(&self) -> f64 {
        match (self.games.front(), self.games.back()) {
            (Some((from, first)), Some((to, last))) if to > from => {
                last.saturating_sub(*first) as f64 / (*to - *from).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    /// The block of a terminal.
    fn block(&self, clock: &str, status: &StatusAnswer) -> Vec<String> {
        let quorum = format!(
            "quorum {}, {} of {} members up, {} slots",
            if status.quorum.confirmed {
                "confirmed"
            } else {
                "LOST"
            },
            status.members_up,
            status.members,
            status.slots
        );
        let mut lines = vec![format!(
            "{clock}  {}  {quorum}",
            leader_line(&status.leader)
        )];
        for progress in &status.progress {
            lines.push(format!(
                "  {} {}: {} games ({:.2}/s), {} rows",
                progress.configuration,
                progress.phase,
                progress.games,
                self.rate(),
                progress.rows
            ));
            lines.push(format!("  champion {}", champion(progress)));
            if !progress.losses.is_empty() {
                lines.push(format!("  losses {}", losses(progress)));
            }
            if let Some(last) = &progress.last_match {
                lines.push(format!("  last match {last}"));
            }
            lines.extend(
                progress
                    .running
                    .iter()
                    .map(|job| format!("    {} {} {}/{}", job.job, job.kind, job.done, job.total)),
            );
        }
        lines.extend(
            status
                .problems
                .iter()
                .map(|problem| format!("  ! {problem}")),
        );
        lines
    }

    /// One line for a pipe.
    fn line(&self, clock: &str, status: &StatusAnswer) -> String {
        let leader = match (&status.leader.name, status.leader.confirmed) {
            (Some(name), true) => format!("leader {name}"),
            _ => "no confirmed leader".to_owned(),
        };
        let progress = status
            .progress
            .first()
            .map_or_else(String::new, |progress| {
                let mut text = format!(
                    " | {} {} games ({:.2}/s) {} rows | champion {}",
                    progress.phase,
                    progress.games,
                    self.rate(),
                    progress.rows,
                    champion(progress)
                );
                if !progress.losses.is_empty() {
                    text.push_str(&format!(" | losses {}", losses(progress)));
                }
                if let Some(last) = &progress.last_match {
                    text.push_str(&format!(" | {last}"));
                }
                text
            });
        let problems = if status.problems.is_empty() {
            String::new()
        } else {
            format!(" | ! {}", status.problems.join("; "))
        };
        format!(
            "{clock} {leader}, {}/{} up{progress}{problems}",
            status.members_up, status.members
        )
    }

    fn erase(&mut self) {
        if self.terminal && self.drawn > 0 {
            if let Err(error) = write!(std::io::stdout(), "\x1b[{}F\x1b[J", self.drawn) {
                tracing::debug!(%error, "stdout");
            }
            self.drawn = 0;
        }
    }
}

fn champion(progress: &ProgressAnswer) -> String {
    progress.champion.as_ref().map_or_else(
        || "untrained".to_owned(),
        |champion| {
            format!(
                "#{} {} ({})",
                champion.number,
                champion.model.short(),
                rating(champion.rating_milli_elo)
            )
        },
    )
}

/// Heads worth a person's attention; a policy's loss says nothing without its target's entropy.
const HEADS: [&str; 3] = ["policy", "policy_entropy", "value"];

fn losses(progress: &ProgressAnswer) -> String {
    let shown = progress
        .losses
        .iter()
        .filter(|(head, _)| HEADS.contains(&head.as_str()));
    shown
        .map(|(head, loss)| format!("{head} {loss:.3}"))
        .collect::<Vec<_>>()
        .join(" ")
}
