//! `config get|set|unset|history`.

use clap::{Args, Subcommand};
use riftmesh_base::Millis;
use riftmesh_statemachine::lock::LockGuard;
use riftmesh_statemachine::setting::{Expected, SettingChange, SettingRecord, SettingWrite};

use super::ask::Asker;
use super::order::{failed, order, said};
use super::output::{data, freshness, json, table, talk};
use super::query::ask_and_print;
use super::{AskArgs, Exit};
use crate::orders::Order;

/// The `config` family.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// One setting, or all of them
    Get {
        /// Only this one
        key: Option<String>,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Write a setting
    Set {
        /// Printable ASCII without spaces
        key: String,
        /// Any text
        value: String,
        #[command(flatten)]
        write: WriteArgs,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Delete a setting
    Unset {
        /// Which
        key: String,
        #[command(flatten)]
        write: WriteArgs,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// The last changes, newest first
    History {
        /// Only of this setting
        key: Option<String>,
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// Conditions of a write.
#[derive(Debug, Clone, Args)]
pub struct WriteArgs {
    /// Only if the setting has this revision
    #[arg(long, conflicts_with = "if_absent")]
    if_revision: Option<u64>,
    /// Only if the setting does not exist
    #[arg(long)]
    if_absent: bool,
    /// Only while this lock is held under the token of --token
    #[arg(long, requires = "token")]
    lock: Option<String>,
    /// The fencing token the lock was given with, such as `t4521984`
    #[arg(long, requires = "lock")]
    token: Option<String>,
    /// Who writes, for the history
    #[arg(long, default_value = "operator")]
    by: String,
}

/// Runs a `config` command.
pub fn run(command: ConfigCommand) -> anyhow::Result<Exit> {
    match command {
        ConfigCommand::Get { key: None, ask } => ask_and_print(
            &ask,
            "/v1/settings",
            |settings: &Vec<SettingRecord>| print_settings(settings),
            |_| Exit::Ok,
        ),
        ConfigCommand::Get {
            key: Some(key),
            ask,
        } => get(&key, &ask),
        ConfigCommand::Set {
            key,
            value,
            write,
            ask,
        } => set(key, Some(value), &write, &ask),
        ConfigCommand::Unset { key, write, ask } => set(key, None, &write, &ask),
        ConfigCommand::History { key, ask } => ask_and_print(
            &ask,
            "/v1/settings/changes",
            |changes: &Vec<SettingChange>| print_changes(changes, key.as_deref()),
            |_| Exit::Ok,
        ),
    }
}

/// Prints the bare value, for scripts. A setting that does not exist is a failure, not an empty value.
fn get(key: &str, ask: &AskArgs) -> anyhow::Result<Exit> {
    let envelope = match Asker::new(&ask.addr).get::<Vec<SettingRecord>>("/v1/settings") {
        Ok(envelope) => envelope,
        Err(error) => return Ok(failed(&error)),
    };
    let found = envelope.answer.iter().find(|setting| setting.key == key);
    match found {
        Some(setting) if ask.json => json(setting)?,
        Some(setting) => data(&setting.value),
        None => {
            talk(&format!(
                "error: there is no setting `{key}`; `config get` lists them"
            ));
            freshness(&envelope);
            return Ok(Exit::Failed);
        }
    }
    Ok(Exit::Ok)
}

fn set(
    key: String,
    value: Option<String>,
    write: &WriteArgs,
    ask: &AskArgs,
) -> anyhow::Result<Exit> {
    let guard = match (&write.lock, &write.token) {
        (Some(name), Some(token)) => Some(LockGuard {
            name: name.clone(),
            token: token.parse()?,
        }),
        (_, _) => None,
    };
    let expected = match (write.if_revision, write.if_absent) {
        (Some(revision), _) => Expected::Revision(revision),
        (None, true) => Expected::Absent,
        (None, false) => Expected::Any,
    };
    let write = SettingWrite {
        key,
        value,
        expected,
        author: write.by.clone(),
        guard,
    };
    order(ask, Order::WriteSetting(write), said)
}

fn print_settings(settings: &[SettingRecord]) {
    table(
        &["KEY", "VALUE", "REVISION", "BY", "AT"],
        settings.iter().map(|setting| {
            vec![
                setting.key.clone(),
                setting.value.clone(),
                setting.revision.to_string(),
                setting.author.clone(),
                at(setting.changed),
            ]
        }),
    );
}

fn print_changes(changes: &[SettingChange], key: Option<&str>) {
    let wanted = changes
        .iter()
        .filter(|change| key.is_none_or(|key| change.key == key));
    table(
        &["REVISION", "KEY", "VALUE", "BY", "AT"],
        wanted.map(|change| {
            let value = change.value.as_deref().unwrap_or("(deleted)");
            vec![
                change.revision.to_string(),
                change.key.clone(),
                value.to_owned(),
                change.author.clone(),
                at(change.at),
            ]
        }),
    );
}

/// Cluster time is no wall clock: it is the time the cluster has had a leader since it was founded.
fn at(time: Millis) -> String {
    format!("cluster time {time}")
}
