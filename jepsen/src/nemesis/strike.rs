//! One fault: whom it hits, how it begins, and how it ends.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::clocks::{WallClock, clock};
use super::long_writes::LongWrites;
use super::network::{self, Links};
use super::replace::{VOTERS_MIN, may_lose_a_disk, replace};
use super::{Fault, FaultOutcome, SURVIVED};
use crate::cluster::Cluster;
use crate::dress::Dress;
use crate::net::wire::Tally;
use crate::pace::Pace;
use crate::tamper::{self, SyncFate, Tampering};
use crate::workload::Process;

/// A starved node runs for the second of these out of both, as under a processor quota.
const STARVED: (Duration, Duration) = (Duration::from_millis(90), Duration::from_millis(10));

/// A drained worker is let in again within this time, or the run is void.
const UNDRAIN_MAX: Duration = Duration::from_secs(60);

/// How a fault began.
pub enum Begun {
    /// It cannot be done here, and why.
    Skipped(String),
    /// It is on.
    Active(Active),
}

/// A fault that is on.
pub struct Active {
    /// Whom it hits.
    pub nodes: Vec<String>,
    /// What was done, in a few words.
    pub what: String,
    undo: Undo,
}

enum Undo {
    /// Start these again.
    Start(Vec<usize>),
    /// Let it go on.
    Resume(usize),
    /// Stop and continue it in turns while the fault is on.
    Strobe(usize),
    /// Mend the wire; what its rules had done before.
    Mend(Tally),
    /// The same, with links that come and go while the fault is on.
    Flap(Tally, Links),
    /// Mend the wire, after long writes.
    Widen(Tally, LongWrites),
    /// Empty its disk.
    Free(usize),
    /// Let it in again in place of the one that it was.
    Replace(usize, String),
    /// Let this worker, whose id this is, have work again.
    Undrain(String),
    /// Let its syncs be; whether they failed.
    Untamper(usize, Tampering, bool),
    /// Start it with the machine's clocks; what moves its wall clock while the fault is on.
    Undress(usize, Option<WallClock>),
}

/// Does one fault.
pub struct Strike<'a> {
    cluster: &'a Cluster,
    scout: &'a Process<'a>,
    rng: StdRng,
}

impl<'a> Strike<'a> {
    /// Choices follow from `seed`.
    pub fn new(cluster: &'a Cluster, scout: &'a Process<'a>, seed: u64) -> Self {
        Self {
            cluster,
            scout,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Breaks something.
    ///
    /// # Errors
    /// The harness's own trouble.
    pub fn begin(&mut self, fault: Fault) -> anyhow::Result<Begun> {
        match fault {
            Fault::KillLeader
            | Fault::KillFollower
            | Fault::KillWorker
            | Fault::KillQuorum
            | Fault::KillAll => self.kill(fault),
            Fault::Pause | Fault::PauseLeader | Fault::PauseWorker | Fault::Starve => {
                self.stop(fault)
            }
            Fault::DiskFull => self.fill_disk(),
            Fault::Wipe => self.wipe(),
            Fault::Drain => self.drain(),
            Fault::SlowSync | Fault::SyncError => self.tamper(fault),
            Fault::ClockBase | Fault::ClockRate | Fault::ClockJump | Fault::ClockStrobe => {
                self.dress(fault)
            }
            _ => self.break_wire(fault),
        }
    }

    /// Waits for `time`, or until the phase ends, doing what the fault does meanwhile.
    ///
    /// # Errors
    /// A process that has to be signalled is gone.
    pub fn hold(&mut self, active: &mut Active, time: Duration, pace: &Pace) -> anyhow::Result<()> {
        let began = Instant::now();
        match &mut active.undo {
            Undo::Strobe(number) => {
                while began.elapsed() < time && self.cluster.is_running(*number) {
                    self.cluster.pause(*number)?;
                    let goes_on = pace.wait(STARVED.0);
                    self.cluster.resume(*number)?;
                    if !goes_on || !pace.wait(STARVED.1) {
                        break;
                    }
                }
            }
            Undo::Flap(_, links) => {
                while began.elapsed() < time {
                    links.install(self.cluster.wire());
                    let down = Duration::from_millis(self.rng.random_range(200..1_500));
                    let goes_on = pace.wait(down);
                    if let Some(wire) = self.cluster.wire() {
                        wire.mend();
                    }
                    let up = Duration::from_millis(self.rng.random_range(100..1_000));
                    if !goes_on || !pace.wait(up) {
                        break;
                    }
                }
            }
            Undo::Undress(_, Some(wall)) => wall.drive(time, pace, &mut self.rng)?,
            Undo::Widen(_, writes) => writes.write_for(time, self.scout, &mut self.rng),
            _ => {
                pace.wait(time);
            }
        }
        Ok(())
    }

    /// Mends it, and says whether it had taken.
    ///
    /// # Errors
    /// A node cannot be started again.
    pub fn end(&mut self, active: Active) -> anyhow::Result<FaultOutcome> {
        match active.undo {
            Undo::Start(numbers) => {
                for number in numbers {
                    self.cluster.start(number)?;
                }
                Ok(FaultOutcome::Installed(active.what))
            }
            Undo::Resume(number) => {
                let stopped = self.cluster.process_state(number) == Some('T');
                self.cluster.resume(number)?;
                Ok(match stopped {
                    true => FaultOutcome::Installed(active.what),
                    false => FaultOutcome::Indeterminate("the process was not stopped".to_owned()),
                })
            }
            Undo::Strobe(number) => {
                let runs = self.cluster.is_running(number);
                self.cluster.start(number)?;
                Ok(match runs {
                    true => FaultOutcome::Installed(active.what),
                    false => FaultOutcome::Indeterminate("the process ended meanwhile".to_owned()),
                })
            }
            Undo::Mend(before) | Undo::Flap(before, _) => {
                Ok(self.mend(&before, |tally| match tally.touched() {
                    0 => FaultOutcome::Indeterminate(format!("no frame met the rule: {tally}")),
                    _ => FaultOutcome::Installed(tally.to_string()),
                }))
            }
            Undo::Widen(before, writes) => Ok(self.mend(&before, |tally| writes.outcome(tally))),
            Undo::Free(number) => self.free_disk(number),
            Undo::Replace(number, old) => replace(self.cluster, self.scout, number, &old),
            Undo::Undrain(id) => {
                let order = json!({"undrain-node": id});
                let done = Pace::default().wait_until(UNDRAIN_MAX, || self.scout.ordered(&order));
                anyhow::ensure!(
                    done,
                    "nobody lets {id} work again; the jobs would wait for ever"
                );
                Ok(FaultOutcome::Installed(active.what))
            }
            Undo::Untamper(number, tampering, failed) => {
                self.untamper(number, tampering, failed, &active.what)
            }
            Undo::Undress(number, _) => {
                let worn = self.cluster.is_dressed(number);
                if self.cluster.is_running(number) {
                    self.cluster.kill(number)?;
                }
                self.cluster.wear(number, Dress::Plain);
                self.cluster.start(number)?;
                Ok(match worn {
                    true => FaultOutcome::Installed(active.what),
                    false => FaultOutcome::Indeterminate("the process ended meanwhile".to_owned()),
                })
            }
        }
    }

    fn mend(&self, before: &Tally, judge: impl FnOnce(&Tally) -> FaultOutcome) -> FaultOutcome {
        let Some(wire) = self.cluster.wire() else {
            return FaultOutcome::Indeterminate("there is no wire".to_owned());
        };
        let tally = wire.tally().since(before);
        wire.mend();
        judge(&tally)
    }

    fn kill(&mut self, fault: Fault) -> anyhow::Result<Begun> {
        let voters = self.running(true);
        let victims = match fault {
            Fault::KillAll => [voters, self.running(false)].concat(),
            Fault::KillQuorum => {
                let mut voters = voters;
                voters.shuffle(&mut self.rng);
                voters.truncate(self.cluster.voters() / 2 + 1);
                voters
            }
            Fault::KillWorker => self.one_of(&self.running(false)),
            _ => {
                let Some(leader) = self.leader() else {
                    return Ok(Begun::Skipped("nobody is known to lead".to_owned()));
                };
                let leads = fault == Fault::KillLeader;
                let fit: Vec<_> = voters
                    .into_iter()
                    .filter(|voter| (*voter == leader) == leads)
                    .collect();
                self.one_of(&fit)
            }
        };
        if victims.is_empty() {
            return Ok(Begun::Skipped("nobody to do it to".to_owned()));
        }
        for victim in &victims {
            self.cluster.kill(*victim)?;
        }
        Ok(self.active(&victims, "killed", Undo::Start(victims.clone())))
    }

    fn stop(&mut self, fault: Fault) -> anyhow::Result<Begun> {
        let fit = match fault {
            Fault::PauseLeader => self.leader().into_iter().collect(),
            Fault::PauseWorker => self.running(false),
            _ => [self.running(true), self.running(false)].concat(),
        };
        let Some(victim) = self.one_of(&fit).first().copied() else {
            return Ok(Begun::Skipped("nobody to do it to".to_owned()));
        };
        if fault == Fault::Starve {
            return Ok(self.active(&[victim], "starved", Undo::Strobe(victim)));
        }
        self.cluster.pause(victim)?;
        Ok(self.active(&[victim], "stopped", Undo::Resume(victim)))
    }

    fn break_wire(&mut self, fault: Fault) -> anyhow::Result<Begun> {
        let Some(wire) = self.cluster.wire() else {
            let why = "there is no wire on loopback: nodes tell each other the address they listen at, so no proxy \
                       can stand between them; use --net namespaces";
            return Ok(Begun::Skipped(why.to_owned()));
        };
        let leader = self.leader();
        let nodes = self.cluster.nodes().len();
        let links = match network::links(fault, self.cluster.voters(), nodes, leader, &mut self.rng)
        {
            Ok(links) => links,
            Err(why) => return Ok(Begun::Skipped(why)),
        };
        let before = wire.tally();
        links.install(Some(wire));
        let what = links.what.clone();
        let hit = links.hit.clone();
        let undo = match fault {
            Fault::Flapping => Undo::Flap(before, links),
            Fault::Mtu => Undo::Widen(before, LongWrites::default()),
            _ => Undo::Mend(before),
        };
        Ok(self.active(&hit, &what, undo))
    }

    fn fill_disk(&mut self) -> anyhow::Result<Begun> {
        let victims = self.one_of(&self.running(true));
        let Some(victim) = victims.first().copied() else {
            return Ok(Begun::Skipped("nobody to do it to".to_owned()));
        };
        let Some(disk) = &self.cluster.nodes()[victim].disk else {
            let why = "nodes have no disks of their own on loopback; use --net namespaces";
            return Ok(Begun::Skipped(why.to_owned()));
        };
        disk.fill()?;
        Ok(self.active(&victims, "its disk filled", Undo::Free(victim)))
    }

    fn free_disk(&self, number: usize) -> anyhow::Result<FaultOutcome> {
        let plan = &self.cluster.nodes()[number];
        let ended = !self.cluster.is_running(number);
        let mut full = false;
        if let Some(disk) = &plan.disk {
            full = disk.is_full();
            disk.free()?;
        }
        self.cluster.start(number)?;
        Ok(match (full, ended) {
            (true, _) => {
                FaultOutcome::Installed(format!("full to the end; process ended: {ended}"))
            }
            // A node that makes room by itself was hit all the same, and one that ended gave its room back.
            (false, _) => FaultOutcome::Indeterminate(format!(
                "there was room in the end; process ended: {ended}"
            )),
        })
    }

    fn wipe(&mut self) -> anyhow::Result<Begun> {
        if !may_lose_a_disk(self.cluster, self.scout) {
            return Ok(Begun::Skipped(format!(
                "there are not {VOTERS_MIN} voters that all vote, hear the leader and have everything: with one disk less \
                 what was acknowledged could be lost"
            )));
        }
        let victims = self.one_of(&self.running(true));
        let Some(victim) = victims.first().copied() else {
            return Ok(Begun::Skipped("nobody to do it to".to_owned()));
        };
        let Some(old) = self.scout.own_id(&self.cluster.nodes()[victim]) else {
            return Ok(Begun::Skipped("it does not say who it is".to_owned()));
        };
        self.cluster.kill(victim)?;
        self.cluster.wipe(victim)?;
        Ok(self.active(&victims, "killed and wiped", Undo::Replace(victim, old)))
    }

    fn drain(&mut self) -> anyhow::Result<Begun> {
        let victims = self.one_of(&self.running(false));
        let Some(victim) = victims.first().copied() else {
            return Ok(Begun::Skipped("nobody to do it to".to_owned()));
        };
        let Some(id) = self.scout.own_id(&self.cluster.nodes()[victim]) else {
            return Ok(Begun::Skipped("it does not say who it is".to_owned()));
        };
        let within = self.rng.random_range(0..2_000);
        let order = json!({"drain-node": {"node": id, "within": within}});
        if !self.scout.ordered(&order) {
            // It may have been carried out all the same.
            return Ok(self.active(&victims, "perhaps drained", Undo::Undrain(id)));
        }
        Ok(self.active(
            &victims,
            &format!("drained within {within} ms"),
            Undo::Undrain(id),
        ))
    }

    fn tamper(&mut self, fault: Fault) -> anyhow::Result<Begun> {
        let victims = self.one_of(&self.running(true));
        let Some(victim) = victims.first().copied() else {
            return Ok(Begun::Skipped("nobody to do it to".to_owned()));
        };
        if !tamper::is_possible() {
            return Ok(Begun::Skipped("strace is not installed".to_owned()));
        }
        let Some(id) = self.cluster.process(victim) else {
            return Ok(Begun::Skipped("it has just ended".to_owned()));
        };
        let fails = fault == Fault::SyncError;
        let (fate, what) = if fails {
            (SyncFate::Fails, "its syncs fail".to_owned())
        } else {
            let late = Duration::from_millis(self.rng.random_range(50..600));
            let what = format!("its syncs take {late:?} longer");
            (SyncFate::Late(late), what)
        };
        let log = self.cluster.beside(victim, "strace");
        let tampering = Tampering::begin(id, fate, &log)?;
        Ok(self.active(&victims, &what, Undo::Untamper(victim, tampering, fails)))
    }

    fn untamper(
        &self,
        number: usize,
        tampering: Tampering,
        failed: bool,
        what: &str,
    ) -> anyhow::Result<FaultOutcome> {
        let met = tampering.end()?;
        let lives = self.cluster.is_running(number);
        self.cluster.start(number)?;
        if met == 0 {
            let why = "no sync was met".to_owned();
            return Ok(FaultOutcome::Indeterminate(why));
        }
        let after = match (failed, lives) {
            (false, _) => "",
            (true, false) => "; it ended",
            (true, true) => SURVIVED,
        };
        Ok(FaultOutcome::Installed(format!(
            "{what}, {met} of them{after}"
        )))
    }

    /// Starts a voter again with another clock.
    fn dress(&mut self, fault: Fault) -> anyhow::Result<Begun> {
        let victims = self.one_of(&self.running(true));
        let Some(victim) = victims.first().copied() else {
            return Ok(Begun::Skipped("nobody to do it to".to_owned()));
        };
        let file = self.cluster.beside(victim, "clock");
        let (dress, wall) = clock(fault, file, &mut self.rng)?;
        if let Some(why) = dress.missing() {
            return Ok(Begun::Skipped(why));
        }
        let what = format!("started again in {dress:?}");
        self.cluster.kill(victim)?;
        self.cluster.wear(victim, dress);
        self.cluster.start(victim)?;
        Ok(self.active(&victims, &what, Undo::Undress(victim, wall)))
    }

    fn active(&self, victims: &[usize], what: &str, undo: Undo) -> Begun {
        let name = |victim: &usize| self.cluster.nodes()[*victim].name.clone();
        Begun::Active(Active {
            nodes: victims.iter().map(name).collect(),
            what: what.to_owned(),
            undo,
        })
    }

    /// Running voters, or running workers.
    fn running(&self, voters: bool) -> Vec<usize> {
        let nodes = self.cluster.nodes().iter().enumerate();
        let fit =
            nodes.filter(|(number, plan)| plan.voter == voters && self.cluster.is_running(*number));
        fit.map(|(number, _)| number).collect()
    }

    fn leader(&self) -> Option<usize> {
        let name = self.scout.leader()?;
        let leads = self
            .cluster
            .nodes()
            .iter()
            .position(|plan| plan.name == name)?;
        self.cluster.is_running(leads).then_some(leads)
    }

    fn one_of(&mut self, fit: &[usize]) -> Vec<usize> {
        fit.choose(&mut self.rng).copied().into_iter().collect()
    }
}
