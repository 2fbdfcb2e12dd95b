//! Voters that come, go and are given up, by the commands an operator types.

use std::process::Output;

use serde_json::Value;

use crate::MINUTE;
use crate::cluster::Cluster;
use crate::join::Mesh;

/// Moves leadership to the voter called `name`. On a starved machine it may move on by itself, so the order is repeated.
fn leads(cluster: &Cluster, name: &str) -> Option<()> {
    let (leader, _) = cluster.leader()?;
    if leader != name {
        cluster.riftmesh(&["raft", "transfer-leader", name]);
    }
    (leader == name).then_some(())
}

/// A fourth voter joins a live cluster, the leader leaves it, the state is saved, and what is left on a stopped node's
/// disk can be read, given up, and begun anew from.
#[test]
fn voters_come_and_go() {
    let mut cluster = Cluster::new();
    cluster.start();
    // The node that is asked first is the one to leave.
    let leader = "v1".to_owned();
    cluster.wait(MINUTE, "it leads", || leads(&cluster, &leader));
    cluster.add_voter();
    cluster.wait(MINUTE, "the new node is in the mesh", || {
        let members = cluster.ask("/v1/members")?;
        let found = |member: &Value| member["name"] == "v4" && member["state"] == "up";
        members.as_array()?.iter().any(found).then_some(())
    });
    let refused = cluster.riftmesh(&["raft", "add-voter", "w1"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(said(&refused).contains("--role voter"), "{refused:?}");

    works(&cluster.riftmesh(&["raft", "add-voter", "v4"]));
    cluster.wait(MINUTE, "four voters", || {
        (voters(&cluster).len() == 4).then_some(())
    });
    cluster.wait(MINUTE, "the one that leaves leads", || {
        leads(&cluster, &leader)
    });
    works(&cluster.riftmesh(&["raft", "remove-voter", &leader]));
    // It knows by now that it has no part in the log any more, and asks those that have.
    let told = cluster.wait(MINUTE, "who has left answers by the others", || {
        let told = cluster.ask_voter(&leader, "/v1/leader")?;
        (told["mode"] == "linearizable").then_some(told)
    });
    assert_ne!(told["name"], leader.as_str(), "{told}");
    cluster.wait(MINUTE, "a leader among those that stay", || {
        cluster.leader().filter(|(name, _)| *name != leader)
    });
    cluster.wait(MINUTE, "three voters without it", || {
        let voters = voters(&cluster);
        (voters.len() == 3 && !voters.contains(&leader)).then_some(())
    });
    cluster.wait(MINUTE, "the new voter leads", || leads(&cluster, "v4"));

    let file = cluster.data().with_file_name("backup.snapshot");
    let file = file.to_str().unwrap();
    works(&cluster.riftmesh(&["snapshot", "save", file]));
    let again = cluster.riftmesh(&["snapshot", "save", file]);
    assert_eq!(again.status.code(), Some(1), "a backup is not overwritten");
    works(&cluster.riftmesh(&["snapshot", "inspect", file]));

    // Each voter has snapshots of its own; the directory that is looked at below shall hold one.
    let own = cluster.added_address();
    works(&cluster.riftmesh(&["raft", "snapshot", "--addr", &own]));
    let directory = cluster.data().join("nodes/v4");
    let directory = directory.to_str().unwrap();
    let running = cluster.riftmesh(&["inspect", "log", directory]);
    assert_eq!(running.status.code(), Some(1), "{running:?}");
    cluster.kill_everything();
    for what in ["log", "state", "snapshot"] {
        works(&cluster.riftmesh(&["inspect", what, directory]));
    }
    let recover = ["recover", directory, "--peers", "127.0.0.1:1", "--json"];
    let shown = cluster.riftmesh(&recover);
    assert_eq!(
        shown.status.code(),
        Some(1),
        "without --yes it is only shown"
    );
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["holdings"]["epoch"], 0);
    assert_eq!(shown["holdings"]["voters"].as_object().unwrap().len(), 3);
    let done = works(&cluster.riftmesh(&[&recover[..], &["--yes"]].concat()));
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done["holdings"]["epoch"], 1);
    assert_eq!(done["holdings"]["voters"].as_object().unwrap().len(), 1);

    let fresh = cluster.data().with_file_name("restored");
    let fresh = fresh.to_str().unwrap();
    let restore = [
        "snapshot",
        "restore",
        file,
        "--dir",
        fresh,
        "--listen",
        "127.0.0.1:1",
    ];
    works(&cluster.riftmesh(&restore));
    let twice = cluster.riftmesh(&restore);
    assert_eq!(twice.status.code(), Some(1), "{twice:?}");
    assert!(said(&twice).contains("not empty"), "{twice:?}");
}

/// A voter's disk is lost. Started as it was the first time it begins nothing and says what to type; what it says works.
#[test]
fn a_voter_that_lost_its_disk_is_replaced() {
    let mut mesh = Mesh::start();
    let (seeds, credential) = (mesh.seeds.clone(), mesh.credential.clone());
    let lost = mesh.voters.len() - 1;
    mesh.voters[lost].kill();
    let data = mesh.voters[lost].dir.join("data");
    std::fs::remove_dir_all(&data).unwrap();

    let again = ["--credential", &credential, "--bootstrap-expect", "3"];
    let said = mesh.voters[lost].refused(&seeds, &again);
    assert!(said.contains("lost its disk"), "{said}");
    let order = |verb: &str| {
        let words = said.split('`').find(|words| words.contains(verb));
        let words: Vec<&str> = words.expect(verb).split(' ').skip(1).collect();
        words
    };
    mesh.voters[lost].start(&seeds, &["--credential", &credential]);
    for verb in ["remove-voter", "add-voter"] {
        let words = order(verb);
        mesh.wait(verb, || {
            let output = mesh.voters[0].riftmesh(&words);
            output.status.success().then_some(())
        });
    }
    let new = order("add-voter").pop().expect("an id").to_owned();
    mesh.wait("three voters with the new one", || {
        let quorum = mesh.voters[0].ask("/v1/quorum")?;
        let voters = quorum["voters"].as_array()?;
        let added = voters.iter().any(|voter| voter["node"] == new.as_str());
        (voters.len() == 3 && added).then_some(())
    });
}

/// One of three voters is gone for good while a fourth stands by: without anybody's order three healthy ones vote again.
#[test]
fn a_dead_voter_is_replaced_without_an_operator() {
    let mut mesh = Mesh::start();
    let (seeds, credential) = (mesh.seeds.clone(), mesh.credential.clone());
    works(&mesh.voters[0].riftmesh(&["config", "set", "autopilot.replace-after", "3s"]));
    mesh.late.start(&seeds, &["--credential", &credential]);
    mesh.wait("the fourth node stands by", || {
        let members = mesh.ask("/v1/members")?;
        let mut members = members.as_array()?.iter();
        members.find(|member| member["name"] == "late" && member["state"] == "up")?;
        Some(())
    });
    let names = |mesh: &Mesh| {
        let quorum = mesh.ask("/v1/quorum")?;
        quorum["confirmed"].as_bool()?.then_some(())?;
        let voters = quorum["voters"].as_array()?;
        let mut names: Vec<_> = voters.iter().filter_map(|v| v["name"].as_str()).collect();
        names.sort_unstable();
        Some(names.join(" "))
    };
    mesh.wait("nothing is done early", || {
        names(&mesh).filter(|names| names == "v0 v1 v2")
    });
    mesh.voters[2].kill();
    mesh.wait("it votes in place of the dead one", || {
        names(&mesh).filter(|names| names == "late v0 v1")
    });
    mesh.wait("the leader tells what was done", || {
        let mut voters = mesh.voters[..2].iter().chain([&mesh.late]);
        voters.find(|voter| {
            let answer = voter.ask("/v1/raft").unwrap_or_default();
            let last = answer["autopilot"]["last"].as_str().unwrap_or_default();
            last.contains("in place of")
        })?;
        Some(())
    });
}

/// What the command printed, if it ended well.
fn works(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Names of the voters, as any node lists them.
fn voters(cluster: &Cluster) -> Vec<String> {
    let quorum = cluster.ask("/v1/quorum").unwrap_or_default();
    let voters = quorum["voters"].as_array().cloned().unwrap_or_default();
    let names = voters.iter().filter_map(|voter| voter["name"].as_str());
    names.map(str::to_owned).collect()
}
