//! The table of locks.

use std::collections::{BTreeMap, BTreeSet};

use riftmesh_base::{Millis, Token};
use serde::{Deserialize, Serialize};

use crate::bounds::{LOCK_TTL_MAX, LOCK_TTL_MIN, LOCKS_MAX};
use crate::effect::Effect;
use crate::jobs::{check_full, check_name};
use crate::lock::{LockGuard, LockRecord, LockVerb};
use crate::reply::{Refusal, Reply};
use crate::state::{State, Turn};

/// The locks that are held. A free lock has no entry: its next token is higher anyway, since log positions rise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Locks {
    held: BTreeMap<String, LockRecord>,
    #[serde(skip)]
    expiring: BTreeSet<(Millis, String)>,
}

impl Locks {
    pub fn records(&self) -> impl ExactSizeIterator<Item = &LockRecord> {
        self.held.values()
    }

    pub fn get(&self, name: &str) -> Option<&LockRecord> {
        self.held.get(name)
    }

    /// The earliest time at which a lock runs out.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.expiring.first().map(|(until, _)| *until)
    }

    fn put(&mut self, record: LockRecord) {
        self.expiring.insert((record.until, record.name.clone()));
        self.held.insert(record.name.clone(), record);
    }

    fn take(&mut self, name: &str) -> Option<LockRecord> {
        let record = self.held.remove(name)?;
        self.expiring.remove(&(record.until, record.name.clone()));
        Some(record)
    }

    fn take_expired(&mut self, now: Millis) -> Option<LockRecord> {
        let (_, name) = self.expiring.first().filter(|(until, _)| *until <= now)?;
        let name = name.clone();
        self.take(&name)
    }

    pub fn derived_index(&self) -> BTreeSet<(Millis, String)> {
        let records = self.held.values();
        records.map(|r| (r.until, r.name.clone())).collect()
    }

    pub fn index(&self) -> &BTreeSet<(Millis, String)> {
        &self.expiring
    }

    /// Builds the index that is not part of the image.
    pub fn rebuild(&mut self) {
        self.expiring = self.derived_index();
    }
}

impl State {
    pub(crate) fn lock(&mut self, turn: &mut Turn, verb: &LockVerb) -> Result<Reply, Refusal> {
        match verb {
            LockVerb::Acquire { name, owner, ttl } => self.acquire(turn, name, owner, *ttl),
            LockVerb::Renew { name, token, ttl } => self.renew(turn, name, *token, *ttl),
            LockVerb::Release { name, token } => self.unlock(turn, name, *token),
        }
    }

    fn acquire(
        &mut self,
        turn: &mut Turn,
        name: &str,
        owner: &str,
        ttl: Millis,
    ) -> Result<Reply, Refusal> {
        check_name("the name of a lock", name)?;
        check_name("the owner of a lock", owner)?;
        check_ttl(ttl)?;
        if let Some(held) = self.locks.get(name) {
            return Err(Refusal::LockHeld {
                name: name.to_owned(),
                owner: held.owner.clone(),
                retry_after: held.until.since(turn.now),
            });
        }
        let after = self.locks.held.len() + 1;
        check_full("the table of locks", after as u64, LOCKS_MAX as u64)?;
        let ordinal = u16::try_from(turn.grants)
            .map_err(|_| Refusal::Invalid("too many grants in one entry".to_owned()))?;
        turn.grants += 1;
        let token = Token::new(turn.index, ordinal);
        let until = turn.now + ttl;
        self.locks.put(LockRecord {
            name: name.to_owned(),
            owner: owner.to_owned(),
            token,
            since: turn.now,
            until,
        });
        turn.tell(Effect::LockAcquired {
            name: name.to_owned(),
            token,
        });
        Ok(Reply::Locked { token, until })
    }

    fn renew(
        &mut self,
        turn: &Turn,
        name: &str,
        token: Token,
        ttl: Millis,
    ) -> Result<Reply, Refusal> {
        check_ttl(ttl)?;
        self.check_held(name, token)?;
        let mut until = turn.now + ttl;
        if let Some(mut record) = self.locks.take(name) {
            until = until.max(record.until);
            record.until = until;
            self.locks.put(record);
        }
        Ok(Reply::Locked { token, until })
    }

    fn unlock(&mut self, turn: &mut Turn, name: &str, token: Token) -> Result<Reply, Refusal> {
        self.check_held(name, token)?;
        self.locks.take(name);
        turn.tell(Effect::LockReleased {
            name: name.to_owned(),
            token,
        });
        Ok(Reply::Done)
    }

    /// The fence of locks: anything but the token of the present holder is refused.
    fn check_held(&self, name: &str, token: Token) -> Result<(), Refusal> {
        match self.locks.get(name) {
            Some(record) if record.token == token => Ok(()),
            Some(_) | None => Err(Refusal::LockLost {
                name: name.to_owned(),
            }),
        }
    }

    pub(crate) fn check_guard(&self, guard: Option<&LockGuard>) -> Result<(), Refusal> {
        guard.map_or(Ok(()), |guard| self.check_held(&guard.name, guard.token))
    }

    /// Frees the locks whose time is over, before the first command of an entry.
    pub(crate) fn expire_locks(&mut self, turn: &mut Turn) {
        while let Some(record) = self.locks.take_expired(turn.now) {
            turn.tell(Effect::LockExpired {
                name: record.name,
                token: record.token,
            });
        }
    }
}

fn check_ttl(ttl: Millis) -> Result<(), Refusal> {
    if (LOCK_TTL_MIN..=LOCK_TTL_MAX).contains(&ttl) {
        return Ok(());
    }
    Err(Refusal::Invalid(format!(
        "a lock for {ttl}: {LOCK_TTL_MIN} to {LOCK_TTL_MAX} are allowed"
    )))
}
