//! The little of SVG that charts need.

use std::fmt::Write as _;

/// Size of a chart and of the space around what it shows.
const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 30.0;
const TOP: f64 = 26.0;

/// A chart of something over the seconds of a run.
pub struct Chart {
    seconds: f64,
    top: f64,
    body: String,
}

impl Chart {
    /// A chart up to `top`, whose vertical axis is cut into `marks`, each a height and its text.
    pub fn new(title: &str, seconds: f64, top: f64, marks: &[(f64, String)]) -> Self {
        let mut chart = Self {
            seconds: seconds.max(1.0),
            top: top.max(f64::MIN_POSITIVE),
            body: String::new(),
        };
        chart.text(LEFT, 16.0, title);
        for (height, text) in marks {
            let y = chart.y(*height);
            chart.add(&format!(
                r##"<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1}" y2="{y:.1}" stroke="#ddd"/>"##
            ));
            chart.text(4.0, y + 4.0, text);
        }
        let step = [1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3_600.0];
        let step = step
            .into_iter()
            .find(|step| chart.seconds / step <= 20.0)
            .unwrap_or(7_200.0);
        let mut at = 0.0;
        while at <= chart.seconds {
            let x = chart.x(at);
            chart.text(x, HEIGHT - 10.0, &format!("{at} s"));
            at += step;
        }
        chart
    }

    /// A band from one second to another, behind what is drawn later.
    pub fn band(&mut self, from: f64, to: f64, name: &str) {
        let (x, width) = (self.x(from), (self.x(to) - self.x(from)).max(1.0));
        let height = HEIGHT - BOTTOM - TOP;
        let name = escape(name);
        self.add(&format!(
            r##"<rect x="{x:.1}" y="{TOP}" width="{width:.1}" height="{height}" fill="#fbdcc8"><title>{name}</title></rect><text x="{x:.1}" y="{:.1}" class="b">{name}</text>"##,
            TOP + 10.0
        ));
    }

    /// A dot.
    pub fn dot(&mut self, second: f64, height: f64, colour: &str) {
        let (x, y) = (self.x(second), self.y(height));
        self.add(&format!(
            r##"<circle cx="{x:.1}" cy="{y:.1}" r="1.6" fill="{colour}"/>"##
        ));
    }

    /// A line through points.
    pub fn line(&mut self, points: impl IntoIterator<Item = (f64, f64)>, colour: &str) {
        let mut path = String::new();
        for (second, height) in points {
            let (x, y) = (self.x(second), self.y(height));
            // Writing to a string cannot fail.
            if write!(path, "{x:.1},{y:.1} ").is_err() {
                return;
            }
        }
        self.add(&format!(
            r##"<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.2"/>"##
        ));
    }

    /// The name of a colour, the `number`th in the legend.
    pub fn legend(&mut self, number: usize, name: &str, colour: &str) {
        let x = 420.0 + number as f64 * 110.0;
        self.add(&format!(
            r##"<rect x="{x}" y="8" width="9" height="9" fill="{colour}"/>"##
        ));
        self.text(x + 13.0, 16.0, name);
    }

    /// The whole file.
    pub fn finish(self) -> String {
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11"><style>.b{{font-size:8px;fill:#a04000}}</style><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>{}</svg>
"##,
            self.body
        )
    }

    fn x(&self, second: f64) -> f64 {
        LEFT + (second / self.seconds).clamp(0.0, 1.0) * (WIDTH - LEFT)
    }

    fn y(&self, height: f64) -> f64 {
        HEIGHT - BOTTOM - (height / self.top).clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP)
    }

    fn text(&mut self, x: f64, y: f64, text: &str) {
        let text = escape(text);
        self.add(&format!(r#"<text x="{x:.1}" y="{y:.1}">{text}</text>"#));
    }

    fn add(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }
}

/// Text as it may stand in XML and HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}
