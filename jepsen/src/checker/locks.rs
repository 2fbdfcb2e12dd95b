//! Locks: one holder at a time, tokens that rise, and what they guard.

use std::collections::{BTreeMap, BTreeSet};

use super::repeats::changes;
use crate::edn::Edn;
use crate::history::{History, Kind, Operation};
use crate::verdict::Finding;

/// A time as a lock was held, as far as its clients can know.
#[derive(Debug)]
struct Holding {
    token: i64,
    /// Asked for, and told, in nanoseconds of the run.
    asked: i64,
    told: i64,
    ttl_ns: i64,
    /// The first attempt to give it back began.
    given_back: Option<i64>,
}

/// Nobody gets a lock before the time it was promised to another is over or it was given back, and every new holder's
/// token is higher.
///
/// The time to live counts from some instant after the holder asked, and cluster time never runs ahead of the clock; so
/// a lock asked for at 3 s for 2 s is held until 5 s at least.
pub fn are_held_by_one(history: &History) -> Finding {
    const PROPERTY: &str = "locks are held by one";
    let mut all = 0;
    let mut expired = 0;
    for (lock, mut holdings) in holdings(history) {
        holdings.sort_unstable_by_key(|holding| holding.token);
        for pair in holdings.windows(2) {
            let (old, new) = (&pair[0], &pair[1]);
            if old.token == new.token {
                return Finding::invalid(
                    PROPERTY,
                    format!("{lock}: t{} was given twice", old.token),
                );
            }
            if new.told < old.asked {
                let detail = format!(
                    "{lock}: t{} was given before t{} was asked for",
                    new.token, old.token
                );
                return Finding::invalid(PROPERTY, detail);
            }
            let held_until = old.asked + old.ttl_ns;
            let was_free = old.given_back.is_some_and(|at| at <= new.told);
            if !was_free && new.told < held_until {
                let detail = format!(
                    "{lock}: t{} was given at {:.3} s, while t{} was held until {:.3} s",
                    new.token,
                    new.told as f64 / 1e9,
                    old.token,
                    held_until as f64 / 1e9
                );
                return Finding::invalid(PROPERTY, detail);
            }
            expired += usize::from(!was_free);
        }
        all += holdings.len();
    }
    if all < 2 {
        return Finding::unknown(PROPERTY, "no lock changed hands");
    }
    Finding::valid(
        PROPERTY,
        format!("{all} times taken, {expired} times after its time was over"),
    )
}

fn holdings(history: &History) -> BTreeMap<String, Vec<Holding>> {
    let operations = history.operations();
    let mut releases: BTreeMap<i64, i64> = BTreeMap::new();
    for operation in operations
        .iter()
        .filter(|operation| operation.invoke.f == "release")
    {
        if let Some(token) = operation.invoke.value.get("token").and_then(Edn::int) {
            releases.entry(token).or_insert(operation.invoke.time_ns);
        }
    }
    let mut locks: BTreeMap<String, Vec<Holding>> = BTreeMap::new();
    let holding = |operation: &Operation<'_>| {
        let value = operation.ok_value()?;
        let token = value.get("token")?.int()?;
        let holding = Holding {
            token,
            asked: operation.invoke.time_ns,
            told: operation.outcome?.time_ns,
            ttl_ns: value.get("ttl")?.int()?.checked_mul(1_000_000)?,
            given_back: releases.get(&token).copied(),
        };
        Some((value.get("lock")?.text()?.to_owned(), holding))
    };
    for operation in operations
        .iter()
        .filter(|operation| operation.invoke.f == "acquire")
    {
        if let Some((lock, holding)) = holding(operation) {
            locks.entry(lock).or_default().push(holding);
        }
    }
    locks
}

/// The counter that checks tokens counts everybody it takes, once. How many counts the other one lost is told, not
/// judged: a lock without a checked token is not a lock. A run in which no token was refused has not tried it.
pub fn fenced_counts_hold(history: &History) -> Finding {
    const PROPERTY: &str = "fenced counts hold";
    let mut fenced: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    let mut bare: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    let mut refused = 0;
    let counts = history
        .events
        .iter()
        .filter(|event| event.f == "count" && event.kind == Kind::Ok);
    for event in counts {
        let lock = event
            .value
            .get("lock")
            .and_then(Edn::text)
            .unwrap_or_default();
        match event.value.get("fenced").and_then(Edn::int) {
            Some(count) => fenced.entry(lock).or_default().push(count),
            None => refused += 1,
        }
        let (times, highest) = bare.entry(lock).or_default();
        *times += 1;
        *highest = event
            .value
            .get("bare")
            .and_then(Edn::int)
            .unwrap_or(0)
            .max(*highest);
    }
    for (lock, counts) in &fenced {
        let distinct: BTreeSet<_> = counts.iter().collect();
        if distinct.len() != counts.len() {
            let detail = format!(
                "{lock}: {} counts gave {} values",
                counts.len(),
                distinct.len()
            );
            return Finding::invalid(PROPERTY, detail);
        }
    }
    let taken: usize = fenced.values().map(Vec::len).sum();
    let lost: i64 = bare.values().map(|(times, highest)| times - highest).sum();
    let detail = format!(
        "{taken} counted, {refused} refused at the fence; without it {lost} counts were lost"
    );
    match refused {
        0 => Finding::unknown(PROPERTY, format!("no holder was overtaken: {detail}")),
        _ => Finding::valid(PROPERTY, detail),
    }
}

/// A setting that only a lock's holder may write is written under rising tokens.
pub fn guarded_settings_follow_tokens(history: &History) -> Finding {
    const PROPERTY: &str = "guarded settings";
    let mut last: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let mut writes = 0;
    for (revision, (key, value)) in changes(history) {
        let Some(token) = key
            .starts_with("guarded-")
            .then(|| value.parse::<i64>().ok())
            .flatten()
        else {
            continue;
        };
        writes += 1;
        let (before, at) = last
            .insert(key.clone(), (token, revision))
            .unwrap_or((token, 0));
        if token < before {
            let detail =
                format!("{key}: t{token} wrote revision {revision} after t{before} wrote {at}");
            return Finding::invalid(PROPERTY, detail);
        }
    }
    let stale = history.events.iter().filter(|event| {
        event.f == "guarded"
            && event.kind == Kind::Fail
            && event
                .error
                .as_deref()
                .is_some_and(|error| error.contains("fenced"))
    });
    match (writes, stale.count()) {
        (0, _) => Finding::unknown(PROPERTY, "no guarded setting was seen to change"),
        (_, 0) => Finding::unknown(PROPERTY, format!("{writes} writes, none refused")),
        (_, refused) => Finding::valid(
            PROPERTY,
            format!("{writes} writes under rising tokens, {refused} fenced"),
        ),
    }
}
