//! Locks and settings as plainly as they can be written, and random commands about them.

use proptest::prelude::*;
use riftmesh_base::{LogIndex, Millis, Token};
use riftmesh_statemachine::command::Body;
use riftmesh_statemachine::lock::{LockGuard, LockVerb};
use riftmesh_statemachine::setting::{Expected, SettingWrite};

use crate::reference::{Answer, Answered};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainLock {
    pub name: String,
    pub owner: String,
    pub token: Token,
    pub until: u64,
}

/// Locks that are held, and every write there ever was: its place is its revision.
#[derive(Debug, Default)]
pub struct Services {
    pub locks: Vec<PlainLock>,
    pub writes: Vec<(String, Option<String>)>,
}

impl Services {
    fn held(&self, name: &str) -> Option<&PlainLock> {
        self.locks.iter().find(|lock| lock.name == name)
    }

    fn holds(&self, name: &str, token: Token) -> bool {
        self.held(name).is_some_and(|lock| lock.token == token)
    }

    /// `token` is what an acquisition would get.
    pub fn lock(&mut self, verb: &LockVerb, now: u64, token: Token) -> Answered {
        match verb {
            LockVerb::Acquire { name, owner, ttl } => {
                if self.held(name).is_some() {
                    return Err("held");
                }
                let until = now + ttl.0;
                self.locks.push(PlainLock {
                    name: name.clone(),
                    owner: owner.clone(),
                    token,
                    until,
                });
                Ok(Answer::Locked(token, until))
            }
            LockVerb::Renew { name, token, ttl } => {
                let mut locks = self.locks.iter_mut();
                let mine = locks.find(|lock| lock.name == *name && lock.token == *token);
                let lock = mine.ok_or("lock lost")?;
                lock.until = lock.until.max(now + ttl.0);
                Ok(Answer::Locked(*token, lock.until))
            }
            LockVerb::Release { name, token } => {
                if !self.holds(name, *token) {
                    return Err("lock lost");
                }
                self.locks.retain(|lock| lock.name != *name);
                Ok(Answer::Done)
            }
        }
    }

    /// Revision and value, as the last write left them.
    pub fn setting(&self, key: &str) -> Option<(u64, String)> {
        let numbered = (1..).zip(&self.writes);
        let (revision, (_, value)) = numbered.filter(|(_, (written, _))| written == key).last()?;
        Some((revision, value.clone()?))
    }

    pub fn write(&mut self, write: &SettingWrite) -> Answered {
        if let Some(guard) = &write.guard
            && !self.holds(&guard.name, guard.token)
        {
            return Err("lock lost");
        }
        let found = self.setting(&write.key).map(|(revision, _)| revision);
        let fits = match write.expected {
            Expected::Any => true,
            Expected::Absent => found.is_none(),
            Expected::Revision(wanted) => found == Some(wanted),
        };
        if !fits {
            return Err("conflict");
        }
        if write.value.is_none() && found.is_none() {
            return Err("unknown");
        }
        self.writes.push((write.key.clone(), write.value.clone()));
        Ok(Answer::Revision(self.writes.len() as u64))
    }
}

/// What to ask of a lock or a setting.
#[derive(Debug, Clone)]
pub enum ServiceAction {
    Acquire {
        name: u8,
        owner: u8,
        ttl: u64,
    },
    Renew {
        name: u8,
        stray: bool,
        ttl: u64,
    },
    Release {
        name: u8,
        stray: bool,
    },
    Write {
        key: u8,
        value: Option<u8>,
        expected: u8,
        guard: Option<(u8, bool)>,
    },
}

pub fn service_action() -> impl Strategy<Value = ServiceAction> {
    let stray = || prop::bool::weighted(0.2);
    let write = (
        0u8..3,
        prop::option::weighted(0.8, 0u8..4),
        0u8..6,
        prop::option::weighted(0.2, (0u8..3, stray())),
    );
    prop_oneof![
        3 => (0u8..3, 0u8..2, 1_000u64..40_000).prop_map(|(name, owner, ttl)| ServiceAction::Acquire { name, owner, ttl }),
        2 => (0u8..3, stray(), 1_000u64..40_000).prop_map(|(name, stray, ttl)| ServiceAction::Renew { name, stray, ttl }),
        1 => (0u8..3, stray()).prop_map(|(name, stray)| ServiceAction::Release { name, stray }),
        4 => write.prop_map(|(key, value, expected, guard)| ServiceAction::Write { key, value, expected, guard }),
    ]
}

pub fn service_body(action: &ServiceAction, services: &Services) -> Body {
    let lock = |name: u8| format!("lock-{name}");
    let token = |name: u8, stray: bool| {
        let held = services.held(&lock(name)).filter(|_| !stray);
        held.map_or(Token::new(LogIndex(1), 9), |held| held.token)
    };
    Body::Lock(match action.clone() {
        ServiceAction::Acquire { name, owner, ttl } => LockVerb::Acquire {
            name: lock(name),
            owner: format!("owner-{owner}"),
            ttl: Millis(ttl),
        },
        ServiceAction::Renew { name, stray, ttl } => LockVerb::Renew {
            name: lock(name),
            token: token(name, stray),
            ttl: Millis(ttl),
        },
        ServiceAction::Release { name, stray } => LockVerb::Release {
            name: lock(name),
            token: token(name, stray),
        },
        ServiceAction::Write {
            key,
            value,
            expected,
            guard,
        } => {
            let key = format!("key-{key}");
            let revision = services.setting(&key).map(|(revision, _)| revision);
            return Body::WriteSetting(SettingWrite {
                value: value.map(|value| format!("value {value}")),
                expected: match expected {
                    0..3 => Expected::Any,
                    3 => Expected::Absent,
                    4 => Expected::Revision(revision.unwrap_or(1)),
                    _ => Expected::Revision(u64::from(expected)),
                },
                author: "somebody".to_owned(),
                guard: guard.map(|(name, stray)| LockGuard {
                    name: lock(name),
                    token: token(name, stray),
                }),
                key,
            });
        }
    })
}
