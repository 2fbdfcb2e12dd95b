//! Self-play: many games at once on the calling thread, their positions evaluated together.
//!
//! Each game draws from a random stream of its own, derived from the job's seed and the game's number, and the CPU
//! evaluator gives a position the same numbers whatever else is in the batch. So a game is bit-equal however many others
//! run beside it, and a job's games come out in the same order every time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use riftmesh_base::{BlobHash, JobId, Seed};
use riftmesh_rules::{Action, Configuration, Position, RuleOptions};
use riftmesh_search::temperature::{relative_entropy, sample};
use riftmesh_search::{
    Algorithm, Evaluation, Leaf, Search, SearchOutcome, SearchSettings, Step, TemperatureContext,
    TemperatureSchedule,
};
use serde::{Deserialize, Serialize};

use crate::codec::{CODEC_VERSION, Codec};
use crate::decision::{Choice, Decision};
use crate::encode::ENCODER_VERSION;
use crate::evaluator::{CountingEvaluator, EvaluatorCounts};
use crate::record::{
    DecisionRecord, FLAG_ROW, FLAG_SAMPLED, GameRecord, RULES_VERSION, SegmentHeader,
};
use crate::segment::SegmentError;
use crate::weights::SEATS;

/// Settings of self-play.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelfPlaySettings {
    /// Games to play.
    pub games: u64,
    /// Games in play at the same time.
    pub concurrent: usize,
    /// The full search.
    pub search: SearchSettings,
    /// Share of decisions that get a full search and become training rows; the others get a quarter of the simulations
    /// and no row. 1 searches every decision fully.
    pub full_share: f64,
    /// How moves of the opening are sampled.
    pub temperature: TemperatureSchedule,
    /// How far training has come, 0 to 1, for schedules that depend on it.
    pub progress: f64,
    /// Whether the pie rule is in force.
    pub swap: bool,
}

impl Default for SelfPlaySettings {
    fn default() -> Self {
        Self {
            games: 64,
            concurrent: 32,
            search: SearchSettings::gumbel(16),
            full_share: 1.0,
            temperature: TemperatureSchedule::default(),
            progress: 0.0,
            swap: false,
        }
    }
}

/// What to play.
#[derive(Debug, Clone)]
pub struct SelfPlayJob {
    /// Board and number of players.
    pub configuration: Configuration,
    /// The job the games belong to.
    pub job: JobId,
    /// Seed of the job.
    pub seed: Seed,
    /// The model that plays, none for an untrained one or the heuristic.
    pub model: Option<BlobHash>,
    /// Settings.
    pub settings: SelfPlaySettings,
}

impl SelfPlayJob {
    /// The header of the segment its games go into.
    pub fn header(&self) -> SegmentHeader {
        SegmentHeader {
            rules: RULES_VERSION,
            codec: CODEC_VERSION,
            encoder: ENCODER_VERSION,
            configuration: self.configuration.into(),
            swap: self.settings.swap,
            model: self.model,
            job: self.job,
            seed: self.seed,
            simulations: self.settings.search.simulations,
        }
    }
}

/// How far self-play is. Rates follow from two of these and the time between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SelfPlayProgress {
    /// Games finished.
    pub games: u64,
    /// Games to play.
    pub games_planned: u64,
    /// Decisions made, those of unfinished games included.
    pub decisions: u64,
    /// Training rows in finished games.
    pub rows: u64,
    /// Counters of the evaluator; its mean batch over `concurrent` times the leaves of a search is the batch fill.
    pub evaluator: EvaluatorCounts,
}

/// Plays the job's games and hands each to `finished` when it is over. Stops early, dropping unfinished games, when `stop`
/// is set. `progress` is called after every batch.
///
/// # Errors
/// What `finished` fails with.
pub fn play(
    job: &SelfPlayJob,
    evaluator: &mut dyn CountingEvaluator,
    finished: &mut dyn FnMut(GameRecord) -> Result<(), SegmentError>,
    progress: &mut dyn FnMut(SelfPlayProgress),
    stop: &AtomicBool,
) -> Result<SelfPlayProgress, SegmentError> {
    play_rest(job, Vec::new(), evaluator, finished, progress, stop)
}

/// Like [`play`], with games that an earlier run of the same job has finished. They are handed out first, and counted, and
/// not played again. Games that are not the job's are left out.
///
/// # Errors
/// What `finished` fails with.
pub fn play_rest(
    job: &SelfPlayJob,
    earlier: Vec<GameRecord>,
    evaluator: &mut dyn CountingEvaluator,
    finished: &mut dyn FnMut(GameRecord) -> Result<(), SegmentError>,
    progress: &mut dyn FnMut(SelfPlayProgress),
    stop: &AtomicBool,
) -> Result<SelfPlayProgress, SegmentError> {
    let settings = &job.settings;
    let mut done = SelfPlayProgress {
        games_planned: settings.games,
        ..SelfPlayProgress::default()
    };
    let mut played = BTreeSet::new();
    for game in earlier {
        if game.number < settings.games && played.insert(game.number) {
            done.games += 1;
            done.rows += game.rows() as u64;
            finished(game)?;
        }
    }
    let mut left = (0..settings.games).filter(|number| !played.contains(number));
    let mut tables: Vec<Table> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        while tables.len() < settings.concurrent.max(1)
            && let Some(number) = left.next()
        {
            tables.push(Table::new(job, number));
        }
        for table in &mut tables {
            done.decisions += table.advance(job);
        }
        for table in tables.extract_if(.., |table| table.search.is_none()) {
            let game = table.into_record();
            done.games += 1;
            done.rows += game.rows() as u64;
            finished(game)?;
        }
        if tables.is_empty() && done.games == settings.games {
            break;
        }
        evaluate(&mut tables, evaluator);
        done.evaluator = evaluator.counts();
        progress(done);
    }
    Ok(done)
}

/// Plays game `number` of the job by itself. With the CPU evaluator and the same model it is the game that [`play`] hands
/// out under that number, bit by bit: the check of a sample of games against a worker that is not trusted.
pub fn play_again(
    job: &SelfPlayJob,
    number: u64,
    evaluator: &mut dyn CountingEvaluator,
) -> GameRecord {
    let mut table = Table::new(job, number);
    while table.search.is_some() {
        evaluate(std::slice::from_mut(&mut table), evaluator);
        table.advance(job);
    }
    table.into_record()
}

/// Evaluates what the searches wait for, all in one call.
fn evaluate(tables: &mut [Table], evaluator: &mut dyn CountingEvaluator) {
    let leaves: Vec<Leaf<'_, Decision>> = tables
        .iter()
        .filter_map(|table| table.search.as_ref())
        .flat_map(Search::leaves)
        .collect();
    if leaves.is_empty() {
        return;
    }
    let mut evaluations = evaluator.evaluate(&leaves).into_iter();
    for search in tables.iter_mut().filter_map(|table| table.search.as_mut()) {
        let count = search.leaves().len();
        let own: Vec<Evaluation> = evaluations.by_ref().take(count).collect();
        search.resume(own);
    }
}

/// A game in play. It has a search unless it is over.
struct Table {
    number: u64,
    decision: Decision,
    search: Option<Search<Decision>>,
    full: bool,
    moves: Vec<Action>,
    records: Vec<DecisionRecord>,
    rng: Xoshiro256PlusPlus,
}

impl Table {
    fn new(job: &SelfPlayJob, number: u64) -> Self {
        let options = RuleOptions {
            swap: job.settings.swap,
        };
        let mut moves = Vec::new();
        let start = Position::start(job.configuration, options);
        let decision = Decision::after(start, &mut |action| moves.push(action));
        let mut table = Self {
            number,
            decision,
            search: None,
            full: true,
            moves,
            records: Vec::new(),
            rng: Xoshiro256PlusPlus::seed_from_u64(job.seed.derive("game", number).0),
        };
        table.begin_search(&job.settings);
        table
    }

    fn begin_search(&mut self, settings: &SelfPlaySettings) {
        if self.decision.decider().is_none() {
            self.search = None;
            return;
        }
        self.full = settings.full_share >= 1.0 || self.rng.random::<f64>() < settings.full_share;
        let mut search = settings.search;
        if !self.full {
            search.simulations = search.simulations.div_ceil(4);
        }
        self.search = Some(Search::new(self.decision.clone(), search, &mut self.rng));
    }

    /// Goes on until an evaluation is needed or the game is over; the decisions made.
    fn advance(&mut self, job: &SelfPlayJob) -> u64 {
        let mut decisions = 0;
        while let Some(search) = &mut self.search {
            match search.step() {
                Step::Evaluate => break,
                Step::Done => {
                    let outcome = search.outcome();
                    self.decide(job, &outcome);
                    self.begin_search(&job.settings);
                    decisions += 1;
                }
            }
        }
        decisions
    }

    fn decide(&mut self, job: &SelfPlayJob, outcome: &SearchOutcome<Choice>) {
        let temperature = job.settings.temperature.at(TemperatureContext {
            decision: self.records.len() as u32,
            entropy: relative_entropy(&outcome.policy),
            progress: job.settings.progress,
        });
        let sampled = temperature > 0.0;
        let index = if sampled {
            sample(&outcome.policy, temperature, &mut self.rng)
        } else {
            outcome.chosen
        };
        let choice = outcome.actions[index];
        self.records.push(self.record(outcome, choice, sampled));
        let moves = &mut self.moves;
        self.decision
            .choose(choice, &mut |action| moves.push(action));
    }

    fn record(
        &self,
        outcome: &SearchOutcome<Choice>,
        choice: Choice,
        sampled: bool,
    ) -> DecisionRecord {
        let codec = Codec::of(self.decision.position().configuration().board());
        let index = |choice: &Choice| codec.encode(&self.decision, *choice);
        let mut policy: Vec<(u32, f32)> = Vec::new();
        if self.full {
            let entries = outcome.actions.iter().map(index).zip(&outcome.policy);
            policy.extend(entries.map(|(action, probability)| (action, *probability as f32)));
            policy.retain(|(_, probability)| *probability >= PROBABILITY_MIN);
            policy.sort_unstable_by_key(|entry| entry.0);
        }
        let mut values = [0.0; SEATS];
        let players = self.decision.position().configuration().players();
        for (value, seat) in values.iter_mut().zip(outcome.values.seats(players)) {
            *value = *seat as f32;
        }
        let row = if self.full { FLAG_ROW } else { 0 };
        DecisionRecord {
            chosen: index(&choice),
            policy,
            values,
            simulations: outcome.visits.iter().sum(),
            flags: row | if sampled { FLAG_SAMPLED } else { 0 },
        }
    }

    fn into_record(self) -> GameRecord {
        let position = self.decision.position();
        GameRecord {
            number: self.number,
            moves: self.moves,
            decisions: self.records,
            winner: position.outcome().map_or(0, |outcome| outcome.winner.0),
            end: position.text_hash(),
        }
    }
}

/// Entries of a policy target below this are not stored: a game becomes several times smaller, and all of them together
/// stay far below the tolerance on the target's sum.
const PROBABILITY_MIN: f32 = 1e-7;

/// The share of Gumbel noise in self-play searches is the settings' own; matches search without any.
pub fn without_noise(mut settings: SearchSettings) -> SearchSettings {
    match &mut settings.algorithm {
        Algorithm::Gumbel(gumbel) => gumbel.noise_scale = 0.0,
        Algorithm::Puct(puct) => puct.dirichlet_weight = 0.0,
    }
    settings
}
