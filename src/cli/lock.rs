//! `lock list|acquire|release`.

use std::time::Duration;

use clap::Subcommand;
use riftmesh_statemachine::lock::{LockRecord, LockVerb};
use riftmesh_statemachine::reply::Reply;

use super::order::order;
use super::output::table;
use super::query::ask_and_print;
use super::up::parse_duration;
use super::{AskArgs, Exit};
use crate::orders::Order;

/// The `lock` family.
#[derive(Debug, Subcommand)]
pub enum LockCommand {
    /// Locks that are held, with their tokens
    List {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Take a free lock; prints its token
    Acquire {
        /// Printable ASCII without spaces
        name: String,
        /// Who takes it
        #[arg(long, default_value = "operator")]
        by: String,
        /// For how long, such as 30s or 10m
        #[arg(long = "for", id = "duration", value_parser = parse_duration, default_value = "1m")]
        duration: Duration,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Give a lock back, or break it with the token that `lock list` shows
    Release {
        /// Which
        name: String,
        /// Such as `t4521984`
        token: String,
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// Runs a `lock` command.
pub fn run(command: LockCommand) -> anyhow::Result<Exit> {
    match command {
        LockCommand::List { ask } => ask_and_print(
            &ask,
            "/v1/locks",
            |locks: &Vec<LockRecord>| print_locks(locks),
            |_| Exit::Ok,
        ),
        LockCommand::Acquire {
            name,
            by,
            duration,
            ask,
        } => {
            let verb = LockVerb::Acquire {
                name,
                owner: by,
                ttl: duration.into(),
            };
            order(&ask, Order::Lock(verb), |answer| match answer.reply {
                // The bare token, for scripts: it is what every later word about the lock has to carry.
                Reply::Locked { token, .. } => token.to_string(),
                _ => answer.said.clone(),
            })
        }
        LockCommand::Release { name, token, ask } => {
            let token = token.parse()?;
            let done = format!("{name} is free");
            let verb = LockVerb::Release { name, token };
            order(&ask, Order::Lock(verb), |_| done)
        }
    }
}

fn print_locks(locks: &[LockRecord]) {
    table(
        &["LOCK", "OWNER", "TOKEN", "SINCE", "UNTIL"],
        locks.iter().map(|lock| {
            vec![
                lock.name.clone(),
                lock.owner.clone(),
                lock.token.to_string(),
                format!("cluster time {}", lock.since),
                format!("cluster time {}", lock.until),
            ]
        }),
    );
}
