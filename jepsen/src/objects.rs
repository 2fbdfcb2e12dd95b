//! Registers in histories: operations `:read`, `:write` and `:cas` of one register, or of many with values `[key value]`.

use std::collections::BTreeMap;

use anyhow::{Context, bail};

use crate::edn::Edn;
use crate::history::{History, Kind, MISMATCH, Operation};
use crate::linear::{Budget, Linearizability, Timed, check};
use crate::register::{Register, RegisterOp};
use crate::verdict::Finding;

const PROPERTY: &str = "linearizable registers";

/// Operations of each register, by the text of its key.
type Registers = BTreeMap<String, Vec<Timed<RegisterOp>>>;

/// Whether values carry the key of their register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// One register.
    None,
    /// Values are `[key value]`.
    InValue,
}

/// Judges every register by itself: linearizability is a property of objects one at a time.
///
/// Operations that failed count for nothing, but for a compare-and-set whose error begins with `mismatch`: it read.
pub fn registers_are_linearizable(history: &History, keys: Keys, budget: Budget) -> Finding {
    let registers = match registers(history, keys) {
        Ok(registers) => registers,
        Err(error) => return Finding::unknown(PROPERTY, format!("{error:#}")),
    };
    let (mut operations, mut undecided) = (0, Vec::new());
    for (key, of) in &registers {
        operations += of.iter().filter(|op| op.returned.is_some()).count();
        match check(&Register, of, budget) {
            Linearizability::Linearizable => {}
            Linearizability::Exhausted => undecided.push(key.as_str()),
            Linearizability::Violated(at) => {
                let seen = &of[at];
                let detail = format!(
                    "register {key}: no order explains {:?}, called at event {} and acknowledged at {:?}",
                    seen.op, seen.called, seen.returned
                );
                return Finding::invalid(PROPERTY, detail);
            }
        }
    }
    if !undecided.is_empty() {
        let detail = format!(
            "the search ran out of its budget on {}",
            undecided.join(", ")
        );
        return Finding::unknown(PROPERTY, detail);
    }
    if operations == 0 {
        return Finding::unknown(PROPERTY, "no acknowledged :read, :write or :cas");
    }
    let detail = format!("{operations} operations on {} registers", registers.len());
    Finding::valid(PROPERTY, detail)
}

fn registers(history: &History, keys: Keys) -> anyhow::Result<Registers> {
    let mut registers = Registers::new();
    for operation in history.operations() {
        let index = operation.invoke.index;
        let Some((key, timed)) =
            timed(&operation, keys).with_context(|| format!("event {index}"))?
        else {
            continue;
        };
        registers.entry(key).or_default().push(timed);
    }
    Ok(registers)
}

/// The operation as the model knows it; none for one that says nothing of a register.
fn timed(
    operation: &Operation<'_>,
    keys: Keys,
) -> anyhow::Result<Option<(String, Timed<RegisterOp>)>> {
    let f = operation.invoke.f.as_str();
    if !["read", "write", "cas"].contains(&f) {
        return Ok(None);
    }
    let kind = operation.kind();
    let error = operation.outcome.and_then(|event| event.error.as_deref());
    let mismatched = f == "cas" && error.is_some_and(|error| error.starts_with(MISMATCH));
    let says_nothing = match kind {
        Kind::Fail => !mismatched,
        // A read that nobody saw.
        Kind::Info | Kind::Invoke => f == "read",
        Kind::Ok => false,
    };
    if says_nothing {
        return Ok(None);
    }
    // A read's value is in its outcome, everything else's in its invocation.
    let value = match f {
        "read" => operation.ok_value().unwrap_or(&Edn::Nil),
        _ => &operation.invoke.value,
    };
    let (key, value) = match (keys, value) {
        (Keys::None, value) => (String::new(), value),
        (Keys::InValue, Edn::Vector(pair)) if pair.len() == 2 => (pair[0].to_string(), &pair[1]),
        (Keys::InValue, other) => bail!("`{other}` is no [key value]"),
    };
    let op = match (f, value) {
        ("read", Edn::Nil) => RegisterOp::Read(None),
        ("read", Edn::Int(value)) => RegisterOp::Read(Some(*value)),
        ("write", Edn::Int(value)) => RegisterOp::Write(*value),
        ("cas", Edn::Vector(pair)) => match pair.as_slice() {
            [Edn::Int(expected), Edn::Int(_)] if mismatched => RegisterOp::Mismatch(*expected),
            [Edn::Int(expected), Edn::Int(new)] => RegisterOp::CompareAndSet {
                expected: *expected,
                new: *new,
            },
            _ => bail!("`{value}` is no [expected new] of whole numbers"),
        },
        _ => bail!("`{value}` is no value of a register: whole numbers and nil are"),
    };
    let at = |index: usize| i64::try_from(index).unwrap_or(i64::MAX);
    let returned = operation.outcome.filter(|_| kind != Kind::Info);
    let timed = Timed {
        op,
        called: at(operation.invoke.index),
        returned: returned.map(|event| at(event.index)),
    };
    Ok(Some((key, timed)))
}

#[cfg(test)]
mod tests;
