//! Matches between two players.

use std::cmp::min;
use std::sync::atomic::{AtomicBool, Ordering};

use riftmesh_base::Seed;
use riftmesh_learning::arena::{MatchPlayer, MatchSettings, play_match};
use riftmesh_learning::evaluator::NetEvaluator;
use riftmesh_learning::stats::MatchScore;
use riftmesh_search::SearchSettings;
use riftmesh_statemachine::job::Player;

use super::run::{Bench, CONCURRENT, JobError, JobOutcome, Left, Progress, hopeless};
use super::wire::Made;

/// Games against one untrained network. How strong one is depends on its seed, and a lot: on square8 with 16 simulations
/// the same candidate won 46, 55, 57 and 89 of 100 games against four of them. So a match is played against many.
const DRAW_GAMES: u32 = 10;

/// Who plays whom.
pub(super) struct Pairing<'a> {
    /// The run's.
    pub run_seed: Seed,
    /// Shape of untrained networks.
    pub shape: &'a str,
    /// Whose wins are counted.
    pub candidate: &'a Player,
    /// Against whom.
    pub opponent: &'a Player,
}

impl Pairing<'_> {
    fn has_untrained(&self) -> bool {
        let mut players = [self.candidate, self.opponent].into_iter();
        players.any(|player| matches!(player, Player::Untrained { .. }))
    }
}

impl Bench<'_> {
    /// Plays a match; where an untrained network plays, in rounds with another one each.
    pub(super) fn judge(
        &self,
        pairing: &Pairing<'_>,
        games: u32,
        progress: &mut Progress<'_>,
    ) -> Result<JobOutcome, JobError> {
        let round_games = match pairing.has_untrained() {
            true => DRAW_GAMES,
            false => games,
        };
        let stop = progress.stop;
        let mut played = MatchScore::default();
        for round in 0.. {
            let left = games.saturating_sub(played.games());
            if left == 0 || stop.load(Ordering::Relaxed) {
                break;
            }
            let seed = match round {
                0 => self.assignment.seed,
                _ => self.assignment.seed.derive("round", round),
            };
            let mut report = |score: MatchScore| {
                let score = played.with(score);
                let figures = [("wins", score.wins.into()), ("losses", score.losses.into())];
                progress.report(score.games().into(), games.into(), figures);
            };
            let settings = MatchSettings {
                games: min(left, round_games),
                concurrent: CONCURRENT.min(min(left, round_games) as usize),
                seed,
                ..MatchSettings::default()
            };
            let score = self.play_round(pairing, &settings, &mut report, stop)?;
            played = played.with(score);
        }
        let made = Made::Match {
            wins: played.wins,
            losses: played.losses,
        };
        // A match is short: what was played of it is not worth carrying elsewhere.
        let left = match played.games() < games {
            true => Left::All,
            false => Left::Nothing,
        };
        Ok(JobOutcome { made, left })
    }

    fn play_round(
        &self,
        pairing: &Pairing<'_>,
        settings: &MatchSettings,
        report: &mut dyn FnMut(MatchScore),
        stop: &AtomicBool,
    ) -> Result<MatchScore, JobError> {
        let draw = settings.seed.0;
        let mut first = self.player_net(pairing.candidate, pairing, draw)?;
        let mut second = self.player_net(pairing.opponent, pairing, draw)?;
        let result = play_match(
            self.configuration,
            match_player(pairing.candidate, first.as_mut())?,
            match_player(pairing.opponent, second.as_mut())?,
            settings,
            report,
            stop,
        );
        Ok(result.score)
    }

    /// The network behind a player, if there is one.
    fn player_net(
        &self,
        player: &Player,
        pairing: &Pairing<'_>,
        draw: u64,
    ) -> Result<Option<NetEvaluator>, JobError> {
        let checkpoint = match player {
            Player::Random | Player::Heuristic => return Ok(None),
            Player::Untrained { .. } => self.untrained(pairing.shape, pairing.run_seed, draw)?,
            Player::Model { model, .. } => self.checkpoint(model)?,
        };
        self.evaluator(&checkpoint).map(Some)
    }
}

fn match_player<'a>(
    player: &Player,
    evaluator: Option<&'a mut NetEvaluator>,
) -> Result<MatchPlayer<'a>, JobError> {
    match (player, evaluator) {
        (Player::Random, _) => Ok(MatchPlayer::Random),
        (Player::Heuristic, _) => Ok(MatchPlayer::Heuristic),
        (
            Player::Untrained { simulations } | Player::Model { simulations, .. },
            Some(evaluator),
        ) => Ok(MatchPlayer::Network {
            evaluator,
            search: SearchSettings::gumbel(*simulations),
        }),
        (Player::Untrained { .. } | Player::Model { .. }, None) => {
            Err(hopeless(anyhow::anyhow!("a player has no network")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use riftmesh_base::JobId;

    use super::*;
    use crate::job::payload::Payload;
    use crate::job::run::run;
    use crate::job::wire::Assignment;

    /// The scores of a match as it is told, the last one being the result.
    fn scores(games: u32) -> Vec<(u64, f64)> {
        let assignment = Assignment {
            job: JobId(1),
            configuration: "hex8_2p".parse().unwrap(),
            payload: Payload::Evaluate {
                seed: Seed(1),
                shape: "tiny".to_owned(),
                candidate: Player::Untrained { simulations: 0 },
                opponent: Player::Random,
                games,
            },
            seed: Seed(2),
            champion: None,
            inputs: BTreeMap::new(),
            manifests: BTreeMap::new(),
            resume: None,
            out: "unused".into(),
            optimizers: "unused".into(),
            device: "cpu".to_owned(),
            save_every: None,
        };
        let mut told = Vec::new();
        let mut say = |advance: crate::job::run::Advance| {
            told.push((advance.done, advance.figures[0].1));
        };
        let outcome = run(&assignment, &mut say, &AtomicBool::new(false)).unwrap();
        let Made::Match { wins, losses } = outcome.made else {
            panic!("{outcome:?}");
        };
        assert!(matches!(outcome.left, Left::Nothing));
        told.push((u64::from(wins + losses), wins.into()));
        told
    }

    /// A match against untrained networks counts all its rounds, and is the same whenever it is played.
    #[test]
    fn rounds_add_up() {
        let short = scores(10);
        let long = scores(30);
        assert_eq!(short.last().unwrap().0, 10);
        assert_eq!(long.last().unwrap().0, 30);
        assert_eq!(scores(30).last(), long.last());
        assert!(long.last().unwrap().1 >= short.last().unwrap().1);
        // What is told only grows: a round does not begin to count anew.
        assert!(long.is_sorted_by_key(|told| told.0));
    }
}
