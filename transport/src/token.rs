//! Join tokens: the text that lets a machine into a cluster.
//!
//! A token says which cluster and authority to trust, and carries a secret of which the cluster keeps only a hash. What
//! else it says (role, expiry, uses) is for people and for early refusals: the cluster's own record decides.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use rand::RngExt;
use riftmesh_base::codec::{open, seal};
use riftmesh_base::{BlobHash, ClusterId, DecodeError, JoinTokenId, Millis, Role, decode, encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// In front of every token, so that people and secret scanners recognise one.
const PREFIX: &str = "riftmesh-join-";
const MAGIC: [u8; 4] = *b"RMjt";
const VERSION: u16 = 1;
/// Longest text that is looked at.
const TEXT_BYTES_MAX: usize = 512;
/// Separates the hash of a token's secret from hashes of anything else.
const CONTEXT: &str = "riftmesh 2026 join token secret";

/// What a token is redeemed with. Wiped from memory when dropped, and absent from logs.
#[derive(Clone)]
pub struct TokenSecret(Zeroizing<[u8; 32]>);

impl TokenSecret {
    /// A new one, from the system's randomness.
    pub fn generate() -> Self {
        Self(Zeroizing::new(rand::rng().random()))
    }

    /// The hash that the cluster keeps.
    pub fn hash(&self) -> BlobHash {
        BlobHash(blake3::derive_key(CONTEXT, self.0.as_slice()))
    }
}

/// Compares hashes: how long that takes says nothing about the secrets.
impl PartialEq for TokenSecret {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

impl Eq for TokenSecret {}

impl Serialize for TokenSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (*self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TokenSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <[u8; 32]>::deserialize(deserializer).map(|bytes| Self(Zeroizing::new(bytes)))
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(not shown)")
    }
}

/// A join token with its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// The cluster it lets into.
    pub cluster: ClusterId,
    /// Its id, which is no secret.
    pub id: JoinTokenId,
    /// What it is redeemed with.
    pub secret: TokenSecret,
    /// What it lets machines become.
    pub role: Role,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires: Millis,
    /// How many machines it lets in.
    pub uses: u32,
    /// The hash of the certificate of the cluster's authority.
    pub authority: BlobHash,
}

/// Why a text is no token. The text itself is not repeated: it may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else.
    #[error("not a join token: one begins with `{PREFIX}`; `riftmesh token create` makes one")]
    NotAToken,
    /// Cut off or mistyped.
    #[error("damaged join token: {0}; copy it again, all of it")]
    Damaged(String),
    /// Of another build.
    #[error("join token of version {found}: this build knows version {VERSION}")]
    Version {
        /// Its version.
        found: u16,
    },
}

impl JoinToken {
    /// The text that is handed to the machine that is to join. A secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(encode(self));
        let sealed = Zeroizing::new(seal(MAGIC, VERSION, &bytes));
        Zeroizing::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&sealed)))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let body = text.trim().strip_prefix(PREFIX);
        let body = body.ok_or(TokenError::NotAToken)?;
        if body.len() > TEXT_BYTES_MAX {
            let reason = format!("{} characters, at most {TEXT_BYTES_MAX}", body.len());
            return Err(TokenError::Damaged(reason));
        }
        let sealed = BASE64URL_NOPAD.decode(body.as_bytes());
        let sealed = sealed.map_err(|error| TokenError::Damaged(error.kind.to_string()))?;
        let sealed = Zeroizing::new(sealed);
        let (payload, rest) = open(MAGIC, VERSION, &sealed).map_err(|error| match error {
            DecodeError::Version { found, .. } => TokenError::Version { found },
            DecodeError::Magic { .. } => TokenError::NotAToken,
            other => TokenError::Damaged(other.to_string()),
        })?;
        if !rest.is_empty() {
            return Err(TokenError::Damaged("more behind its end".to_owned()));
        }
        decode(payload).map_err(|error| TokenError::Damaged(error.to_string()))
    }
}
