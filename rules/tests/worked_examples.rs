//! The worked examples of the rules digest (RULES section 18) as scripts: a position, moves, what is legal then and
//! what the board looks like. They name the rule that broke when a recorded game only says that something did.

use riftmesh_rules::{Phase, Position, RuleOptions, notation};

/// Player 1's turn begins with an empty hand in front of these stacks, markers and collapsed cells.
struct Script(Position);

impl Script {
    fn new(players: usize, board: &str) -> Self {
        let collapsed = board.rsplit(';').next().unwrap_or_default();
        let count = |part: &str| match part.split_once('-') {
            Some((first, last)) => {
                last.parse::<i32>().unwrap_or(0) - first.parse::<i32>().unwrap_or(0) + 1
            }
            None => i32::from(!part.is_empty()),
        };
        let territory = |list: &str| list.split(',').map(count).sum::<i32>();
        let counts: Vec<_> = collapsed
            .split('/')
            .map(|list| format!("0,0,{}", territory(list)))
            .collect();
        let text = format!(
            "RR1;square8;{players};A;1;RP;-;-;0::0:0;0;{};{board}",
            counts.join("/")
        );
        match Position::parse_partial(&text, RuleOptions::default()) {
            Ok(position) => Self(position),
            Err(error) => panic!("{error}: {text}"),
        }
    }

    /// Plays moves separated by spaces, each of which must be legal.
    fn play(mut self, moves: &str) -> Self {
        for text in moves.split(' ') {
            let action = notation::parse(&self.0, text).unwrap_or_else(|error| panic!("{error}"));
            self.0
                .try_apply(action)
                .unwrap_or_else(|error| panic!("{error}"));
        }
        self
    }

    fn legal(&self) -> String {
        let mut actions = Vec::new();
        self.0.legal(&mut actions);
        let mut texts: Vec<_> = actions
            .iter()
            .map(|&action| notation::format(&self.0, action))
            .collect();
        texts.sort();
        texts.join(" ")
    }

    /// Stacks, markers and collapsed cells.
    fn board(&self) -> String {
        let text = self.0.canonical_text();
        text.splitn(12, ';').nth(11).unwrap_or_default().to_owned()
    }

    fn eliminated(&self) -> u16 {
        self.0.score(riftmesh_rules::Seat(0)).eliminated
    }
}

/// Examples 1 and 2: markers on the way flip or collapse; landing on one burns the top ring.
#[test]
fn moving_over_and_onto_markers() {
    let script = Script::new(2, "0:11;1/2;/").play("np M0-3");
    assert_eq!(script.board(), "3:11;0,2/;1/");
    let burnt = Script::new(2, "0:1;/2;/").play("np M0-2");
    assert_eq!((burnt.board().as_str(), burnt.eliminated()), (";0/;/", 1));
    let turned = Script::new(2, "0:12;/2;/").play("np M0-2");
    assert_eq!(
        (turned.board().as_str(), turned.eliminated()),
        ("2:2;0/;/", 1)
    );
}

/// Example 3: a capture that lands on a marker, and the chain after it, back and forth.
#[test]
fn capture_chain() {
    let script = Script::new(2, "0:11,2:21,4:2;/3;/").play("np C0x2-3");
    assert_eq!(script.legal(), "K3x2-0 K3x2-1 K3x4-5 K3x4-6 K3x4-7");
    let script = script.play("K3x4-6");
    assert_eq!(script.board(), "2:1,6:122;0,3/;/");
    assert_eq!(script.legal(), "K6x2-0 K6x2-1");
}

/// Examples 4 and 5: the price of an exact line, and the free window of a longer one that skips the no-line move.
#[test]
fn lines_and_their_price() {
    let exact = Script::new(2, "3:1,11:11;0-2/;/").play("np M3-4");
    assert_eq!(exact.legal(), "L0,1,2,3");
    let exact = exact.play("L0,1,2,3");
    assert_eq!(exact.legal(), "EL11 EL4");
    let exact = exact.play("EL11");
    assert_eq!(
        (exact.board().as_str(), exact.legal().as_str()),
        ("4:1,11:1;/;0-3/", "nl")
    );

    let long = Script::new(2, "4:1,11:11;0-3/;/").play("np M4-5");
    assert_eq!(
        long.legal(),
        "O0,1,2,3,4=0,1,2,3 O0,1,2,3,4=1,2,3,4 O0,1,2,3,4=all"
    );
    let long = long.play("O0,1,2,3,4=1,2,3,4");
    assert_eq!(
        (long.board().as_str(), long.0.phase()),
        ("5:1,11:11;0/;1-4/", Phase::Territory)
    );
}

/// Examples 6 and 7: a corner pocket; its border spreads over the whole cluster of markers, whoever owns them.
#[test]
fn regions_take_the_marker_cluster() {
    let pocket = Script::new(2, "16:1,40:11,63:2;1,8/;/").play("np M16-17 nl T0");
    assert_eq!(
        (pocket.board().as_str(), pocket.legal().as_str()),
        ("17:1,40:11,63:2;/;0-1,8,16/", "ET17 ET40")
    );
    let mixed = Script::new(2, "40:11,41:1,63:2;1,8,24/17,26;/");
    let mixed = mixed.play("np M41-42 nl T0");
    assert_eq!(mixed.board(), "40:11,42:1,63:2;41/;0-1,8,17,24,26/");
}

/// Example 8: skipping the regions after doing nothing leads to forced elimination.
#[test]
fn forced_elimination_after_a_skip() {
    let script = Script::new(2, "0:11,63:2;/;/1-61").play("np nm nl");
    assert_eq!(script.legal(), "T62-63 st");
    let script = script.play("st");
    assert_eq!(script.legal(), "F0");
    assert_eq!(script.play("F0").eliminated(), 2);
}

/// Examples 9 to 12: recovery by a line, by a fallback slide, by a strike, and what a recovered turn pays with.
#[test]
fn recovery() {
    let line = Script::new(2, "40:21,50:221;0-2,12/;/").play("np");
    assert_eq!(line.legal(), "R12-3L@40 R12-3L@50 sr");
    assert_eq!(line.play("R12-3L@50").board(), "40:21,50:22;/;0-3/");

    let fallback = || Script::new(2, "40:21,50:221;32/;/").play("np");
    assert_eq!(
        fallback().legal(),
        "R32-24F@40 R32-24F@50 R32-25F@40 R32-25F@50 R32-33F@40 R32-33F@50 \
         R32-40S@40 R32-40S@50 R32-41F@40 R32-41F@50 sr"
    );
    assert_eq!(fallback().play("R32-40S@50").board(), "40:1,50:22;/;/");
    let emptied = fallback().play("R32-40S@40");
    assert_eq!(
        (emptied.board().as_str(), emptied.eliminated()),
        ("50:221;/;/", 2)
    );

    let region = Script::new(2, "40:21,50:221;1,16/;/").play("np R16-8F@40 nl T0");
    assert_eq!(region.legal(), "ER50");
    assert_eq!(region.play("ER50").board(), "40:2,50:22;/;0-1,8/");

    let overlong = Script::new(2, "40:21,50:221;0-2,4,11/;/")
        .play("np")
        .legal();
    let slides = |prefix: &str| {
        overlong
            .split(' ')
            .filter(|text| text.starts_with(prefix))
            .count()
    };
    assert_eq!(
        (
            slides("R11-3L@"),
            slides("R11-3L="),
            slides("R4-3L@"),
            slides("R4-3L=")
        ),
        (2, 2, 2, 0)
    );
}

/// Example 13: what is offered starts from a single ring; more rings need room to move as far as they are high.
#[test]
fn placement_needs_a_move() {
    let text = "RR1;square8;2;A;1;RP;-;-;0::0:0;0;3,0,0/0,0,58;;/;/3-7,11-63";
    let position = Position::parse_partial(text, RuleOptions::default());
    let script = position
        .map(Script)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        script.legal(),
        "P0x1 P0x2 P10x1 P10x2 P1x1 P2x1 P2x2 P8x1 P8x2 P9x1"
    );
}

/// Example 14: with two runs the engine looks at the first axis; with three players it even collapses that one.
#[test]
fn recovery_with_two_runs() {
    let board = "40:21,50:221;11,16-17,26,34,42/";
    let two = Script::new(2, &format!("{board};/")).play("np").legal();
    assert!(!two.contains("R11-18") && !two.contains('F'), "{two}");
    let three = Script::new(3, &format!("{board}/;//")).play("np");
    let slides: Vec<_> = three
        .legal()
        .split(' ')
        .filter(|text| text.starts_with("R11-18"))
        .map(str::to_owned)
        .collect();
    assert_eq!(slides, ["R11-18L=18,26,34", "R11-18L@40", "R11-18L@50"]);
    assert_eq!(
        three.play("R11-18L=18,26,34").board(),
        "40:21,50:221;26,34,42//;16-18//"
    );
}
