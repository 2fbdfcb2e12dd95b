//! The fuzz target on its corpus and on mutations of it: the same inputs in every run, enough of them to be worth it.
//!
//! `rules/fuzz` plugs the same function into libFuzzer. What that finds is added to the corpus, and so stays found.

#![expect(
    clippy::unwrap_used,
    reason = "test code: a failed step is a failed test"
)]

#[path = "../fuzz/src/target.rs"]
mod target;

#[path = "fuzz/mutate.rs"]
mod mutate;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use mutate::Mutator;

/// Mutations tried; about ten seconds in the development profile.
const MUTATIONS: usize = 100_000;

/// Every input of the corpus with its file's name, in the order of the names.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/parsers");
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 40, "the corpus has {} inputs", inputs.len());
    inputs
}

/// Runs one input; a panic names it.
fn run(name: &str, input: &[u8]) {
    let outcome = catch_unwind(AssertUnwindSafe(|| target::run(input)));
    if outcome.is_err() {
        panic!(
            "{name}: this input fails:\n{}",
            String::from_utf8_lossy(input)
        );
    }
}

#[test]
fn the_corpus_passes() {
    for (name, input) in corpus() {
        run(&name, &input);
    }
}

/// After parsers that panic on input nobody wrote by hand, and texts that are accepted but mean something else.
#[test]
fn mutations_of_the_corpus_pass() {
    let inputs: Vec<Vec<u8>> = corpus().into_iter().map(|(_, input)| input).collect();
    let mut mutator = Mutator::new(0x5eed, inputs);
    for number in 0..MUTATIONS {
        run(&format!("mutation {number}"), &mutator.next_input());
    }
}

/// The alarm rings: an input that breaks a promise of the target is reported with its text.
#[test]
fn a_broken_promise_is_reported() {
    let outcome = catch_unwind(|| {
        let start = riftmesh_rules::Position::start(
            riftmesh_rules::Configuration::ALL[0],
            riftmesh_rules::RuleOptions::default(),
        );
        // As if a parser had accepted a text that is not canonical.
        assert_eq!(start.canonical_text(), " RR1");
    });
    assert!(outcome.is_err());
}
