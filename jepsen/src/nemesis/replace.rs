//! A voter that lost its disk comes back the way an operator would bring it back: as a stranger that is let in in the
//! place of the one that is gone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::pace::Pace;
use crate::workload::Process;

/// A voter may take so long to start, to catch up, to stay close, and to be given its vote, on a busy machine.
const REPLACE_MAX: Duration = Duration::from_secs(120);

/// Starts the voter `number`, whose disk is empty, and has the others take it in place of `old`. What became of that, in
/// words: a voter that could not be replaced shows when the cluster is to heal.
///
/// # Errors
/// It cannot be started.
pub fn replace(
    cluster: &Cluster,
    scout: &Process<'_>,
    number: usize,
    old: &str,
) -> anyhow::Result<String> {
    cluster.start(number)?;
    let began = Instant::now();
    let mut said = "it does not answer".to_owned();
    let done = Pace::default().wait_until(REPLACE_MAX, || {
        let outcome = step(cluster, scout, number, old);
        outcome.map_err(|why| said = why).is_ok()
    });
    let seconds = began.elapsed().as_secs_f64();
    Ok(match done {
        true => format!("a new voter in its place after {seconds:.1} s"),
        false => format!("no voter in its place after {seconds:.1} s: {said}"),
    })
}

/// The next step; it is done when the new one votes and the old one does not.
fn step(cluster: &Cluster, scout: &Process<'_>, number: usize, old: &str) -> Result<(), String> {
    let plan = &cluster.nodes()[number];
    let new = scout
        .own_id(plan)
        .filter(|id| id != old)
        .ok_or_else(|| format!("{} does not answer", plan.name))?;
    for order in [
        json!({"remove": {"node": old}}),
        json!({"add-voter": {"node": new, "address": plan.mesh.to_string()}}),
    ] {
        ordered(cluster, scout, number, &order)?;
    }
    Ok(())
}

/// Gives an order about the members at another voter, again and again until it is done.
fn ordered(
    cluster: &Cluster,
    scout: &Process<'_>,
    number: usize,
    order: &Value,
) -> Result<(), String> {
    let nodes = cluster.nodes().iter().enumerate();
    let others = nodes.filter(|(other, plan)| plan.voter && *other != number);
    let mut said = "no other voter runs".to_owned();
    for (other, plan) in others {
        if !cluster.is_running(other) {
            continue;
        }
        match scout.change_members(plan, order) {
            Ok(answer) if answer["done"] == true => return Ok(()),
            Ok(answer) => return Err(answer["said"].to_string()),
            Err(why) => said = why,
        }
    }
    Err(said)
}
