//! The queue as a client sees it: our own reading of the API's answers, with nothing from the product's sources.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::edn::Edn;

/// A job in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedJob {
    /// The number behind `j`.
    pub id: i64,
    /// The unique key it was submitted with, if it has one.
    pub key: Option<String>,
    /// Such as `selfplay`.
    pub kind: String,
    /// Such as `ready`.
    pub state: String,
    /// The number behind `t` of the last grant, if there was one.
    pub token: Option<i64>,
    /// Workers lost with it.
    pub losses: i64,
    /// Outputs.
    pub outputs: i64,
    /// Games of its outputs: recorded, or played in a match.
    pub games: i64,
    /// The outputs as text, to be compared between nodes.
    pub made: String,
}

/// A list of jobs with how fresh it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedQueue {
    /// Whether the answer includes every write acknowledged before the question.
    pub linearizable: bool,
    /// Newest first.
    pub jobs: Vec<ObservedJob>,
}

/// Who leads, as a node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedLeader {
    /// The leader's name, if there is one.
    pub name: Option<String>,
    /// Whether a quorum acknowledged it while the question was answered.
    pub confirmed: bool,
    /// The term.
    pub term: i64,
}

/// A voter's own part in the consensus group, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedPart {
    /// Its id.
    pub node: String,
    /// It is among the voters that it knows of, and no change of them is half done.
    pub votes: bool,
    /// It hears a leader, or leads with a quorum.
    pub is_led: bool,
    /// The last entry that it knows to be committed.
    pub committed: i64,
    /// The last entry in its state.
    pub applied: i64,
}

impl ObservedPart {
    /// Reads an answer of `/v1/raft`.
    ///
    /// # Errors
    /// Names the field that is missing.
    pub fn from_json(answer: &Value) -> anyhow::Result<Self> {
        let status = &answer["answer"]["status"];
        let node = status["node"].as_str().context("`node` is missing")?;
        let members = status["members"]
            .as_array()
            .context("`members` is no list")?;
        let truth = |name: &str| {
            let value = status[name].as_bool();
            value.with_context(|| format!("`{name}` is missing"))
        };
        let is_own = |member: &&Value| member["node"] == node && member["voter"] == true;
        Ok(Self {
            node: node.to_owned(),
            votes: members.iter().any(|member| is_own(&member)) && !truth("joint")?,
            is_led: truth("has_quorum")?,
            committed: status["committed"].as_i64().unwrap_or(0),
            applied: status["applied"].as_i64().unwrap_or(0),
        })
    }
}

/// Who votes, as a voter says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedGroup {
    /// The entry that holds the members.
    pub index: i64,
    /// It is committed and no change is half done.
    pub settled: bool,
    /// Ids of the voters, in order.
    pub voters: Vec<String>,
    /// Ids of those that follow without a vote.
    pub learners: Vec<String>,
}

impl ObservedGroup {
    /// Reads an answer of `/v1/raft`.
    ///
    /// # Errors
    /// Names the field that is missing.
    pub fn from_json(answer: &Value) -> anyhow::Result<Self> {
        let status = &answer["answer"]["status"];
        let members = status["members"]
            .as_array()
            .context("`members` is no list")?;
        let joint = status["joint"].as_bool().context("`joint` is missing")?;
        let of = |voter: bool| {
            let is = move |member: &&Value| member["voter"] == voter;
            let ids = members
                .iter()
                .filter(is)
                .filter_map(|member| member["node"].as_str());
            let mut ids: Vec<_> = ids.map(str::to_owned).collect();
            ids.sort_unstable();
            ids
        };
        let index = status["members_index"].as_i64().unwrap_or(0);
        Ok(Self {
            index,
            settled: !joint && index <= status["committed"].as_i64().unwrap_or(-1),
            voters: of(true),
            learners: of(false),
        })
    }
}

/// A line of a watch: what happened at an entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedChange {
    /// Of the entry.
    pub index: i64,
    /// A digest of everything that happened.
    pub digest: String,
    /// Revisions of the settings that were written: one number more for each, in the whole cluster.
    pub revisions: Vec<i64>,
}

impl ObservedChange {
    /// Reads a line of `/v1/events`; none for a gap.
    ///
    /// # Errors
    /// The line is neither.
    pub fn from_line(line: &str) -> anyhow::Result<Option<Self>> {
        let line: Value = serde_json::from_str(line)?;
        if line == "gap" {
            return Ok(None);
        }
        let index = line["applied"]["index"].as_i64().context("no `index`")?;
        let effects = line["applied"]["effects"]
            .as_array()
            .context("no `effects`")?;
        let revision = |effect: &Value| effect["setting-changed"]["revision"].as_i64();
        let mut digest = DefaultHasher::new();
        line["applied"]["effects"].to_string().hash(&mut digest);
        Ok(Some(Self {
            index,
            digest: format!("{:016x}", digest.finish()),
            revisions: effects.iter().filter_map(revision).collect(),
        }))
    }

    /// As a value of a history; a gap is nil.
    pub fn to_edn(change: Option<&Self>) -> Edn {
        change.map_or(Edn::Nil, |change| {
            let first = [Edn::Int(change.index), Edn::from(change.digest.as_str())];
            let revisions = change.revisions.iter().copied().map(Edn::Int);
            Edn::Vector(first.into_iter().chain(revisions).collect())
        })
    }

    /// Back from a history; none when it is another kind of value.
    pub fn from_edn(value: &Edn) -> Option<Option<Self>> {
        if *value == Edn::Nil {
            return Some(None);
        }
        let [index, digest, revisions @ ..] = value.items()? else {
            return None;
        };
        Some(Some(Self {
            index: index.int()?,
            digest: digest.text()?.to_owned(),
            revisions: revisions.iter().map(Edn::int).collect::<Option<_>>()?,
        }))
    }
}

impl ObservedQueue {
    /// Reads an answer of `/v1/jobs`.
    ///
    /// # Errors
    /// Names the field that is missing or not what it should be.
    pub fn from_json(answer: &Value) -> anyhow::Result<Self> {
        let jobs = answer["answer"].as_array().context("`answer` is no list")?;
        Ok(Self {
            linearizable: is_linearizable(answer)?,
            jobs: jobs
                .iter()
                .map(ObservedJob::from_json)
                .collect::<anyhow::Result<_>>()?,
        })
    }

    /// As a value of a history.
    pub fn to_edn(&self, node: &str) -> Edn {
        Edn::map([
            ("node", Edn::from(node)),
            ("linearizable", Edn::Bool(self.linearizable)),
            (
                "jobs",
                Edn::Vector(self.jobs.iter().map(ObservedJob::to_edn).collect()),
            ),
        ])
    }

    /// Back from a history; none when it is another kind of value.
    pub fn from_edn(value: &Edn) -> Option<Self> {
        Some(Self {
            linearizable: *value.get("linearizable")? == Edn::Bool(true),
            jobs: value
                .get("jobs")?
                .items()?
                .iter()
                .map(ObservedJob::from_edn)
                .collect::<Option<_>>()?,
        })
    }
}

/// The mode of an answer.
///
/// # Errors
/// When it says none.
pub fn is_linearizable(answer: &Value) -> anyhow::Result<bool> {
    let mode = answer["mode"].as_str().context("`mode` is missing")?;
    Ok(mode == "linearizable")
}

impl ObservedLeader {
    /// Reads an answer of `/v1/leader`.
    ///
    /// # Errors
    /// Names the field that is missing.
    pub fn from_json(answer: &Value) -> anyhow::Result<Self> {
        let leader = &answer["answer"];
        Ok(Self {
            name: leader["name"].as_str().map(str::to_owned),
            confirmed: leader["confirmed"]
                .as_bool()
                .context("`confirmed` is missing")?,
            term: leader["term"].as_i64().context("`term` is missing")?,
        })
    }

    /// As a value of a history.
    pub fn to_edn(&self, node: &str) -> Edn {
        Edn::map([
            ("node", Edn::from(node)),
            ("leader", self.name.as_deref().into()),
            ("confirmed", Edn::Bool(self.confirmed)),
            ("term", Edn::Int(self.term)),
        ])
    }
}

impl ObservedJob {
    /// Whether nothing more will happen to it.
    pub fn is_over(&self) -> bool {
        ["done", "dead", "cancelled"].contains(&self.state.as_str())
    }

    fn from_json(job: &Value) -> anyhow::Result<Self> {
        let outputs = job["outputs"].as_array().context("`outputs` is no list")?;
        let token = match &job["last_token"] {
            Value::Null => None,
            token => Some(number_behind(token, 't').context("`last_token`")?),
        };
        Ok(Self {
            id: number_behind(&job["id"], 'j').context("`id`")?,
            key: job["spec"]["unique_key"].as_str().map(str::to_owned),
            kind: job["spec"]["kind"]
                .as_str()
                .context("`kind` is missing")?
                .to_owned(),
            state: state_name(&job["state"])?,
            token,
            losses: job["losses"].as_i64().context("`losses` is missing")?,
            outputs: i64::try_from(outputs.len())?,
            games: outputs.iter().map(games_of).sum(),
            made: Value::from(outputs.clone()).to_string(),
        })
    }

    fn to_edn(&self) -> Edn {
        Edn::map([
            ("id", Edn::Int(self.id)),
            ("key", self.key.as_deref().into()),
            ("kind", Edn::keyword(&self.kind)),
            ("state", Edn::keyword(&self.state)),
            ("token", self.token.into()),
            ("losses", Edn::Int(self.losses)),
            ("outputs", Edn::Int(self.outputs)),
            ("games", Edn::Int(self.games)),
            ("made", Edn::from(self.made.as_str())),
        ])
    }

    fn from_edn(value: &Edn) -> Option<Self> {
        Some(Self {
            id: value.get("id")?.int()?,
            key: value.get("key")?.text().map(str::to_owned),
            kind: value.get("kind")?.text()?.to_owned(),
            state: value.get("state")?.text()?.to_owned(),
            token: value.get("token")?.int(),
            losses: value.get("losses")?.int()?,
            outputs: value.get("outputs")?.int()?,
            games: value.get("games")?.int()?,
            made: value.get("made")?.text()?.to_owned(),
        })
    }
}

/// `done`, or the one key of `{"leased": {...}}`.
fn state_name(state: &Value) -> anyhow::Result<String> {
    match state {
        Value::String(name) => Ok(name.clone()),
        Value::Object(fields) if fields.len() == 1 => {
            Ok(fields.keys().next().cloned().unwrap_or_default())
        }
        other => bail!("`state` is {other}"),
    }
}

/// The number of an id such as `j42`.
fn number_behind(id: &Value, letter: char) -> anyhow::Result<i64> {
    let text = id.as_str().with_context(|| format!("{id} is no text"))?;
    let digits = text
        .strip_prefix(letter)
        .with_context(|| format!("`{text}` does not begin with `{letter}`"))?;
    digits.parse().with_context(|| format!("`{text}` is no id"))
}

/// Games of one output: of a segment, or of a match.
fn games_of(output: &Value) -> i64 {
    let segment = output["segment"]["games"].as_i64();
    let result = &output["match"];
    let played = || Some(result["wins"].as_i64()? + result["losses"].as_i64()?);
    segment.or_else(played).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forms the API gives: plain and structured states, ids as text, outputs by kind.
    #[test]
    fn answers_are_read() {
        let answer = serde_json::json!({
            "mode": "linearizable",
            "answer": [
                {"id": "j7", "spec": {"kind": "selfplay"}, "state": {"leased": {"token": "t65536"}}, "losses": 1,
                 "last_token": "t65536", "outputs": []},
                {"id": "j6", "spec": {"kind": "evaluate", "unique_key": "asked/a/0"}, "state": "done", "losses": 0, "last_token": "t65537",
                 "outputs": [{"match": {"wins": 3, "losses": 1}}]},
                {"id": "j5", "spec": {"kind": "selfplay"}, "state": "ready", "losses": 0, "last_token": null,
                 "outputs": [{"segment": {"games": 8}}]},
            ],
        });
        let queue = ObservedQueue::from_json(&answer).unwrap();
        let seen: Vec<_> = queue
            .jobs
            .iter()
            .map(|j| (j.id, j.state.as_str(), j.token, j.games))
            .collect();
        assert_eq!(
            seen,
            [
                (7, "leased", Some(65_536), 0),
                (6, "done", Some(65_537), 4),
                (5, "ready", None, 8)
            ]
        );
        assert_eq!(ObservedQueue::from_edn(&queue.to_edn("v1")), Some(queue));
    }

    /// A line of a watch is what happened, or a gap.
    #[test]
    fn lines_of_a_watch_are_read() {
        let line = r#"{"applied":{"index":7,"effects":[{"job-ready":{"job":"j1"}},{"setting-changed":{"key":"a","revision":4}}]}}"#;
        let change = ObservedChange::from_line(line).unwrap();
        let seen = change
            .clone()
            .map(|change| (change.index, change.revisions));
        assert_eq!(seen, Some((7, vec![4])));
        let other = ObservedChange::from_line(&line.replace("j1", "j2")).unwrap();
        assert_ne!(change, other, "everything that happened is compared");
        for change in [change, ObservedChange::from_line("\"gap\"").unwrap()] {
            let edn = ObservedChange::to_edn(change.as_ref());
            assert_eq!(ObservedChange::from_edn(&edn), Some(change));
        }
        assert!(ObservedChange::from_line("{}").is_err());
    }

    /// An answer of another shape is the harness's trouble, named, and never an empty queue.
    #[test]
    fn other_shapes_are_errors() {
        let job = serde_json::json!({"id": 7, "outputs": [], "last_token": null});
        let wrong = serde_json::json!({"mode": "stale", "answer": [job]});
        let error = ObservedQueue::from_json(&wrong).unwrap_err();
        assert_eq!(format!("{error:#}"), "`id`: 7 is no text");
    }
}
