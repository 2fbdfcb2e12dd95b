//! `train`: a network from segments.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use riftmesh_base::{BlobHash, ConfigurationName};
use riftmesh_learning::NetShape;
use riftmesh_learning::segment::Segment;
use serde::Serialize;

use super::LocalArgs;
use super::bar::Bar;
use super::bench::LocalBench;
use super::files::segments;
use super::journal::{Entry, Journal};
use crate::cli::model_files::read_manifest;
use crate::cli::output::{data, json};
use crate::cli::{Exit, parse_configuration, talk};
use crate::job::payload::{Payload, TrainOrder};
use crate::job::run::Advance;
use crate::job::wire::Made;

/// What to train.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  riftmesh train runs/games-1 --out runs/net-1
  riftmesh train runs/games-1 runs/games-2 --parent runs/net-1 --steps 500 --out runs/net-2")]
pub struct TrainArgs {
    /// Segments, or folders of segments, oldest first
    #[arg(required = true, value_name = "SEGMENTS")]
    segments: Vec<PathBuf>,
    /// Folder for the network: `weights`, `manifest`, the optimiser's state and a journal
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The model to go on from: its folder or manifest; without one a fresh network
    #[arg(long, value_name = "MODEL")]
    parent: Option<PathBuf>,
    /// Board and players [default: those of the first segment]
    #[arg(long, value_parser = parse_configuration)]
    configuration: Option<ConfigurationName>,
    /// Shape of the network [default: the parent's, or tiny]
    #[arg(long)]
    shape: Option<NetShape>,
    /// Optimiser steps at most; validation may end it earlier
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    steps: u64,
    /// Rows per step
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    #[command(flatten)]
    local: LocalArgs,
}

/// What was trained.
#[derive(Debug, Serialize)]
struct Trained {
    configuration: ConfigurationName,
    model: BlobHash,
    parent: Option<BlobHash>,
    shape: NetShape,
    segments: usize,
    /// Steps of this run.
    steps: u64,
    /// Steps since the fresh network.
    steps_in_all: u64,
    seconds: f64,
    rows_per_second: f64,
    metrics: BTreeMap<String, f64>,
    folder: PathBuf,
    stopped: bool,
}

/// Runs `train`.
pub fn run(args: &TrainArgs) -> anyhow::Result<Exit> {
    let files = segments(&args.segments)?;
    let configuration = match &args.configuration {
        Some(configuration) => configuration.clone(),
        None => first_configuration(&files)?,
    };
    let mut bench = LocalBench::new(&args.local, &configuration)?;
    let parent = args.parent.as_ref().map(|path| bench.add_model(path));
    let parent = parent.transpose()?;
    let before = match &args.parent {
        Some(path) => Some(bench.manifest(path)?),
        None => None,
    };
    if let (Some(path), Some(model)) = (&args.parent, parent) {
        bench.take_optimizer(path, model, &args.out)?;
    }
    let inherited = before.as_ref().map(|manifest| manifest.shape);
    let shape = args.shape.or(inherited).unwrap_or(NetShape::Tiny);
    let order = TrainOrder {
        seed: bench.seed(),
        shape: shape.to_string(),
        parent,
        segments: files
            .iter()
            .map(|path| bench.add_file(path))
            .collect::<Result<_, _>>()?,
        steps: args.steps,
        batch: args.batch,
        rows: 0,
    };
    let first_step = before.map_or(0, |manifest| manifest.steps);
    let begin = Instant::now();
    let made = train(args, &bench, order, first_step)?;
    let seconds = begin.elapsed().as_secs_f64();
    let Made::Model { manifest, .. } = made else {
        anyhow::bail!("training made no network");
    };
    let manifest = read_manifest(&manifest)?;
    let steps = manifest.steps - first_step;
    let trained = Trained {
        configuration,
        model: manifest.weights,
        parent,
        shape,
        segments: files.len(),
        steps,
        steps_in_all: manifest.steps,
        seconds,
        rows_per_second: steps as f64 * f64::from(args.batch) / seconds,
        metrics: manifest.metrics,
        folder: args.out.clone(),
        stopped: bench.stopped(),
    };
    trained.print(args.local.json)?;
    Ok(Exit::of(!trained.stopped))
}

/// Trains with a bar, and a line in the journal for every report.
fn train(
    args: &TrainArgs,
    bench: &LocalBench<'_>,
    order: TrainOrder,
    first_step: u64,
) -> anyhow::Result<Made> {
    let mut journal = Journal::open(&args.out)?;
    let configuration = bench.configuration().to_string();
    let bar = Bar::new("steps", args.steps, 1)?;
    let mut failure = None;
    let mut say = |advance: Advance| {
        let losses = advance.figures.iter();
        let entry = Entry::Training {
            configuration: configuration.clone(),
            step: first_step + advance.done,
            losses: losses
                .map(|(name, loss)| ((*name).to_owned(), *loss))
                .collect(),
        };
        if let Err(error) = journal.add(&entry) {
            failure = Some(error);
        }
        bar.advance(0, advance);
    };
    let job = bench.job("local training", 0, order.parent);
    let made = bench.run(job, Payload::Train(order), None, &args.out, &mut say);
    bar.clear();
    if let Some(error) = failure {
        talk(&format!("the journal has gaps: {error:#}"));
    }
    made
}

fn first_configuration(files: &[PathBuf]) -> anyhow::Result<ConfigurationName> {
    let mut last = None;
    for path in files {
        match Segment::read(path) {
            Ok(segment) => return Ok(segment.header.configuration),
            Err(error) => last = Some(anyhow::anyhow!("{}: {error}", path.display())),
        }
    }
    Err(last
        .context("no segment was given")?
        .context("no segment can be read; name the configuration with --configuration"))
}

impl Trained {
    fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json {
            return json(self);
        }
        data(&format!(
            "{}{} steps in {:.1} s ({:.0} rows/s), {} in all; {} of {}",
            if self.stopped { "stopped after " } else { "" },
            self.steps,
            self.seconds,
            self.rows_per_second,
            self.steps_in_all,
            self.shape,
            self.configuration
        ));
        for (name, value) in &self.metrics {
            data(&format!("  {name:<26} {value:.4}"));
        }
        data(&format!("  {} in {}", self.model, self.folder.display()));
        Ok(())
    }
}
