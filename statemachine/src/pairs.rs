//! Games between players: who beat whom how often.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use riftmesh_base::{BlobHash, ConfigurationName};
use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::job::{MatchRecord, Player};
use crate::reply::{Refusal, Reply};
use crate::state::{State, Turn};

/// Most games in one match record.
const MATCH_GAMES_MAX: u32 = 1_000_000;

/// All games of a configuration, added up per pair of players. Bounded: the pair that has not played for longest is
/// forgotten first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pairs {
    /// The smaller player of a pair comes first.
    scores: BTreeMap<(Player, Player), PairScore>,
    /// Matches counted so far.
    matches: u64,
}

/// The games between the two players of a pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PairScore {
    /// Won by the first.
    pub first: u64,
    /// Won by the second.
    pub second: u64,
    /// Number of the last match between them.
    last: u64,
}

impl Pairs {
    pub fn scores(&self) -> impl Iterator<Item = (&Player, &Player, &PairScore)> {
        self.scores.iter().map(|((a, b), score)| (a, b, score))
    }

    pub fn len(&self) -> usize {
        self.scores.len()
    }

    fn count(&mut self, result: &MatchRecord, kept: usize) {
        self.matches += 1;
        let (wins, losses) = (u64::from(result.wins), u64::from(result.losses));
        let (a, b) = (result.candidate.clone(), result.opponent.clone());
        let (pair, first, second) = if a < b {
            ((a, b), wins, losses)
        } else {
            ((b, a), losses, wins)
        };
        let score = self.scores.entry(pair).or_default();
        score.first += first;
        score.second += second;
        score.last = self.matches;
        while self.scores.len() > kept {
            let idle = self.scores.iter().min_by_key(|(_, score)| score.last);
            let Some((pair, _)) = idle else { return };
            let pair = pair.clone();
            self.scores.remove(&pair);
        }
    }

    /// Forgets the games of a model that left the registry.
    pub fn drop_model(&mut self, model: BlobHash) {
        self.scores
            .retain(|(a, b), _| a.model() != Some(model) && b.model() != Some(model));
    }
}

/// Names of reported matches, so that a repeat is not counted. Bounded: the oldest names are forgotten first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MatchNames {
    order: VecDeque<BlobHash>,
    #[serde(skip)]
    known: BTreeSet<BlobHash>,
}

impl MatchNames {
    /// Remembers `id`; false if it was known.
    fn insert(&mut self, id: BlobHash, kept: usize) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        while self.order.len() > kept
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether the index agrees with the list.
    pub fn is_consistent(&self) -> bool {
        self.known.len() == self.order.len() && self.order.iter().all(|id| self.known.contains(id))
    }

    /// Builds the index that is not part of the image.
    pub fn rebuild(&mut self) {
        self.known = self.order.iter().copied().collect();
    }
}

/// Whether a match record can be counted.
pub(crate) fn check_match(result: &MatchRecord) -> Result<(), Refusal> {
    let games = u64::from(result.wins) + u64::from(result.losses);
    if !(1..=u64::from(MATCH_GAMES_MAX)).contains(&games) {
        return Err(Refusal::Invalid(format!(
            "a match of {games} games: 1 to {MATCH_GAMES_MAX} are allowed"
        )));
    }
    if result.candidate == result.opponent {
        return Err(Refusal::Invalid(format!(
            "a match of {} against itself",
            result.candidate
        )));
    }
    Ok(())
}

impl State {
    pub(crate) fn report_match(
        &mut self,
        turn: &mut Turn,
        id: BlobHash,
        name: &ConfigurationName,
        result: &MatchRecord,
    ) -> Result<Reply, Refusal> {
        check_match(result)?;
        self.configuration_mut(name)?;
        if self.matches.insert(id, self.head.bounds.matches_kept) {
            self.count_match(turn, name, result);
        }
        Ok(Reply::Done)
    }

    /// Counts a match for the ratings and, where it is one, as evidence of the promotion rule.
    pub(crate) fn count_match(
        &mut self,
        turn: &mut Turn,
        name: &ConfigurationName,
        result: &MatchRecord,
    ) {
        let kept = self.head.bounds.pairs_kept;
        let Some(configuration) = self.configurations.get_mut(name) else {
            return;
        };
        configuration.pairs.count(result, kept);
        configuration.registry.count_evidence(result);
        turn.tell(Effect::MatchCounted {
            configuration: name.clone(),
            games: result.wins + result.losses,
        });
    }
}
