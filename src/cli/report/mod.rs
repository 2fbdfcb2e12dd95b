//! `report`: what a folder of games, networks and matches has to say, as numbers and as drawings.

mod charts;
mod collect;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::Exit;
use super::output::{data, json, table, talk};
use charts::{Axes, ReportChart, Series, Spread};
use collect::{Collected, ConfigurationFacts, RatedPlayer};

/// What to report.
#[derive(Debug, Args)]
#[command(after_help = "\
Segments and manifests are known by their contents, so that the folder of a cluster (`riftmesh up`) will do as well as
those of `riftmesh selfplay`, `train` and `match`. Games are counted as their files tell them; `riftmesh data inspect` has
the rules check them.

Example:
  riftmesh report runs")]
pub struct ReportArgs {
    /// Folder to look into
    folder: PathBuf,
    /// Folder for the drawings [default: `report` in the folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// The numbers behind the drawings.
#[derive(Debug, Serialize)]
struct Report {
    configurations: Vec<ConfigurationFacts>,
    /// Files that look like ours and cannot be read.
    unreadable: Vec<String>,
    drawings: Vec<PathBuf>,
}

/// Runs `report`.
pub fn run(args: &ReportArgs) -> anyhow::Result<Exit> {
    anyhow::ensure!(
        args.folder.is_dir(),
        "there is no folder {}",
        args.folder.display()
    );
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| args.folder.join("report"));
    let Collected {
        configurations,
        unreadable,
    } = collect::collect(&args.folder)?;
    anyhow::ensure!(
        !configurations.is_empty(),
        "{} has no segment, no manifest and no journal{}",
        args.folder.display(),
        if unreadable.is_empty() {
            ""
        } else {
            " that can be read"
        }
    );
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut drawings = Vec::new();
    for facts in &configurations {
        drawings.extend(draw(facts, &out)?);
    }
    for problem in &unreadable {
        talk(&format!("left out: {problem}"));
    }
    let report = Report {
        configurations,
        unreadable,
        drawings,
    };
    if args.json {
        json(&report)?;
    } else {
        report.configurations.iter().for_each(print);
        for drawing in &report.drawings {
            data(&drawing.display().to_string());
        }
    }
    Ok(Exit::of(report.unreadable.is_empty()))
}

fn print(facts: &ConfigurationFacts) {
    data(&format!(
        "{}: {} games, {:.1} moves on average, {} networks, {} matches",
        facts.configuration, facts.games, facts.moves_mean, facts.networks, facts.matches
    ));
    if !facts.calibration.is_empty() {
        data(&format!(
            "  values are off by {:.3} on average (how often a player won, against what its search expected)",
            facts.calibration_error
        ));
    }
    table(
        &["PLAYER", "ELO", "ERROR", "GAMES"],
        facts.ratings.iter().map(|rated| {
            vec![
                rated.player.clone(),
                format!("{:.0}", rated.elo),
                format!("{:.0}", rated.standard_error),
                rated.games.to_string(),
            ]
        }),
    );
}

/// Draws what there is something to draw of.
fn draw(facts: &ConfigurationFacts, out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let name = &facts.configuration;
    let charts = [
        ("loss", loss_chart(facts)),
        ("rating", rating_chart(&facts.ratings, name)),
        ("length", length_chart(facts)),
        ("calibration", calibration_chart(facts)),
    ];
    let mut files = Vec::new();
    for (kind, chart) in charts {
        if let Some(chart) = chart {
            let path = out.join(format!("{kind}-{name}.svg"));
            let drawing = chart.draw().with_context(|| path.display().to_string())?;
            fs::write(&path, drawing).with_context(|| path.display().to_string())?;
            files.push(path);
        }
    }
    Ok(files)
}

fn axes(title: String, x: &'static str, y: &'static str) -> Axes {
    Axes { title, x, y }
}

fn loss_chart(facts: &ConfigurationFacts) -> Option<ReportChart> {
    let series: Vec<Series> = facts
        .losses
        .iter()
        .map(|curve| Series {
            name: curve.name.clone(),
            points: curve.points.clone(),
        })
        .collect();
    let title = format!("{}: losses by head", facts.configuration);
    (!series.is_empty()).then(|| ReportChart::Lines {
        axes: axes(title, "optimiser steps", "cross-entropy (nats)"),
        series,
        diagonal: false,
    })
}

fn rating_chart(ratings: &[RatedPlayer], configuration: &str) -> Option<ReportChart> {
    let title = format!("{configuration}: ratings with 95 % intervals");
    let spread = |rated: &RatedPlayer| Spread {
        name: rated.player.clone(),
        centre: rated.elo,
        half_width: riftmesh_learning::stats::Z_95 * rated.standard_error,
    };
    (!ratings.is_empty()).then(|| ReportChart::Spreads {
        axes: axes(title, "Elo", ""),
        spreads: ratings.iter().map(spread).collect(),
    })
}

fn length_chart(facts: &ConfigurationFacts) -> Option<ReportChart> {
    let title = format!("{}: length of {} games", facts.configuration, facts.games);
    (!facts.lengths.is_empty()).then(|| ReportChart::Bars {
        axes: axes(title, "moves", "games"),
        bars: facts.lengths.clone(),
    })
}

fn calibration_chart(facts: &ConfigurationFacts) -> Option<ReportChart> {
    let points = facts
        .calibration
        .iter()
        .map(|bin| (bin.expected, bin.won))
        .collect();
    let title = format!(
        "{}: what searches expect, and what happens",
        facts.configuration
    );
    (!facts.calibration.is_empty()).then(|| ReportChart::Lines {
        axes: axes(title, "expected chance to win", "share won"),
        series: vec![Series {
            name: "games".to_owned(),
            points,
        }],
        diagonal: true,
    })
}
