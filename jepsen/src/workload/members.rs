//! Voters that lose their vote, learn, and get one again, by the orders that an operator gives: one after the other, each on
//! condition that the members are those that were seen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use serde_json::{Value, json};

use super::{Process, unreadable};
use crate::client::{Api, NO_LEADER, Trouble};
use crate::cluster::NodePlan;
use crate::edn::Edn;
use crate::observed::ObservedGroup;
use crate::pace::Pace;

/// An order is given again for so long at most: a learner gets its vote after ten seconds close behind.
const ORDER_MAX: Duration = Duration::from_secs(40);
/// After the faults, so long at most until all vote again.
const RESTORE_MAX: Duration = Duration::from_secs(120);

/// One order about the members.
#[derive(Debug, Clone)]
struct VoterOrder {
    /// Name of the operation.
    f: &'static str,
    /// What the API is told.
    order: Value,
    /// Who is to have a vote then, and who is not.
    wishes: Vec<(String, bool)>,
}

impl VoterOrder {
    fn remove(node: &str) -> Self {
        Self {
            f: "remove-voter",
            order: json!({"remove": {"node": node}}),
            wishes: vec![(node.to_owned(), false)],
        }
    }

    fn add(node: &str, address: &str) -> Self {
        Self {
            f: "add-voter",
            order: json!({"add-voter": {"node": node, "address": address}}),
            wishes: vec![(node.to_owned(), true)],
        }
    }

    fn learn(node: &str, address: &str) -> Self {
        Self {
            f: "add-learner",
            order: json!({"add-learner": {"node": node, "address": address}}),
            wishes: Vec::new(),
        }
    }

    fn replace(gone: &str, by: &str) -> Self {
        Self {
            f: "replace-voter",
            order: json!({"replace": {"gone": gone, "by": by}}),
            wishes: vec![(gone.to_owned(), false), (by.to_owned(), true)],
        }
    }

    fn to_edn(&self, index: Option<i64>) -> Edn {
        let wish = |(node, votes): &(String, bool)| {
            Edn::Vector(vec![Edn::from(node.as_str()), Edn::Bool(*votes)])
        };
        Edn::map([
            (
                "wishes",
                Edn::Vector(self.wishes.iter().map(wish).collect()),
            ),
            ("index", index.into()),
        ])
    }
}

/// Ids of the voters that were started, with their addresses.
type Known = BTreeMap<String, String>;

impl Process<'_> {
    /// Changes who votes until the phase ends. Never is more than one of the voters that were started without its vote.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn change_members_until(&mut self, pace: &Pace) -> anyhow::Result<()> {
        let mut known = Known::new();
        while pace.wait(Duration::from_millis(self.rng.random_range(500..2_500))) {
            let Some(group) = self.group().filter(|_| self.meet(&mut known)) else {
                continue;
            };
            if let Some(order) = self.choose(&group, &known) {
                self.change(&order, group.index, pace)?;
            }
        }
        Ok(())
    }

    /// Looks who votes until the phase ends, at each voter in turn.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn read_members_until(&mut self, pace: &Pace) -> anyhow::Result<()> {
        for voter in self.voters().iter().cycle() {
            let node = Edn::map([("node", Edn::from(voter.name.as_str()))]);
            self.operation("members", node, |api| {
                let answer = api.get(voter, "/v1/raft")?;
                let group = ObservedGroup::from_json(&answer)
                    .map_err(|error| Trouble::Refused(error.to_string()))?;
                if !group.settled {
                    return Err(Trouble::Refused("a change is under way".to_owned()));
                }
                let voters = group.voters.iter().map(|id| Edn::from(id.as_str()));
                Ok(Edn::map([
                    ("node", Edn::from(voter.name.as_str())),
                    ("index", Edn::Int(group.index)),
                    ("voters", Edn::Vector(voters.collect())),
                ]))
            })?;
            if !pace.wait(Duration::from_millis(150)) {
                break;
            }
        }
        Ok(())
    }

    /// After the faults: gives everybody a vote again; whether that was done.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn restore_members(&mut self) -> anyhow::Result<bool> {
        let (began, pace) = (Instant::now(), Pace::default());
        let mut known = Known::new();
        while began.elapsed() < RESTORE_MAX {
            pace.wait(Duration::from_millis(500));
            let Some(group) = self.group().filter(|_| self.meet(&mut known)) else {
                continue;
            };
            let mut missing = known.iter().filter(|(id, _)| !group.voters.contains(id));
            let Some((id, address)) = missing.next() else {
                return Ok(true);
            };
            let order = VoterOrder::add(id, address);
            self.change(&order, group.index, &pace)?;
        }
        Ok(false)
    }

    /// Learns the ids of the voters that were started; whether all are known.
    fn meet(&self, known: &mut Known) -> bool {
        for voter in self.voters() {
            let address = voter.mesh.to_string();
            if !known.values().any(|of| *of == address)
                && let Some(id) = self.own_id(&voter)
            {
                known.insert(id, address);
            }
        }
        known.len() == self.voters().len()
    }

    /// Who votes, by the first voter that answers and knows of no change under way. It may be behind: then the next order
    /// is refused.
    fn group(&mut self) -> Option<ObservedGroup> {
        let first = self.any_voter();
        let others = self.voters();
        let look = |voter| {
            let answer = self.api.get(voter, "/v1/raft").ok()?;
            let group = ObservedGroup::from_json(&answer).ok()?;
            group.settled.then_some(group)
        };
        std::iter::once(&first).chain(&others).find_map(look)
    }

    fn choose(&mut self, group: &ObservedGroup, known: &Known) -> Option<VoterOrder> {
        let votes = |(id, _): &(&String, &String)| group.voters.contains(id);
        let (voters, missing): (Vec<_>, Vec<_>) = known.iter().partition(votes);
        let voter = voters.choose(&mut self.rng).map(|(id, _)| id.as_str())?;
        let Some((id, address)) = missing.first() else {
            return Some(VoterOrder::remove(voter));
        };
        let learns = group.learners.contains(id);
        Some(match (learns, self.rng.random_bool(0.6)) {
            (true, true) => VoterOrder::replace(voter, id),
            (false, true) => VoterOrder::learn(id, address),
            (_, false) => VoterOrder::add(id, address),
        })
    }

    /// Gives an order, again and again until it is done, on condition that the members are those of `index` and after that
    /// those that the step before left.
    fn change(&mut self, order: &VoterOrder, index: i64, pace: &Pace) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut nodes = self.voters();
        nodes.shuffle(&mut self.rng);
        let (mut expected, mut begun) = (index, false);
        self.operation(order.f, order.to_edn(Some(index)), |api| {
            for node in nodes.iter().cycle() {
                let why = match step(api, node, order, expected) {
                    Ok(Step::Done(index)) => return Ok(order.to_edn(Some(index))),
                    Ok(Step::Waiting(index, why)) => {
                        (expected, begun) = (index, true);
                        why
                    }
                    Err(Trouble::Refused(why)) if !begun => return Err(Trouble::Refused(why)),
                    // A step was taken, perhaps: somebody else's turn now, unless nobody led at the moment.
                    Err(Trouble::Refused(why)) if !why.contains(NO_LEADER) => {
                        return Err(Trouble::Unknown(why));
                    }
                    Err(Trouble::Refused(why) | Trouble::Unknown(why)) => {
                        begun = true;
                        why
                    }
                };
                if !pace.wait(Duration::from_millis(250)) || began.elapsed() > ORDER_MAX {
                    return Err(Trouble::Unknown(why));
                }
            }
            Err(Trouble::Refused("there is no voter".to_owned()))
        })?;
        Ok(())
    }
}

/// How far an order has come.
enum Step {
    /// It is done; the entry that holds the members then.
    Done(i64),
    /// Not yet, and why.
    Waiting(i64, String),
}

fn step(api: &Api, node: &NodePlan, order: &VoterOrder, expected: i64) -> Result<Step, Trouble> {
    let request = json!({"order": order.order, "expected": expected});
    let answer = api.post(node, "/v1/raft/members", &request)?;
    let answer = &answer["answer"];
    let index = answer["members_index"].as_i64();
    match (answer["done"].as_bool(), index) {
        (Some(true), Some(index)) => Ok(Step::Done(index)),
        (Some(false), Some(index)) => Ok(Step::Waiting(index, answer["said"].to_string())),
        _ => Err(unreadable(answer)),
    }
}
