//! Eight machines with addresses of their own, one of them behind a router that lets nobody in: who is a member, and what
//! becomes of that under one-way cuts, loss, a link that comes and goes, another address, and the ends of machines. Looked
//! at through the command line's `--json`, and through every frame on the wire.

mod machine;
mod sightings;
pub mod trials;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use self::machine::{Machine, PORT};
use crate::net::masquerade::Masquerade;
use crate::net::namespace::{self, Namespace};
use crate::net::rule::Rule;
use crate::net::spy::Spy;
use crate::net::wire::Wire;
use crate::pace::Pace;

/// The machines, voters first. The last one is behind the router. Long names: short ones occur by chance in what is encrypted.
const NAMES: [&str; 8] = [
    "alderwood",
    "birchwood",
    "cedarwood",
    "dogwoods-4",
    "elmwoods-5",
    "firwoods-6",
    "ginkgotree",
    "hazelwoods",
];
const VOTERS: usize = 3;
const HIDDEN: usize = 7;
/// The others that the story is about.
const DEAF_TO_ONE: usize = 4;
const FLAPPING: usize = 5;
const MOVING: usize = 6;
/// Under which address others see the one behind the router.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 208);
/// Where one moves to.
const NEW_PLACE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 107);
/// The network is bad for so long: more than a silent member is given.
const WEATHER: Duration = Duration::from_secs(24);
/// Each change of the flapping link.
const FLAP: Duration = Duration::from_millis(1_500);
/// Frames lost in a thousand meanwhile.
const LOSS: u32 = 50;
/// What takes a second or two on a machine at rest is waited for so long: how soon is for the benchmarks to say, and a machine
/// that is busy with something else is not a broken mesh.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs the whole story in the room; its lines go to `tell`.
///
/// # Errors
/// The first thing that is not as it should be, or that the machine does not permit.
pub fn run(binary: &Path, folder: &Path, tell: &dyn Fn(&str)) -> anyhow::Result<()> {
    let mut eight = Eight::build(binary, folder, tell)?;
    let outcome = eight.story();
    if outcome.is_err() {
        tell(&format!("the nodes' logs are in {}", folder.display()));
    }
    outcome
}

struct Eight<'a> {
    machines: Vec<Machine>,
    wire: Wire,
    spy: Arc<Mutex<Spy>>,
    seeds: String,
    credential: String,
    tell: &'a dyn Fn(&str),
}

impl<'a> Eight<'a> {
    fn build(binary: &Path, folder: &Path, tell: &'a dyn Fn(&str)) -> anyhow::Result<Self> {
        let (mut machines, mut ends) = (Vec::new(), Vec::new());
        let count = u8::try_from(NAMES.len())?;
        for (number, name) in (0..count).zip(NAMES) {
            let (namespace, end) = Namespace::create(name, number, count)?;
            machines.push(Machine::new(name, number, namespace, folder, binary)?);
            ends.push(end);
        }
        let wire = Wire::lay(ends, 1);
        let inside = machines[HIDDEN].address;
        wire.masquerade(HIDDEN, Masquerade::new(inside, OUTSIDE));
        for machine in &machines {
            namespace::know(&machine.name, OUTSIDE, u8::try_from(HIDDEN)?)?;
            namespace::know(&machine.name, NEW_PLACE, u8::try_from(MOVING)?)?;
        }
        let seeds = machines[..VOTERS].iter();
        let seeds: Vec<_> = seeds.map(|m| format!("{}:{PORT}", m.address)).collect();
        // What strangers would like to read.
        let words = NAMES.map(|name| (format!("the name {name}"), name.as_bytes().to_vec()));
        let spy = Arc::new(Mutex::new(Spy::new(PORT, words)));
        let watched = Arc::clone(&spy);
        wire.watch(move |frame| {
            let mut spy = watched.lock().unwrap_or_else(PoisonError::into_inner);
            spy.look(frame);
        });
        Ok(Self {
            machines,
            wire,
            spy,
            seeds: seeds.join(","),
            credential: folder.join("cluster.credential").display().to_string(),
            tell,
        })
    }

    fn story(&mut self) -> anyhow::Result<()> {
        self.form()?;
        self.work_behind_the_router()?;
        self.weather()?;
        self.another_address()?;
        self.the_relay_dies()?;
        self.the_hidden_one_dies()?;
        self.nothing_was_readable()
    }

    /// Three voters found the cluster, and five machines come with a token.
    fn form(&mut self) -> anyhow::Result<()> {
        let credential = self.credential.clone();
        self.machines[0].say(&["cluster", "create", "--out", &credential])?;
        let seeds = self.seeds.clone();
        for voter in &mut self.machines[..VOTERS] {
            voter.start(&[
                "--credential",
                &credential,
                "--seeds",
                &seeds,
                "--bootstrap-expect",
                "3",
                "--preset",
                "smoke",
            ])?;
        }
        let mut token = None;
        self.wait_for("the voters make a token", |eight| {
            let made = eight.machines[0].say(&["token", "create", "--uses", "5"]);
            token = made.ok();
            token.is_some()
        })?;
        let token = token.context("no token")?.trim().to_owned();
        self.spy().seek("the join token", token.as_bytes());
        for (number, worker) in self.machines.iter_mut().enumerate().skip(VOTERS) {
            let mut options = vec!["--join", &token, "--seeds", &seeds, "--slots", "1"];
            if number == HIDDEN {
                options.push("--dial-out");
            }
            worker.start(&options)?;
        }
        self.wait_for("all eight are up everywhere", |eight| {
            eight.everybody(|members| NAMES.iter().all(|name| state(members, name) == Some("up")))
        })?;
        self.wait_for("everybody knows the relay of the hidden one", |eight| {
            let relay = eight.relay_of_hidden();
            relay.is_some() && eight.everybody(|members| relay_of(members) == relay)
        })
    }

    /// The hidden one claims jobs and completes them.
    fn work_behind_the_router(&mut self) -> anyhow::Result<()> {
        let id = self.id_of(HIDDEN)?;
        let mut claimed: Vec<(String, String)> = Vec::new();
        self.wait_for("the hidden one completes a job that it claimed", |eight| {
            let Ok(jobs) = eight.machines[1].ask(&["job", "list", "--limit", "200"]) else {
                return false;
            };
            for job in jobs.as_array().into_iter().flatten() {
                if let Some(token) = lease_of(job, &id)
                    && let Some(job) = job["id"].as_str()
                {
                    claimed.push((job.to_owned(), token));
                }
            }
            let is_done = |job: &Value| {
                let key = (job["id"].as_str(), job["last_token"].as_str());
                let claim = claimed
                    .iter()
                    .any(|(id, token)| key == (Some(id), Some(token)));
                claim && job["state"].to_string().to_lowercase().contains("done")
            };
            jobs.as_array().into_iter().flatten().any(is_done)
        })
    }

    /// A one-way cut, a flapping link and loss everywhere, all at once: nobody is given up.
    fn weather(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let (mut looks, mut unanswered, mut is_up) = (0, 0, true);
        let before = self.wire.tally();
        while begin.elapsed() < WEATHER {
            is_up = !is_up;
            self.wire.set(|from, to| Rule {
                loss: LOSS,
                cut: (from, to) == (VOTERS, DEAF_TO_ONE)
                    || (!is_up && (from == FLAPPING || to == FLAPPING)),
                ..Rule::default()
            });
            Pace::default().wait(FLAP);
            for machine in &self.machines {
                // On a worker a voter answers, so that this is the three voters' view.
                let Ok(members) = machine.ask(&["members"]) else {
                    unanswered += 1;
                    continue;
                };
                for name in NAMES {
                    ensure!(
                        matches!(state(&members, name), Some("up" | "suspect")),
                        "FAILED  {} gave {name} up in bad weather, after {:?}: {members}",
                        machine.name,
                        begin.elapsed()
                    );
                }
                looks += 1;
            }
        }
        let tally = self.wire.tally().since(&before);
        self.wire.mend();
        ensure!(
            tally.cut > 0 && tally.lost > 0 && looks > unanswered,
            "FAILED  the weather was not bad, or hardly anybody could be asked: {tally}, {looks} answers, {unanswered} questions \
             without"
        );
        (self.tell)(&format!(
            "ok      nobody was given up by anybody in {looks} looks over {:?} of a one-way cut, a flapping link and {} % loss \
             ({tally})",
            begin.elapsed(),
            LOSS / 10
        ));
        self.wait_for("all are up again everywhere", |eight| {
            eight.everybody(|members| NAMES.iter().all(|name| state(members, name) == Some("up")))
        })
    }

    /// A machine moves: same node, same id, another address.
    fn another_address(&mut self) -> anyhow::Result<()> {
        let id = self.id_of(MOVING)?;
        let seeds = self.seeds.clone();
        let machine = &mut self.machines[MOVING];
        machine.kill()?;
        machine.move_to(NEW_PLACE)?;
        machine.start(&["--seeds", &seeds, "--slots", "1"])?;
        let address = format!("{NEW_PLACE}:{PORT}");
        self.wait_for(
            "one that moved is known by its new address, as who it was",
            |eight| {
                eight.everybody(|members| {
                    member(members, NAMES[MOVING]).is_some_and(|member| {
                        (
                            member["address"].as_str(),
                            member["node"].as_str(),
                            member["state"].as_str(),
                        ) == (Some(&address), Some(&id), Some("up"))
                    })
                })
            },
        )
    }

    fn the_relay_dies(&mut self) -> anyhow::Result<()> {
        let relay = self.relay_of_hidden().context("no relay")?;
        let number = self
            .machines
            .iter()
            .position(|machine| format!("{}:{PORT}", machine.address) == relay)
            .with_context(|| format!("{relay} is none of the eight"))?;
        self.machines[number].kill()?;
        let living = |eight: &Self, number: usize| {
            let machines = eight.machines.iter().enumerate();
            let asked = machines.filter(|(other, _)| *other != number);
            let answers: Vec<_> = asked
                .map(|(_, machine)| machine.ask(&["members"]).unwrap_or_default())
                .collect();
            answers
        };
        self.wait_for(
            "the hidden one has another relay, and is up for all who are left",
            |eight| {
                living(eight, number).iter().all(|members| {
                    let now = relay_of(members);
                    now.is_some_and(|now| now != relay)
                        && state(members, NAMES[HIDDEN]) == Some("up")
                })
            },
        )?;
        let (seeds, credential) = (self.seeds.clone(), self.credential.clone());
        let machine = &mut self.machines[number];
        match number < VOTERS {
            true => machine.start(&[
                "--credential",
                &credential,
                "--seeds",
                &seeds,
                "--bootstrap-expect",
                "3",
                "--preset",
                "smoke",
            ])?,
            false => machine.start(&["--seeds", &seeds, "--slots", "1"])?,
        }
        self.wait_for("the relay that died is back", |eight| {
            eight.everybody(|members| state(members, NAMES[number]) == Some("up"))
        })
    }

    /// A silent end behind a router leaves no evidence: it takes the whole suspicion, and its session ends with it.
    fn the_hidden_one_dies(&mut self) -> anyhow::Result<()> {
        self.machines[HIDDEN].kill()?;
        self.wait_for(
            "the hidden one is down everywhere, and has no session and no job",
            |eight| {
                eight.machines[..HIDDEN].iter().all(|machine| {
                    let members = machine.ask(&["members"]).unwrap_or_default();
                    member(&members, NAMES[HIDDEN]).is_some_and(|member| {
                        member["state"] == "down"
                            && member["session"].is_null()
                            && member["jobs"] == 0
                    })
                })
            },
        )
    }

    fn nothing_was_readable(&mut self) -> anyhow::Result<()> {
        let spy = self.spy();
        ensure!(
            spy.found().is_empty(),
            "FAILED  seen on the wire:\n{}",
            spy.found().join("\n")
        );
        ensure!(
            spy.quic() > 1_000,
            "FAILED  only {} packets were seen",
            spy.quic()
        );
        (self.tell)(&format!(
            "ok      on the wire there was nothing but QUIC, and nothing readable: {spy}"
        ));
        Ok(())
    }

    fn spy(&self) -> std::sync::MutexGuard<'_, Spy> {
        self.spy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done`, and tells how long it took.
    fn wait_for(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> anyhow::Result<()> {
        let begin = Instant::now();
        if !Pace::default().wait_until(PATIENCE, || done(self)) {
            for machine in &mut self.machines {
                let life = if machine.is_running() {
                    "runs"
                } else {
                    "ended"
                };
                let members = machine.ask(&["members"]).unwrap_or_default();
                (self.tell)(&format!("{} {life}, and sees {members}", machine.name));
            }
            bail!("FAILED  {what}: not within {PATIENCE:?}");
        }
        (self.tell)(&format!(
            "ok      {what}: {:.1} s",
            begin.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    fn everybody(&self, sees: impl Fn(&Value) -> bool) -> bool {
        let mut machines = self.machines.iter();
        machines.all(|machine| {
            machine
                .ask(&["members"])
                .is_ok_and(|members| sees(&members))
        })
    }

    fn id_of(&self, number: usize) -> anyhow::Result<String> {
        let members = self.machines[0].ask(&["members"])?;
        let id = member(&members, NAMES[number]).and_then(|member| member["node"].as_str());
        id.map(str::to_owned).context("it is no member")
    }

    fn relay_of_hidden(&self) -> Option<String> {
        relay_of(&self.machines[VOTERS].ask(&["members"]).ok()?)
    }
}

fn member<'a>(members: &'a Value, name: &str) -> Option<&'a Value> {
    members
        .as_array()?
        .iter()
        .find(|member| member["name"] == name)
}

fn state<'a>(members: &'a Value, name: &str) -> Option<&'a str> {
    member(members, name)?["state"].as_str()
}

fn relay_of(members: &Value) -> Option<String> {
    let relay = member(members, NAMES[HIDDEN])?["relay"].as_str();
    relay.map(str::to_owned)
}

/// The token under which `node` holds a job, if it does.
fn lease_of(job: &Value, node: &str) -> Option<String> {
    let variants = job["state"].as_object()?.values();
    let mut leases = variants.filter(|lease| lease["node"] == node);
    leases.next()?["token"].as_str().map(str::to_owned)
}
