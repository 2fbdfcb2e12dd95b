//! Locks that guard something: two counters outside the cluster, of which one checks tokens, and a setting inside.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};

use super::{Process, unreadable};
use crate::cluster::NodePlan;
use crate::edn::Edn;
use crate::pace::Pace;

/// Locks that the clients fight for.
const LOCKS: u32 = 3;

/// What a lock guards outside the cluster.
#[derive(Debug, Clone, Copy, Default)]
struct Guarded {
    /// Counts without looking at tokens.
    bare: i64,
    /// Counts only for the highest token it has seen.
    fenced: i64,
    /// That token.
    seen: i64,
}

/// A service outside the cluster, such as a file server, that keeps what the locks guard.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<String, Guarded>>);

impl Counters {
    /// Both counts, of the fenced one only for a token that is not older than any it has seen.
    fn read(&self, lock: &str, token: i64) -> (i64, Option<i64>) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let guarded = counters.entry(lock.to_owned()).or_default();
        guarded.seen = guarded.seen.max(token);
        (
            guarded.bare,
            (guarded.seen == token).then_some(guarded.fenced),
        )
    }

    /// Sets what was read plus one; whether the fenced counter took it.
    fn write(&self, lock: &str, token: i64, bare: i64, fenced: Option<i64>) -> bool {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let guarded = counters.entry(lock.to_owned()).or_default();
        guarded.bare = bare + 1;
        match fenced.filter(|_| guarded.seen == token) {
            Some(fenced) => {
                guarded.fenced = fenced + 1;
                true
            }
            None => false,
        }
    }
}

impl Process<'_> {
    /// Takes locks, counts under them, sometimes for longer than they are held, until the phase ends.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn use_locks_until(&mut self, pace: &Pace) -> anyhow::Result<()> {
        while pace.wait(Duration::from_millis(self.rng.random_range(50..300))) {
            let lock = format!("lock-{}", self.rng.random_range(0..LOCKS));
            let ttl = self.rng.random_range(1_000..3_000);
            let node = self.any_voter();
            let Some(token) = self.acquire(&node, &lock, ttl)? else {
                continue;
            };
            let read = self.clients.counters.read(&lock, token);
            let outlives = self.rng.random_bool(0.25);
            let works = match outlives {
                true => ttl + self.rng.random_range(200..1_500),
                false => self.rng.random_range(10..400),
            };
            pace.wait(Duration::from_millis(works));
            self.count(&lock, token, read)?;
            self.write_guarded(&lock, token)?;
            if !outlives || self.rng.random_bool(0.5) {
                self.release(&lock, token)?;
            }
        }
        Ok(())
    }

    fn acquire(&mut self, node: &NodePlan, lock: &str, ttl: u64) -> anyhow::Result<Option<i64>> {
        let client = self.rng.random();
        let order = json!({"lock": {"acquire": {"name": lock, "owner": "jepsen", "ttl": ttl}}});
        let ttl = i64::try_from(ttl)?;
        let asked = Edn::map([("lock", Edn::from(lock)), ("ttl", Edn::Int(ttl))]);
        let held = self.operation("acquire", asked, |api| {
            let reply = Self::order(api, node, client, &order)?;
            let token = reply["Locked"]["token"].as_str().and_then(number_of);
            let token = token.ok_or_else(|| unreadable(&reply))?;
            Ok(Edn::map([
                ("lock", Edn::from(lock)),
                ("ttl", Edn::Int(ttl)),
                ("token", Edn::Int(token)),
            ]))
        })?;
        Ok(held.as_ref().and_then(|held| held.get("token")?.int()))
    }

    /// Adds one to both counters from what was read of them before.
    fn count(&mut self, lock: &str, token: i64, read: (i64, Option<i64>)) -> anyhow::Result<()> {
        let counters = &self.clients.counters;
        self.operation("count", held(lock, token), |_| {
            let (bare, fenced) = read;
            let taken = counters.write(lock, token, bare, fenced);
            Ok(Edn::map([
                ("lock", Edn::from(lock)),
                ("token", Edn::Int(token)),
                ("bare", Edn::Int(bare + 1)),
                (
                    "fenced",
                    fenced.filter(|_| taken).map(|count| count + 1).into(),
                ),
            ]))
        })?;
        Ok(())
    }

    /// Writes the token into a setting that only the lock's holder may write.
    fn write_guarded(&mut self, lock: &str, token: i64) -> anyhow::Result<()> {
        let (node, client) = (self.any_voter(), self.rng.random());
        let guard = json!({"name": lock, "token": format!("t{token}")});
        let key = format!("guarded-{lock}");
        let order = Self::write_setting(&key, &token.to_string(), &json!("any"), &guard);
        self.operation("guarded", held(lock, token), |api| {
            Self::order(api, &node, client, &order)?;
            Ok(held(lock, token))
        })?;
        Ok(())
    }

    fn release(&mut self, lock: &str, token: i64) -> anyhow::Result<()> {
        let (node, client) = (self.any_voter(), self.rng.random());
        let order: Value =
            json!({"lock": {"release": {"name": lock, "token": format!("t{token}")}}});
        self.operation("release", held(lock, token), |api| {
            Self::order(api, &node, client, &order)?;
            Ok(held(lock, token))
        })?;
        Ok(())
    }
}

fn held(lock: &str, token: i64) -> Edn {
    Edn::map([("lock", Edn::from(lock)), ("token", Edn::Int(token))])
}

fn number_of(token: &str) -> Option<i64> {
    token.strip_prefix('t')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A holder that was overtaken between its read and its write loses its count at the fence, and breaks the bare one.
    #[test]
    fn the_fence_stops_whom_the_lock_left() {
        let counters = Counters::default();
        let old = counters.read("a", 10);
        let new = counters.read("a", 20);
        assert!(counters.write("a", 20, new.0, new.1));
        assert!(!counters.write("a", 10, old.0, old.1));
        assert_eq!(
            counters.read("a", 20),
            (1, Some(1)),
            "the bare count lost one of two"
        );
        assert_eq!(counters.read("a", 10), (1, None));
    }
}
