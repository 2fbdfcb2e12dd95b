//! Who votes: what operators were told, and what voters show.

use std::collections::BTreeMap;

use crate::edn::Edn;
use crate::history::{History, Kind, Operation};
use crate::verdict::Finding;

/// Operations that wish somebody a vote, or none.
const CHANGES: [&str; 3] = ["remove-voter", "add-voter", "replace-voter"];

/// A change that somebody asked for.
struct Change<'a> {
    operation: Operation<'a>,
    wishes: Vec<(&'a str, bool)>,
}

impl<'a> Change<'a> {
    fn of(operation: Operation<'a>) -> Option<Self> {
        if !CHANGES.contains(&operation.invoke.f.as_str()) {
            return None;
        }
        let wish = |wish: &'a Edn| match wish.items()? {
            [node, Edn::Bool(votes)] => Some((node.text()?, *votes)),
            _ => None,
        };
        let wishes = operation.invoke.value.get("wishes")?.items()?;
        Some(Self {
            operation,
            wishes: wishes.iter().filter_map(wish).collect(),
        })
    }

    /// The entry that held the members when it was done.
    fn done_at(&self) -> Option<i64> {
        self.operation.ok_value()?.get("index")?.int()
    }

    fn began(&self) -> usize {
        self.operation.invoke.index
    }

    /// When the last of it can have happened.
    fn ended(&self) -> usize {
        let known = |kind| matches!(kind, Kind::Ok | Kind::Fail);
        let outcome = self.operation.outcome.filter(|event| known(event.kind));
        outcome.map_or(usize::MAX, |event| event.index)
    }

    /// Whether this may have given `node` the other of having and not having a vote after `other` was done and before `until`.
    fn may_undo(&self, other: &Self, node: &str, votes: bool, until: usize) -> bool {
        self.operation.kind() != Kind::Fail
            && self.wishes.contains(&(node, !votes))
            && self.began() < until
            && self.ended() > other.began()
    }
}

/// The members as a voter showed them: committed, and no change half done.
struct Shown<'a> {
    index: i64,
    voters: Vec<&'a str>,
    at: usize,
    ended: usize,
}

impl<'a> Shown<'a> {
    fn of(operation: &Operation<'a>) -> Option<Self> {
        let value = operation
            .ok_value()
            .filter(|_| operation.invoke.f == "members")?;
        let voters = value.get("voters")?.items()?;
        let ended = operation.outcome?.index;
        Some(Self {
            index: value.get("index")?.int()?,
            voters: voters.iter().filter_map(Edn::text).collect(),
            at: operation.invoke.index,
            ended,
        })
    }
}

/// All voters show the same members at the same entry. A change that was acknowledged is in those of that entry and of all
/// later ones until somebody asks for the contrary; a later acknowledgement is of the same entry or a later one. Since every
/// order is given on condition that the members are those that were seen, at most one is ever without its vote.
pub fn follow_orders(history: &History) -> Finding {
    const PROPERTY: &str = "members follow orders";
    let operations = history.operations();
    let changes: Vec<_> = operations.iter().copied().filter_map(Change::of).collect();
    let shown: Vec<_> = operations.iter().filter_map(Shown::of).collect();
    let found = disagreement(&shown)
        .or_else(|| forgotten(&changes, &shown))
        .or_else(|| outdated(&changes));
    if let Some(detail) = found {
        return Finding::invalid(PROPERTY, detail);
    }
    let done = changes.iter().filter(|change| change.done_at().is_some());
    let groups: BTreeMap<_, _> = shown.iter().map(|shown| (shown.index, ())).collect();
    match (done.count(), groups.len()) {
        (0, _) => Finding::unknown(PROPERTY, "no change was acknowledged"),
        (_, 0 | 1) => Finding::unknown(PROPERTY, "no change was seen"),
        (done, groups) => Finding::valid(
            PROPERTY,
            format!(
                "{done} changes; {groups} groups, looked at {} times",
                shown.len()
            ),
        ),
    }
}

/// Two lists of one entry, or a list that is short of more than one.
fn disagreement(shown: &[Shown<'_>]) -> Option<String> {
    let all = shown.iter().map(|shown| shown.voters.len()).max()?;
    let mut lists: BTreeMap<i64, &Shown<'_>> = BTreeMap::new();
    for one in shown {
        let first = lists.entry(one.index).or_insert(one);
        if first.voters != one.voters {
            return Some(format!(
                "events {} and {} show different voters of entry {}: {:?} and {:?}",
                first.ended, one.ended, one.index, first.voters, one.voters
            ));
        }
        if one.voters.len() + 1 < all {
            return Some(format!(
                "event {} shows {} of {all} voters, and nobody asked for that",
                one.ended,
                one.voters.len()
            ));
        }
    }
    None
}

/// A change that was acknowledged and is not to be seen.
fn forgotten(changes: &[Change<'_>], shown: &[Shown<'_>]) -> Option<String> {
    for change in changes {
        let Some(done_at) = change.done_at() else {
            continue;
        };
        for (node, votes) in &change.wishes {
            let later = shown.iter().filter(|shown| shown.index >= done_at);
            let mut wrong = later.filter(|shown| shown.voters.contains(node) != *votes);
            let excused = |shown: &&Shown<'_>| {
                let mut others = changes.iter();
                others.any(|other| other.may_undo(change, node, *votes, shown.ended))
            };
            if let Some(shown) = wrong.find(|shown| !excused(shown)) {
                return Some(format!(
                    "event {}: {} is done at entry {done_at}, and event {} (asked at {}) shows {:?} at entry {}",
                    change.began(),
                    change.operation.invoke.f,
                    shown.ended,
                    shown.at,
                    shown.voters,
                    shown.index
                ));
            }
        }
    }
    None
}

/// A change that was acknowledged by somebody who did not know of one acknowledged before.
fn outdated(changes: &[Change<'_>]) -> Option<String> {
    let done = changes
        .iter()
        .filter_map(|change| Some((change, change.done_at()?)));
    let done: Vec<_> = done.collect();
    for (before, at) in &done {
        let later = done
            .iter()
            .filter(|(change, _)| change.began() > before.ended());
        if let Some((change, index)) = later.clone().find(|(_, index)| index < at) {
            return Some(format!(
                "event {}: {} was acknowledged with the members of entry {index}, after those of entry {at} were at event {}",
                change.began(),
                change.operation.invoke.f,
                before.ended()
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Actor, Event};
    use crate::verdict::Validity;

    const ALL: [&str; 5] = ["a", "b", "c", "d", "e"];

    #[derive(Default)]
    struct Story(History);

    impl Story {
        fn event(mut self, kind: Kind, f: &str, value: Edn) -> Self {
            let index = self.0.events.len();
            self.0.events.push(Event {
                index,
                time_ns: 0,
                actor: Actor::Client(0),
                kind,
                f: f.to_owned(),
                value,
                error: None,
            });
            self
        }

        /// An order that is done with the members of entry `index`, or has another outcome.
        fn order(self, f: &str, wishes: &[(&str, bool)], outcome: Kind, index: i64) -> Self {
            let wish = |(node, votes): &(&str, bool)| {
                Edn::Vector(vec![Edn::from(*node), Edn::Bool(*votes)])
            };
            let wishes = Edn::Vector(wishes.iter().map(wish).collect());
            let value = Edn::map([("wishes", wishes), ("index", Edn::Int(index))]);
            self.event(Kind::Invoke, f, value.clone())
                .event(outcome, f, value)
        }

        fn remove(self, node: &str, index: i64) -> Self {
            self.order("remove-voter", &[(node, false)], Kind::Ok, index)
        }

        fn add(self, node: &str, index: i64) -> Self {
            self.order("add-voter", &[(node, true)], Kind::Ok, index)
        }

        /// A voter shows all but these.
        fn shows(self, index: i64, without: &[&str]) -> Self {
            let voters = ALL.iter().filter(|id| !without.contains(id));
            let voters = Edn::Vector(voters.map(|id| Edn::from(*id)).collect());
            let value = Edn::map([("index", Edn::Int(index)), ("voters", voters)]);
            self.event(Kind::Invoke, "members", Edn::Nil)
                .event(Kind::Ok, "members", value)
        }

        fn validity(&self) -> Validity {
            follow_orders(&self.0).validity
        }
    }

    fn honest() -> Story {
        let begun = Story::default()
            .shows(1, &[])
            .remove("a", 5)
            .shows(5, &["a"]);
        begun.add("a", 9).shows(9, &[]).shows(5, &["a"])
    }

    #[test]
    fn orders_that_are_followed_are_valid() {
        let replaced = honest().remove("b", 12).order(
            "replace-voter",
            &[("c", false), ("b", true)],
            Kind::Ok,
            15,
        );
        assert_eq!(replaced.shows(15, &["c"]).validity(), Validity::Valid);
        assert_eq!(Story::default().shows(1, &[]).validity(), Validity::Unknown);
    }

    #[test]
    fn an_order_that_was_acknowledged_and_not_carried_out_is_found() {
        assert_eq!(
            honest().remove("b", 12).shows(12, &[]).validity(),
            Validity::Invalid
        );
        assert_eq!(
            honest().remove("b", 12).shows(14, &[]).validity(),
            Validity::Invalid
        );
        // A refused order changes nothing; one of unknown outcome may, at any time.
        let contrary = |outcome| {
            let story = honest().remove("b", 12);
            story
                .order("add-voter", &[("b", true)], outcome, 12)
                .shows(14, &[])
        };
        assert_eq!(contrary(Kind::Fail).validity(), Validity::Invalid);
        assert_eq!(contrary(Kind::Info).validity(), Validity::Valid);
    }

    #[test]
    fn voters_that_show_different_members_are_found() {
        assert_eq!(honest().shows(9, &["a"]).validity(), Validity::Invalid);
    }

    /// A leader that was deposed says that all is as ordered, by the members it knew.
    #[test]
    fn an_acknowledgement_from_the_past_is_found() {
        assert_eq!(
            honest().remove("b", 12).add("b", 9).validity(),
            Validity::Invalid
        );
    }

    /// Two changes on condition of the same members are one too many.
    #[test]
    fn two_that_are_gone_at_once_are_found() {
        let story = honest().remove("b", 12);
        let story = story.order("remove-voter", &[("c", false)], Kind::Info, 12);
        assert_eq!(story.shows(14, &["b", "c"]).validity(), Validity::Invalid);
    }
}
