//! What befalls the voters: cuts of every shape, weather, power failures, pauses, slow disks, changes of the leader and
//! of the group. Each kind goes on for a random while and is then undone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use riftmesh_base::NodeId;
use riftmesh_raft::mutants::{Mutant, is_planted};
use riftmesh_raft::{MemberOrder, MemberProgress};
use tokio::time::sleep;

use crate::users::Users;
use crate::voters::{FormError, Voters, address, lock};

/// How long one step of a change of members may take.
const ORDER_WITHIN: Duration = Duration::from_secs(5);

/// The shapes of cuts.
const CUTS: [&str; 10] = [
    "isolate-leader",
    "isolate-one",
    "deaf",
    "mute",
    "one-way",
    "halves",
    "bridge",
    "single-link",
    "ring",
    "flap",
];
/// What the network does without cutting.
const WEATHER: [&str; 2] = ["loss", "delay"];
/// What happens to machines.
const MISHAPS: [&str; 8] = [
    "crash-leader",
    "crash-one",
    "crash-some",
    "crash-all",
    "pause-leader",
    "pause-one",
    "slow-disk",
    "transfer",
];
/// Voters at most.
const VOTERS_MAX: usize = 7;
/// Voters at least.
const VOTERS_MIN: usize = 3;

/// Breaks things, and counts what it broke.
pub struct Faults {
    users: Arc<Users>,
    fired: Mutex<BTreeMap<&'static str, usize>>,
    failure: Mutex<Option<FormError>>,
}

fn millis(rng: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

impl Faults {
    /// Faults for the voters that `users` use. Nothing happens until its tasks run.
    pub fn new(users: Arc<Users>) -> Arc<Self> {
        Arc::new(Self {
            users,
            fired: Mutex::default(),
            failure: Mutex::default(),
        })
    }

    /// How often each kind fired.
    pub fn fired(&self) -> BTreeMap<&'static str, usize> {
        lock(&self.fired).clone()
    }

    /// Why a machine did not start, if one did not.
    pub fn failure(&self) -> Option<FormError> {
        lock(&self.failure).clone()
    }

    /// Notes that a machine did not start.
    pub(crate) fn broke(&self, error: FormError) {
        lock(&self.failure).get_or_insert(error);
    }

    pub(crate) fn voters(&self) -> &Voters {
        &self.users.voters
    }

    pub(crate) fn fire(&self, kind: &'static str, detail: &str) {
        *lock(&self.fired).entry(kind).or_default() += 1;
        self.voters().note(&format!("fault {kind} {detail}"));
    }

    /// The leader where there is one and the coin says so, else anybody.
    fn victim(&self, leader: bool, rng: &mut StdRng) -> u64 {
        let leads = self
            .voters()
            .leader()
            .filter(|_| leader)
            .map(|node| node.node().0);
        let numbers = self.voters().numbers();
        leads.unwrap_or_else(|| numbers.choose(rng).copied().unwrap_or(1))
    }

    /// Cuts and bad weather, one at a time.
    pub async fn network(self: Arc<Self>, mut rng: StdRng) {
        while self.users.is_chaos() {
            sleep(millis(&mut rng, 100..1_500)).await;
            if rng.random_bool(0.75) {
                let kind = *CUTS.choose(&mut rng).unwrap_or(&CUTS[0]);
                let cuts = self.shape(kind, &mut rng);
                self.fire(kind, &format!("{cuts:?}"));
                let toggles = if kind == "flap" {
                    rng.random_range(3..10)
                } else {
                    1
                };
                for _ in 0..toggles {
                    for (from, to) in &cuts {
                        self.voters().network.cut(NodeId(*from), NodeId(*to));
                    }
                    let long = if toggles > 1 { 30..400 } else { 200..4_000 };
                    sleep(millis(&mut rng, long.clone())).await;
                    self.voters().network.heal_all();
                    sleep(millis(&mut rng, 10..100)).await;
                }
            } else {
                self.weather(&mut rng).await;
            }
        }
    }

    async fn weather(&self, rng: &mut StdRng) {
        let kind = *WEATHER.choose(rng).unwrap_or(&WEATHER[0]);
        self.fire(kind, "");
        let network = &self.voters().network;
        if kind == "loss" {
            network.set_loss(rng.random_range(0.05..0.5));
        } else {
            let high = millis(rng, 10..250);
            network.set_latency(high / 10..=high);
        }
        sleep(millis(rng, 300..3_000)).await;
        network.set_loss(0.0);
        network.set_latency(Duration::from_micros(200)..=Duration::from_millis(2));
    }

    /// The directed links that a shape cuts.
    fn shape(&self, kind: &str, rng: &mut StdRng) -> Vec<(u64, u64)> {
        let mut all = self.voters().numbers();
        all.shuffle(rng);
        let victim = self.victim(
            kind == "isolate-leader" || kind == "single-link" || rng.random_bool(0.5),
            rng,
        );
        let count = all.len();
        let place = |number: u64| all.iter().position(|one| *one == number).unwrap_or(0);
        let (first, half) = (all[0], count / 2);
        let friend = all
            .iter()
            .copied()
            .find(|one| *one != victim)
            .unwrap_or(victim);
        let reach = count.div_ceil(4).max(1);
        let is_cut = |from: u64, to: u64| match kind {
            "deaf" => to == victim,
            "mute" => from == victim,
            "one-way" => (from, to) == (victim, friend),
            "halves" => (place(from) < half) != (place(to) < half),
            // The first is in contact with both sides, which do not see each other.
            "bridge" => {
                from != first && to != first && (place(from) <= half) != (place(to) <= half)
            }
            // The victim keeps a link to its friend alone.
            "single-link" => (from == victim && to != friend) || (to == victim && from != friend),
            // Everybody sees a majority, and no two see the same one.
            "ring" => {
                let apart = place(from).abs_diff(place(to));
                apart.min(count - apart) > reach || (count == 3 && place(from) + place(to) == 1)
            }
            _ => from == victim || to == victim,
        };
        let links = all
            .iter()
            .flat_map(|from| all.iter().map(move |to| (*from, *to)));
        let mut cuts: Vec<(u64, u64)> = links
            .filter(|(from, to)| from != to && is_cut(*from, *to))
            .collect();
        cuts.sort_unstable();
        cuts
    }

    /// Power failures, pauses, slow disks, and orders to hand over, one at a time.
    pub async fn machines(self: Arc<Self>, mut rng: StdRng) {
        while self.users.is_chaos() {
            sleep(millis(&mut rng, 200..2_500)).await;
            let kind = *MISHAPS.choose(&mut rng).unwrap_or(&MISHAPS[0]);
            let one = vec![self.victim(kind.ends_with("leader"), &mut rng)];
            let mut all = self.voters().numbers();
            all.shuffle(&mut rng);
            let some = rng.random_range(1..=all.len());
            match kind {
                "crash-all" => self.power_cut(kind, all, &mut rng).await,
                "crash-some" => self.power_cut(kind, all[..some].to_vec(), &mut rng).await,
                "crash-one" | "crash-leader" => self.power_cut(kind, one, &mut rng).await,
                "transfer" => self.transfer(&mut rng).await,
                "slow-disk" => {
                    self.fire(kind, &format!("{one:?}"));
                    self.voters().slow_disk(one[0], rng.random_range(5..60));
                    sleep(millis(&mut rng, 300..3_000)).await;
                    self.voters().slow_disk(one[0], 1);
                }
                _ => {
                    self.fire(kind, &format!("{one:?}"));
                    self.voters().set_paused(one[0], true);
                    sleep(millis(&mut rng, 200..4_000)).await;
                    self.voters().set_paused(one[0], false);
                }
            }
        }
    }

    async fn power_cut(&self, kind: &'static str, victims: Vec<u64>, rng: &mut StdRng) {
        self.fire(kind, &format!("{victims:?}"));
        for number in &victims {
            self.voters().crash(*number).await;
        }
        for number in victims {
            if is_planted(Mutant::ReusedId) {
                self.voters().wipe(number);
            }
            sleep(millis(rng, 1..1_500)).await;
            self.bring_up(number).await;
        }
    }

    /// Starts a machine that is down and was not retired meanwhile.
    async fn bring_up(&self, number: u64) {
        let voters = self.voters();
        if voters.node(number).is_some() || !voters.numbers().contains(&number) {
            return;
        }
        if let Err(error) = voters.start(number).await {
            self.broke(error);
        }
    }

    async fn transfer(&self, rng: &mut StdRng) {
        let Some(leader) = self.voters().leader() else {
            return;
        };
        let outcome = leader.transfer_leader(None, millis(rng, 100..1_000)).await;
        self.fire("transfer", &format!("{outcome:?}"));
    }

    /// Replaces voters, and makes the group larger and smaller.
    pub async fn members(self: Arc<Self>, mut rng: StdRng) {
        while self.users.is_chaos() {
            sleep(millis(&mut rng, 1_000..5_000)).await;
            let Some(leader) = self.voters().leader() else {
                continue;
            };
            let members = leader.status().members;
            let voting: Vec<u64> = members
                .iter()
                .filter(|m| m.voter)
                .map(|m| m.node.0)
                .collect();
            let grow =
                voting.len() <= VOTERS_MIN || (voting.len() < VOTERS_MAX && rng.random_bool(0.5));
            if grow {
                self.grow(&voting, &mut rng).await;
            } else if let Some(&leaver) = voting.choose(&mut rng) {
                let node = NodeId(leaver);
                let outcome = self.order(MemberOrder::Remove { node }).await;
                self.fire("remove", &format!("{leaver} {outcome:?}"));
                if outcome.is_ok() {
                    self.voters().retire(leaver).await;
                }
            }
        }
    }

    /// Lets a machine that does not vote yet learn, then vote; a new one if all vote.
    async fn grow(&self, voting: &[u64], rng: &mut StdRng) {
        let voters = self.voters();
        let idle = voters
            .running()
            .into_iter()
            .find(|number| !voting.contains(number));
        let number = match idle {
            Some(number) => number,
            None => match voters.add_machine().await {
                Ok(number) => number,
                Err(error) => return self.broke(error),
            },
        };
        let (node, address) = (NodeId(number), address(number).to_string());
        let learner = MemberOrder::AddLearner {
            node,
            address: address.clone(),
        };
        let learner = self.order(learner).await;
        self.fire("learner", &format!("{number} {learner:?}"));
        sleep(millis(rng, 100..2_000)).await;
        if learner.is_ok() {
            let outcome = self.order(MemberOrder::AddVoter { node, address }).await;
            self.fire("voter", &format!("{number} {outcome:?}"));
        }
    }

    /// Repeats an order, as whoever gives it has to, until it is carried out, refused, or the chaos is over.
    async fn order(&self, order: MemberOrder) -> Result<(), String> {
        while self.users.is_chaos() {
            if let Some(leader) = self.voters().leader() {
                match leader
                    .change_members(order.clone(), None, ORDER_WITHIN)
                    .await
                {
                    Ok(MemberProgress::Done(_)) => return Ok(()),
                    Ok(MemberProgress::Waiting(_)) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
            sleep(Duration::from_millis(500)).await;
        }
        Err("not before the end".to_owned())
    }

    /// Undoes everything: all links, all machines, all disks.
    pub async fn end(&self) {
        let voters = self.voters();
        voters.network.heal_all();
        for number in voters.numbers() {
            voters.set_paused(number, false);
            voters.slow_disk(number, 1);
            self.bring_up(number).await;
        }
    }
}
