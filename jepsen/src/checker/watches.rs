//! What watchers were told.

use std::collections::BTreeMap;

use crate::edn::Edn;
use crate::history::History;
use crate::observed::ObservedChange;
use crate::verdict::Finding;

/// Entries come in the order of the log and none twice, also where a watch was taken up again at another voter; every voter
/// tells the same of an entry; and between two lines without a gap nothing is missing: each write of a setting, whoever
/// made it, has the revision after the one before.
pub fn tell_everything_once(history: &History) -> Finding {
    const PROPERTY: &str = "watches tell everything";
    let mut digests: BTreeMap<i64, (String, usize)> = BTreeMap::new();
    let (mut lines, mut gaps, mut resumed) = (0, 0, 0);
    for operation in history.operations() {
        let told = operation
            .ok_value()
            .filter(|_| operation.invoke.f == "watch");
        let Some(value) = told else { continue };
        let at = operation.outcome.map_or(0, |event| event.index);
        let number = |field: &str| value.get(field).and_then(Edn::int);
        let (mut last, mut revision) = (number("after"), number("revision"));
        let changes = value.get("lines").and_then(Edn::items).unwrap_or_default();
        let changes: Vec<_> = changes
            .iter()
            .filter_map(ObservedChange::from_edn)
            .collect();
        let elsewhere = last.is_some() && value.get("from") != value.get("node");
        resumed += usize::from(elsewhere && changes.first().is_some_and(Option::is_some));
        for change in changes {
            let Some(change) = change else {
                (gaps, revision) = (gaps + 1, None);
                continue;
            };
            let index = change.index;
            if let Some(last) = last.filter(|last| index <= *last) {
                let detail = format!("event {at}: entry {index} was told after entry {last}");
                return Finding::invalid(PROPERTY, detail);
            }
            for next in &change.revisions {
                if let Some(known) = revision.filter(|known| *next != known + 1) {
                    let detail = format!(
                        "event {at}: at entry {index} revision {next} was told after revision {known}, and no gap between them"
                    );
                    return Finding::invalid(PROPERTY, detail);
                }
                revision = Some(*next);
            }
            let (digest, by) = digests.entry(index).or_insert((change.digest.clone(), at));
            if *digest != change.digest {
                let detail = format!("events {by} and {at} tell different things of entry {index}");
                return Finding::invalid(PROPERTY, detail);
            }
            (last, lines) = (Some(index), lines + 1);
        }
    }
    let detail = format!(
        "{lines} lines about {} entries, {gaps} gaps; taken up at another voter {resumed} times",
        digests.len()
    );
    match resumed {
        0 => Finding::unknown(PROPERTY, detail),
        _ => Finding::valid(PROPERTY, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Actor, Event, Kind};
    use crate::verdict::Validity;

    fn line(index: i64, revisions: &[i64]) -> Option<ObservedChange> {
        Some(ObservedChange {
            index,
            digest: format!("{revisions:?}"),
            revisions: revisions.to_vec(),
        })
    }

    /// What `node` told of a watch that had been told entry and revision `after` by another one.
    fn tell(
        history: &mut History,
        node: &str,
        after: Option<(i64, i64)>,
        changes: &[Option<ObservedChange>],
    ) {
        let lines = changes.iter().map(Option::as_ref);
        let lines = lines.map(ObservedChange::to_edn).collect();
        let value = Edn::map([
            ("node", Edn::from(node)),
            ("from", after.map(|_| "another").into()),
            ("after", after.map(|(index, _)| index).into()),
            ("revision", after.map(|(_, revision)| revision).into()),
            ("lines", Edn::Vector(lines)),
        ]);
        for kind in [Kind::Invoke, Kind::Ok] {
            history.events.push(Event {
                index: history.events.len(),
                time_ns: 0,
                actor: Actor::Client(0),
                kind,
                f: "watch".to_owned(),
                value: value.clone(),
                error: None,
            });
        }
    }

    /// A watch from the beginning, and `second` taken up at another voter after entry 12 and revision 3.
    fn watched(second: &[Option<ObservedChange>]) -> History {
        let mut history = History::default();
        let first = [line(10, &[1, 2]), line(12, &[3])];
        tell(&mut history, "v1", None, &first);
        tell(&mut history, "v2", Some((12, 3)), second);
        history
    }

    /// Going on where the other voter ended is whole; a gap excuses what is missing, and nothing else does.
    #[test]
    fn what_is_missing_or_told_twice_is_found() {
        let of =
            |second: &[Option<ObservedChange>]| tell_everything_once(&watched(second)).validity;
        assert_eq!(of(&[line(13, &[]), line(15, &[4, 5])]), Validity::Valid);
        assert_eq!(of(&[line(15, &[5])]), Validity::Invalid, "lost");
        assert_eq!(of(&[line(12, &[3])]), Validity::Invalid, "twice");
        assert_eq!(of(&[line(14, &[4]), line(13, &[])]), Validity::Invalid);
        assert_eq!(of(&[line(13, &[4]), None, line(19, &[9])]), Validity::Valid);
        let late = [None, line(19, &[9]), line(20, &[11])];
        assert_eq!(of(&late), Validity::Invalid, "lost behind a gap");
    }

    /// Two voters that tell different things of one entry.
    #[test]
    fn voters_that_disagree_are_found() {
        let told = |revisions| {
            let mut history = watched(&[line(13, &[4])]);
            tell(&mut history, "v3", None, &[line(13, revisions)]);
            tell_everything_once(&history).validity
        };
        assert_eq!(told(&[4]), Validity::Valid);
        assert_eq!(told(&[5]), Validity::Invalid);
    }

    /// A watch that was never taken up elsewhere proves nothing of the kind.
    #[test]
    fn a_watch_at_one_voter_is_not_enough() {
        let of =
            |second: &[Option<ObservedChange>]| tell_everything_once(&watched(second)).validity;
        assert_eq!(of(&[]), Validity::Unknown);
        assert_eq!(of(&[None]), Validity::Unknown);
    }
}
