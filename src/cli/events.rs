//! `events tail`: what happens to the cluster's state, as it happens.

use std::io::BufRead;

use clap::Subcommand;

use super::ask::Asker;
use super::order::failed;
use super::output::{data, talk};
use super::{AskArgs, Exit};
use crate::answers::EventLine;

/// The `events` family.
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Print what happens from now on, in the order of the log, until the node stops or Ctrl-C
    #[command(after_help = "\
Examples:
  riftmesh events tail
  riftmesh events tail --json --count 100 > events.ndjson
  riftmesh events tail --after 4711
A line `gap` says that some were missed: the node installed a snapshot, or this program was too slow or away for too long.
Exit codes: 0 the count was reached, 1 the node ended the stream or keeps no state, 3 no node answered")]
    Tail {
        /// Begin with what happened after this entry of the log, where an earlier tail ended, at whatever voter; voters keep
        /// the last 1,024 lines
        #[arg(long)]
        after: Option<u64>,
        /// End after this many lines
        #[arg(long)]
        count: Option<u64>,
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// Runs an `events` command.
pub fn run(command: &EventsCommand) -> anyhow::Result<Exit> {
    let EventsCommand::Tail { after, count, ask } = command;
    let path = match after {
        Some(after) => format!("/v1/events?after={after}"),
        None => "/v1/events".to_owned(),
    };
    let lines = match Asker::new(&ask.addr).stream(&path) {
        Ok(lines) => lines,
        Err(error) => return Ok(failed(&error)),
    };
    let mut left = count.unwrap_or(u64::MAX);
    for line in lines.lines() {
        let line = line?;
        if ask.json {
            data(&line);
        } else {
            print(&serde_json::from_str(&line)?);
        }
        left -= 1;
        if left == 0 {
            return Ok(Exit::Ok);
        }
    }
    talk("the node ended the stream; ask another one with --addr, or again");
    Ok(Exit::Failed)
}

fn print(line: &EventLine) {
    match line {
        EventLine::Applied { index, effects } => {
            let effects: Vec<_> = effects.iter().map(ToString::to_string).collect();
            data(&format!("{index} {}", effects.join("; ")));
        }
        EventLine::Gap => data("gap: some events were missed"),
    }
}
