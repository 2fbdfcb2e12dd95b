//! Progress on stderr, where a person looks: how much of how much, the rate, the time left, and the job's own figures.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};

use crate::job::run::Advance;

/// A bar over one job or several that run at once.
pub struct Bar {
    bar: ProgressBar,
    /// How far each job is.
    parts: Mutex<Vec<Advance>>,
}

impl Bar {
    /// A bar for `jobs` jobs that together do `total` of `unit`, such as games.
    ///
    /// # Errors
    /// Never: the template is a constant.
    pub fn new(unit: &str, total: u64, jobs: usize) -> anyhow::Result<Self> {
        let template =
            format!("{{bar:30}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left  {{msg}}");
        let style = ProgressStyle::with_template(&template)?;
        let none = Advance {
            done: 0,
            total: 0,
            figures: Vec::new(),
        };
        Ok(Self {
            bar: ProgressBar::new(total).with_style(style),
            parts: Mutex::new(vec![none; jobs]),
        })
    }

    /// Takes note of how far job `number` is.
    pub fn advance(&self, number: usize, advance: Advance) {
        // A job that panicked while it held the lock left whole values behind.
        let mut parts = self
            .parts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let [_] = parts[..] {
            // A single job may find that less is to be done than was asked for.
            self.bar.set_length(advance.total);
        }
        parts[number] = advance;
        self.bar
            .set_position(parts.iter().map(|part| part.done).sum());
        self.bar.set_message(figures(&parts));
    }

    /// Removes the bar.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// The figures of all jobs: counts are added, what is a mean already is averaged.
fn figures(parts: &[Advance]) -> String {
    let mut texts = Vec::new();
    let started: Vec<_> = parts.iter().filter(|part| part.total > 0).collect();
    let names = started.first().map_or(&[][..], |part| &part.figures);
    for (index, (name, _)) in names.iter().enumerate() {
        let values = started.iter().filter_map(|part| part.figures.get(index));
        let sum: f64 = values.map(|(_, value)| value).sum();
        texts.push(match *name {
            "rows" | "evaluations" | "wins" | "losses" => format!("{name} {sum:.0}"),
            _ => format!("{name} {:.3}", sum / started.len() as f64),
        });
    }
    texts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two workers' games are one number, their mean batches another.
    #[test]
    fn counts_add_up_and_means_do_not() {
        let part = |rows, batch| Advance {
            done: 1,
            total: 4,
            figures: vec![("rows", rows), ("batch", batch)],
        };
        assert_eq!(
            figures(&[part(10.0, 4.0), part(20.0, 2.0)]),
            "rows 30  batch 3.000"
        );
        assert_eq!(figures(&[]), "");
    }
}
