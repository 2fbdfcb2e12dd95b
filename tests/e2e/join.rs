//! Machines that come with a join token: the real binary, as a new user would run it, and as somebody would who should
//! not get in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use riftmesh_base::{BlobHash, ClusterId, JoinTokenId, Millis};
use riftmesh_transport::{JoinToken, TokenSecret, knock};
use serde_json::{Value, json};

use crate::cluster::free_ports;
use crate::machine::{Machine, wait};

const VOTERS: u16 = 3;

/// Three voters, and machines that run nothing yet.
pub struct Mesh {
    pub voters: Vec<Machine>,
    pub seeds: String,
    /// The voters' credential.
    pub credential: String,
    /// A machine that joins.
    pub worker: Machine,
    /// A machine that tries.
    pub intruder: Machine,
    /// One more.
    pub late: Machine,
    _folder: tempfile::TempDir,
}

impl Mesh {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let credential = folder.path().join("cluster.credential");
        make_credential(&credential);
        let port = free_ports(VOTERS + 3);
        let machine = |name: &str, at| Machine::new(folder.path(), name, port + at);
        let mut voters: Vec<_> = (0..VOTERS)
            .map(|at| machine(&format!("v{at}"), at))
            .collect();
        let seeds: Vec<_> = voters.iter().map(Machine::address).collect();
        let seeds = seeds.join(",");
        let credential = credential.to_str().unwrap().to_owned();
        for voter in &mut voters {
            voter.start(
                &seeds,
                &["--credential", &credential, "--bootstrap-expect", "3"],
            );
        }
        let mesh = Self {
            worker: machine("w", VOTERS),
            intruder: machine("intruder", VOTERS + 1),
            late: machine("late", VOTERS + 2),
            voters,
            credential,
            seeds,
            _folder: folder,
        };
        mesh.wait("a leader", || {
            mesh.ask("/v1/leader")?["confirmed"]
                .as_bool()?
                .then_some(())
        });
        mesh
    }

    pub fn wait<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        let machines: Vec<_> = self
            .voters
            .iter()
            .chain([&self.worker, &self.intruder])
            .collect();
        wait(what, &machines, look)
    }

    pub fn ask(&self, path: &str) -> Option<Value> {
        self.voters[0].ask(path)
    }

    /// A token as `token create` prints it.
    pub fn token(&self, options: &[&str]) -> String {
        let output = self.voters[0].riftmesh(&[&["token", "create"], options].concat());
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim().to_owned()
    }

    /// How often any voter has sent somebody away for this reason.
    fn refused(&self, reason: &str) -> u64 {
        let counts = self.voters.iter().map(|voter| {
            let answer = voter.ask("/v1/certificate").unwrap();
            answer["refused"][reason].as_u64().unwrap_or(0)
        });
        counts.sum()
    }

    /// A stranger comes with `token` and is told `reason`; a voter counts `word`, if one was reached.
    fn sent_away(&self, token: &str, word: Option<&str>, reason: &str) {
        self.turned_away(&self.intruder, token, word, reason);
    }

    /// The same of any machine.
    fn turned_away(&self, machine: &Machine, token: &str, word: Option<&str>, reason: &str) {
        let before = word.map(|word| self.refused(word));
        let said = machine.refused(&self.seeds, &["--join", token]);
        assert!(said.contains(reason), "`{reason}` is not in: {said}");
        assert!(!said.contains(token), "the token is repeated: {said}");
        if let (Some(word), Some(before)) = (word, before) {
            assert_eq!(self.refused(word), before + 1, "{word}");
            let logs: Vec<_> = self.voters.iter().map(Machine::log).collect();
            assert!(logs.iter().any(|log| log.contains(reason)), "{reason}");
        }
        let came = machine.dir.join("data/node.credential");
        assert!(!came.exists(), "{word:?} let it in");
    }

    pub fn member(&self) -> Option<Value> {
        let members = self.ask("/v1/members")?;
        let mut members = members.as_array()?.iter();
        members.find(|member| member["name"] == "w").cloned()
    }
}

fn make_credential(path: &std::path::Path) {
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_riftmesh"))
        .args(["cluster", "create", "--out"])
        .arg(path)
        .status();
    assert!(made.unwrap().success());
}

/// One line lets a machine in, it works, it comes back without the token, it is certified anew, and it is out for good
/// when an operator says so.
#[test]
fn a_machine_joins_with_a_token() {
    let mut mesh = Mesh::start();
    let token = mesh.token(&["--uses", "1", "--expires", "1h"]);
    let seeds = mesh.seeds.clone();
    // By the environment, which jobs do not inherit, or by a file; neither shows in a list of processes.
    let file = mesh.worker.dir.join("token");
    fs::write(&file, &token).unwrap();
    mesh.worker
        .start(&seeds, &["--join", "@token", "--slots", "1"]);
    let member = mesh.wait("the worker is there", || {
        mesh.member()
            .filter(|member| member["state"] == "up" && !member["session"].is_null())
    });
    assert_eq!(member["role"], "worker");
    let node = member["node"].as_str().unwrap().to_owned();
    mesh.wait("it does a job", || {
        let jobs = mesh.ask("/v1/jobs?state=done&limit=10")?;
        (!jobs.as_array()?.is_empty()).then_some(())
    });
    let secret = mesh.worker.dir.join("data/node.credential");
    let mode = fs::metadata(&secret).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!mesh.worker.dir.join("data/node.key").exists());
    let listed = mesh.ask("/v1/tokens").unwrap();
    assert_eq!(listed[0]["nodes"], json!([node]));
    assert!(listed[0].get("secret").is_none(), "{listed}");

    let peers = mesh.worker.dir.join("data/peers");
    mesh.wait("it has written down whom it met", || {
        let met = fs::read_to_string(&peers).ok()?;
        (met.lines().count() == 1 + mesh.voters.len()).then_some(())
    });
    mesh.worker.kill();
    fs::remove_file(&file).unwrap();
    let gone = mesh.late.address();
    mesh.worker.start(&gone, &["--slots", "1"]);
    let session = member["session"].clone();
    mesh.wait(
        "it is back without the token, and none of its seeds lives",
        || {
            mesh.member()
                .filter(|now| now["node"] == node.as_str() && !now["session"].is_null())
                .filter(|now| now["session"] != session)
        },
    );

    let issued =
        |mesh: &Mesh| mesh.ask("/v1/certificates").unwrap()["certificates"][0]["issued"].as_u64();
    let before = issued(&mesh);
    let renewed = mesh.worker.riftmesh(&["cert", "renew", "--json"]);
    assert!(renewed.status.success(), "{renewed:?}");
    assert!(issued(&mesh) > before);

    let denied = mesh
        .worker
        .riftmesh(&["cert", "revoke", &node, "--reason", "mine"]);
    assert!(!denied.status.success());
    assert!(
        String::from_utf8(denied.stderr)
            .unwrap()
            .contains("may not order")
    );
    let denied = mesh.worker.riftmesh(&["token", "create"]);
    assert!(!denied.status.success());
    assert!(mesh.refused("not-permitted") > 0);

    let reason = "stolen from the rack";
    let revoked = mesh.voters[0].riftmesh(&["cert", "revoke", &node, "--reason", reason]);
    assert!(revoked.status.success(), "{revoked:?}");
    mesh.wait("it is out", || {
        let out = mesh.member()?["session"].is_null() && mesh.refused("revoked") > 0;
        out.then_some(())
    });
    mesh.wait("it is told", || {
        mesh.worker.log().contains("revoked").then_some(())
    });
    let counted = r#"riftmesh_refused_total{reason="revoked"}"#;
    let counts = |voter: &Machine| voter.text("/metrics").unwrap().contains(counted);
    assert!(mesh.voters.iter().any(counts));

    // Nor does another token help it.
    mesh.worker.kill();
    fs::remove_file(&secret).unwrap();
    let token = mesh.token(&["--expires", "1h"]);
    let reason = "this node was revoked";
    mesh.turned_away(&mesh.worker, &token, Some("node-revoked"), reason);
}

/// Whoever comes with something else than a good token is told what is wrong with it, and so is the operator.
#[test]
fn strangers_are_sent_away() {
    let mut mesh = Mesh::start();
    let seeds = mesh.seeds.clone();
    let good = mesh.token(&["--expires", "1h"]);
    let token: JoinToken = good.parse().unwrap();
    let like = |change: fn(&mut JoinToken)| {
        let mut other = token.clone();
        change(&mut other);
        other.to_text().to_string()
    };
    mesh.sent_away("sesame", None, "not a join token");
    mesh.sent_away(&good[..good.len() - 9], None, "damaged join token");
    let unknown = like(|token| token.id = JoinTokenId(1));
    mesh.sent_away(&unknown, Some("unknown-token"), "has no such join token");
    let guessed = like(|token| token.secret = TokenSecret::generate());
    mesh.sent_away(
        &guessed,
        Some("wrong-secret"),
        "the secret of the join token is wrong",
    );
    // Nothing was shown to voters that cannot show what these pin.
    let elsewhere = like(|token| token.cluster = ClusterId([9; 16]));
    mesh.sent_away(
        &elsewhere,
        None,
        "nobody there belongs to the token's cluster",
    );
    let pinned = like(|token| token.authority = BlobHash([9; 32]));
    mesh.sent_away(&pinned, None, "nobody there belongs to the token's cluster");
    let over = like(|token| token.expires = Millis(1));
    mesh.sent_away(&over, None, "the join token has expired");

    let short = mesh.token(&["--expires", "1s"]);
    mesh.wait("the short token is over", || {
        let output = mesh.voters[0].riftmesh(&["token", "list"]);
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("expired")
            .then_some(())
    });
    // Its own text would give it away to the machine itself.
    let mut short: JoinToken = short.parse().unwrap();
    short.expires = Millis(u64::MAX >> 1);
    mesh.sent_away(
        &short.to_text(),
        Some("token-expired"),
        "the join token has expired",
    );

    let revoked = mesh.token(&[]);
    let id = revoked.parse::<JoinToken>().unwrap().id.to_string();
    let output = mesh.voters[0].riftmesh(&["token", "revoke", &id]);
    assert!(output.status.success(), "{output:?}");
    mesh.sent_away(
        &revoked,
        Some("token-revoked"),
        "the join token was revoked",
    );

    mesh.worker
        .start(&seeds, &["--join", &good, "--slots", "0"]);
    let came = mesh.worker.dir.join("data/node.credential");
    mesh.wait("somebody joins", || came.exists().then_some(()));
    mesh.sent_away(&good, Some("token-used-up"), "the join token is used up");
    // Its id without its key: a directory of which the secret part is missing.
    mesh.worker.kill();
    let kept = mesh.worker.dir.join("kept");
    fs::rename(&came, &kept).unwrap();
    let another = mesh.token(&["--expires", "1h"]);
    let reason = "another key is known under this node id";
    mesh.turned_away(&mesh.worker, &another, Some("node-taken"), reason);
    fs::rename(&kept, &came).unwrap();
    // What is no request at all.
    let before = mesh.refused("malformed");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let voter = mesh.voters[0].address().parse().unwrap();
    let (cluster, authority) = (token.cluster, token.authority);
    let knocking = knock(
        voter,
        cluster,
        authority,
        b"\x01\xff\xff".as_slice().into(),
        Duration::from_secs(5),
    );
    let answer = runtime.block_on(knocking).unwrap();
    assert!(
        String::from_utf8_lossy(&answer).contains("malformed request"),
        "{answer:?}"
    );
    assert_eq!(mesh.refused("malformed"), before + 1);
    // A directory that was copied is not another node, and a voter needs more than a token.
    let said = mesh.intruder.refused(&seeds, &["--role", "voter"]);
    assert!(
        said.contains("a voter needs the cluster's credential"),
        "{said}"
    );
    let said = mesh.intruder.refused(&seeds, &[]);
    assert!(said.contains("holds no certificate"), "{said}");
    fs::copy(came, mesh.intruder.dir.join("data/node.credential")).unwrap();
    let said = mesh.intruder.refused(&seeds, &[]);
    assert!(said.contains("cannot be copied"), "{said}");
}

/// Voters certify anew what the cluster let in, and nothing else: not a machine that once certified itself with the
/// cluster's credential and has it no more.
#[test]
fn what_the_cluster_did_not_issue_is_not_renewed() {
    let mut mesh = Mesh::start();
    let (seeds, credential) = (mesh.seeds.clone(), mesh.credential.clone());
    let trusted = ["--credential", &credential, "--role", "worker"];
    mesh.worker
        .start(&seeds, &[&trusted[..], &["--slots", "0"]].concat());
    mesh.wait("it certifies itself", || {
        let renewed = mesh.worker.riftmesh(&["cert", "renew"]);
        renewed.status.success().then_some(())
    });
    mesh.worker.kill();
    mesh.worker.start(&seeds, &["--slots", "0"]);
    let before = mesh.refused("not-certified");
    let reason = "the cluster has no record of a certificate of this node";
    mesh.wait("it is told", || {
        let denied = mesh.worker.riftmesh(&["cert", "renew"]);
        assert!(!denied.status.success(), "it was certified: {denied:?}");
        let said = String::from_utf8(denied.stderr).unwrap();
        said.contains(reason).then_some(())
    });
    assert!(mesh.refused("not-certified") > before);
    let logs: Vec<_> = mesh.voters.iter().map(Machine::log).collect();
    assert!(logs.iter().any(|log| log.contains(reason)), "{logs:?}");
}
