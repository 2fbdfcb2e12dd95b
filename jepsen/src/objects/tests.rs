//! The checker against public histories whose verdicts are known, and the reading of histories.

use super::*;

fn judged(text: &str, keys: Keys) -> Finding {
    let history = History::parse(text).unwrap();
    registers_are_linearizable(&history, keys, Budget::default())
}

/// A sample of the etcd histories that Porcupine is tested with, with its verdicts. `porcupine/ORIGIN.md` says where
/// they come from and how to judge all of them.
#[test]
fn public_histories_get_their_known_verdicts() {
    for (name, text, expected) in [
        (
            "etcd_000",
            include_str!("porcupine/etcd_000.log"),
            "invalid",
        ),
        ("etcd_002", include_str!("porcupine/etcd_002.log"), "valid"),
        ("etcd_005", include_str!("porcupine/etcd_005.log"), "valid"),
        (
            "etcd_099",
            include_str!("porcupine/etcd_099.log"),
            "invalid",
        ),
    ] {
        let finding = judged(text, Keys::None);
        assert_eq!(finding.validity.to_string(), expected, "{name}: {finding}");
    }
}

/// Histories of Jepsen's own tools: keys in values, no index, values left out.
#[test]
fn keyed_histories_are_split() {
    let text = "
{:process 0, :type :invoke, :f :write, :value [1 5]}
{:process 1, :type :invoke, :f :write, :value [2 6]}
{:process 0, :type :ok, :f :write, :value [1 5]}
{:process 1, :type :ok, :f :write, :value [2 6]}
{:process :nemesis, :type :info, :f :start}
{:process 0, :type :invoke, :f :read, :value [1 nil]}
{:process 0, :type :ok, :f :read, :value [1 5]}";
    let finding = judged(text, Keys::InValue);
    assert_eq!(finding.detail, "3 operations on 2 registers");
    let crossed = text.replace(":read, :value [1 5]", ":read, :value [1 6]");
    let finding = judged(&crossed, Keys::InValue);
    assert!(
        finding
            .detail
            .contains("no order explains Read(Some(6)), called at event 5"),
        "{finding}"
    );
}

/// What cannot be read is no pass, and neither is an empty history.
#[test]
fn what_proves_nothing_is_unknown() {
    let text = "{:process 0, :type :invoke, :f :write, :value \"x\"}";
    let finding = judged(text, Keys::None);
    assert_eq!(finding.validity.to_string(), "unknown");
    assert!(
        finding.detail.starts_with("event 0: `\"x\"` is no value"),
        "{finding}"
    );
    assert_eq!(judged("", Keys::None).validity.to_string(), "unknown");
}
