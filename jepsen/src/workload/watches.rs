//! Watching what happens: a while at one voter, then on at another, after the last entry that was told.

use std::time::Duration;

use rand::RngExt as _;

use super::{Process, unreadable_line};
use crate::edn::Edn;
use crate::observed::ObservedChange;
use crate::pace::Pace;

/// Where a watch stands.
#[derive(Debug, Clone)]
struct Seen {
    index: i64,
    /// The last revision of a setting that was told; none behind a gap.
    revision: Option<i64>,
    /// Who told it.
    by: String,
}

impl Process<'_> {
    /// Watches until the phase ends, each time at any voter.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn watch_until(&mut self, pace: &Pace) -> anyhow::Result<()> {
        let mut seen: Option<Seen> = None;
        while pace.wait(Duration::from_millis(self.rng.random_range(20..300))) {
            let voter = self.any_voter();
            let time = Duration::from_millis(self.rng.random_range(1_000..5_000));
            let (after, path) = match &seen {
                Some(seen) => (Some(seen.index), format!("/v1/events?after={}", seen.index)),
                None => (None, "/v1/events".to_owned()),
            };
            let from = seen.as_ref().map(|seen| seen.by.as_str());
            let revision = seen.as_ref().and_then(|seen| seen.revision);
            let told = |lines: Option<Vec<Edn>>| {
                Edn::map([
                    ("node", Edn::from(voter.name.as_str())),
                    ("from", from.into()),
                    ("after", after.into()),
                    ("revision", revision.into()),
                    ("lines", lines.map_or(Edn::Nil, Edn::Vector)),
                ])
            };
            let mut changes = Vec::new();
            self.operation("watch", told(None), |api| {
                let mut trouble = None;
                api.lines(
                    &voter,
                    &path,
                    time,
                    |line| match ObservedChange::from_line(line) {
                        Ok(change) => changes.push(change),
                        Err(error) => trouble = Some(unreadable_line(line, &error)),
                    },
                )?;
                let lines = changes.iter().map(Option::as_ref);
                let lines = lines.map(ObservedChange::to_edn).collect();
                trouble.map_or_else(|| Ok(told(Some(lines))), Err)
            })?;
            for change in changes {
                seen = on(seen, change, &voter.name);
            }
        }
        Ok(())
    }
}

/// Where a watch stands after a line.
fn on(seen: Option<Seen>, change: Option<ObservedChange>, by: &str) -> Option<Seen> {
    let Some(change) = change else {
        return seen.map(|seen| Seen {
            revision: None,
            ..seen
        });
    };
    let before = seen.and_then(|seen| seen.revision);
    Some(Seen {
        index: change.index,
        revision: change.revisions.last().copied().or(before),
        by: by.to_owned(),
    })
}
