//! `queue status|share|unshare`.

use clap::Subcommand;
use riftmesh_statemachine::query::QueueView;
use riftmesh_statemachine::terms::TenantShare;

use super::order::order;
use super::output::{data, table};
use super::query::ask_and_print;
use super::{AskArgs, Exit};
use crate::orders::Order;

/// The `queue` family.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// How full the queue is, what waits longest, and jobs by configuration, kind and state
    Status {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Give a tenant its share: how often it is next, and how much it may have
    Share {
        /// Whose jobs
        tenant: String,
        /// Slots granted in proportion to the weights of those with work waiting, 1 to 1000
        #[arg(long, default_value_t = 1)]
        weight: u16,
        /// Unfinished jobs at most; no limit if left out
        #[arg(long)]
        jobs: Option<u32>,
        /// Slots held at most; no limit if left out
        #[arg(long)]
        slots: Option<u32>,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Take a tenant's share away: it weighs 1 and has no limits
    Unshare {
        /// Whose jobs
        tenant: String,
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// Runs a `queue` command.
pub fn run(command: &QueueCommand) -> anyhow::Result<Exit> {
    match command {
        QueueCommand::Status { ask } => ask_and_print(ask, "/v1/queue", print_queue, |_| Exit::Ok),
        QueueCommand::Share {
            tenant,
            weight,
            jobs,
            slots,
            ask,
        } => {
            let share = TenantShare {
                weight: *weight,
                jobs_live_max: *jobs,
                slots_max: *slots,
            };
            set(tenant, Some(share), ask)
        }
        QueueCommand::Unshare { tenant, ask } => set(tenant, None, ask),
    }
}

fn set(tenant: &str, share: Option<TenantShare>, ask: &AskArgs) -> anyhow::Result<Exit> {
    let given = Order::SetTenant {
        tenant: tenant.to_owned(),
        share,
    };
    order(ask, given, |_| match share {
        Some(share) => format!("{tenant}: {share}"),
        None => format!("{tenant} has no share of its own"),
    })
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
    data(&format!("cluster time {}", queue.now));
    match &queue.longest_ready {
        Some((job, waited)) => data(&format!("{job} has been ready for {waited}")),
        None => data("nothing is ready and waiting for a worker"),
    }
    let named = |tenant: &str| {
        if tenant.is_empty() {
            "(nobody)".to_owned()
        } else {
            tenant.to_owned()
        }
    };
    let share = |share: &Option<TenantShare>| share.map_or_else(String::new, |s| s.to_string());
    table(
        &["TENANT", "JOBS", "SLOTS", "SHARE"],
        queue.tenants.iter().map(|row| {
            vec![
                named(&row.tenant),
                row.jobs.to_string(),
                row.slots.to_string(),
                share(&row.share),
            ]
        }),
    );
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
