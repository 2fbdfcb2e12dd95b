//! Small games and networks that several tests share.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use riftmesh_base::{JobId, Seed};
use riftmesh_learning::evaluator::dims_of;
use riftmesh_learning::record::GameRecord;
use riftmesh_learning::segment::SegmentWriter;
use riftmesh_learning::selfplay::{SelfPlayJob, SelfPlaySettings, play};
use riftmesh_learning::{Backend, NetEvaluator, NetShape, Weights};
use riftmesh_rules::{Board, Configuration};
use riftmesh_search::SearchSettings;

pub fn configuration(board: Board, players: usize) -> Configuration {
    Configuration::new(board, players).unwrap()
}

pub fn hex8() -> Configuration {
    configuration(Board::Hex8, 2)
}

/// The untrained tiny network.
pub fn evaluator(configuration: Configuration, seed: u64) -> NetEvaluator {
    let weights = Weights::fresh(dims_of(NetShape::Tiny, configuration), Seed(seed));
    NetEvaluator::new(&weights, configuration, Backend::Cpu)
}

pub fn job(configuration: Configuration, games: u64, simulations: u32, seed: u64) -> SelfPlayJob {
    SelfPlayJob {
        configuration,
        job: JobId(seed),
        seed: Seed(seed),
        model: None,
        settings: SelfPlaySettings {
            games,
            concurrent: 4,
            search: SearchSettings::gumbel(simulations),
            ..SelfPlaySettings::default()
        },
    }
}

/// Games of the untrained network.
pub fn games(job: &SelfPlayJob) -> Vec<GameRecord> {
    let mut games = Vec::new();
    let mut finished = |game| {
        games.push(game);
        Ok(())
    };
    let mut evaluator = evaluator(job.configuration, 1);
    play(
        job,
        &mut evaluator,
        &mut finished,
        &mut |_| {},
        &AtomicBool::new(false),
    )
    .unwrap();
    games
}

/// A finished segment with the games of `job`.
pub fn segment(job: &SelfPlayJob, folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let mut writer = SegmentWriter::create(&path, &job.header()).unwrap();
    for game in games(job) {
        writer.push(&game).unwrap();
    }
    writer.finish().unwrap();
    path
}
