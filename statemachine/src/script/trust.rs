//! The verbs about join tokens and certificates.

use riftmesh_base::{BlobHash, JoinTokenId, Millis, Role};

use crate::command::Body;
use crate::rotation::{AuthorityChange, RotationPhase, RotationVerb};
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
        "authority" => {
            let (present, next) = (certificate(words)?, certificate(words)?);
            let at = Values::read(words)?.wall;
            TrustVerb::Rotate(RotationVerb::Begin(AuthorityChange { present, next, at }))
        }
        "adopt" => TrustVerb::Rotate(RotationVerb::Adopt {
            node: words.node()?,
            authority: BlobHash::of(&certificate(words)?),
            step: phase(words)?,
        }),
        "advance" | "force" => {
            let (phase, at) = (phase(words)?, Values::read(words)?.wall);
            let force = verb == "force";
            TrustVerb::Rotate(RotationVerb::Advance { phase, force, at })
        }
        "abort" => TrustVerb::Rotate(RotationVerb::Abort),
        _ => return Ok(None),
    })))
}

/// Stands for the certificate of an authority, which the state does not look into.
fn certificate(words: &mut Words<'_>) -> Result<Vec<u8>, String> {
    let number: u8 = words.parse("the number of an authority")?;
    Ok(vec![number; 3])
}

fn phase(words: &mut Words<'_>) -> Result<RotationPhase, String> {
    match words.next("a phase")? {
        "trusting" => Ok(RotationPhase::Trusting),
        "renewing" => Ok(RotationPhase::Renewing),
        other => Err(format!("`{other}` is no phase of a rotation")),
    }
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
    let rotation = state.rotation(Millis(0)).map(|rotation| {
        let (next, phase) = (rotation.next.fingerprint.short(), rotation.phase);
        let (done, awaited) = (rotation.done.len(), rotation.awaited.len());
        format!("rotation to {next}: {phase}, {done} done, {awaited} awaited")
    });
    let authorities = state.authorities().into_iter().map(|known| {
        let name = known.fingerprint.short();
        format!("authority {name} is trusted")
    });
    let rest = revoked.chain(authorities).chain(rotation);
    tokens.chain(certificates).chain(rest).collect()
}
