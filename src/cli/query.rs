//! `status`, `leader`, `quorum`: what any node can say about the cluster.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ask::Asker;
use super::order::failed;
use super::output::{Colour, age, data, freshness, json, paint, table};
use super::{AskArgs, Exit};
use crate::answers::{Envelope, Health, LeaderAnswer, ProgressAnswer, QuorumAnswer, StatusAnswer};

/// Asks for `path`, prints as the arguments say, and gives the exit code that `exit` finds in the answer.
pub fn ask_and_print<T: DeserializeOwned + Serialize>(
    args: &AskArgs,
    path: &str,
    print: impl FnOnce(&T),
    exit: impl FnOnce(&T) -> Exit,
) -> anyhow::Result<Exit> {
    let envelope: Envelope<T> = match Asker::new(&args.addr).get(path) {
        Ok(envelope) => envelope,
        Err(error) => return Ok(failed(&error)),
    };
    if args.json {
        json(&envelope)?;
    } else {
        print(&envelope.answer);
        freshness(&envelope);
    }
    Ok(exit(&envelope.answer))
}

/// `riftmesh status`
pub fn status(args: &AskArgs) -> anyhow::Result<Exit> {
    ask_and_print(args, "/v1/status", print_status, |status: &StatusAnswer| {
        status.health.into()
    })
}

/// `riftmesh leader`
pub fn leader(args: &AskArgs) -> anyhow::Result<Exit> {
    ask_and_print(
        args,
        "/v1/leader",
        |leader: &LeaderAnswer| data(&leader_line(leader)),
        |leader| {
            if leader.confirmed {
                Exit::Ok
            } else {
                Exit::NoQuorum
            }
        },
    )
}

/// `riftmesh quorum`
pub fn quorum(args: &AskArgs) -> anyhow::Result<Exit> {
    ask_and_print(args, "/v1/quorum", print_quorum, |quorum: &QuorumAnswer| {
        let missing = quorum.voters.iter().any(|voter| voter.up == Some(false));
        match (quorum.confirmed, missing) {
            (false, _) => Exit::NoQuorum,
            (true, true) => Exit::Failed,
            (true, false) => Exit::Ok,
        }
    })
}

/// `leader v2 (term 12, quorum ack 41 ms ago, confirmed)`
pub fn leader_line(leader: &LeaderAnswer) -> String {
    match (&leader.name, leader.confirmed) {
        (Some(name), true) => format!(
            "leader {} (term {}, quorum ack {}, {})",
            paint(Colour::Bold, name),
            leader.term,
            age(leader.quorum_ack_ms),
            paint(Colour::Green, "confirmed")
        ),
        (Some(name), false) => format!(
            "leader {} ({name} is believed to lead term {}, quorum not confirmed)",
            paint(Colour::Red, "unknown"),
            leader.term
        ),
        (None, _) => format!(
            "leader {} (term {})",
            paint(Colour::Red, "unknown"),
            leader.term
        ),
    }
}

fn print_status(status: &StatusAnswer) {
    let colour = match status.health {
        Health::Healthy => Colour::Green,
        Health::Degraded => Colour::Yellow,
        Health::NoQuorum => Colour::Red,
    };
    let cluster = status.cluster.as_deref().unwrap_or("(not founded)");
    data(&format!(
        "cluster {cluster}: {}",
        paint(colour, &status.health.to_string())
    ));
    for problem in &status.problems {
        data(&format!("  {}", paint(Colour::Yellow, problem)));
    }
    data(&leader_line(&status.leader));
    data(&quorum_line(&status.quorum));
    data(&format!(
        "members {} of {} up, {} worker sessions with {} slots",
        status.members_up, status.members, status.sessions, status.slots
    ));
    let jobs = &status.jobs;
    data(&format!(
        "jobs {} running, {} ready, {} waiting, {} done, {} dead",
        jobs.running, jobs.ready, jobs.waiting, jobs.done, jobs.dead
    ));
    status
        .progress
        .iter()
        .for_each(|progress| data(&progress_line(progress)));
}

/// One line on the loop of a configuration.
pub fn progress_line(progress: &ProgressAnswer) -> String {
    let champion = progress.champion.as_ref().map_or_else(
        || "the untrained network".to_owned(),
        |champion| {
            format!(
                "#{} {} rated {}",
                champion.number,
                champion.model.short(),
                rating(champion.rating_milli_elo)
            )
        },
    );
    let promoted = progress
        .verdicts
        .iter()
        .filter(|verdict| verdict.promoted)
        .count();
    format!(
        "{} {}: {} games, {} rows, champion {champion}, {} verdicts ({promoted} promotions)",
        progress.configuration,
        progress.phase,
        progress.games,
        progress.rows,
        progress.verdicts.len()
    )
}

/// A rating for people.
pub fn rating(milli_elo: Option<i64>) -> String {
    milli_elo.map_or_else(
        || "unrated".to_owned(),
        |rating| format!("{:+} Elo", rating / 1_000),
    )
}

fn quorum_line(quorum: &QuorumAnswer) -> String {
    let state = if quorum.confirmed {
        paint(Colour::Green, "confirmed")
    } else {
        paint(Colour::Red, "not confirmed")
    };
    let tolerance = quorum
        .failure_tolerance
        .map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    format!(
        "quorum {state}: {} of {} voters needed, {tolerance} may fail",
        quorum.needed,
        quorum.voters.len()
    )
}

fn print_quorum(quorum: &QuorumAnswer) {
    data(&quorum_line(quorum));
    table(
        &[
            "VOTER", "ID", "ADDRESS", "ROLE", "GOSSIP", "LAG", "LAST ACK",
        ],
        quorum.voters.iter().map(|voter| {
            vec![
                voter.name.clone(),
                voter.node.to_string(),
                voter.address.clone(),
                if voter.leader { "leader" } else { "follower" }.to_owned(),
                match voter.up {
                    Some(true) => "up",
                    Some(false) => "down",
                    None => "unknown",
                }
                .to_owned(),
                voter
                    .lag
                    .map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
                age(voter.contact_ms),
            ]
        }),
    );
}
