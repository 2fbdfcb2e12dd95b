//! A text form for commands, so that a story about the state can be told, replayed and reviewed.
//!
//! One line is one log entry; ` ; ` separates the commands of an entry. Ids are `n1` (node), `s1` (session), `j1` (job)
//! and two hexadecimal digits for a hash that repeats them; a token is `entry.ordinal`, such as `4.0`.
//!
//! ```text
//! at 10s                                   time of the entries that follow
//! bounds losses_max=3 segments_kept=2      before the first entry only
//! @7.1 submit self-play hex8_2p x=2        a command with an origin: client 7, sequence number 1
//! found | tick | admit n1 worker | drain n1 [within=60s] | undrain n1 | forget n1 | open n1 gen=1 slots=2 [mem=MIB] [labels=a+b] cuda
//! expire s1 silent | claim s1 2 [self-play,train] | progress j1 4.0 3/8
//! submit KIND CONFIG [x=N] [key=K] [after=j1,j2] [prio=N] [from=10s] [slots=N] [cuda] [attempts=N] [backoff=1s] [payload=P]
//!     [tenant=T] [labels=a+b] [mem=MIB] [await=any|over] [scope=configuration|tenant] [every=10s]
//! upgrade 2 [n1,n2] | share TENANT weight=N [jobs=N] [slots=N] | unshare TENANT
//! complete j1 4.0 [segment=aa:games:rows] [model=bb:parent] [match=bb@64:7-3:untrained@64]
//! fail j1 4.0 retry|final WORDS | release j1 4.0 process | cancel j1 | requeue j1 | takeback j1
//! register CONFIG bb:parent | match CONFIG id bb@64:7-3:cc@64 | promote CONFIG bb over=none
//! rollback CONFIG bb WORDS | reject CONFIG bb WORDS
//! holder aa n1
//! submit ... yields | checkpoint j1 4.0 cc BYTES DONE n1
//! lock NAME OWNER 30s | renew NAME 4.0 30s | unlock NAME 4.0
//! set KEY [if=any|absent|REVISION] [by=AUTHOR] [under=NAME:4.0] to WORDS | unset KEY [if=...] [by=...] [under=...]
//! token 1 secret=aa uses=N until=100s [wall=5s] [role=voter] | untoken 1 | join 1 n5 secret=aa key=cc wall=7s
//! recertify n5 key=cc wall=9s | distrust n5 wall=9s WORDS
//! authority 1 2 wall=9s | adopt n5 2 trusting | advance trusting wall=9s | force renewing wall=9s | abort
//! show jobs | show nodes | show ledger CONFIG | show models CONFIG | show ratings CONFIG | show lineage CONFIG bb
//! show locks | show settings | show tenants | show trust | show named bb
//! ```

use riftmesh_base::{BlobHash, ConfigurationName, LogIndex, Millis};

use crate::bounds::Bounds;
use crate::command::{Batch, Command, Origin};
use crate::query::JobFilter;
use crate::state::State;

mod parse;
mod services;
mod trust;
mod work;

use parse::{Words, parse_body, parse_time};

/// A line that is not in the script language. Nothing was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{line}`: {problem}")]
pub struct ScriptError {
    /// The line.
    pub line: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A state that is told a story.
#[derive(Debug, Clone, Default)]
pub struct Script {
    state: State,
    now: Millis,
}

impl Script {
    /// A story about the state before the first entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The state so far.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Runs one line; gives what happened, a line each. Comments (`#`) and empty lines do nothing.
    ///
    /// # Errors
    /// [`ScriptError`] for a line that cannot be read.
    pub fn line(&mut self, line: &str) -> Result<Vec<String>, ScriptError> {
        self.run(line.trim()).map_err(|problem| ScriptError {
            line: line.to_owned(),
            problem,
        })
    }

    fn run(&mut self, line: &str) -> Result<Vec<String>, String> {
        let mut words = Words::new(line);
        match words.peek() {
            None => Ok(Vec::new()),
            Some(word) if word.starts_with('#') => Ok(Vec::new()),
            Some("at") => {
                words.skip();
                self.now = parse_time(words.next("a time")?)?;
                Ok(Vec::new())
            }
            Some("bounds") => {
                words.skip();
                self.set_bounds(&mut words)?;
                Ok(Vec::new())
            }
            Some("show") => {
                words.skip();
                self.show(&mut words)
            }
            Some(_) => self.apply(line),
        }
    }

    fn set_bounds(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        if self.state.applied() > LogIndex(0) {
            return Err("bounds are set before the first entry".to_owned());
        }
        let mut bounds = Bounds::default();
        while let Some((name, value)) = words.setting() {
            let value: usize = value
                .parse()
                .map_err(|_| format!("`{value}` is no number"))?;
            match name {
                "nodes_max" => bounds.nodes_max = value,
                "clients_max" => bounds.clients_max = value,
                "jobs_live_max" => bounds.jobs_live_max = value,
                "jobs_finished_kept" => bounds.jobs_finished_kept = value,
                "losses_max" => bounds.losses_max = u32::try_from(value).unwrap_or(u32::MAX),
                "segments_kept" => bounds.segments_kept = value,
                "models_kept" => bounds.models_kept = value,
                _ => return Err(format!("there is no bound `{name}` to set here")),
            }
        }
        words.end()?;
        self.state = State::with_bounds(bounds);
        Ok(())
    }

    fn apply(&mut self, line: &str) -> Result<Vec<String>, String> {
        let commands: Result<Vec<Command>, String> = line.split(" ; ").map(command).collect();
        let index = LogIndex(self.state.applied().0 + 1);
        let batch = Batch::new(self.now, commands?);
        let (replies, effects) = self.state.apply(index, &batch);
        let mut lines = vec![format!("[{index}] {}", replies_text(&replies))];
        lines.extend(effects.iter().map(|effect| format!("* {effect}")));
        Ok(lines)
    }

    fn show(&self, words: &mut Words<'_>) -> Result<Vec<String>, String> {
        let lines = match words.next("what to show")? {
            "jobs" => self.show_jobs(),
            "nodes" => self.show_nodes(),
            "ledger" => self.show_ledger(&words.configuration()?),
            "models" => self.show_models(&words.configuration()?),
            "ratings" => self.show_ratings(&words.configuration()?),
            "lineage" => {
                let name = words.configuration()?;
                self.show_lineage(&name, words.hash()?)
            }
            "locks" => self.state.locks().map(ToString::to_string).collect(),
            "settings" => self.show_settings(),
            "tenants" => self.show_tenants(),
            "trust" => trust::show(&self.state),
            "named" => {
                let blob = words.hash()?;
                let is = if self.state.named(&[blob]).is_empty() {
                    "nothing names"
                } else {
                    "named:"
                };
                vec![format!("{is} {}", blob.short())]
            }
            other => return Err(format!("cannot show `{other}`")),
        };
        words.end()?;
        Ok(lines)
    }

    fn show_jobs(&self) -> Vec<String> {
        let filter = JobFilter {
            limit: usize::MAX,
            ..JobFilter::default()
        };
        let mut lines: Vec<String> = self
            .state
            .jobs(&filter)
            .into_iter()
            .map(|job| {
                let mut line = format!("{} {}{}: {}", job.id, job.spec, job.terms, job.state);
                let counters = [("failures", job.failures), ("losses", job.losses)];
                for (name, count) in counters.into_iter().filter(|(_, count)| *count > 0) {
                    line += &format!(", {count} {name}");
                }
                if let Some(from) = self.state.checkpoint(job.id) {
                    line += &format!(", from {from}");
                }
                if self.state.yields(job.id) {
                    line += ", gives way";
                }
                if !job.note.is_empty() {
                    line += &format!(" ({})", job.note);
                }
                line
            })
            .collect();
        lines.reverse();
        lines
    }

    fn show_nodes(&self) -> Vec<String> {
        let rows = self.state.roster().into_iter().map(|row| {
            let node = row.node.record;
            let draining = match (row.node.draining, row.drained_by) {
                (false, _) => String::new(),
                (true, None) => ", draining".to_owned(),
                (true, Some(until)) => format!(", draining until {until}"),
            };
            match row.session {
                None => format!("{} {}{draining}", node.id, node.role),
                Some(session) => format!(
                    "{} {}{draining}: {} uses {} of {} slots{}",
                    node.id,
                    node.role,
                    session.record.id,
                    session.slots_used,
                    session.record.slots,
                    if session.cuda_used { " and CUDA" } else { "" },
                ),
            }
        });
        rows.collect()
    }

    fn show_ledger(&self, name: &ConfigurationName) -> Vec<String> {
        let totals = self.state.ledger(name);
        let head = format!(
            "{} segments, {} games, {} rows, {} retired",
            totals.segments, totals.games, totals.rows, totals.retired
        );
        let segments = self
            .state
            .segments(name)
            .map(|segment| format!("{} {} by {}", segment.serial, segment.record, segment.job));
        std::iter::once(head).chain(segments).collect()
    }

    fn show_tenants(&self) -> Vec<String> {
        let rows = self.state.tenants().into_iter().map(|row| {
            let name = if row.tenant.is_empty() {
                "(nobody)"
            } else {
                &row.tenant
            };
            let share = row
                .share
                .map_or_else(String::new, |share| format!(", {share}"));
            format!("{name}: {} jobs, {} slots{share}", row.jobs, row.slots)
        });
        rows.collect()
    }

    /// The settings, and behind them the history, newest first.
    fn show_settings(&self) -> Vec<String> {
        let settings = self.state.settings().map(|setting| {
            format!(
                "{} = `{}` ({})",
                setting.key, setting.value, setting.revision
            )
        });
        let changes = self.state.setting_changes(None).map(ToString::to_string);
        settings.chain(changes).collect()
    }

    fn show_models(&self, name: &ConfigurationName) -> Vec<String> {
        let view = self.state.configuration(name);
        let models = view.into_iter().flat_map(|view| view.models);
        let rows = models.map(|model| {
            let entry = model.entry;
            let champion = if model.champion { " *" } else { "" };
            let (wins, losses) = (model.evidence.wins, model.evidence.losses);
            let hash = entry.record.hash.short();
            format!(
                "{} {hash}{champion} {wins}-{losses}: {}",
                entry.number, entry.state
            )
        });
        rows.collect()
    }

    fn show_lineage(&self, name: &ConfigurationName, model: BlobHash) -> Vec<String> {
        let line = self.state.lineage(name, model).into_iter();
        line.map(|entry| format!("{} {}: {}", entry.number, entry.record, entry.state))
            .collect()
    }

    fn show_ratings(&self, name: &ConfigurationName) -> Vec<String> {
        let view = self.state.configuration(name);
        let ratings = view.into_iter().flat_map(|view| view.ratings);
        let rows = ratings.map(|row| {
            let (rating, error) = (
                row.rating.milli_elo / 1_000,
                row.rating.standard_error / 1_000,
            );
            format!(
                "{} {rating:+} +-{error} over {} games",
                row.player, row.rating.games
            )
        });
        rows.collect()
    }
}

fn command(text: &str) -> Result<Command, String> {
    let mut words = Words::new(text);
    let origin = match words.peek().and_then(|word| word.strip_prefix('@')) {
        None => None,
        Some(origin) => {
            words.skip();
            Some(parse_origin(origin)?)
        }
    };
    let body = parse_body(&mut words)?;
    words.end()?;
    Ok(Command { origin, body })
}

fn parse_origin(text: &str) -> Result<Origin, String> {
    let parts = text.split_once('.');
    let numbers = parts.and_then(|(client, seq)| Some((client.parse().ok()?, seq.parse().ok()?)));
    let (client, seq) = numbers.ok_or_else(|| format!("`@{text}` is no origin such as `@7.1`"))?;
    Ok(Origin { client, seq })
}

fn replies_text(replies: &[crate::reply::Reply]) -> String {
    let texts: Vec<String> = replies.iter().map(ToString::to_string).collect();
    texts.join(" ; ")
}
