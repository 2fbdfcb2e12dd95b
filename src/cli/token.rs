//! `token create|list|revoke`: who may join.

use std::time::Duration;

use anyhow::ensure;
use clap::{Subcommand, ValueEnum};
use riftmesh_base::time::wall_clock;
use riftmesh_base::{JoinTokenId, Millis, Role};
use riftmesh_statemachine::trust::{JoinTokenView, NewToken};
use riftmesh_transport::{JoinToken, TokenSecret};
use serde::Serialize;

use super::ask::Asker;
use super::order::{failed, order, place};
use super::output::{data, json, table, talk};
use super::query::ask_and_print;
use super::up::parse_duration;
use super::{AskArgs, Exit};
use crate::answers::CertificateAnswer;
use crate::orders::Order;

/// The `token` family.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a join token and print it. On a voter's machine; it is shown once, and whoever has it can join
    #[command(after_help = CREATE_EXAMPLE)]
    Create {
        /// What it lets machines become
        #[arg(long, value_enum, default_value_t = TokenRole::Worker)]
        role: TokenRole,
        /// How many machines it lets in
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// For how long, such as 30m or 24h
        #[arg(long = "expires", value_parser = parse_duration, default_value = "1h")]
        life: Duration,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Tokens, those that are over among them for a while; never their secrets
    #[command(after_help = "\
Example:
  riftmesh token list --json
Exit codes: 0 told, 3 no node answered")]
    List {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Let nobody in with a token from now on; machines that came with it stay
    #[command(after_help = "\
Example:
  riftmesh token revoke ID                             as `token list` shows it
Exit codes: 0 revoked, 1 refused: no such token, or not on a voter's machine, 3 no node answered")]
    Revoke {
        /// As `token list` shows it
        id: JoinTokenId,
        #[command(flatten)]
        ask: AskArgs,
    },
}

const CREATE_EXAMPLE: &str = "\
Examples:
  riftmesh token create                                for one machine, within the hour
  riftmesh token create --uses 8 --expires 24h --json
Then, on the machine that is to join:
  riftmesh node run --join TOKEN --seeds 10.0.0.1:7700,10.0.0.2:7700,10.0.0.3:7700
A token on a command line is seen by everybody on that machine: --join @FILE reads it from a file.";

/// Roles a token can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    /// Runs jobs. A voter needs the cluster's credential instead
    Worker,
}

/// What `token create --json` prints.
#[derive(Debug, Serialize)]
struct Created<'a> {
    id: JoinTokenId,
    token: &'a str,
    role: Role,
    uses: u32,
    expires: Millis,
}

/// Runs a `token` command.
pub fn run(command: TokenCommand) -> anyhow::Result<Exit> {
    match command {
        TokenCommand::Create {
            role: TokenRole::Worker,
            uses,
            life,
            ask,
        } => create(uses, life, &ask),
        TokenCommand::List { ask } => ask_and_print(
            &ask,
            "/v1/tokens",
            |tokens: &Vec<JoinTokenView>| print_tokens(tokens),
            |_| Exit::Ok,
        ),
        TokenCommand::Revoke { id, ask } => {
            let done = format!("nobody joins with token {id} any more");
            order(&ask, Order::RevokeToken(id), |_| done)
        }
    }
}

/// The secret is made here and leaves this process on stdout only: the cluster is told its hash.
fn create(uses: u32, life: Duration, ask: &AskArgs) -> anyhow::Result<Exit> {
    let known = match Asker::new(&ask.addr).get::<CertificateAnswer>("/v1/certificate") {
        Ok(envelope) => envelope.answer,
        Err(error) => return Ok(failed(&error)),
    };
    ensure!(
        known.role == Role::Voter,
        "the node that answers is a worker; a voter makes tokens (--addr names another node)"
    );
    let at = wall_clock();
    let token = JoinToken {
        cluster: known.cluster,
        id: JoinTokenId(rand::random()),
        secret: TokenSecret::generate(),
        role: Role::Worker,
        expires: at + Millis::from(life),
        uses,
        authority: known.authority,
    };
    let new = NewToken {
        id: token.id,
        secret: token.secret.hash(),
        role: token.role,
        uses,
        expires: token.expires,
        at,
    };
    if let Err(error) = place(ask, Order::CreateToken(new)) {
        return Ok(failed(&error));
    }
    let text = token.to_text();
    if ask.json {
        json(&Created {
            id: token.id,
            token: &text,
            role: token.role,
            uses,
            expires: token.expires,
        })?;
    } else {
        data(&text);
        talk(&format!(
            "token {} lets in {uses} {}, for {}; keep it secret",
            token.id,
            if uses == 1 { "worker" } else { "workers" },
            Millis::from(life)
        ));
    }
    Ok(Exit::Ok)
}

fn print_tokens(tokens: &[JoinTokenView]) {
    let now = wall_clock();
    table(
        &["TOKEN", "ROLE", "USES LEFT", "STATE", "EXPIRES", "NODES"],
        tokens.iter().map(|token| {
            let nodes: Vec<_> = token.nodes.iter().map(ToString::to_string).collect();
            let left = u64::from(token.uses).saturating_sub(nodes.len() as u64);
            vec![
                token.id.to_string(),
                token.role.to_string(),
                format!("{left} of {}", token.uses),
                state(token, left, now).to_owned(),
                until(token.expires, now),
                nodes.join(" "),
            ]
        }),
    );
}

fn state(token: &JoinTokenView, left: u64, now: Millis) -> &'static str {
    if token.revoked {
        "revoked"
    } else if token.expires <= now {
        "expired"
    } else if left == 0 {
        "used up"
    } else {
        "open"
    }
}

/// A wall-clock time as people want it: seen from now.
pub(super) fn until(time: Millis, now: Millis) -> String {
    if time <= now {
        format!("{} ago", now.since(time))
    } else {
        format!("in {}", time.since(now))
    }
}
