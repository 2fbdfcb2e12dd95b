//! The parsers' fuzz target under libFuzzer. Findings belong into `corpus/parsers/`, where `cargo test` runs them for ever.

#![no_main]

use libfuzzer_sys::fuzz_target;

mod target;

fuzz_target!(|input: &[u8]| target::run(input));
