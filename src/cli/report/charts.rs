//! Drawings as SVG texts.

use std::ops::Range;

use plotters::prelude::*;

/// Width and height of a drawing, in pixels.
const SIZE: (u32, u32) = (900, 520);
/// Points of a line in a drawing; longer ones are thinned out.
const POINTS_MAX: usize = 2_000;

/// Title and names of the axes.
pub struct Axes {
    /// Above the drawing.
    pub title: String,
    /// Below it.
    pub x: &'static str,
    /// To its left.
    pub y: &'static str,
}

/// A named line.
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A named interval.
pub struct Spread {
    /// Its name.
    pub name: String,
    /// Its middle.
    pub centre: f64,
    /// From the middle to either end.
    pub half_width: f64,
}

/// Something to draw.
pub enum ReportChart {
    /// Lines through points.
    Lines {
        /// Title and axes.
        axes: Axes,
        /// The lines.
        series: Vec<Series>,
        /// Both axes go from 0 to 1, and the line of equality is drawn.
        diagonal: bool,
    },
    /// Bars side by side: start, end, height.
    Bars {
        /// Title and axes.
        axes: Axes,
        /// The bars.
        bars: Vec<(f64, f64, u64)>,
    },
    /// Intervals one below the other.
    Spreads {
        /// Title and axes.
        axes: Axes,
        /// The intervals, from the top.
        spreads: Vec<Spread>,
    },
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

impl ReportChart {
    /// The drawing.
    ///
    /// # Errors
    /// Never: drawing into a text cannot fail, but the library's types allow for it.
    pub fn draw(&self) -> anyhow::Result<String> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE)?;
            match self {
                Self::Lines {
                    axes,
                    series,
                    diagonal,
                } => draw_lines(&area, axes, series, *diagonal)?,
                Self::Bars { axes, bars } => draw_bars(&area, axes, bars)?,
                Self::Spreads { axes, spreads } => draw_spreads(&area, axes, spreads)?,
            }
            area.present()?;
        }
        Ok(svg)
    }
}

/// A range that has both ends and some room; `least` is the least width it has.
fn range(values: impl Iterator<Item = f64>, least: f64) -> Range<f64> {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return 0.0..least;
    }
    let room = (0.05 * (high - low))
        .max(0.5 * least - 0.5 * (high - low))
        .max(0.0);
    low - room..high + room
}

fn draw_lines(
    area: &Area<'_>,
    axes: &Axes,
    series: &[Series],
    diagonal: bool,
) -> anyhow::Result<()> {
    let points = || series.iter().flat_map(|series| &series.points);
    let (x, y) = if diagonal {
        (0.0..1.0, 0.0..1.0)
    } else {
        let highest = points().map(|point| point.1).fold(0.0, f64::max);
        (
            range(points().map(|point| point.0), 1.0),
            0.0..1.05 * highest.max(0.1),
        )
    };
    let mut chart = ChartBuilder::on(area)
        .caption(&axes.title, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(56)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .y_desc(axes.y)
        .draw()?;
    if diagonal {
        let ends = [(0.0, 0.0), (1.0, 1.0)];
        chart.draw_series(LineSeries::new(ends, BLACK.mix(0.4)))?;
    }
    for (number, series) in series.iter().enumerate() {
        let colour = Palette99::pick(number).to_rgba();
        let thinned = series
            .points
            .iter()
            .copied()
            .step_by(series.points.len().div_ceil(POINTS_MAX).max(1));
        chart
            .draw_series(LineSeries::new(thinned, colour.stroke_width(2)).point_size(2))?
            .label(&series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

fn draw_bars(area: &Area<'_>, axes: &Axes, bars: &[(f64, f64, u64)]) -> anyhow::Result<()> {
    let highest = bars.iter().map(|bar| bar.2).max().unwrap_or(1) as f64;
    let ends = bars.iter().flat_map(|bar| [bar.0, bar.1]);
    let mut chart = ChartBuilder::on(area)
        .caption(&axes.title, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(56)
        .build_cartesian_2d(range(ends, 1.0), 0.0..1.05 * highest)?;
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .y_desc(axes.y)
        .draw()?;
    let colour = Palette99::pick(0);
    chart.draw_series(bars.iter().map(|&(start, end, count)| {
        Rectangle::new(
            [(start, 0.0), (end, count as f64)],
            colour.mix(0.8).filled(),
        )
    }))?;
    Ok(())
}

fn draw_spreads(area: &Area<'_>, axes: &Axes, spreads: &[Spread]) -> anyhow::Result<()> {
    let finite = |spread: &Spread| {
        if spread.half_width.is_finite() {
            spread.half_width
        } else {
            0.0
        }
    };
    let ends = spreads.iter().flat_map(|spread| {
        let half = finite(spread);
        [spread.centre - half, spread.centre + half]
    });
    let count = spreads.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(&axes.title, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(12)
        .build_cartesian_2d(range(ends, 100.0), count..0.0)?;
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .disable_y_mesh()
        .y_labels(0)
        .draw()?;
    for (number, spread) in spreads.iter().enumerate() {
        let (y, half) = (number as f64 + 0.6, finite(spread));
        let colour = Palette99::pick(number).to_rgba();
        let ends = [(spread.centre - half, y), (spread.centre + half, y)];
        chart.draw_series(LineSeries::new(ends, colour.stroke_width(3)))?;
        chart.draw_series([Circle::new((spread.centre, y), 4, colour.filled())])?;
        let error = if spread.half_width.is_finite() {
            format!("{half:.0}")
        } else {
            "unknown".to_owned()
        };
        let text = format!("{}  {:.0} \u{b1} {error}", spread.name, spread.centre);
        let place = (spread.centre - half, y - 0.4);
        chart.draw_series([Text::new(text, place, ("sans-serif", 15))])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes() -> Axes {
        Axes {
            title: "a <title>".to_owned(),
            x: "x",
            y: "y",
        }
    }

    /// Every kind of chart becomes a whole SVG with its title, its names escaped, and no coordinate that is no number:
    /// also with nothing in it, a single point, or an interval without end.
    #[test]
    fn charts_are_drawn_whatever_is_in_them() {
        let line = |points: Vec<(f64, f64)>| Series {
            name: "a & b".to_owned(),
            points,
        };
        let spread = |half_width| Spread {
            name: "player".to_owned(),
            centre: 12.0,
            half_width,
        };
        let lines = |series, diagonal| ReportChart::Lines {
            axes: axes(),
            series,
            diagonal,
        };
        let charts = [
            lines(vec![line(vec![(0.0, 1.0), (10.0, 0.5)])], false),
            lines(vec![line(vec![(3.0, 0.0)])], false),
            lines(vec![line(Vec::new())], false),
            lines(vec![line(vec![(0.2, 0.3), (0.8, 0.7)])], true),
            ReportChart::Bars {
                axes: axes(),
                bars: vec![(1.0, 2.0, 4), (2.0, 3.0, 0)],
            },
            ReportChart::Spreads {
                axes: axes(),
                spreads: vec![spread(30.0), spread(0.0), spread(f64::INFINITY)],
            },
        ];
        for (number, chart) in charts.iter().enumerate() {
            let svg = chart.draw().unwrap();
            assert!(
                svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
                "{number}"
            );
            assert!(
                svg.contains("a &lt;title&gt;") && !svg.contains("a <title>"),
                "{number}"
            );
            assert!(
                !svg.contains("NaN") && !svg.contains("inf"),
                "{number}: {svg}"
            );
        }
    }
}
