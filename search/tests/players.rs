//! The players without a network.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use riftmesh_rules::{Configuration, Position, RuleOptions, Seat, text_hash};
use riftmesh_search::{heuristic_action, random_action};

/// Plays a game with the heuristic player on `ours`; returns whether it won and the final text.
fn play(configuration: Configuration, ours: &[Seat], seed: u64) -> (Seat, String) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut position = Position::start(configuration, RuleOptions::default());
    let mut legal = Vec::new();
    while let Some(seat) = position.to_move() {
        position.legal(&mut legal);
        let action = if ours.contains(&seat) {
            heuristic_action(&position, &legal, &mut rng)
        } else {
            random_action(&legal, &mut rng)
        };
        position.apply(action);
    }
    let winner = position.outcome().map(|outcome| outcome.winner);
    (winner.unwrap_or(Seat(u8::MAX)), position.canonical_text())
}

/// Ratings are anchored to it, so it has to be clearly stronger than random play, on every seat.
#[test]
fn heuristic_player_beats_random_play() {
    for name in ["hex8_2p", "square8_2p"] {
        let configuration: Configuration = name.parse().unwrap();
        let won = |game: u64| {
            let seat = Seat((game % 2) as u8);
            play(configuration, &[seat], game).0 == seat
        };
        let wins = (0..20).filter(|game| won(*game)).count();
        assert!(wins >= 16, "{name}: {wins} of 20");
    }
}

/// A version of the heuristic player is frozen: with the same seed it ends in the same position for ever.
#[test]
fn heuristic_player_is_frozen() {
    let end = |name: &str, seats: &[Seat]| {
        let configuration: Configuration = name.parse().unwrap();
        text_hash(&play(configuration, seats, 1).1)
    };
    let both = [Seat(0), Seat(1)];
    assert_eq!(
        [
            end("hex8_2p", &both),
            end("square8_2p", &both),
            end("hex8_3p", &[Seat(2)])
        ],
        [
            14_003_949_051_820_353_626,
            6_827_851_185_526_983_559,
            17_390_670_586_191_165_747
        ]
    );
}
