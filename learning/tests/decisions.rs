//! Decisions, their numbering and their encoding, over random play of every configuration.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use riftmesh_learning::codec::Codec;
use riftmesh_learning::decision::{Choice, Decision};
use riftmesh_learning::encode::{Encoder, GLOBALS};
use riftmesh_learning::frame::Frame;
use riftmesh_rules::{Action, Configuration, Position, RuleOptions, Symmetry};
use riftmesh_search::Game;

/// Artificial positions near the rare rules.
const POSITIONS: &str = include_str!("data/positions.txt");

const PLAIN: RuleOptions = RuleOptions { swap: false };

/// Starts of games of `configuration`, standard and artificial in turn, for ever.
fn starts(configuration: Configuration) -> impl Iterator<Item = Decision> {
    let parse = |text: &str| Position::parse(text, PLAIN).expect("a valid position");
    let ours = move |position: &Position| position.configuration() == configuration;
    let artificial: Vec<Position> = POSITIONS.lines().map(parse).filter(ours).collect();
    assert!(!artificial.is_empty());
    (0..).map(move |game: usize| match game % 3 {
        0 => Decision::start(
            configuration,
            RuleOptions {
                swap: configuration.players() == 2,
            },
        ),
        _ => Decision::after(artificial[game / 3 % artificial.len()].clone(), &mut |_| {}),
    })
}

/// Visits `count` decisions of random games; `visit` is told the choice made.
fn walk(configuration: Configuration, count: usize, mut visit: impl FnMut(&Decision, Choice)) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(count as u64);
    let mut starts = starts(configuration);
    let mut decision = starts.next().expect("there is always another game");
    for _ in 0..count {
        while decision.choices().is_empty() {
            decision = starts.next().expect("there is always another game");
        }
        let choices = decision.choices();
        let choice = choices[rng.random_range(0..choices.len())];
        visit(&decision, choice);
        decision.choose(choice, &mut |_| {});
    }
}

/// What an action is called, without its cells.
fn kind(choice: Choice) -> String {
    let text = format!("{choice:?}");
    let name = text.trim_start_matches("Act(");
    name.split([' ', ')']).next().expect("a name").to_owned()
}

/// A merged or unnumbered choice would train on a wrong move. Ten thousand decisions of every configuration: each
/// choice has an index, no two share one, each index leads back to its choice. Every kind of choice was met.
#[test]
fn choices_are_numbered_without_collision() {
    let mut kinds = BTreeMap::<String, usize>::new();
    for configuration in Configuration::ALL {
        let codec = Codec::of(configuration.board());
        let mut indices = Vec::new();
        walk(configuration, 10_000, |decision, choice| {
            assert!(decision.choices().len() >= 2);
            codec.encode_all(decision, &mut indices);
            assert_eq!(indices.len(), decision.choices().len());
            let index = codec.encode(decision, choice);
            assert_eq!(codec.decode(decision, index), Some(choice));
            indices.sort_unstable();
            let unique = indices.windows(2).all(|pair| pair[0] < pair[1]);
            assert!(unique, "shared index in {}", decision.position());
            assert!(
                indices
                    .last()
                    .is_some_and(|last| (*last as usize) < codec.size())
            );
            *kinds.entry(kind(choice)).or_default() += 1;
        });
    }
    let names: Vec<&str> = kinds.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "Capture",
            "ContinueCapture",
            "Eliminate",
            "LineAll",
            "LineWindow",
            "Move",
            "PayExtraction",
            "PayLine",
            "PayTerritory",
            "Place",
            "RecoverFallback",
            "RecoverLineAll",
            "RecoverLineWindow",
            "RecoverStrike",
            "SkipCapture",
            "SkipPlacement",
            "SkipRecovery",
            "SkipTerritory",
            "Slide",
            "Swap",
            "Territory",
        ]
    );
}

/// A stored game is a list of actions. Replaying it visits the same decisions and choices, split slides and forced
/// actions included.
#[test]
fn recorded_actions_lead_through_the_same_decisions() {
    for configuration in Configuration::ALL {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        for start in starts(configuration).take(12) {
            let (mut decision, mut actions, mut keys) = (start.clone(), Vec::new(), Vec::new());
            for _ in 0..60 {
                let choices = decision.choices();
                if choices.is_empty() {
                    break;
                }
                let choice = choices[rng.random_range(0..choices.len())];
                keys.push((decision.key(), choice));
                decision.choose(choice, &mut |action| actions.push(action));
            }
            let mut replayed = start;
            let mut ahead = actions.iter().copied().peekable();
            let mut visited = Vec::new();
            while let Some(&action) = ahead.peek() {
                let choice = replayed.choice_toward(action);
                assert!(replayed.choices().contains(&choice));
                visited.push((replayed.key(), choice));
                replayed.choose(choice, &mut |played| assert_eq!(ahead.next(), Some(played)));
            }
            assert_eq!(visited, keys[..visited.len()]);
            // At most the first step of a slide is missing, which plays nothing.
            assert!(keys.len() - visited.len() <= 1);
        }
    }
}

/// Slides are split for the search without changing what can be reached: the completions of all slides and the whole
/// actions are exactly the legal ones.
#[test]
fn split_slides_offer_exactly_the_legal_actions() {
    for configuration in Configuration::ALL {
        walk(configuration, 1_000, |decision, _| {
            if decision.prefix().is_some() {
                return;
            }
            let mut legal = Vec::new();
            decision.position().legal(&mut legal);
            let mut offered = Vec::new();
            for &choice in decision.choices() {
                match choice {
                    Choice::Act(action) => offered.push(action),
                    Choice::Slide { .. } => {
                        let toward = |action: &&Action| decision.choice_toward(**action) == choice;
                        offered.extend(legal.iter().filter(toward));
                        let mut slid = decision.clone();
                        slid.choose(choice, &mut |_| {});
                        assert!(slid.prefix().is_none() || slid.mover() == decision.mover());
                    }
                }
            }
            legal.sort_unstable();
            offered.sort_unstable();
            assert_eq!(legal, offered);
        });
    }
}

fn encoded(decision: &Decision) -> (Vec<f32>, Vec<f32>) {
    let encoder = Encoder::of(decision.position().configuration().board());
    let (mut planes, mut globals) = (
        vec![f32::NAN; encoder.planes_len()],
        vec![f32::NAN; GLOBALS],
    );
    encoder.encode_into(decision, &mut planes, &mut globals);
    (planes, globals)
}

/// The input depends on nothing but the position: read back from its text it looks the same. Every number of the
/// slot is written, and is finite and small.
#[test]
fn encoding_is_a_function_of_the_position() {
    for configuration in Configuration::ALL {
        walk(configuration, 600, |decision, _| {
            let (planes, globals) = encoded(decision);
            assert!(
                planes
                    .iter()
                    .chain(&globals)
                    .all(|value| (0.0..=30.0).contains(value))
            );
            if decision.prefix().is_some() || decision.position().swap_open() {
                return;
            }
            let text = decision.position().canonical_text();
            let read = Position::parse(&text, PLAIN).expect("the text of a position is valid");
            let mut forced = 0;
            let read = Decision::after(read, &mut |_| forced += 1);
            assert_eq!(forced, 0);
            assert_eq!(encoded(&read), (planes, globals));
        });
    }
}

/// Turning a position turns its planes and nothing else, and playing commutes with turning: training may use every
/// allowed symmetry. Recovery slides are left out, for which the rules are not symmetric.
#[test]
fn allowed_symmetries_commute_with_playing_and_encoding() {
    for configuration in Configuration::ALL {
        let frame = Frame::of(configuration.board());
        let area = frame.area();
        let symmetries = Symmetry::of(configuration.board());
        let mut turn = 0;
        walk(configuration, 500, |decision, choice| {
            let Choice::Act(action) = choice else { return };
            if decision.prefix().is_some()
                || decision
                    .choices()
                    .iter()
                    .any(|c| matches!(c, Choice::Slide { .. }))
            {
                return;
            }
            turn += 1;
            let symmetry = &symmetries[turn % symmetries.len()];
            let turned = Decision::after(symmetry.position(decision.position()), &mut |_| {});
            let (planes, globals) = encoded(decision);
            let (turned_planes, turned_globals) = encoded(&turned);
            assert_eq!(globals, turned_globals);
            for (cell, &square) in (0u16..).zip(frame.squares()) {
                let target = usize::from(frame.squares()[usize::from(symmetry.cell(cell))]);
                for plane in (0..planes.len()).step_by(area) {
                    assert_eq!(
                        planes[plane + usize::from(square)],
                        turned_planes[plane + target]
                    );
                }
            }
            let turned_choice = Choice::Act(symmetry.action(decision.position(), action));
            assert!(
                turned.choices().contains(&turned_choice),
                "{turned_choice:?} in {}",
                turned.position()
            );
            let (mut after, mut turned_after) = (decision.clone(), turned);
            after.choose(choice, &mut |_| {});
            turned_after.choose(turned_choice, &mut |_| {});
            assert_eq!(
                symmetry.position(after.position()),
                *turned_after.position()
            );
        });
    }
}

/// Fields that no piece on the board shows must show in the input; a network blind to one of them cannot learn what
/// depends on it.
#[test]
fn hidden_fields_are_visible() {
    let look = |text: &str| {
        let position = Position::parse_partial(text, PLAIN).expect("a valid position");
        encoded(&Decision::after(position, &mut |_| {}))
    };
    let same_but =
        |what: &str, one: &str, other: &str| assert_ne!(look(one), look(other), "{what}");
    same_but(
        "must-move cell",
        "RR1;square8;2;A;1;MV;0;a;0::0:0;0;10,0,0/10,0,0;0:1,27:1,63:2;/;/",
        "RR1;square8;2;A;1;MV;27;a;0::0:0;0;10,0,0/10,0,0;0:1,27:1,63:2;/;/",
    );
    same_but(
        "chain cell",
        "RR1;square8;2;A;1;CC;0;a;0::0:0;0;0,10,0/0,10,0;0:1,1:2,9:1,10:2;/;/",
        "RR1;square8;2;A;1;CC;9;a;0::0:0;0;0,10,0/0,10,0;0:1,1:2,9:1,10:2;/;/",
    );
    same_but(
        "tracker rounds",
        "RR1;square8;2;A;1;RP;-;-;2:1+2-:1:1;0;10,0,0/10,0,0;0:1,63:2;/;/",
        "RR1;square8;2;A;1;RP;-;-;2:1+2-:1:2;0;10,0,0/10,0,0;0:1,63:2;/;/",
    );
    same_but(
        "tracker mask",
        "RR1;square8;2;A;1;RP;-;-;2:1+2-:0:0;0;10,0,0/10,0,0;0:1,63:2;/;/",
        "RR1;square8;2;A;1;RP;-;-;2:1+2+:0:0;0;10,0,0/10,0,0;0:1,63:2;/;/",
    );
    same_but(
        "colour under the cap",
        "RR1;square8;3;A;1;RP;-;-;0::0:0;0;10,0,0/10,0,0/10,0,0;0:123,63:2;//;//",
        "RR1;square8;3;A;1;RP;-;-;0::0:0;0;10,0,0/10,0,0/10,0,0;0:132,63:2;//;//",
    );
    same_but(
        "acted in this turn",
        "RR1;square8;2;A;1;MV;-;-;0::0:0;0;0,10,0/0,10,0;0:1,1:2,63:2;/;/",
        "RR1;square8;2;A;1;MV;-;a;0::0:0;0;0,10,0/0,10,0;0:1,1:2,63:2;/;/",
    );
}
