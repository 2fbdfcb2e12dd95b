//! `data export|inspect`: recorded games for people and for Python.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use riftmesh_learning::export::{ExportProgress, ExportSummary, export};
use riftmesh_learning::gates::{DataGate, GameFlag};
use riftmesh_learning::record::SegmentHeader;
use riftmesh_learning::replay::Reject;
use riftmesh_learning::segment::Segment;
use riftmesh_rules::Configuration;
use serde::Serialize;

use super::Exit;
use super::local::files::segments;
use super::output::{data, json, table, talk};
use crate::interrupt::stop_flag;
use crate::job::run::REVISION;

/// The `data` family.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Write the games of segments as arrays for numpy and PyTorch
    #[command(
        after_help = "docs/python.md tells what the arrays mean, with scripts that read them.\n\n\
                            Example:\n  riftmesh data export runs/games-1 --out games.npz"
    )]
    Export {
        /// Segments, or folders of segments, all of one configuration
        #[arg(required = true, value_name = "SEGMENTS")]
        segments: Vec<PathBuf>,
        /// The archive to write, an .npz file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// What is in segments, and whether the rules agree with it
    Inspect {
        /// Segments, or folders of segments
        #[arg(required = true, value_name = "SEGMENTS")]
        segments: Vec<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs a `data` command.
pub fn run(command: &DataCommand) -> anyhow::Result<Exit> {
    match command {
        DataCommand::Export {
            segments: given,
            out,
            json: as_json,
        } => {
            let summary = run_export(&segments(given)?, out)?;
            if *as_json {
                json(&summary)?;
            } else {
                print_export(&summary, out);
            }
            Ok(Exit::Ok)
        }
        DataCommand::Inspect {
            segments: given,
            json: as_json,
        } => {
            let found = segments(given)?
                .iter()
                .map(|path| inspect(path))
                .collect::<Vec<_>>();
            if *as_json {
                json(&found)?;
            } else {
                found.iter().for_each(Inspection::print);
            }
            Ok(Exit::of(found.iter().all(Inspection::is_good)))
        }
    }
}

fn run_export(segments: &[PathBuf], out: &Path) -> anyhow::Result<ExportSummary> {
    let stop = stop_flag(|| talk("stopping; the archive is not kept"))?;
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} rows, {per_sec}, {eta} left")?;
    let bar = ProgressBar::new(0).with_style(style);
    let mut progress = |done: ExportProgress| {
        bar.set_length(done.rows_planned);
        bar.set_position(done.rows);
    };
    let summary = export(segments, out, REVISION, &mut progress, &stop);
    bar.finish_and_clear();
    Ok(summary?)
}

fn print_export(summary: &ExportSummary, out: &Path) {
    table(
        &["ARRAY", "TYPE", "SHAPE"],
        summary.arrays.iter().map(|array| {
            vec![
                array.name.clone(),
                array.dtype.clone(),
                format!("{:?}", array.shape),
            ]
        }),
    );
    data(&format!(
        "{} games of {}, {} rows, {} bytes in {}",
        summary.games,
        summary.configuration,
        summary.rows,
        summary.bytes,
        out.display()
    ));
    print_rejected(&summary.rejected);
}

fn print_rejected(rejected: &BTreeMap<Reject, u64>) {
    for (reason, count) in rejected {
        data(&format!("  refused  {count} as {reason}"));
    }
}

/// What is in a segment.
#[derive(Debug, Serialize)]
struct Inspection {
    file: PathBuf,
    /// Why it cannot be read, if it cannot.
    error: Option<String>,
    header: Option<SegmentHeader>,
    games: usize,
    rows: usize,
    decisions: usize,
    moves: usize,
    /// Bytes of a last record that was cut off.
    torn_bytes: u64,
    /// Games that the rules agree with.
    accepted: u64,
    wins: Vec<u64>,
    rejected: BTreeMap<Reject, u64>,
    flagged: BTreeMap<GameFlag, u64>,
}

fn inspect(path: &Path) -> Inspection {
    let mut found = Inspection {
        file: path.to_owned(),
        error: None,
        header: None,
        games: 0,
        rows: 0,
        decisions: 0,
        moves: 0,
        torn_bytes: 0,
        accepted: 0,
        wins: Vec::new(),
        rejected: BTreeMap::new(),
        flagged: BTreeMap::new(),
    };
    let segment = match Segment::read(path) {
        Ok(segment) => segment,
        Err(error) => {
            found.error = Some(error.to_string());
            return found;
        }
    };
    found.games = segment.games.len();
    found.rows = segment.rows();
    found.torn_bytes = segment.torn_bytes;
    for game in &segment.games {
        found.decisions += game.decisions.len();
        found.moves += game.moves.len();
    }
    match Configuration::try_from(&segment.header.configuration) {
        Ok(configuration) => found.check(&segment, configuration),
        Err(error) => found.error = Some(error.to_string()),
    }
    found.header = Some(segment.header);
    found
}

impl Inspection {
    fn check(&mut self, segment: &Segment, configuration: Configuration) {
        let mut gate = DataGate::new();
        if gate.admit_segment(&segment.header, configuration).is_ok() {
            for game in &segment.games {
                // Counted in the gate.
                drop(gate.admit_game(&segment.header, configuration, game));
            }
        }
        self.accepted = gate.accepted;
        self.wins = gate.wins[..configuration.players()].to_vec();
        self.rejected = gate.rejected;
        self.flagged = gate.flagged;
    }

    fn is_good(&self) -> bool {
        self.error.is_none() && self.rejected.is_empty()
    }

    fn print(&self) {
        data(&self.file.display().to_string());
        if let Some(error) = &self.error {
            data(&format!("  refused  {error}"));
        }
        let Some(header) = &self.header else {
            return;
        };
        let model = header
            .model
            .map_or_else(|| "no model".to_owned(), |model| model.to_string());
        data(&format!(
            "  {} by {model} at {} simulations, {}, seed {}",
            header.configuration, header.simulations, header.job, header.seed
        ));
        data(&format!(
            "  versions rules {}, codec {}, encoder {}{}",
            header.rules,
            header.codec,
            header.encoder,
            if header.swap { ", pie rule" } else { "" }
        ));
        let games = self.games.max(1);
        data(&format!(
            "  {} games, {} rows; per game {} moves, {} decisions; won by seat {:?}",
            self.games,
            self.rows,
            self.moves / games,
            self.decisions / games,
            self.wins
        ));
        if self.torn_bytes > 0 {
            data(&format!(
                "  not finished: {} bytes of a last record are ignored",
                self.torn_bytes
            ));
        }
        data(&format!("  {} games agree with the rules", self.accepted));
        print_rejected(&self.rejected);
        for (flag, count) in &self.flagged {
            data(&format!("  odd      {count} {flag:?}"));
        }
    }
}
