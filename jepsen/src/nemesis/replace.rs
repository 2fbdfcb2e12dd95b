//! A voter that lost its disk comes back the way an operator would bring it back: as a stranger that is let in in the
//! place of the one that is gone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::FaultOutcome;
use crate::cluster::Cluster;
use crate::observed::ObservedPart;
use crate::pace::Pace;
use crate::workload::Process;

/// A voter may take so long to start, to catch up, to stay close, and to be given its vote, on a busy machine.
const REPLACE_MAX: Duration = Duration::from_secs(120);

/// The voters may take so long to be whole before one of them loses its disk.
const WHOLE_MAX: Duration = Duration::from_secs(30);

/// Of fewer voters one is half of the disks or more.
pub const VOTERS_MIN: usize = 3;

/// Starts the voter `number`, whose disk is empty, and has the others take it in place of `old`. The disk was lost for
/// good if no voter came in its place: that is indeterminate, with the reason.
///
/// # Errors
/// It cannot be started.
pub fn replace(
    cluster: &Cluster,
    scout: &Process<'_>,
    number: usize,
    old: &str,
) -> anyhow::Result<FaultOutcome> {
    cluster.start(number)?;
    let began = Instant::now();
    let mut said = "it does not answer".to_owned();
    let done = Pace::default().wait_until(REPLACE_MAX, || {
        let outcome = step(cluster, scout, number, old);
        outcome.map_err(|why| said = why).is_ok()
    });
    let seconds = began.elapsed().as_secs_f64();
    Ok(match done {
        true => FaultOutcome::Installed(format!(
            "killed and wiped; a new voter in its place after {seconds:.1} s"
        )),
        false => FaultOutcome::Indeterminate(format!(
            "killed and wiped; no voter in its place after {seconds:.1} s: {said}"
        )),
    })
}

/// The next step; it is done when the old one does not vote, and the new one does and says so itself.
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
    let knows = |part: &ObservedPart| part.node == new && part.votes && part.is_led;
    match scout.part(plan) {
        Some(part) if knows(&part) => Ok(()),
        part => Err(format!(
            "it was given its vote and does not know it yet: {part:?}"
        )),
    }
}

/// Waits until every voter has its vote, hears the leader, and has all that any of them knew to be committed when the
/// wait began. Only then no disk is the last of a majority that holds something, and one of three or more may be lost.
pub fn may_lose_a_disk(cluster: &Cluster, scout: &Process<'_>) -> bool {
    let mut least = None;
    let mut whole = |parts: Vec<ObservedPart>| {
        let known = parts.iter().map(|part| part.committed).max();
        let least = *least.get_or_insert(known.unwrap_or(0));
        let fine = |part: &ObservedPart| part.votes && part.is_led && part.applied >= least;
        parts.iter().all(fine)
    };
    cluster.voters() >= VOTERS_MIN
        && Pace::default().wait_until(WHOLE_MAX, || scout.parts().is_some_and(&mut whole))
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
