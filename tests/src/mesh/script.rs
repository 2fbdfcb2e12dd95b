//! Short stories of three nodes, told effect by effect. The transcripts are reviewed as snapshots; rewrite them with
//! `INSTA_UPDATE=always`.

use riftmesh_base::Millis;
use riftmesh_membership::Input;

use super::world::{World, address};

/// Runs a script, one command a line: `start <node> <generation>`, `kill <node>`, `leave <node>`,
/// `pause <node> <ms>`, `hosts answer`, `run <ms>`, `quiet <ms>` (runs without recording), `view <node>`.
fn tell(script: &str) -> String {
    let mut world = World::new(1);
    world.record();
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        world.note(&format!("> {line}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "start" => world.start(number(1), number(2), address(number(1))),
            "kill" => world.kill(number(1)),
            "leave" => world.input(number(1), Input::Leave),
            "pause" => world.pause(number(1), Millis(number(2))),
            "hosts" => world.hosts_answer = true,
            "run" => world.run(Millis(number(1))),
            "quiet" => {
                let so_far = world.pause_recording();
                world.run(Millis(number(1)));
                world.resume_recording(so_far);
            }
            "view" => view(&mut world, number(1)),
            other => panic!("no command `{other}`"),
        }
    }
    world.pause_recording()
}

fn view(world: &mut World, node: u64) {
    let view = world.agent(node).view(world.now);
    for node in view.nodes.values() {
        let line = format!(
            "         {}#{} {} for {}, {}",
            node.id,
            node.generation,
            node.state,
            view.at.since(node.since),
            node.name()
        );
        world.note(&line);
    }
}

/// The first node finds nobody and keeps asking; the second one finds it; both know each other's description.
#[test]
fn two_nodes_meet() {
    insta::assert_snapshot!(tell(
        "start 1 1
         run 1500
         start 2 1
         run 600
         view 1
         view 2"
    ));
}

/// A killed process on a living host: suspected, its port found closed, given up; then its next life.
#[test]
fn a_crash_with_evidence() {
    insta::assert_snapshot!(tell(
        "hosts answer
         start 1 1
         start 2 1
         start 3 1
         quiet 10000
         kill 3
         run 6000
         view 1
         start 3 2
         run 400
         view 1"
    ));
}

/// A goodbye is told to the others and nothing more is said.
#[test]
fn a_goodbye() {
    insta::assert_snapshot!(tell(
        "start 1 1
         start 2 1
         start 3 1
         quiet 10000
         leave 3
         run 400
         view 1"
    ));
}
