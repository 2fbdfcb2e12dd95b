//! `cert show|list|renew|revoke|rotate-ca`: who is trusted.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use riftmesh_base::NodeId;
use riftmesh_base::time::wall_clock;
use riftmesh_statemachine::rotation::RotationPhase;

use super::ask::{AskError, Asker};
use super::order::{failed, order, place};
use super::output::{data, freshness, json, table, talk};
use super::query::ask_and_print;
use super::token::until;
use super::up::parse_duration;
use super::{AskArgs, Exit};
use crate::answers::{AuthorityAnswer, CertificateAnswer, CertificatesAnswer, Envelope};
use crate::orders::Order;

/// Time between two looks at a rotation.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The `cert` family.
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// The certificate of the node that answers, and whom it has turned away
    #[command(after_help = "\
Example:
  riftmesh cert show --json
Exit codes: 0 told, 3 no node answered")]
    Show {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Certificates that were issued for join tokens, and nodes that are trusted no more
    #[command(after_help = "\
Example:
  riftmesh cert list --json
Exit codes: 0 told, 3 no node answered")]
    List {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Renew the certificate of the node that answers, now
    #[command(after_help = "\
Example:
  riftmesh cert renew                  on the machine itself; it is renewed at half of its life anyway
Exit codes: 0 renewed, 1 refused, 3 no node answered")]
    Renew {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Trust a node no more, for ever: everybody turns it away. On a voter's machine
    #[command(after_help = "\
Example:
  riftmesh cert revoke 4f1c9a0b12d3e4f5 --reason 'stolen from the rack'
Exit codes: 0 revoked, 1 refused, 3 no node answered")]
    Revoke {
        /// As `members` shows it
        node: NodeId,
        /// Why, for the record
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Replace the cluster's authority while it runs, or go on with that. On a voter's machine
    #[command(name = "rotate-ca", after_help = ROTATE_EXAMPLES)]
    RotateCa(RotateArgs),
}

/// Options of `cert rotate-ca`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Only say how far it is
    #[arg(long, conflicts_with_all = ["force", "abort"])]
    status: bool,
    /// End the present phase without the nodes that are waited for; they need a new token, or the credential, to come back
    #[arg(long, conflicts_with = "abort")]
    force: bool,
    /// Give it up; not once nodes have certificates of the next authority
    #[arg(long)]
    abort: bool,
    /// How long to wait until it is done, such as 30s or 5m; ordered again later it goes on
    #[arg(long, value_parser = parse_duration, default_value = "5m")]
    wait: Duration,
    #[command(flatten)]
    ask: AskArgs,
}

const ROTATE_EXAMPLES: &str = "\
Examples:
  riftmesh cert rotate-ca              begins, or goes on, and waits until it is done
  riftmesh cert rotate-ca --status     which nodes are waited for, and for what
  riftmesh cert rotate-ca --force      without those: they are gone for good, or get a new token
First every node trusts both authorities, then every node gets a certificate of the next, then the other is trusted no
more. Join tokens made before stop working at the end. The next authority's key goes from voter to voter, encrypted, and
lies in their data directories (`authority.credential`): new voters are given that file from then on.
Exit codes: 0 it is done, or was given up, 1 refused or not done in time (the same command goes on), 3 no node answered";

/// Runs a `cert` command.
pub fn run(command: CertCommand) -> anyhow::Result<Exit> {
    match command {
        CertCommand::Show { ask } => ask_and_print(
            &ask,
            "/v1/certificate",
            |certificate: &CertificateAnswer| print_own(certificate),
            |_| Exit::Ok,
        ),
        CertCommand::List { ask } => ask_and_print(
            &ask,
            "/v1/certificates",
            |known: &CertificatesAnswer| print_known(known),
            |_| Exit::Ok,
        ),
        CertCommand::Renew { ask } => renew(&ask),
        CertCommand::Revoke { node, reason, ask } => {
            let done = format!("{node} is trusted no more");
            order(&ask, Order::RevokeCertificate { node, reason }, |_| done)
        }
        CertCommand::RotateCa(args) => rotate(&args).or_else(|error| Ok(failed(&error))),
    }
}

fn rotate(args: &RotateArgs) -> Result<Exit, AskError> {
    let asker = Asker::new(&args.ask.addr);
    let end = Instant::now() + args.wait;
    let look = || asker.get::<AuthorityAnswer>("/v1/authority");
    let before = look()?;
    match (&before.answer.rotation, args.status) {
        (_, true) => return Ok(say(&args.ask, &before)),
        (None, false) if args.abort || args.force => {
            return Err(AskError::Refused(
                "the authority is not being replaced".to_owned(),
            ));
        }
        (Some(_), false) if args.abort => {
            place(&args.ask, Order::AbortRotation)?;
            return Ok(say(&args.ask, &look()?));
        }
        (Some(rotation), false) if args.force => {
            place(&args.ask, Order::ForceRotation(rotation.phase))?;
        }
        (Some(_), false) => {}
        (None, false) => {
            asker.post::<CertificateAnswer>("/v1/authority/rotate", &())?;
        }
    }
    let mut told = String::new();
    loop {
        let now = look()?;
        let line = progress(&now.answer);
        if line != told && !args.ask.json {
            talk(&line);
        }
        told = line;
        // What answers may be behind with the very beginning, so only a change is an end.
        let over = now.answer.rotation.is_none() && now.answer.trusted != before.answer.trusted;
        if over || Instant::now() >= end {
            let exit = say(&args.ask, &now);
            return Ok(if over { exit } else { Exit::Failed });
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

fn say(ask: &AskArgs, envelope: &Envelope<AuthorityAnswer>) -> Exit {
    if !ask.json {
        data(&progress(&envelope.answer));
    } else if let Err(error) = json(envelope) {
        talk(&format!("error: {error}"));
    }
    Exit::Ok
}

/// How far it is, in a line.
fn progress(answer: &AuthorityAnswer) -> String {
    match (&answer.rotation, answer.trusted.first()) {
        (Some(rotation), _) => {
            let what = match rotation.phase {
                RotationPhase::Trusting => "nodes learn to trust it",
                RotationPhase::Renewing => "nodes get certificates of it",
            };
            let (next, done) = (rotation.next.short(), rotation.done.len());
            let awaited = if rotation.awaited.is_empty() {
                "none is waited for".to_owned()
            } else {
                format!("waiting for {}", rotation.awaited.join(", "))
            };
            format!("authority {next} is on its way: {what}; {done} done, {awaited}")
        }
        (None, Some(present)) => format!("authority {} is the only one", present.short()),
        (None, None) => "the authority was never replaced".to_owned(),
    }
}

fn renew(ask: &AskArgs) -> anyhow::Result<Exit> {
    let renewed: Envelope<CertificateAnswer> =
        match Asker::new(&ask.addr).post("/v1/certificate/renew", &()) {
            Ok(envelope) => envelope,
            Err(error) => return Ok(failed(&error)),
        };
    if ask.json {
        json(&renewed)?;
    } else {
        print_own(&renewed.answer);
        freshness(&renewed);
    }
    Ok(Exit::Ok)
}

fn print_own(certificate: &CertificateAnswer) {
    let now = wall_clock();
    data(&format!(
        "{} of cluster {}, certified by authority {}",
        certificate.role,
        certificate.cluster,
        certificate.authority.short()
    ));
    let who = if certificate.holds_authority {
        "by itself: it holds the cluster's authority"
    } else {
        "by the voters"
    };
    data(&format!(
        "expires {}, is renewed {} {who}",
        until(certificate.expires, now),
        until(certificate.renews, now),
    ));
    if let Some(end) = certificate.authority_expires {
        data(&format!("the authority expires {}", until(end, now)));
    }
    if let [_, others @ ..] = certificate.trusted.as_slice()
        && !others.is_empty()
    {
        let names: Vec<_> = others.iter().map(|other| other.short()).collect();
        data(&format!(
            "the authority is being replaced: {} is trusted too (`cert rotate-ca --status`)",
            names.join(", ")
        ));
    }
    data(&format!("key {}", certificate.key.short()));
    for (reason, count) in &certificate.refused {
        data(&format!("turned away since the start: {count} x {reason}"));
    }
}

fn print_known(known: &CertificatesAnswer) {
    let now = wall_clock();
    table(
        &["NODE", "ROLE", "TOKEN", "ISSUED", "EXPIRES"],
        known.certificates.iter().map(|certificate| {
            vec![
                certificate.node.to_string(),
                certificate.role.to_string(),
                certificate.token.to_string(),
                until(certificate.issued, now),
                until(certificate.expires, now),
            ]
        }),
    );
    if known.revoked.is_empty() {
        return;
    }
    data("");
    table(
        &["TRUSTED NO MORE", "SINCE", "REASON"],
        known.revoked.iter().map(|revoked| {
            vec![
                revoked.node.to_string(),
                until(revoked.at, now),
                revoked.reason.clone(),
            ]
        }),
    );
}

#[cfg(test)]
mod tests {
    use riftmesh_base::{BlobHash, Millis};

    use super::*;
    use crate::answers::RotationAnswer;

    /// An operator sees what is going on and who is missing.
    #[test]
    fn progress_is_told() {
        let (old, next) = (BlobHash([0xaa; 32]), BlobHash([0xbb; 32]));
        let under_way = |phase, done: &[&str], awaited: &[&str]| AuthorityAnswer {
            trusted: vec![old, next],
            rotation: Some(RotationAnswer {
                next,
                phase,
                begun: Millis(1),
                done: done.iter().map(ToString::to_string).collect(),
                awaited: awaited.iter().map(ToString::to_string).collect(),
            }),
        };
        let over = |trusted| AuthorityAnswer {
            trusted,
            rotation: None,
        };
        let told = [
            over(vec![]),
            under_way(RotationPhase::Trusting, &["a"], &["b", "w1"]),
            under_way(RotationPhase::Renewing, &["a", "b"], &[]),
            over(vec![next]),
        ];
        assert_eq!(
            told.each_ref().map(progress),
            [
                "the authority was never replaced",
                "authority bbbbbbbb is on its way: nodes learn to trust it; 1 done, waiting for b, w1",
                "authority bbbbbbbb is on its way: nodes get certificates of it; 2 done, none is waited for",
                "authority bbbbbbbb is the only one",
            ]
        );
    }
}
