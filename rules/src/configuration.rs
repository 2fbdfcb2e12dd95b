//! What is played: board, number of players, seats and the parameters that follow from them (RULES section 1).

use std::fmt;
use std::str::FromStr;

use riftmesh_base::ConfigurationName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most players at one board.
pub const PLAYERS_MAX: usize = 4;

/// A board type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Board {
    /// 8 by 8 squares.
    Square8,
    /// 19 by 19 squares.
    Square19,
    /// A hexagon of radius 4.
    Hex8,
    /// A hexagon of radius 12.
    Hexagonal,
}

impl Board {
    /// Every board.
    pub const ALL: [Self; 4] = [Self::Square8, Self::Square19, Self::Hex8, Self::Hexagonal];

    /// The name used in records, such as `hex8`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Square8 => "square8",
            Self::Square19 => "square19",
            Self::Hex8 => "hex8",
            Self::Hexagonal => "hexagonal",
        }
    }

    /// Whether cells are hexagons (six directions) rather than squares (eight).
    pub const fn is_hex(self) -> bool {
        matches!(self, Self::Hex8 | Self::Hexagonal)
    }

    /// Number of cells.
    pub const fn cells(self) -> usize {
        match self {
            Self::Square8 => 64,
            Self::Square19 => 361,
            Self::Hex8 => 61,
            Self::Hexagonal => 469,
        }
    }

    /// Rings every player starts with, whatever the number of players.
    pub const fn rings_per_player(self) -> usize {
        match self {
            Self::Square8 | Self::Hex8 => 18,
            Self::Square19 => 72,
            Self::Hexagonal => 96,
        }
    }

    /// Shortest run that the reference engine's line detection reports (`B` in the rules).
    pub const fn detection_base(self) -> usize {
        match self {
            Self::Square8 => 3,
            Self::Square19 | Self::Hex8 | Self::Hexagonal => 4,
        }
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Board {
    type Err = UnknownConfiguration;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|board| board.name() == text)
            .ok_or_else(|| UnknownConfiguration(text.chars().take(40).collect()))
    }
}

/// A name that is no board or configuration; whoever supplied it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a configuration: expected square8, square19, hex8 or hexagonal, then `_2p`, `_3p` or `_4p`"
)]
pub struct UnknownConfiguration(pub String);

/// A board with a number of players, written `hex8_2p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Configuration {
    board: Board,
    players: u8,
}

impl Configuration {
    /// Every configuration there is, small boards and few players first.
    pub const ALL: [Self; 12] = {
        let boards = [
            Board::Square8,
            Board::Hex8,
            Board::Square19,
            Board::Hexagonal,
        ];
        let mut all = [Self {
            board: Board::Square8,
            players: 2,
        }; 12];
        let mut i = 0;
        while i < 12 {
            all[i] = Self {
                board: boards[i / 3],
                players: 2 + (i % 3) as u8,
            };
            i += 1;
        }
        all
    };

    /// `players` people at `board`; `None` unless there are 2, 3 or 4 of them.
    pub const fn new(board: Board, players: usize) -> Option<Self> {
        match players {
            2..=PLAYERS_MAX => Some(Self {
                board,
                players: players as u8,
            }),
            _ => None,
        }
    }

    /// The board.
    pub const fn board(self) -> Board {
        self.board
    }

    /// Number of players, 2 to 4.
    pub const fn players(self) -> usize {
        self.players as usize
    }

    /// The seats in turn order.
    pub fn seats(self) -> impl DoubleEndedIterator<Item = Seat> + ExactSizeIterator + Clone {
        (0..self.players).map(Seat)
    }

    /// Cells of a line (`L` in the rules); longer runs give a choice.
    pub const fn line_length(self) -> usize {
        match (self.board, self.players) {
            (Board::Square8 | Board::Hex8, 3 | 4) => 3,
            _ => 4,
        }
    }

    /// Shortest run that is processed as a line: on hex8 longer than [`Self::line_length`] with three players or more.
    pub const fn eligible_length(self) -> usize {
        let (base, length) = (self.board.detection_base(), self.line_length());
        if base > length { base } else { length }
    }

    /// Eliminated rings that win (`E` in the rules).
    pub const fn elimination_threshold(self) -> usize {
        // Every product is a multiple of three, so the division is exact.
        self.board.rings_per_player() * (self.players() + 1) / 3
    }

    /// Collapsed cells needed (not sufficient) to win by territory (`T` in the rules).
    pub const fn territory_threshold(self) -> usize {
        self.board.cells() / self.players() + 1
    }

    /// Rings of all players together.
    pub const fn rings(self) -> usize {
        self.board.rings_per_player() * self.players()
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}_{}p", self.board, self.players))
    }
}

impl FromStr for Configuration {
    type Err = UnknownConfiguration;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|configuration| configuration.to_string() == text)
            .ok_or_else(|| UnknownConfiguration(text.chars().take(40).collect()))
    }
}

impl From<Configuration> for ConfigurationName {
    fn from(configuration: Configuration) -> Self {
        #[expect(
            clippy::expect_used,
            reason = "every configuration's name is short, lower-case letters, digits and `_`"
        )]
        configuration
            .to_string()
            .parse()
            .expect("a well-formed name")
    }
}

impl TryFrom<&ConfigurationName> for Configuration {
    type Error = UnknownConfiguration;
    fn try_from(name: &ConfigurationName) -> Result<Self, Self::Error> {
        name.as_str().parse()
    }
}

impl Serialize for Configuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Configuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A seat at the board, counted from 0 in turn order; people see it counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seat(pub u8);

impl Seat {
    /// As an index into per-seat arrays.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The number people and records use, from 1.
    pub const fn number(self) -> u8 {
        self.0 + 1
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// Rules that are chosen per game.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleOptions {
    /// The pie rule: in a two-player game player 2 may take player 1's seat as the first thing it does.
    pub swap: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The thresholds printed in the rules digest.
    #[test]
    fn thresholds_are_those_of_the_rules() {
        let table = |f: fn(Configuration) -> usize| Configuration::ALL.map(f);
        assert_eq!(
            table(Configuration::elimination_threshold),
            [18, 24, 30, 18, 24, 30, 72, 96, 120, 96, 128, 160]
        );
        assert_eq!(
            table(Configuration::territory_threshold),
            [33, 22, 17, 31, 21, 16, 181, 121, 91, 235, 157, 118]
        );
        assert_eq!(
            table(Configuration::eligible_length),
            [4, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4]
        );
    }

    #[test]
    fn names_round_trip() {
        for configuration in Configuration::ALL {
            assert_eq!(configuration.to_string().parse(), Ok(configuration));
            assert_eq!(
                Configuration::try_from(&ConfigurationName::from(configuration)),
                Ok(configuration)
            );
        }
        for wrong in ["", "hex8", "hex8_5p", "hex8_1p", "Hex8_2p", "hex8_2p "] {
            assert!(wrong.parse::<Configuration>().is_err(), "{wrong}");
        }
        assert_eq!(Seat(0).to_string(), "1");
    }
}
