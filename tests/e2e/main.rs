//! The real binary, its processes and ports: a cluster learns, is hurt in every way a process can be hurt, and loses
//! nothing.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

mod cluster;
mod exec;
mod facts;
mod join;
mod local;
mod machine;
mod operating;
mod queue;
mod voters;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cluster::Cluster;
use riftmesh_learning::record::game_id;
use riftmesh_learning::segment::Segment;
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_secs(10);

/// The whole life of a cluster on one machine. One test, because each part needs what the one before made: self-play,
/// a verdict, the leader killed, a worker killed, a job's process killed, no game counted twice, everything killed at
/// once, resumed, and an orderly end.
#[test]
fn a_cluster_learns_and_survives() {
    let mut cluster = Cluster::new();
    cluster.start();
    cluster.wait(MINUTE, "first leader", || cluster.leader());
    cluster.wait(2 * MINUTE, "first games", || {
        (cluster.games() >= 4).then_some(())
    });

    loses_its_leader(&cluster);
    loses_a_job_process(&cluster);
    loses_its_worker(&cluster);

    cluster.wait(3 * MINUTE, "first verdict", || {
        let progress = cluster.progress()?;
        progress["verdicts"]
            .as_array()
            .is_some_and(|verdicts| !verdicts.is_empty())
            .then_some(())
    });
    counts_every_game_once(&cluster);

    let before = Remembered::of(&cluster);
    cluster.kill_everything();
    cluster.start();
    cluster.wait(MINUTE, "leader after all were killed", || cluster.leader());
    let after = cluster.wait(MOMENT, "state after all were killed", || {
        cluster.progress().map(|_| Remembered::of(&cluster))
    });
    after.assert_continues(&before);
    cluster.wait(2 * MINUTE, "games after all were killed", || {
        (cluster.games() > after.games).then_some(())
    });
    counts_every_game_once(&cluster);

    assert!(cluster.stop(), "up leaves with success");
    assert!(cluster.everything().is_empty(), "nothing is left running");
}

/// A leader of a new term is named soon after the old one's process was killed (it may be the same node, started
/// again), and the dead voter comes back under its old id.
fn loses_its_leader(cluster: &Cluster) {
    let (old, term) = cluster.leader().expect("a leader");
    let ids = ids(cluster);
    cluster.node(&old).expect("the leader's process").kill();
    let begin = Instant::now();
    let (new, _) = cluster.wait(MOMENT, "a leader of a new term", || {
        cluster.leader().filter(|(_, now)| *now > term)
    });
    eprintln!("{old} -> {new} in {:.1} s", begin.elapsed().as_secs_f64());
    cluster.wait(MINUTE, "the dead voter answers again", || {
        cluster.answers(&old).then_some(())
    });
    cluster.wait(MINUTE, "all members up again", || {
        all_up(cluster).then_some(())
    });
    assert_eq!(
        self::ids(cluster),
        ids,
        "a killed node that is started again keeps its id"
    );
    let output = cluster.riftmesh(&["leader", "--json"]);
    assert!(output.status.success(), "{output:?}");
}

/// The job whose process was killed is run again; that is a loss, not a failed attempt.
fn loses_a_job_process(cluster: &Cluster) {
    let losses = || {
        cluster
            .jobs("")
            .iter()
            .map(|job| job["losses"].as_u64().unwrap_or(0))
            .sum::<u64>()
    };
    let before = losses();
    let victim = cluster.wait(MINUTE, "a job's process", || {
        cluster.children("w1").first().copied()
    });
    victim.kill();
    cluster.wait(MINUTE, "a loss on the books", || {
        (losses() > before).then_some(())
    });
    let lost: Vec<_> = cluster
        .jobs("")
        .into_iter()
        .filter(|job| job["losses"].as_u64() > Some(0))
        .collect();
    assert!(
        lost.iter().all(|job| job["failures"] == 0),
        "a loss burns no attempt: {lost:?}"
    );
    let id = lost[0]["id"].as_str().expect("an id").to_owned();
    cluster.wait(2 * MINUTE, "the job is done after all", || {
        let job = cluster.ask(&format!("/v1/jobs/{id}"))?;
        (job["state"] == "done").then_some(())
    });
}

/// A killed worker is started again, gets a new session, and the games go on. Its former life has ended before that in the eyes of
/// others, who could not have found out so soon: `up` saw it die and said so.
fn loses_its_worker(cluster: &Cluster) {
    let session = |cluster: &Cluster| {
        let members = cluster.ask("/v1/members")?;
        let worker = members
            .as_array()?
            .iter()
            .find(|member| member["name"] == "w1")?
            .clone();
        worker["session"].as_str().map(str::to_owned)
    };
    let old = session(cluster);
    cluster.node("w1").expect("the worker's process").kill();
    cluster.wait(MINUTE, "a new session", || {
        session(cluster).filter(|new| Some(new) != old.as_ref())
    });
    let seen = cluster.riftmesh(&["mesh", "events", "--node", "w1", "--json"]);
    let seen = String::from_utf8(seen.stdout).expect("text");
    let what = seen.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("an event");
        line["seen"]["what"].clone()
    });
    let what: Vec<_> = what.collect();
    let died = what.iter().position(|what| what == "died");
    let back = what.iter().position(|what| what.get("returned").is_some());
    let in_order = died.is_some_and(|died| back.is_none_or(|back| died < back));
    assert!(in_order, "{what:?}");
    let games = cluster.games();
    cluster.wait(2 * MINUTE, "games after the worker was killed", || {
        (cluster.games() > games).then_some(())
    });
}

/// The ledger's sum is the number of different games in the accepted segments.
fn counts_every_game_once(cluster: &Cluster) {
    let (games, jobs) = cluster.wait(MINUTE, "a ledger that stands still", || {
        let before = cluster.games();
        let jobs = cluster.jobs("&kind=selfplay&state=done");
        (cluster.games() == before && before > 0).then_some((before, jobs))
    });
    let outputs = jobs
        .iter()
        .flat_map(|job| job["outputs"].as_array().cloned().unwrap_or_default());
    let hashes = outputs.filter_map(|output| output["segment"]["hash"].as_str().map(str::to_owned));
    let mut seen = BTreeSet::new();
    let mut total = 0;
    for hash in hashes {
        let path = cluster
            .data()
            .join("nodes/w1/blobs")
            .join(&hash[..2])
            .join(&hash);
        let segment = Segment::read(&path).expect("an accepted segment is on the worker's disk");
        total += segment.games.len() as u64;
        seen.extend(
            segment
                .games
                .iter()
                .map(|game| game_id(segment.header.job, game.number)),
        );
    }
    assert_eq!(
        (seen.len() as u64, total),
        (games, games),
        "every game is counted once"
    );
}

fn ids(cluster: &Cluster) -> BTreeSet<(String, String)> {
    let members = cluster.ask("/v1/members").unwrap_or_default();
    let text = |member: &Value, field: &str| member[field].as_str().unwrap_or_default().to_owned();
    members
        .as_array()
        .into_iter()
        .flatten()
        .map(|member| (text(member, "name"), text(member, "node")))
        .collect()
}

fn all_up(cluster: &Cluster) -> bool {
    let members = cluster.ask("/v1/members").unwrap_or_default();
    let members = members.as_array().cloned().unwrap_or_default();
    members.len() == 4 && members.iter().all(|member| member["state"] == "up")
}

/// What must outlive any crash.
struct Remembered {
    games: u64,
    champion: Value,
    verdicts: Vec<Value>,
    done: BTreeSet<String>,
}

impl Remembered {
    fn of(cluster: &Cluster) -> Self {
        let progress = cluster.progress().expect("progress");
        let done = cluster.jobs("&state=done");
        Self {
            games: progress["games"].as_u64().unwrap_or(0),
            champion: progress["champion"]["model"].clone(),
            verdicts: progress["verdicts"].as_array().cloned().unwrap_or_default(),
            done: done
                .iter()
                .filter_map(|job| job["id"].as_str().map(str::to_owned))
                .collect(),
        }
    }

    fn assert_continues(&self, before: &Self) {
        assert!(
            self.games >= before.games,
            "{} games became {}",
            before.games,
            self.games
        );
        assert!(
            self.verdicts.starts_with(&before.verdicts),
            "{:?} became {:?}",
            before.verdicts,
            self.verdicts
        );
        assert!(
            self.done.is_superset(&before.done),
            "finished jobs are still there"
        );
        if self.verdicts.len() == before.verdicts.len() {
            assert_eq!(self.champion, before.champion);
        }
    }
}
