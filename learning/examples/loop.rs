//! The whole loop in one process: self-play, training, matches, for a given number of minutes. For tuning.
//!
//! `cargo run --release -p riftmesh-learning --example loop -- hex8_2p 5 2 96 4`
//! (configuration, minutes, self-play threads, games per round, training rows per new row, share of the search's opinion
//! in value targets, scale of values in the search, rounds whose games the heuristic plays,
//! share of decisions that are searched fully, a folder for the last network)

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use riftmesh_base::{JobId, Seed};
use riftmesh_learning::arena::{MatchPlayer, MatchSettings, play_match};
use riftmesh_learning::evaluator::CountingEvaluator;
use riftmesh_learning::optimizer::OptimizerState;
use riftmesh_learning::segment::SegmentWriter;
use riftmesh_learning::selfplay::{SelfPlayJob, SelfPlayProgress, SelfPlaySettings, play};
use riftmesh_learning::stats::MatchScore;
use riftmesh_learning::teacher::HeuristicEvaluator;
use riftmesh_learning::train::{TrainJob, TrainOutcome, TrainSettings, train, untrained};
use riftmesh_learning::{Backend, Checkpoint, NetEvaluator, NetShape};
use riftmesh_rules::Configuration;
use riftmesh_search::{Algorithm, GumbelSettings, SearchSettings};

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Loop {
    configuration: Configuration,
    threads: u64,
    games: u64,
    reuse: f64,
    search_share: f32,
    search: SearchSettings,
    taught: u64,
    full_share: f64,
    folder: PathBuf,
    segments: Vec<PathBuf>,
    model: Checkpoint,
    optimizer: Option<OptimizerState>,
    start: Instant,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument =
        |index: usize, default: &str| arguments.get(index).map_or(default, |text| text).to_owned();
    let configuration: Configuration = argument(0, "hex8_2p").parse()?;
    let minutes: f64 = argument(1, "5").parse()?;
    let folder = tempfile::tempdir()?;
    let mut run = Loop {
        configuration,
        threads: argument(2, "2").parse()?,
        games: argument(3, "96").parse()?,
        reuse: argument(4, "4").parse()?,
        search_share: argument(5, "0").parse()?,
        search: search(argument(6, "1").parse()?),
        taught: argument(7, "1").parse()?,
        full_share: argument(8, "0.25").parse()?,
        folder: folder.path().to_owned(),
        segments: Vec::new(),
        model: untrained(configuration, NetShape::Tiny, Seed(1), "example"),
        optimizer: None,
        start: Instant::now(),
    };
    let first = run.model.clone();
    for round in 1.. {
        if run.start.elapsed().as_secs_f64() > 60.0 * minutes {
            break;
        }
        run.self_play(round)?;
        run.learn(round)?;
        let raw = run.against_random(0, 100)?;
        run.say(&format!("raw policy against random {}", percent(raw)))?;
    }
    if let Some(folder) = arguments.get(9).map(Path::new) {
        run.model
            .write(&folder.join("manifest"), &folder.join("weights"))?;
    }
    let searched = run.against_random(32, 200)?;
    let before = run.against_model(&first, 16, 100)?;
    run.say(&format!(
        "n = 32 against random {}; n = 16 against untrained {}",
        percent(searched),
        percent(before)
    ))
}

fn search(scale: f64) -> SearchSettings {
    let mut gumbel = GumbelSettings::default();
    gumbel.transform.scale = scale;
    SearchSettings {
        simulations: 16,
        algorithm: Algorithm::Gumbel(gumbel),
    }
}

fn percent(score: MatchScore) -> String {
    let (low, high) = score.wilson();
    format!(
        "{}-{} ({:.0} %, {:.0} to {:.0})",
        score.wins,
        score.losses,
        100.0 * score.rate(),
        100.0 * low,
        100.0 * high
    )
}

impl Loop {
    fn say(&self, text: &str) -> Outcome<()> {
        writeln!(
            std::io::stdout(),
            "{:6.1} s  {text}",
            self.start.elapsed().as_secs_f64()
        )?;
        Ok(())
    }

    fn self_play(&mut self, round: u64) -> Outcome<()> {
        let begin = Instant::now();
        let workers: Vec<_> = (0..self.threads)
            .map(|thread| {
                let number = round * self.threads + thread;
                (number, self.folder.join(format!("segment-{number}")))
            })
            .collect();
        let taught = round <= self.taught;
        let results: Vec<Result<SelfPlayProgress, String>> = std::thread::scope(|scope| {
            let worker = |(number, path): &(u64, PathBuf)| {
                self.play_segment(*number, path, taught)
                    .map_err(|error| error.to_string())
            };
            let handles: Vec<_> = workers
                .iter()
                .map(|work| scope.spawn(move || worker(work)))
                .collect();
            handles
                .into_iter()
                .filter_map(|handle| handle.join().ok())
                .collect()
        });
        let seconds = begin.elapsed().as_secs_f64();
        let (mut games, mut rows, mut evaluations) = (0, 0, 0);
        for result in results {
            let progress = result?;
            games += progress.games;
            rows += progress.rows;
            evaluations += progress.evaluator.evaluations;
        }
        self.segments.extend(workers.into_iter().map(|work| work.1));
        self.say(&format!(
            "round {round}: {games} games {:.1}/s, {rows} rows, {:.0} evaluations/s",
            games as f64 / seconds,
            evaluations as f64 / seconds,
        ))
    }

    fn play_segment(&self, number: u64, path: &Path, taught: bool) -> Outcome<SelfPlayProgress> {
        let job = SelfPlayJob {
            configuration: self.configuration,
            job: JobId(number),
            seed: Seed(number),
            model: Some(self.model.manifest.weights),
            settings: SelfPlaySettings {
                games: self.games / self.threads,
                search: self.search,
                full_share: self.full_share,
                ..SelfPlaySettings::default()
            },
        };
        let mut network =
            NetEvaluator::from_checkpoint(&self.model, self.configuration, Backend::Cpu)?;
        let mut teacher = HeuristicEvaluator::default();
        let evaluator: &mut dyn CountingEvaluator =
            if taught { &mut teacher } else { &mut network };
        let mut writer = SegmentWriter::create(path, &job.header())?;
        let stop = AtomicBool::new(false);
        let progress = play(
            &job,
            evaluator,
            &mut |game| writer.push(&game),
            &mut |_| {},
            &stop,
        )?;
        writer.finish()?;
        Ok(progress)
    }

    fn learn(&mut self, round: u64) -> Outcome<()> {
        let begin = Instant::now();
        let settings = TrainSettings {
            reuse_max: Some(self.reuse),
            search_share: self.search_share,
            ..TrainSettings::default()
        };
        let job = TrainJob {
            configuration: self.configuration,
            shape: NetShape::Tiny,
            segments: self.segments.clone(),
            parent: Some(self.model.clone()),
            optimizer: self.optimizer.take(),
            seed: Seed(round),
            settings,
            revision: "example".to_owned(),
        };
        let outcome = train(&job, Backend::Cpu, &mut |_| {}, &AtomicBool::new(false))?;
        let rate = outcome.steps as f64 * settings.batch as f64 / begin.elapsed().as_secs_f64();
        let TrainOutcome {
            checkpoint,
            optimizer,
            steps,
            training,
            validation,
            ..
        } = outcome;
        let held = validation.unwrap_or_default();
        self.say(&format!(
            "{steps} steps, {rate:.0} rows/s; policy {:.3} (validation {:.3}, targets {:.3}), value {:.3} (validation {:.3}), owner {:.3}, rank {:.3}, scores {:.3}",
            training.policy,
            held.policy,
            training.policy_entropy,
            training.value,
            held.value,
            training.owner,
            training.rank,
            training.scores,
        ))?;
        self.model = checkpoint;
        self.optimizer = Some(optimizer);
        Ok(())
    }

    fn against_random(&self, simulations: u32, games: u32) -> Outcome<MatchScore> {
        let mut evaluator =
            NetEvaluator::from_checkpoint(&self.model, self.configuration, Backend::Cpu)?;
        let candidate = MatchPlayer::Network {
            evaluator: &mut evaluator,
            search: SearchSettings::gumbel(simulations),
        };
        Ok(self.play(candidate, MatchPlayer::Random, games))
    }

    fn against_model(
        &self,
        other: &Checkpoint,
        simulations: u32,
        games: u32,
    ) -> Outcome<MatchScore> {
        let mut ours =
            NetEvaluator::from_checkpoint(&self.model, self.configuration, Backend::Cpu)?;
        let mut theirs = NetEvaluator::from_checkpoint(other, self.configuration, Backend::Cpu)?;
        let search = SearchSettings::gumbel(simulations);
        let candidate = MatchPlayer::Network {
            evaluator: &mut ours,
            search,
        };
        let opponent = MatchPlayer::Network {
            evaluator: &mut theirs,
            search,
        };
        Ok(self.play(candidate, opponent, games))
    }

    fn play(
        &self,
        candidate: MatchPlayer<'_>,
        opponent: MatchPlayer<'_>,
        games: u32,
    ) -> MatchScore {
        let settings = MatchSettings {
            games,
            seed: Seed(7),
            ..MatchSettings::default()
        };
        let stop = AtomicBool::new(false);
        play_match(
            self.configuration,
            candidate,
            opponent,
            &settings,
            &mut |_| {},
            &stop,
        )
        .score
    }
}
