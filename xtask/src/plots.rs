//! Draws figures of `bench/history.ndjson` for the documents: the newest of each kind.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use plotters::prelude::*;
use serde_json::{Map, Value};

/// Where the drawings are, relative to the root.
const MESH: &str = "docs/mesh";
const LEARNING: &str = "docs/learning";
/// Width and height of a drawing, in pixels.
const SIZE: (u32, u32) = (860, 420);

/// What makes the figures of learning.
const PROOFS: &str = "bench/proofs";
/// What to run for figures.
const PROOFS_SOURCE: &str = "python3 bench/proofs.py";
const MESH_SOURCE: &str = "cargo xtask bench mesh";

/// The figures of one record.
type Figures = Map<String, Value>;

/// A named line through points.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// A drawing whose x axis is logarithmic.
struct Drawing {
    folder: &'static str,
    file: String,
    title: String,
    /// Which benchmark the figures come from.
    source: &'static str,
    x: &'static str,
    y: &'static str,
    lines: Vec<Line>,
}

/// Draws all of them.
///
/// # Errors
/// The history cannot be read or lacks the figures, or a drawing cannot be written.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let path = root.join(crate::bench::HISTORY);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let figures = newest(&text).with_context(|| format!("in {}", path.display()))?;
    for drawing in mesh(&figures).into_iter().chain(learning(&figures)) {
        let folder = root.join(drawing.folder);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(&drawing.file);
        let svg = drawing.draw()?;
        std::fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("drew {}", path.display());
    }
    Ok(())
}

/// The last record of each experiment under the same conditions.
fn newest(history: &str) -> anyhow::Result<Vec<Figures>> {
    let conditions = [
        "experiment",
        "nodes",
        "members",
        "agents",
        "slow",
        "pause_ms",
        "configuration",
        "seed",
    ];
    let mut newest = BTreeMap::new();
    for (number, line) in history.lines().enumerate() {
        let record: Value =
            serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
        let program = record["program"].as_str().unwrap_or_default();
        let is_drawn = program.contains("mesh") || program == PROOFS;
        if let (true, Some(figures)) = (is_drawn, record["figures"].as_object()) {
            let key = conditions.map(|name| figures.get(name).map(Value::to_string));
            newest.insert((program.to_owned(), key), figures.clone());
        }
    }
    Ok(newest.into_values().collect())
}

fn mesh(figures: &[Figures]) -> Vec<Drawing> {
    let by_nodes = |name: &str, experiment: &str, y: &str, unit: f64| {
        line(
            figures,
            name,
            &[("experiment", experiment.into())],
            "nodes",
            y,
            unit,
        )
    };
    let slow = |agents: &str, slow: u64| {
        let conditions = [("agents", agents.into()), ("slow", slow.into())];
        let name = format!("{agents}, {slow} slow");
        line(figures, &name, &conditions, "pause_ms", "wrong", 1.0)
    };
    let udp = "udp_bytes_per_second_per_member";
    let at_rest = [("experiment", "mesh at rest".into())];
    vec![
        Drawing {
            folder: MESH,
            source: MESH_SOURCE,
            file: "detection.svg".to_owned(),
            title: "From an end until everybody has noticed, simulated".to_owned(),
            x: "members",
            y: "seconds",
            lines: vec![
                by_nodes("host silent, median", "silent", "everywhere_p50_ms", 1e3),
                by_nodes("host silent, worst", "silent", "everywhere_max_ms", 1e3),
                by_nodes("process killed, median", "killed", "everywhere_p50_ms", 1e3),
                by_nodes("process killed, worst", "killed", "everywhere_max_ms", 1e3),
            ],
        },
        Drawing {
            folder: MESH,
            source: MESH_SOURCE,
            file: "convergence.svg".to_owned(),
            title: "All start at once: until everybody knows everybody, simulated".to_owned(),
            x: "members",
            y: "seconds",
            lines: vec![by_nodes(
                "all known everywhere",
                "storm",
                "complete_ms",
                1e3,
            )],
        },
        Drawing {
            folder: MESH,
            source: MESH_SOURCE,
            file: "bytes.svg".to_owned(),
            title: "Bytes a second that an idle member sends".to_owned(),
            x: "members",
            y: "bytes a second",
            lines: vec![
                by_nodes(
                    "gossip, simulated",
                    "idle",
                    "bytes_per_second_per_node",
                    1.0,
                ),
                line(figures, "UDP, on loopback", &at_rest, "members", udp, 1.0),
            ],
        },
        Drawing {
            folder: MESH,
            source: MESH_SOURCE,
            file: "lifeguard.svg".to_owned(),
            title: "Verdicts about members that lived, some of 128 being slow".to_owned(),
            x: "milliseconds of each pause",
            y: "verdicts",
            lines: vec![
                slow("ours", 4),
                slow("ours", 16),
                slow("plain foca", 4),
                slow("plain foca", 16),
            ],
        },
    ]
}

/// The champion's rating over the time, one drawing for each configuration and a line for each seed.
fn learning(figures: &[Figures]) -> Vec<Drawing> {
    let mut drawings = BTreeMap::new();
    for run in figures {
        let Some(configuration) = run.get("configuration").and_then(Value::as_str) else {
            continue;
        };
        let drawing = drawings.entry(configuration).or_insert_with(|| Drawing {
            folder: LEARNING,
            source: PROOFS_SOURCE,
            file: format!("{configuration}.svg"),
            title: format!("{configuration}: rating of the champion, random being 0"),
            x: "minutes",
            y: "Elo",
            lines: Vec::new(),
        });
        let seed = run.get("seed").map(Value::to_string);
        drawing.lines.push(Line {
            name: format!("seed {}", seed.unwrap_or_default()),
            points: curve(run),
        });
    }
    drawings.into_values().collect()
}

/// Pairs of minutes and Elo.
fn curve(run: &Figures) -> Vec<(f64, f64)> {
    let points = run
        .get("curve")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let point = |point: &Value| Some((point.get(0)?.as_f64()?, point.get(1)?.as_f64()?));
    points.filter_map(point).collect()
}

/// The points of those figures that fulfil the conditions, from left to right.
fn line(
    figures: &[Figures],
    name: &str,
    conditions: &[(&str, Value)],
    x: &str,
    y: &str,
    unit: f64,
) -> Line {
    let is_meant = |figures: &&Figures| {
        let mut conditions = conditions.iter();
        conditions.all(|(name, value)| figures.get(*name) == Some(value))
    };
    let meant = figures.iter().filter(is_meant);
    let points =
        meant.filter_map(|figures| Some((number(figures, x)?, number(figures, y)? / unit)));
    let mut points: Vec<_> = points.collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    Line {
        name: name.to_owned(),
        points,
    }
}

fn number(figures: &Figures, name: &str) -> Option<f64> {
    figures.get(name)?.as_f64()
}

impl Drawing {
    fn draw(&self) -> anyhow::Result<String> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let least = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let most = points().map(|point| point.0).fold(0.0, f64::max);
        ensure!(
            least > 0.0 && least.is_finite(),
            "{} has no figures; `{}` makes them",
            self.file,
            self.source
        );
        let highest = points().map(|point| point.1).fold(0.0, f64::max);
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE)?;
            let mut chart = ChartBuilder::on(&area)
                .caption(&self.title, ("sans-serif", 20))
                .margin(12)
                .x_label_area_size(42)
                .y_label_area_size(64)
                .build_cartesian_2d(
                    (least / 1.2..most * 1.2).log_scale(),
                    0.0..1.15 * highest.max(1.0),
                )?;
            chart
                .configure_mesh()
                .x_desc(self.x)
                .y_desc(self.y)
                .x_label_formatter(&|x| format!("{x:.0}"))
                .draw()?;
            for (number, line) in self.lines.iter().enumerate() {
                let colour = Palette99::pick(number).to_rgba();
                let points = line.points.iter().copied();
                chart
                    .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(4))?
                    .label(&line.name)
                    .legend(move |(x, y)| {
                        PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                    });
            }
            chart
                .configure_series_labels()
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3))
                .draw()?;
            area.present()?;
        }
        svg.push('\n');
        Ok(svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &str = r#"{"program":"tests/mesh_simulation","figures":{"experiment":"idle","nodes":36,"bytes_per_second_per_node":99}}
{"program":"tests/mesh_simulation","figures":{"experiment":"idle","nodes":200,"bytes_per_second_per_node":68}}
{"program":"raft/voters","figures":{"experiment":"idle","nodes":36,"bytes_per_second_per_node":5}}
{"program":"tests/mesh_simulation","figures":{"experiment":"idle","nodes":36,"bytes_per_second_per_node":67}}
{"program":"bench/proofs","figures":{"configuration":"hex8_2p","seed":1,"curve":[[1.5,-20],[30,400]]}}
{"program":"bench/proofs","figures":{"configuration":"hex8_2p","seed":2,"curve":[[2,100],[30,500]]}}"#;

    /// The newest figure of each size is drawn, and only those of the mesh; each run of learning is a line.
    #[test]
    fn the_newest_figures_are_drawn() {
        let figures = newest(HISTORY).unwrap();
        let drawings = mesh(&figures);
        let bytes = drawings.iter().find(|d| d.file == "bytes.svg").unwrap();
        assert_eq!(bytes.lines[0].points, [(36.0, 67.0), (200.0, 68.0)]);
        let svg = bytes.draw().unwrap();
        assert!(svg.contains("gossip, simulated") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        let [ratings] = &learning(&figures)[..] else {
            panic!("one configuration, one drawing");
        };
        assert_eq!(ratings.lines[0].points, [(1.5, -20.0), (30.0, 400.0)]);
        assert_eq!(ratings.lines[1].name, "seed 2");
        assert!(ratings.draw().unwrap().contains("hex8_2p"));
    }

    /// Without figures there is an error that says how to get them, and no empty drawing.
    #[test]
    fn nothing_is_not_drawn() {
        assert!(learning(&[]).is_empty());
        for drawing in mesh(&[]) {
            let error = drawing.draw().unwrap_err().to_string();
            assert!(error.contains("cargo xtask bench mesh"), "{error}");
        }
        assert!(newest("junk").is_err());
    }
}
