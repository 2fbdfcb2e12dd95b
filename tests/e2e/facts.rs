//! What any node knows of every other one, and the commands that go on telling.

use std::process::Child;

use serde_json::Value;

use crate::join::Mesh;
use crate::machine::Machine;

/// What `machine` knows of the node `name`, once that has told of its machine.
fn told(machine: &Machine, name: &str) -> Option<Value> {
    let members = machine.ask("/v1/members")?;
    let mut members = members.as_array()?.iter();
    let member = members.find(|member| member["name"] == name)?;
    let cores = member["report"]["load"]["cores"].as_u64()?;
    (cores > 0).then(|| member.clone())
}

fn lines(child: Child) -> Vec<Value> {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

/// Every node tells of every other one's zone, build and machine, a worker too, and also when the voters have no quorum;
/// commands that follow the mesh tell of its end; and a voter that the others need leaves only by force.
#[test]
fn every_node_tells_of_every_other_one() {
    let mut mesh = Mesh::start();
    let seeds = mesh.seeds.clone();
    let token = mesh.token(&["--uses", "2", "--expires", "1h"]);
    let options = ["--join", token.as_str(), "--slots", "0", "--zone"];
    mesh.worker.start(
        &seeds,
        &[&options[..], &["rack-7", "--label", "big"]].concat(),
    );
    mesh.late
        .start(&seeds, &[&options[..], &["rack-8"]].concat());
    let names = ["v0", "v1", "v2", "w", "late"];
    let everything = |machine: &Machine| {
        let all: Option<Vec<_>> = names.iter().map(|name| told(machine, name)).collect();
        all.map(|all| all[3].clone())
    };
    let expected = |member: &Value| {
        assert_eq!(member["zone"], "rack-7");
        assert_eq!(member["labels"][0], "big");
        assert_eq!(member["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(member["protocols"]["newest"], 2);
        assert!(member["told_ms"].is_u64(), "{member}");
    };
    for machine in [&mesh.voters[0], &mesh.voters[2], &mesh.late] {
        expected(&mesh.wait("all are known", || everything(machine)));
    }
    let chosen = mesh.voters[0].riftmesh(&["members", "--zone", "rack-7,rack-9"]);
    let chosen = String::from_utf8(chosen.stdout).unwrap();
    assert!(
        chosen.contains("rack-7") && !chosen.contains("rack-8"),
        "{chosen}"
    );
    let shown = mesh.late.riftmesh(&["node", "show", "w"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("rack-7") && shown.contains("cores"),
        "{shown}"
    );
    let numbers = mesh.late.text("/metrics").unwrap();
    assert!(
        numbers.contains("riftmesh_certificate_expiry_timestamp_seconds 1"),
        "{numbers}"
    );
    assert!(
        numbers.contains("riftmesh_mesh_members{state=\"up\"} 5"),
        "{numbers}"
    );

    let watched = [
        "members", "--watch", "--json", "--name", "w", "--count", "2",
    ];
    let watching = mesh.late.begin(&watched);
    let followed = [
        "mesh", "events", "--follow", "--json", "--node", "w", "--count", "2",
    ];
    let following = mesh.voters[0].begin(&followed);
    mesh.worker.kill();
    let seen = lines(watching);
    assert_eq!(
        (&seen[0]["change"], &seen[0]["now"]["zone"]),
        (&"appeared".into(), &"rack-7".into())
    );
    assert_eq!(seen[1]["change"], "changed");
    assert_ne!(seen[1]["now"]["state"], "up", "{seen:?}");
    let seen = lines(following);
    assert_eq!(
        seen.len(),
        2,
        "it joined, and something is wrong with it: {seen:?}"
    );

    mesh.voters[2].kill();
    mesh.wait("a voter is missed", || {
        let tolerance = mesh.ask("/v1/quorum")?["failure_tolerance"].as_u64()?;
        (tolerance == 0).then_some(())
    });
    let kept = mesh.voters[0].riftmesh(&["mesh", "leave"]);
    assert_eq!(kept.status.code(), Some(1), "{kept:?}");
    assert!(
        String::from_utf8_lossy(&kept.stderr).contains("--force"),
        "{kept:?}"
    );
    let left = mesh.voters[0].riftmesh(&["mesh", "leave", "--force"]);
    assert!(left.status.success(), "{left:?}");
    assert_eq!(mesh.voters[0].wait_for_end().code(), Some(0));

    // The killed worker held no jobs, so nobody lists it any more.
    let rest = ["v0", "v1", "v2", "late"];
    for machine in [&mesh.late, &mesh.voters[1]] {
        let known = mesh.wait("all are known without a quorum", || {
            let all: Option<Vec<_>> = rest.iter().map(|name| told(machine, name)).collect();
            all
        });
        assert_eq!(known[3]["zone"], "rack-8");
    }
}
