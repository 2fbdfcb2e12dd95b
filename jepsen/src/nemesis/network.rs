//! Faults of the wire as rules for its links. Pure.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::Fault;
use crate::net::rule::Rule;
use crate::net::wire::Wire;

/// Rules for every direction of every link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    nodes: usize,
    /// By sender and receiver, row by row.
    rules: Vec<Rule>,
    /// Whom it hits most.
    pub hit: Vec<usize>,
    /// What it does, in a few words.
    pub what: String,
}

impl Links {
    /// Puts the rules into force.
    pub fn install(&self, wire: Option<&Wire>) {
        if let Some(wire) = wire {
            wire.set(|from, to| self.rules[from * self.nodes + to]);
        }
    }

    fn new(
        nodes: usize,
        hit: Vec<usize>,
        what: String,
        rule: impl Fn(usize, usize) -> Rule,
    ) -> Self {
        let rules = (0..nodes * nodes)
            .map(|at| rule(at / nodes, at % nodes))
            .collect();
        Self {
            nodes,
            rules,
            hit,
            what,
        }
    }

    fn cutting(
        nodes: usize,
        hit: Vec<usize>,
        what: impl Into<String>,
        cut: impl Fn(usize, usize) -> bool,
    ) -> Self {
        Self::new(nodes, hit, what.into(), |from, to| Rule {
            cut: cut(from, to),
            ..Rule::default()
        })
    }
}

/// The rules of `fault` among `nodes`, of which the first `voters` vote.
///
/// # Errors
/// Why it cannot be done here.
pub fn links(
    fault: Fault,
    voters: usize,
    nodes: usize,
    leader: Option<usize>,
    rng: &mut StdRng,
) -> Result<Links, String> {
    let mut order: Vec<usize> = (0..voters).collect();
    order.shuffle(rng);
    let place = |node: usize| order.iter().position(|of| *of == node);
    let needs_leader = || leader.ok_or_else(|| "nobody is known to lead".to_owned());
    let needs_voters = |least: usize| match voters >= least {
        true => Ok(()),
        false => Err(format!("it takes {least} voters")),
    };
    // Workers fall on either side of a split by their number.
    let side =
        |node: usize, first: usize| place(node).map_or(node.is_multiple_of(2), |at| at < first);
    match fault {
        Fault::Halves => {
            needs_voters(2)?;
            let smaller = voters / 2;
            let hit = order[..smaller].to_vec();
            Ok(Links::cutting(
                nodes,
                hit,
                "cut off from the other half",
                |a, b| side(a, smaller) != side(b, smaller),
            ))
        }
        Fault::IsolateLeader => {
            let leader = needs_leader()?;
            Ok(Links::cutting(nodes, vec![leader], "cut off", |a, b| {
                a == leader || b == leader
            }))
        }
        Fault::Bridge => {
            needs_voters(3)?;
            // The leader, if there is one, keeps a single link.
            if let Some(at) = leader.and_then(place) {
                order.swap(at, 0);
            }
            let bridge = voters / 2;
            let half = |node: usize| {
                order
                    .iter()
                    .position(|of| *of == node)
                    .map_or(node.is_multiple_of(2), |at| at < bridge)
            };
            let on_bridge = order[bridge];
            Ok(Links::cutting(
                nodes,
                vec![on_bridge],
                "the only one both halves see",
                |a, b| a != on_bridge && b != on_bridge && half(a) != half(b),
            ))
        }
        Fault::OneWay => {
            let leader = needs_leader()?;
            let (what, deaf) = match rng.random_bool(0.5) {
                true => ("hears nothing", true),
                false => ("is not heard", false),
            };
            Ok(Links::cutting(nodes, vec![leader], what, |from, to| {
                if deaf { to == leader } else { from == leader }
            }))
        }
        Fault::Ring => {
            needs_voters(5)?;
            // With itself, each sees a majority: as many neighbours on either side as that takes.
            let reach = (voters / 2).div_ceil(2);
            Ok(Links::cutting(
                nodes,
                order.clone(),
                "each sees another majority",
                |a, b| match (place(a), place(b)) {
                    (Some(a), Some(b)) => {
                        let apart = a.abs_diff(b);
                        apart.min(voters - apart) > reach
                    }
                    _ => false,
                },
            ))
        }
        Fault::Flapping => {
            let hit = order[0];
            Ok(Links::cutting(
                nodes,
                vec![hit],
                "its link comes and goes",
                |a, b| a == hit || b == hit,
            ))
        }
        _ => {
            let rule = frames(fault, rng)?;
            Ok(Links::new(
                nodes,
                (0..nodes).collect(),
                format!("{rule:?}"),
                |_, _| rule,
            ))
        }
    }
}

/// The rule of a fault that treats all links alike.
fn frames(fault: Fault, rng: &mut StdRng) -> Result<Rule, String> {
    let whole = Rule::default();
    Ok(match fault {
        Fault::Loss => Rule {
            loss: rng.random_range(50..300),
            ..whole
        },
        Fault::Delay => {
            let delay = Duration::from_millis(rng.random_range(20..150));
            Rule {
                delay,
                jitter: delay / 2,
                ..whole
            }
        }
        Fault::Duplicate => Rule {
            duplicate: rng.random_range(100..400),
            ..whole
        },
        Fault::Reorder => Rule {
            reorder: rng.random_range(100..400),
            ..whole
        },
        Fault::Corrupt => Rule {
            corrupt: rng.random_range(10..100),
            ..whole
        },
        Fault::Rate => Rule {
            rate: Some(rng.random_range(32..256) << 10),
            ..whole
        },
        Fault::Mtu => Rule {
            // QUIC's own least is 1,200 bytes and the headers below it.
            mtu: Some(rng.random_range(1_240..1_400)),
            ..whole
        },
        other => return Err(format!("{other} is no fault of the wire")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    fn of(fault: Fault, voters: usize, nodes: usize, leader: Option<usize>, seed: u64) -> Links {
        links(
            fault,
            voters,
            nodes,
            leader,
            &mut StdRng::seed_from_u64(seed),
        )
        .unwrap()
    }

    /// How many voters each voter can talk with in both directions, itself included.
    fn seen(links: &Links, voters: usize) -> Vec<usize> {
        let open = |a: usize, b: usize| a == b || !links.rules[a * links.nodes + b].cut;
        let sees = |a: usize| (0..voters).filter(|b| open(a, *b) && open(*b, a)).count();
        (0..voters).map(sees).collect()
    }

    /// Each partition is the one its name says, whatever the dice.
    #[test]
    fn partitions_are_what_they_are_called() {
        for seed in 0..200 {
            let mut halves = seen(&of(Fault::Halves, 5, 7, Some(0), seed), 5);
            halves.sort_unstable();
            assert_eq!(halves, [2, 2, 3, 3, 3]);

            let isolated = seen(&of(Fault::IsolateLeader, 5, 7, Some(3), seed), 5);
            assert_eq!(isolated, [4, 4, 4, 1, 4]);

            let bridge = of(Fault::Bridge, 5, 7, Some(3), seed);
            let sees = seen(&bridge, 5);
            assert_eq!((sees[3], sees[bridge.hit[0]]), (3, 5));
            assert_eq!(sees.iter().sum::<usize>(), 3 * 4 + 5);
            let three = of(Fault::Bridge, 3, 3, Some(1), seed);
            assert_eq!(seen(&three, 3).iter().sum::<usize>(), 2 + 2 + 3);

            let ring = of(Fault::Ring, 5, 7, None, seed);
            assert_eq!(seen(&ring, 5), [3; 5]);

            let one_way = of(Fault::OneWay, 3, 4, Some(0), seed);
            let cut = one_way.rules.iter().filter(|rule| rule.cut).count();
            assert!(
                (3..=4).contains(&cut),
                "one direction of every link of the leader: {cut}"
            );
        }
    }

    /// What cannot be done is said, not done by halves.
    #[test]
    fn what_does_not_fit_is_refused() {
        let dice = &mut StdRng::seed_from_u64(1);
        assert_eq!(
            links(Fault::Ring, 3, 3, None, dice),
            Err("it takes 5 voters".to_owned())
        );
        assert!(links(Fault::IsolateLeader, 3, 3, None, dice).is_err());
        assert!(links(Fault::KillAll, 3, 3, None, dice).is_err());
    }

    /// Every other fault of the wire changes every link.
    #[test]
    fn frame_faults_touch_every_link() {
        for fault in Fault::parse_list("frames").unwrap() {
            let links = of(fault, 3, 4, None, 1);
            assert!(links.rules.iter().all(Rule::is_broken), "{fault}");
        }
    }
}
