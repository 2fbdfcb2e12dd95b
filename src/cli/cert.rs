//! `cert show|list|renew|revoke`: who is trusted.

use clap::Subcommand;
use riftmesh_base::NodeId;
use riftmesh_base::time::wall_clock;

use super::ask::Asker;
use super::order::{failed, order};
use super::output::{data, freshness, json, table};
use super::query::ask_and_print;
use super::token::until;
use super::{AskArgs, Exit};
use crate::answers::{CertificateAnswer, CertificatesAnswer, Envelope};
use crate::orders::Order;

/// The `cert` family.
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// The certificate of the node that answers, and whom it has turned away
    Show {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Certificates that were issued for join tokens, and nodes that are trusted no more
    List {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Renew the certificate of the node that answers, now
    Renew {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Trust a node no more, for ever: everybody turns it away. On a voter's machine
    Revoke {
        /// As `members` shows it
        node: NodeId,
        /// Why, for the record
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        ask: AskArgs,
    },
}

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
