//! Models of a configuration: candidates, evidence, the champion pointer.
//!
//! The first candidate of a configuration has no champion to challenge. It is challenged against the untrained start
//! instead, a freshly initialised network at the same budget, under the same rule: a first model that does not beat
//! random weights must not become what everybody plays.

use std::collections::BTreeMap;

use riftmesh_base::{BlobHash, ConfigurationName, Millis, NodeId};
use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::job::{MatchRecord, ModelRecord, Player};
use crate::jobs::cut;
use crate::leases::check_shape;
use crate::ledger::add_holder;
use crate::models::{Evidence, ModelEntry, ModelState, Verdict};
use crate::reply::{Refusal, Reply};
use crate::sprt;
use crate::state::{State, Turn};

/// Champions remembered for rollback.
const REIGNS_MAX: usize = 64;

/// The models of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registry {
    /// Models registered so far.
    registered: u32,
    /// By number.
    models: BTreeMap<u32, ModelEntry>,
    /// The champion last, before it the one it followed, and so on. Bounded by [`REIGNS_MAX`].
    champions: Vec<BlobHash>,
    #[serde(skip)]
    by_hash: BTreeMap<BlobHash, u32>,
}

impl Registry {
    /// Models, oldest first.
    pub fn models(&self) -> impl DoubleEndedIterator<Item = &ModelEntry> {
        self.models.values()
    }

    pub fn get(&self, model: BlobHash) -> Option<&ModelEntry> {
        self.models.get(self.by_hash.get(&model)?)
    }

    fn get_mut(&mut self, model: BlobHash) -> Option<&mut ModelEntry> {
        self.models.get_mut(self.by_hash.get(&model)?)
    }

    pub fn champion(&self) -> Option<BlobHash> {
        self.champions.last().copied()
    }

    pub fn champions(&self) -> &[BlobHash] {
        &self.champions
    }

    /// The champion before this one: what a rollback would put back.
    pub fn previous(&self) -> Option<BlobHash> {
        self.champions.iter().rev().nth(1).copied()
    }

    /// A model, its parent, and so on until one that is not registered. Parents are what trainers said, so a circle is
    /// possible and ends the line.
    pub fn lineage(&self, model: BlobHash) -> Vec<&ModelEntry> {
        let mut line: Vec<&ModelEntry> = Vec::new();
        let mut next = self.get(model);
        while let Some(entry) = next {
            if line.iter().any(|known| known.number == entry.number) {
                break;
            }
            line.push(entry);
            next = entry.record.parent.and_then(|parent| self.get(parent));
        }
        line
    }

    /// The model registered last, whatever became of it.
    pub fn latest(&self) -> Option<BlobHash> {
        self.models.values().next_back().map(|m| m.record.hash)
    }

    pub fn registered(&self) -> u32 {
        self.registered
    }

    /// Enters a candidate and gives its number; none when it is registered already.
    fn enter(&mut self, record: &ModelRecord, now: Millis) -> Option<u32> {
        if let Some(known) = self.get_mut(record.hash) {
            add_holder(&mut known.holders, record.holder);
            return None;
        }
        self.registered += 1;
        let number = self.registered;
        let entry = ModelEntry {
            record: record.clone(),
            number,
            state: ModelState::Candidate,
            evidence: Evidence::default(),
            verdict: String::new(),
            holders: vec![record.holder],
            registered: now,
            changed: now,
        };
        self.by_hash.insert(record.hash, number);
        self.models.insert(number, entry);
        Some(number)
    }

    /// Takes the oldest model off the list that is neither champion nor its predecessor nor the latest, if there are
    /// more than `kept`.
    fn retire(&mut self, kept: usize) -> Option<BlobHash> {
        if self.models.len() <= kept {
            return None;
        }
        let spared = [self.champion(), self.previous(), self.latest()];
        let mut models = self.models.values();
        let oldest = models.find(|model| !spared.contains(&Some(model.record.hash)))?;
        let (number, hash) = (oldest.number, oldest.record.hash);
        self.models.remove(&number);
        self.by_hash.remove(&hash);
        self.champions.retain(|champion| *champion != hash);
        Some(hash)
    }

    /// Adds games to the evidence of the candidate, if they are of the kind the promotion rule asks for: a candidate
    /// against the champion (the untrained start while there is none), both at the same budget.
    pub fn count_evidence(&mut self, result: &MatchRecord) {
        let Player::Model { model, simulations } = &result.candidate else {
            return;
        };
        let champion = self.champion();
        let expected = match champion {
            Some(champion) => Player::Model {
                model: champion,
                simulations: *simulations,
            },
            None => Player::Untrained {
                simulations: *simulations,
            },
        };
        let Some(entry) = self.get_mut(*model) else {
            return;
        };
        let judged = entry.state != ModelState::Candidate;
        if judged || result.opponent != expected || *simulations < entry.evidence.simulations {
            return;
        }
        if entry.evidence.opponent != champion || entry.evidence.simulations != *simulations {
            entry.evidence = Evidence {
                opponent: champion,
                simulations: *simulations,
                ..Evidence::default()
            };
        }
        entry.evidence.wins = entry.evidence.wins.saturating_add(result.wins);
        entry.evidence.losses = entry.evidence.losses.saturating_add(result.losses);
    }

    /// The evidence that counts: a candidate's games against the present champion, a judged model's as it was judged.
    pub fn evidence(&self, entry: &ModelEntry) -> Evidence {
        let champion = self.champion();
        if entry.state != ModelState::Candidate || entry.evidence.opponent == champion {
            return entry.evidence;
        }
        Evidence {
            opponent: champion,
            ..Evidence::default()
        }
    }

    fn set_state(&mut self, model: BlobHash, state: ModelState, now: Millis) {
        if let Some(entry) = self.get_mut(model) {
            entry.state = state;
            entry.changed = now;
        }
    }

    fn set_verdict(&mut self, model: BlobHash, words: &str) {
        if let Some(entry) = self.get_mut(model) {
            words.clone_into(&mut entry.verdict);
        }
    }

    /// Puts a candidate on top of the champions.
    fn crown(&mut self, model: BlobHash, now: Millis) {
        if let Some(before) = self.champion() {
            self.set_state(before, ModelState::Superseded, now);
        }
        self.set_state(model, ModelState::Promoted, now);
        self.champions.retain(|champion| *champion != model);
        self.champions.push(model);
        if self.champions.len() > REIGNS_MAX {
            self.champions.remove(0);
        }
    }

    /// Candidates registered before `model`, which the promotion of `model` has overtaken.
    fn overtaken(&self, model: BlobHash) -> Vec<BlobHash> {
        let before = self.by_hash.get(&model).copied().unwrap_or(0);
        let older = self.models.range(..before).map(|(_, entry)| entry);
        older
            .filter(|entry| entry.state == ModelState::Candidate)
            .map(|entry| entry.record.hash)
            .collect()
    }

    pub fn holders_mut(&mut self, blob: BlobHash) -> Option<&mut Vec<NodeId>> {
        self.get_mut(blob).map(|entry| &mut entry.holders)
    }

    pub fn drop_holder(&mut self, node: NodeId) {
        for entry in self.models.values_mut() {
            entry.holders.retain(|holder| *holder != node);
        }
    }

    pub fn derived_index(&self) -> BTreeMap<BlobHash, u32> {
        let models = self.models.iter();
        models.map(|(number, m)| (m.record.hash, *number)).collect()
    }

    pub fn index(&self) -> &BTreeMap<BlobHash, u32> {
        &self.by_hash
    }

    /// Builds the index that is not part of the image.
    pub fn rebuild(&mut self) {
        self.by_hash = self.derived_index();
    }
}

impl State {
    pub(crate) fn register_model(
        &mut self,
        turn: &mut Turn,
        name: &ConfigurationName,
        record: &ModelRecord,
    ) -> Result<Reply, Refusal> {
        check_shape(&record.shape)?;
        self.configuration_mut(name)?;
        self.enter_model(turn, name, record);
        Ok(Reply::Done)
    }

    /// Enters a model as a candidate, unless it is registered already.
    pub(crate) fn enter_model(
        &mut self,
        turn: &mut Turn,
        name: &ConfigurationName,
        record: &ModelRecord,
    ) {
        let kept = self.head.bounds.models_kept;
        let Some(configuration) = self.configurations.get_mut(name) else {
            return;
        };
        if let Some(number) = configuration.registry.enter(record, turn.now) {
            turn.tell(Effect::ModelRegistered {
                configuration: name.clone(),
                model: record.hash,
                number,
            });
        }
        while let Some(model) = configuration.registry.retire(kept) {
            configuration.pairs.drop_model(model);
            turn.tell(Effect::ModelRetired {
                configuration: name.clone(),
                model,
            });
        }
    }

    fn registry_mut(&mut self, name: &ConfigurationName) -> Result<&mut Registry, Refusal> {
        match self.configurations.get_mut(name) {
            Some(configuration) => Ok(&mut configuration.registry),
            None => Err(Refusal::Unknown(format!("configuration {name}"))),
        }
    }

    pub(crate) fn promote(
        &mut self,
        turn: &mut Turn,
        name: &ConfigurationName,
        model: BlobHash,
        expected: Option<BlobHash>,
    ) -> Result<Reply, Refusal> {
        let registry = self.registry_mut(name)?;
        let verdict = judge(registry, model, expected)?;
        match &verdict {
            Verdict::Undecided { reason } => registry.set_verdict(model, reason),
            Verdict::Rejected { reason } => {
                registry.set_verdict(model, reason);
                self.reject(turn, name, model, reason.clone())?;
            }
            Verdict::Promoted { reason } => {
                registry.set_verdict(model, reason);
                self.crown(turn, name, model)?;
            }
        }
        Ok(Reply::Judged {
            verdict,
            champion: self.registry_mut(name)?.champion(),
        })
    }

    fn reject(
        &mut self,
        turn: &mut Turn,
        name: &ConfigurationName,
        model: BlobHash,
        reason: String,
    ) -> Result<(), Refusal> {
        let registry = self.registry_mut(name)?;
        registry.set_state(model, ModelState::Rejected { reason }, turn.now);
        turn.tell(Effect::ModelRejected {
            configuration: name.clone(),
            model,
        });
        Ok(())
    }

    pub(crate) fn reject_candidate(
        &mut self,
        turn: &mut Turn,
        name: &ConfigurationName,
        model: BlobHash,
        reason: &str,
    ) -> Result<Reply, Refusal> {
        let registry = self.registry_mut(name)?;
        let entry = registry.get(model).ok_or_else(|| unknown(model))?;
        check_candidate(entry)?;
        let reason = cut(reason);
        registry.set_verdict(model, &reason);
        self.reject(turn, name, model, reason)?;
        Ok(Reply::Done)
    }

    /// Moves the champion pointer to a candidate. Older candidates lose their chance: their evidence was against a
    /// champion that is gone, and testing them would hold up newer ones.
    fn crown(
        &mut self,
        turn: &mut Turn,
        name: &ConfigurationName,
        model: BlobHash,
    ) -> Result<(), Refusal> {
        let registry = self.registry_mut(name)?;
        let previous = registry.champion();
        let overtaken = registry.overtaken(model);
        registry.crown(model, turn.now);
        turn.tell(Effect::ModelPromoted {
            configuration: name.clone(),
            model,
            previous,
        });
        for older in overtaken {
            let reason = format!("overtaken: {} was promoted first", model.short());
            self.registry_mut(name)?.set_verdict(older, &reason);
            self.reject(turn, name, older, reason)?;
        }
        Ok(())
    }

    pub(crate) fn roll_back(
        &mut self,
        turn: &mut Turn,
        name: &ConfigurationName,
        model: BlobHash,
        reason: &str,
    ) -> Result<Reply, Refusal> {
        let registry = self.registry_mut(name)?;
        let entry = registry.get(model).ok_or_else(|| unknown(model))?;
        let from = match (&entry.state, registry.champion()) {
            (ModelState::Superseded | ModelState::RolledBack { .. }, Some(from)) => from,
            (ModelState::Promoted, _) => {
                return Err(Refusal::Conflict(format!("{} is champion", model.short())));
            }
            (_, _) => {
                return Err(Refusal::Conflict(format!(
                    "{} was never champion of {name}",
                    model.short()
                )));
            }
        };
        let reason = cut(reason);
        registry.put_back(model, reason, turn.now);
        turn.tell(Effect::ModelRolledBack {
            configuration: name.clone(),
            from,
            to: model,
        });
        Ok(Reply::Done)
    }
}

impl Registry {
    /// Makes a former champion champion again and forgets the reigns after it.
    fn put_back(&mut self, model: BlobHash, reason: String, now: Millis) {
        if let Some(from) = self.champions.pop() {
            self.set_state(from, ModelState::RolledBack { reason }, now);
        }
        match self.champions.iter().position(|former| *former == model) {
            Some(reign) => self.champions.truncate(reign + 1),
            None => self.champions.push(model),
        }
        self.set_state(model, ModelState::Promoted, now);
    }
}

fn unknown(model: BlobHash) -> Refusal {
    Refusal::Unknown(format!("model {model} in the registry"))
}

fn check_candidate(entry: &ModelEntry) -> Result<(), Refusal> {
    if entry.state == ModelState::Candidate {
        return Ok(());
    }
    Err(Refusal::Conflict(format!(
        "{} is no candidate any more",
        entry.record.hash.short()
    )))
}

/// What the promotion rule says of a candidate, if the proposer's view of the champion is current.
fn judge(
    registry: &Registry,
    model: BlobHash,
    expected: Option<BlobHash>,
) -> Result<Verdict, Refusal> {
    let entry = registry.get(model).ok_or_else(|| unknown(model))?;
    let name = |hash: Option<BlobHash>| hash.map_or("none".to_owned(), |hash| hash.short());
    let champion = registry.champion();
    if champion != expected {
        return Err(Refusal::Conflict(format!(
            "the champion is {}, not {}",
            name(champion),
            name(expected)
        )));
    }
    check_candidate(entry)?;
    let evidence = registry.evidence(entry);
    Ok(sprt::judge(evidence.wins, evidence.losses))
}
