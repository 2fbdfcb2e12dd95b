//! The mesh in numbers: ends noticed, pauses forgiven, bytes sent, by simulation under a virtual clock. One JSON object a
//! line on standard output.
//!
//! `cargo run --release -p riftmesh-tests --example mesh_simulation [ends|pauses|idle|storm|lifeguard|large|day|MEMBERS]...`; the first
//! four if none is named. `lifeguard`, `large` and `day` take minutes. A number is a mesh of so many members that know one another
//! from the start: what it costs at rest, and how soon a silent end is known everywhere.

use std::error::Error;
use std::io::{Write as _, stdout};

use riftmesh_base::Millis;
use riftmesh_membership::MembershipSettings;
use riftmesh_tests::mesh::World;
use riftmesh_tests::mesh::lifeguard::{Accuracy, Slowness, accuracy};
use riftmesh_tests::mesh::plain::PlainWorld;
use riftmesh_tests::mesh::reclaims::{Fleet, a_busy_time};
use riftmesh_tests::mesh::trials::{self, Detection, End, Pauses};

const MEMBERS: u64 = 36;
const SEEDS: u64 = 5;
const TRIALS_PER_SEED: usize = 10;
/// The bar for a silent host is 20 s; beyond this a trial is a failure of the experiment itself.
const LIMIT: Millis = Millis::from_secs(60);

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.is_empty() {
        wanted = ["ends", "pauses", "idle", "storm"]
            .map(str::to_owned)
            .into();
    }
    for experiment in &wanted {
        match experiment.as_str() {
            "ends" => ends()?,
            "pauses" => pauses()?,
            "idle" => idle(&[36, 200])?,
            "storm" => storm(&[10, 36, 100, 200, 400])?,
            "large" => {
                storm(&[1_000])?;
                idle(&[1_000])?;
            }
            "lifeguard" => lifeguard()?,
            "day" => day()?,
            other => match other.parse() {
                Ok(nodes @ 10..=16_000) => huge(nodes)?,
                _ => {
                    return Err(format!(
                        "`{other}` is not ends, pauses, idle, storm, lifeguard, large, day or 10 to 16000 members"
                    )
                    .into());
                }
            },
        }
    }
    Ok(())
}

/// Members of a small mesh end, fifty times each way, under 2 % loss.
fn ends() -> Outcome {
    for (end, name) in [(End::Killed, "killed"), (End::Silent, "silent")] {
        let mut seen = Vec::new();
        for seed in 0..SEEDS {
            let mut world = trials::formed(seed, MEMBERS, 0.02);
            // Not a seed, and each member once.
            let members = (4..).take(TRIALS_PER_SEED);
            seen.extend(members.map(|node| trials::detection(&mut world, node, 1, end, LIMIT)));
        }
        report_ends(name, MEMBERS, &seen)?;
    }
    Ok(())
}

fn report_ends(name: &str, nodes: u64, seen: &[Detection]) -> Outcome {
    let [p50, p95, worst] = quantiles(seen.iter().map(|d| d.everywhere.0).collect());
    let first = seen.iter().map(|d| d.first.0).min().unwrap_or(0);
    writeln!(
        stdout(),
        "{{\"experiment\":\"{name}\",\"nodes\":{nodes},\"trials\":{},\"first_verdict_min_ms\":{first},\
         \"everywhere_p50_ms\":{p50},\"everywhere_p95_ms\":{p95},\"everywhere_max_ms\":{worst}}}",
        seen.len()
    )?;
    Ok(())
}

/// The median, the 95th percentile and the greatest.
fn quantiles(mut values: Vec<u64>) -> [u64; 3] {
    values.sort_unstable();
    let at = |share: usize| values.get((values.len() * share).div_ceil(100).max(1) - 1);
    [50, 95, 100].map(|share| at(share).copied().unwrap_or(0))
}

/// A mesh of 36: two hundred pauses of up to 10 s, and a thousand close to the tolerance of 16 s.
fn pauses() -> Outcome {
    let short = Pauses {
        shortest: Millis(1_000),
        longest: Millis(10_000),
        every: Millis::from_secs(12),
    };
    frozen("pauses", MEMBERS, 0.02, short, 200)?;
    let long = Pauses {
        shortest: Millis(15_000),
        longest: Millis(16_000),
        every: Millis::from_secs(20),
    };
    frozen("long pauses", MEMBERS, 0.02, long, 1_000)
}

/// A day at a hundred members with 5 % loss, some member frozen for 4 to 16 s every minute and a half, and a worker killed every
/// half an hour, by turns on a living host and with its host. All but three have a session and a job.
fn day() -> Outcome {
    const NODES: u64 = 100;
    let plan = Pauses {
        shortest: Millis(4_000),
        longest: Millis(16_000),
        every: Millis::from_secs(90),
    };
    let mut world = trials::formed(1, NODES, 0.05);
    let mut fleet = Fleet::new(&world, 1, NODES);
    let (day, kill_every) = (Millis::from_secs(24 * 3_600), Millis::from_secs(1_800));
    a_busy_time(&mut world, &mut fleet, 1, plan, day, kill_every);
    let record = fleet.record();
    let waits = |end| quantiles(record.waits(end).iter().map(|wait| wait.0).collect());
    let ([killed, _, killed_max], [silent, _, silent_max]) =
        (waits(End::Killed), waits(End::Silent));
    writeln!(
        stdout(),
        "{{\"experiment\":\"day\",\"nodes\":{NODES},\"loss\":{},\"hours\":24,\"pauses\":{},\"shortest_ms\":{},\
         \"longest_ms\":{},\"terms\":{},\"false_verdicts\":{},\"false_reclaims\":{},\"kills\":{},\"reclaims\":{},\
         \"killed_ready_p50_ms\":{killed},\"killed_ready_max_ms\":{killed_max},\"silent_ready_p50_ms\":{silent},\
         \"silent_ready_max_ms\":{silent_max}}}",
        world.loss,
        24 * 3_600 / 90,
        plan.shortest.0,
        plan.longest.0,
        record.terms,
        record.false_verdicts,
        record.false_reclaims(),
        record.kills,
        record.reclaims.len(),
    )?;
    Ok(())
}

fn frozen(name: &str, nodes: u64, loss: f64, plan: Pauses, count: u64) -> Outcome {
    let mut world = trials::formed(1, nodes, loss);
    let begin = world.now;
    trials::pauses(&mut world, 1, nodes, plan, count);
    let wrong = trials::given_up(&world).len();
    writeln!(
        stdout(),
        "{{\"experiment\":\"{name}\",\"nodes\":{nodes},\"loss\":{loss},\"hours\":{:.1},\"pauses\":{count},\
         \"shortest_ms\":{},\"longest_ms\":{},\"false_verdicts\":{wrong}}}",
        world.now.since(begin).0 as f64 / 3.6e6,
        plan.shortest.0,
        plan.longest.0,
    )?;
    Ok(())
}

/// The Lifeguard paper's question to 128 members, some of them slow: with our agents, with theirs less local health, and with
/// plain foca.
fn lifeguard() -> Outcome {
    const NODES: u32 = 128;
    for (members, pause) in [
        (4, 2_048),
        (4, 8_192),
        (4, 15_000),
        (16, 15_000),
        (16, 30_000),
    ] {
        let slow = Slowness {
            members,
            pause: Millis(pause),
            gap: Millis(1_024),
            span: Millis::from_secs(120),
        };
        for (name, local_health) in [("ours", true), ("ours, no local health", false)] {
            let settings = MembershipSettings {
                local_health,
                ..MembershipSettings::default()
            };
            let mut world = trials::formed_with(settings, 1, NODES.into(), 0.0);
            report_slow(name, NODES, slow, accuracy(&mut world, NODES.into(), slow))?;
        }
        let mut world = PlainWorld::formed(1, NODES, 0.0);
        report_slow(
            "plain foca",
            NODES,
            slow,
            accuracy(&mut world, NODES.into(), slow),
        )?;
    }
    Ok(())
}

fn report_slow(name: &str, nodes: u32, slow: Slowness, found: Accuracy) -> Outcome {
    let millis = |time: Option<Millis>| time.map_or("null".to_owned(), |time| time.0.to_string());
    writeln!(
        stdout(),
        "{{\"experiment\":\"lifeguard\",\"agents\":\"{name}\",\"nodes\":{nodes},\"slow\":{},\"pause_ms\":{},\"gap_ms\":{},\
         \"wrong\":{},\"wrong_among_well\":{},\"first_ms\":{},\"all_ms\":{}}}",
        slow.members,
        slow.pause.0,
        slow.gap.0,
        found.wrong,
        found.among_well,
        millis(found.first),
        millis(found.all),
    )?;
    Ok(())
}

/// All members start at once, under 2 % loss: how long until everybody knows everybody, and what that costs.
fn storm(sizes: &[u64]) -> Outcome {
    for &nodes in sizes {
        let mut world = World::new(1);
        world.loss = 0.02;
        let complete = trials::storm(&mut world, nodes);
        writeln!(
            stdout(),
            "{{\"experiment\":\"storm\",\"nodes\":{nodes},\"loss\":{},\"complete_ms\":{},\"bytes_per_node\":{}}}",
            world.loss,
            complete.0,
            world.bytes / nodes
        )?;
    }
    Ok(())
}

/// What a mesh costs at rest, and how soon it notices a silent end.
fn idle(sizes: &[u64]) -> Outcome {
    for &nodes in sizes {
        let mut world = trials::formed(1, nodes, 0.0);
        world.run(Millis::from_secs(60));
        rest_and_end(&mut world, nodes)?;
    }
    Ok(())
}

/// The same in a mesh that is too large to form it here.
fn huge(nodes: u64) -> Outcome {
    rest_and_end(&mut trials::acquainted(1, nodes), nodes)
}

fn rest_and_end(world: &mut World, nodes: u64) -> Outcome {
    let idle = trials::idle_bytes_per_second(world, nodes, Millis::from_secs(60));
    writeln!(
        stdout(),
        "{{\"experiment\":\"idle\",\"nodes\":{nodes},\"bytes_per_second_per_node\":{idle}}}"
    )?;
    let seen = [trials::detection(world, nodes / 2, 1, End::Silent, LIMIT)];
    report_ends("silent", nodes, &seen)
}
