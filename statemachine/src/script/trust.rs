//! The verbs about join tokens and certificates.

use riftmesh_base::{BlobHash, JoinTokenId, Millis, Role};

use crate::command::Body;
use crate::state::State;
use crate::trust::{NewToken, Spend, TrustVerb};

use super::parse::{Words, parse, parse_hash, parse_time};

/// A verb about trust; none for any other.
pub(super) fn parse_trust(verb: &str, words: &mut Words<'_>) -> Result<Option<Body>, String> {
    Ok(Some(Body::Trust(match verb {
        "token" => {
            let (id, values) = (token(words)?, Values::read(words)?);
            TrustVerb::CreateToken(NewToken {
                id,
                secret: values.secret,
                role: values.role,
                uses: values.uses,
                expires: values.until,
                at: values.wall,
            })
        }
        "untoken" => TrustVerb::RevokeToken { id: token(words)? },
        "join" => {
            let (token, node) = (token(words)?, words.node()?);
            let values = Values::read(words)?;
            TrustVerb::SpendToken(Spend {
                token,
                secret: values.secret,
                node,
                key: values.key,
                at: values.wall,
            })
        }
        "recertify" => {
            let (node, values) = (words.node()?, Values::read(words)?);
            TrustVerb::RenewCertificate {
                node,
                key: values.key,
                at: values.wall,
            }
        }
        "distrust" => {
            let (node, values) = (words.node()?, Values::read(words)?);
            TrustVerb::RevokeCertificate {
                node,
                reason: words.rest(),
                at: values.wall,
            }
        }
        _ => return Ok(None),
    })))
}

fn token(words: &mut Words<'_>) -> Result<JoinTokenId, String> {
    words.parse("the number of a token").map(JoinTokenId)
}

/// What may be said as `name=value`.
struct Values {
    secret: BlobHash,
    key: BlobHash,
    role: Role,
    uses: u32,
    until: Millis,
    wall: Millis,
}

impl Values {
    fn read(words: &mut Words<'_>) -> Result<Self, String> {
        let mut values = Self {
            secret: BlobHash([0; 32]),
            key: BlobHash([0; 32]),
            role: Role::Worker,
            uses: 1,
            until: Millis(0),
            wall: Millis(0),
        };
        while let Some((name, value)) = words.setting() {
            match name {
                "secret" => values.secret = parse_hash(value)?,
                "key" => values.key = parse_hash(value)?,
                "role" if value == "voter" => values.role = Role::Voter,
                "uses" => values.uses = parse(value, "a number of uses")?,
                "until" => values.until = parse_time(value)?,
                "wall" => values.wall = parse_time(value)?,
                _ => return Err(format!("trust has no `{name}={value}`")),
            }
        }
        Ok(values)
    }
}

/// Tokens, certificates and revocations, a line each.
pub(super) fn show(state: &State) -> Vec<String> {
    let tokens = state.join_tokens().into_iter().map(|token| {
        let revoked = if token.revoked { ", revoked" } else { "" };
        let (id, spent, uses) = (token.id, token.nodes.len(), token.uses);
        format!(
            "token {id}: {spent} of {uses} spent, until {}{revoked}",
            token.expires
        )
    });
    let certificates = state.certificates().map(|known| {
        let (node, key, token) = (known.node, known.key.short(), known.token);
        format!(
            "{node} with key {key} by token {token} until {}",
            known.expires
        )
    });
    let revoked = state
        .revocations()
        .map(|known| format!("{} is trusted no more: {}", known.node, known.reason));
    tokens.chain(certificates).chain(revoked).collect()
}
