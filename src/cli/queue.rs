//! `queue status`.

use clap::Subcommand;
use riftmesh_statemachine::query::QueueView;

use super::output::{data, table};
use super::query::ask_and_print;
use super::{AskArgs, Exit};

/// The `queue` family.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// How full the queue is, what waits longest, and jobs by configuration, kind and state
    Status {
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// Runs a `queue` command.
pub fn run(command: &QueueCommand) -> anyhow::Result<Exit> {
    let QueueCommand::Status { ask } = command;
    ask_and_print(ask, "/v1/queue", print_queue, |_| Exit::Ok)
}

fn print_queue(queue: &QueueView) {
    data(&format!(
        "{} unfinished jobs of at most {}, {} of at most {} KiB; {} finished ones kept",
        queue.live,
        queue.live_max,
        queue.live_bytes >> 10,
        queue.live_bytes_max >> 10,
        queue.finished,
    ));
    data(&format!(
        "{} of {} slots in use by {} sessions",
        queue.slots_used, queue.slots, queue.sessions
    ));
    match &queue.longest_ready {
        Some((job, waited)) => data(&format!("{job} has been ready for {waited}")),
        None => data("nothing is ready and waiting for a worker"),
    }
    table(
        &["CONFIGURATION", "KIND", "STATE", "JOBS"],
        queue.counts.iter().map(|count| {
            vec![
                count.configuration.to_string(),
                count.kind.to_string(),
                count.phase.to_string(),
                count.jobs.to_string(),
            ]
        }),
    );
}
