//! The verbs about locks and settings.

use crate::command::Body;
use crate::lock::{LockGuard, LockVerb};
use crate::setting::{Expected, SettingWrite};

use super::parse::{Words, parse, parse_time, parse_token};

/// A verb about a lock or a setting; none for any other.
pub(super) fn parse_service(verb: &str, words: &mut Words<'_>) -> Result<Option<Body>, String> {
    if ["set", "unset"].contains(&verb) {
        let write = parse_write(verb == "set", words)?;
        return Ok(Some(Body::WriteSetting(write)));
    }
    if !["lock", "renew", "unlock"].contains(&verb) {
        return Ok(None);
    }
    let name = words.next("the name of a lock")?.to_owned();
    Ok(Some(Body::Lock(match verb {
        "lock" => LockVerb::Acquire {
            name,
            owner: words.next("an owner")?.to_owned(),
            ttl: parse_time(words.next("a time")?)?,
        },
        "renew" => LockVerb::Renew {
            name,
            token: parse_token(words.next("a token")?)?,
            ttl: parse_time(words.next("a time")?)?,
        },
        _ => LockVerb::Release {
            name,
            token: parse_token(words.next("a token")?)?,
        },
    })))
}

fn parse_write(set: bool, words: &mut Words<'_>) -> Result<SettingWrite, String> {
    let mut write = SettingWrite {
        key: words.next("a key")?.to_owned(),
        value: None,
        expected: Expected::Any,
        author: "someone".to_owned(),
        guard: None,
    };
    while let Some((name, value)) = words.setting() {
        match name {
            "if" => write.expected = parse_expected(value)?,
            "by" => write.author = value.to_owned(),
            "under" => write.guard = Some(parse_guard(value)?),
            _ => return Err(format!("a write has no `{name}`")),
        }
    }
    if set {
        if !words.flag("to") {
            return Err("`to` and a value are missing".to_owned());
        }
        write.value = Some(words.rest());
    }
    Ok(write)
}

fn parse_expected(text: &str) -> Result<Expected, String> {
    match text {
        "any" => Ok(Expected::Any),
        "absent" => Ok(Expected::Absent),
        revision => parse(revision, "a revision").map(Expected::Revision),
    }
}

/// `name:entry.ordinal`.
fn parse_guard(text: &str) -> Result<LockGuard, String> {
    let (name, token) = text
        .split_once(':')
        .ok_or_else(|| format!("`{text}` is no lock such as `x:4.0`"))?;
    Ok(LockGuard {
        name: name.to_owned(),
        token: parse_token(token)?,
    })
}
