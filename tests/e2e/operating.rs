//! What an operator does to nodes and to the authority of a running cluster, with the commands they would use.

use std::process::Output;

use serde_json::Value;

use crate::join::Mesh;
use crate::machine::Machine;

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Runs a command on the first voter's machine that has to succeed. On a starved machine two seconds may pass without an
/// answer; then it is given again, as a person would.
fn order(mesh: &Mesh, args: &[&str]) -> String {
    let output = mesh.wait("an answer", || {
        let output = mesh.voters[0].riftmesh(args);
        (output.status.code() != Some(3)).then_some(output)
    });
    assert!(output.status.success(), "{args:?}: {output:?}");
    text(&output)
}

fn holds_jobs(mesh: &Mesh) -> Option<()> {
    (mesh.member()?["jobs"].as_u64()? > 0).then_some(())
}

/// A worker is drained, remembered as drained by every node over restarts, given work again, asked to leave, and taken
/// out for good; and the mesh is seen as it is meanwhile.
#[test]
fn a_worker_is_drained_leaves_and_is_retired() {
    let mut mesh = Mesh::start();
    let seeds = mesh.seeds.clone();
    let token = mesh.token(&["--expires", "1h"]);
    let options = ["--join", token.as_str(), "--slots", "1"];
    mesh.worker.start(&seeds, &options);
    mesh.wait("it holds a job", || holds_jobs(&mesh));

    mesh.wait("none of three pings is lost", || {
        let ping = ["mesh", "ping", "w", "--count", "3", "--interval", "1s"];
        let pinged = text(&mesh.voters[0].riftmesh(&ping));
        pinged.contains("3 sent, 0 lost (0 %)").then_some(())
    });
    let nobody = mesh.voters[0].riftmesh(&["mesh", "ping", "nobody"]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");

    let drained = order(
        &mesh,
        &["node", "drain", "w", "--within", "1s", "--wait", "1m"],
    );
    assert!(drained.contains("w is drained"), "{drained}");
    mesh.wait("it is not listed as active", || {
        let active = order(&mesh, &["node", "list", "--active"]);
        (!active.contains("w ")).then_some(())
    });
    mesh.worker.kill();
    mesh.wait("it is down", || {
        (mesh.member()?["state"] == "down").then_some(())
    });
    mesh.voters[1].kill();
    let expected = [
        "--credential",
        mesh.credential.as_str(),
        "--bootstrap-expect",
        "3",
    ];
    mesh.voters[1].start(&seeds, &expected);
    mesh.worker.start(&seeds, &options);
    let drained = |machine: &Machine| {
        let members = machine.ask("/v1/members")?;
        let member = members
            .as_array()?
            .iter()
            .find(|m| m["name"] == "w")?
            .clone();
        let drained = member["draining"] == true && member["jobs"] == 0;
        (drained && !member["session"].is_null()).then_some(())
    };
    mesh.wait("the worker itself knows", || drained(&mesh.worker));
    mesh.wait("the voter that was killed knows", || {
        drained(&mesh.voters[1])
    });
    order(&mesh, &["node", "undrain", "w"]);
    mesh.wait("it holds a job again", || holds_jobs(&mesh));

    let events = order(&mesh, &["mesh", "events", "--node", "w"]);
    for what in ["joined at", "is down", "is back at"] {
        assert!(events.contains(what), "`{what}` is not in: {events}");
    }
    let left = mesh.worker.riftmesh(&["mesh", "leave"]);
    assert!(left.status.success(), "{left:?}");
    assert_eq!(mesh.worker.wait_for_end().code(), Some(0));
    mesh.wait("it has left", || {
        let member = mesh.member()?;
        (member["state"] == "left" && member["session"].is_null()).then_some(())
    });
    order(&mesh, &["members", "--name", "w", "--state", "left"]);
    mesh.wait("it is not missed", || {
        let status = mesh.ask("/v1/status")?;
        let problems = status["problems"].to_string();
        (!problems.contains("is left")).then_some(())
    });
    let voter = mesh.voters[0].riftmesh(&["node", "retire", "v1", "--reason", "old"]);
    assert_eq!(voter.status.code(), Some(1), "{voter:?}");

    mesh.worker.start(&seeds, &options);
    mesh.wait("it is back", || holds_jobs(&mesh));
    let shown = order(&mesh, &["node", "show", "w"]);
    assert!(shown.contains("incarnation"), "{shown}");
    let out = ["node", "retire", "w", "--reason", "sold", "--within", "1s"];
    assert_eq!(order(&mesh, &out).trim(), "w is out");
    mesh.wait("nobody knows it any more", || {
        let members = mesh.ask("/v1/members")?;
        let mut members = members.as_array()?.iter();
        (!members.any(|member| member["name"] == "w")).then_some(())
    });
    mesh.wait("it is told", || {
        mesh.worker.log().contains("revoked").then_some(())
    });
    let known = order(&mesh, &["cert", "list"]);
    assert!(known.contains("sold"), "{known}");
}

fn authority(machine: &Machine) -> Option<String> {
    let answer = machine.ask("/v1/certificate")?;
    answer["authority"].as_str().map(str::to_owned)
}

fn trusts_one(machine: &Machine) -> bool {
    let answer = machine.ask("/v1/certificate");
    answer.is_some_and(|answer| answer["trusted"].as_array().map(Vec::len) == Some(1))
}

fn rotation(mesh: &Mesh) -> Option<Value> {
    mesh.ask("/v1/authority")
        .map(|answer| answer["rotation"].clone())
}

/// The authority is replaced under a running cluster, although the command is interrupted, a voter is killed and a
/// worker is away; tokens made before are good until the end and no longer.
#[test]
fn the_authority_is_replaced() {
    let mut mesh = Mesh::start();
    let seeds = mesh.seeds.clone();
    let token = mesh.token(&["--uses", "3", "--expires", "1h"]);
    let options = ["--join", token.as_str(), "--slots", "1"];
    mesh.worker.start(&seeds, &options);
    mesh.wait("it holds a job", || holds_jobs(&mesh));
    let old = authority(&mesh.voters[0]).unwrap();
    assert_eq!(authority(&mesh.worker).as_ref(), Some(&old));
    let denied = mesh.worker.riftmesh(&["cert", "rotate-ca"]);
    assert!(!denied.status.success(), "{denied:?}");

    let begun = mesh.voters[0].riftmesh(&["cert", "rotate-ca", "--wait", "1s"]);
    assert_eq!(begun.status.code(), Some(1), "{begun:?}");
    mesh.voters[0].kill();
    mesh.voters[2].kill();
    let expected = [
        "--credential",
        mesh.credential.as_str(),
        "--bootstrap-expect",
        "3",
    ];
    mesh.voters[0].start(&seeds, &expected);
    mesh.voters[2].start(&seeds, &expected);
    mesh.wait("all trust both", || {
        (rotation(&mesh)?["phase"] == "renewing").then_some(())
    });
    // It asks every 15 s, so it has not heard of this yet.
    mesh.worker.kill();
    mesh.wait("the voters show the next", || {
        let shown: Option<Vec<_>> = mesh.voters.iter().map(authority).collect();
        shown?.iter().all(|shown| *shown != old).then_some(())
    });
    let awaited = rotation(&mesh).unwrap()["awaited"].to_string();
    assert!(awaited.contains('w'), "{awaited}");
    let shown = order(&mesh, &["cert", "show"]);
    assert!(shown.contains("is being replaced"), "{shown}");

    // A stranger whose token pins the old one finds its way in, and is of the next one at once.
    mesh.intruder
        .start(&seeds, &["--join", &token, "--slots", "0"]);
    mesh.wait("a stranger is in", || {
        authority(&mesh.intruder).filter(|shown| *shown != old)
    });
    mesh.worker.start(&seeds, &["--slots", "1"]);
    let done = order(&mesh, &["cert", "rotate-ca", "--wait", "2m"]);
    assert!(done.contains("is the only one"), "{done}");
    let next = authority(&mesh.voters[0]).unwrap();
    assert_ne!(next, old);
    let rest = [
        &mesh.voters[1],
        &mesh.voters[2],
        &mesh.worker,
        &mesh.intruder,
    ];
    for machine in rest {
        assert_eq!(authority(machine).as_ref(), Some(&next), "{}", machine.name);
    }
    mesh.wait("work goes on", || holds_jobs(&mesh));
    // Each voter hears of the end within a second or so.
    mesh.wait("no voter trusts the old one", || {
        mesh.voters.iter().all(trusts_one).then_some(())
    });
    let said = mesh.late.refused(&seeds, &["--join", &token]);
    assert!(said.contains("nobody there belongs to"), "{said}");
    let token = mesh.token(&["--expires", "1h"]);
    mesh.late.start(&seeds, &["--join", &token, "--slots", "0"]);
    mesh.wait("a new token is good", || authority(&mesh.late));

    // The file that the voters were given is out of date, and they know.
    mesh.voters[1].kill();
    mesh.voters[1].start(&seeds, &expected);
    mesh.wait("a voter is back", || {
        authority(&mesh.voters[1]).filter(|shown| *shown == next)
    });
}
