//! Newtypes for every noun that crosses a crate boundary, with one text form each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::CONFIGURATION_NAME_BYTES_MAX;

/// A text that is not the identifier it was read as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: expected {expected}")]
pub struct ParseIdError {
    /// What was being read, such as `node id`.
    pub kind: &'static str,
    /// The text that was given, cut to 80 characters.
    pub text: String,
    /// The form that would have been accepted.
    pub expected: &'static str,
}

impl ParseIdError {
    fn new(kind: &'static str, text: &str, expected: &'static str) -> Self {
        Self {
            kind,
            text: text.chars().take(80).collect(),
            expected,
        }
    }
}

/// Serialises as text in human-readable formats (JSON) and as the inner value in binary ones (postcard).
macro_rules! serde_by_text {
    ($name:ident, $inner:ty) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <$inner>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

/// A number written as sixteen hexadecimal digits.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let error = || ParseIdError::new($kind, text, "16 hexadecimal digits");
                if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(error());
                }
                u64::from_str_radix(text, 16).map(Self).map_err(|_| error())
            }
        }
        serde_by_text!($name, u64);
    };
}

/// A number written in decimal behind a letter, such as `j42`.
macro_rules! decimal_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0)
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let error = || ParseIdError::new($kind, text, concat!("`", $prefix, "` and a decimal number"));
                let digits = text.strip_prefix($prefix).ok_or_else(error)?;
                if !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(error());
                }
                digits.parse().map(Self).map_err(|_| error())
            }
        }
        serde_by_text!($name, u64);
    };
}

hex_id!(
    /// A node: one data directory, for as long as it exists. Never reused; a wiped disk is a new node.
    NodeId, "node id"
);
hex_id!(
    /// A join token, which lets machines into a cluster. Not a secret; what goes with it in the token's text is.
    JoinTokenId, "join token id"
);
decimal_id!(
    /// A job in the replicated queue. Rises in submission order within a cluster.
    JobId, "job id", "j"
);
decimal_id!(
    /// One life of a node as the leader sees it.
    SessionId, "session id", "s"
);
decimal_id!(
    /// A fencing token: `log index << 16 | ordinal` of the grant it belongs to. Strictly rises in log order.
    Token, "token", "t"
);

impl Token {
    /// The token of the `ordinal`-th grant made by the entry at `index`.
    pub fn new(index: LogIndex, ordinal: u16) -> Self {
        Self(index.0 << 16 | u64::from(ordinal))
    }
}

/// A position in the replicated log.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LogIndex(pub u64);

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A Raft term.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes written as lower-case hexadecimal digits.
macro_rules! hex_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal, $kind:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let error = || ParseIdError::new($kind, text, $expected);
                if text.len() != 2 * $len || !text.is_ascii() {
                    return Err(error());
                }
                let mut bytes = [0; $len];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| error())?;
                }
                Ok(Self(bytes))
            }
        }
        serde_by_text!($name, [u8; $len]);
    };
}

hex_bytes!(
    /// A cluster, minted once when its voters first meet.
    ClusterId, 16, "cluster id", "32 hexadecimal digits"
);
hex_bytes!(
    /// The BLAKE3 hash of some bytes: the name of a replay segment, a checkpoint or a model.
    BlobHash, 32, "blob hash", "64 hexadecimal digits"
);

impl BlobHash {
    /// The name of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The first eight hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

/// A configuration's name, a board type and a player count such as `hex8_2p`.
///
/// This crate checks only the form (lower-case letters, digits and `_`, 1 to
/// [`CONFIGURATION_NAME_BYTES_MAX`] bytes); which names exist is known to the rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigurationName(String);

impl ConfigurationName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfigurationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ConfigurationName {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=CONFIGURATION_NAME_BYTES_MAX).contains(&text.len());
        if fits
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError::new(
                "configuration name",
                text,
                "a name such as `hex8_2p`",
            ))
        }
    }
}

impl Serialize for ConfigurationName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ConfigurationName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every identifier survives its text form, its JSON form and its binary form.
        #[test]
        fn ids_round_trip(n: u64, bytes: [u8; 32]) {
            let hash = BlobHash(bytes);
            prop_assert_eq!(hash.to_string().parse::<BlobHash>().unwrap(), hash);
            prop_assert_eq!(NodeId(n).to_string().parse::<NodeId>().unwrap(), NodeId(n));
            prop_assert_eq!(JobId(n).to_string().parse::<JobId>().unwrap(), JobId(n));
            let binary = crate::encode(&(NodeId(n), JobId(n), hash));
            prop_assert_eq!(crate::decode::<(NodeId, JobId, BlobHash)>(&binary).unwrap(), (NodeId(n), JobId(n), hash));
        }

        /// No text makes a parser panic.
        #[test]
        fn parsing_never_panics(text: String) {
            prop_assert!(text.parse::<NodeId>().is_ok_and(|id| id.to_string() == text.to_lowercase()) || text.parse::<NodeId>().is_err());
            prop_assert!(text.parse::<BlobHash>().is_err() || text.len() == 64);
            prop_assert!(text.parse::<JobId>().is_err() || text.starts_with('j'));
        }
    }

    #[test]
    fn errors_name_what_was_wrong() {
        let error = "42".parse::<JobId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`42` is not a job id: expected `j` and a decimal number"
        );
        assert!("Hex8".parse::<ConfigurationName>().is_err());
        assert!("+123456789abcdef".parse::<NodeId>().is_err());
    }
}
