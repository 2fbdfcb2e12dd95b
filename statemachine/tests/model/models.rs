//! The registry as plainly as it can be written.

use riftmesh_base::BlobHash;
use riftmesh_statemachine::job::{MatchRecord, ModelRecord, Player};

use crate::reference::{Answer, Answered, PlainModel, Reference};

impl Reference {
    pub fn champion(&self) -> Option<BlobHash> {
        self.champions.last().copied()
    }

    pub fn register(&mut self, model: &ModelRecord) {
        if self.models.iter().any(|known| known.hash == model.hash) {
            return;
        }
        self.models.push(PlainModel {
            hash: model.hash,
            state: "candidate",
            matches: Vec::new(),
        });
    }

    pub fn count(&mut self, result: &MatchRecord) {
        let champion = self.champion();
        let model = result.candidate.model();
        // Every generated match is played at the same budget.
        let opponent = match &result.opponent {
            Player::Untrained { .. } => None,
            Player::Model { model, .. } => Some(*model),
            Player::Random | Player::Heuristic => return,
        };
        let candidate = self.models.iter_mut().find(|m| Some(m.hash) == model);
        if let Some(candidate) = candidate.filter(|m| m.state == "candidate")
            && opponent == champion
        {
            candidate
                .matches
                .push((opponent, result.wins, result.losses));
        }
    }

    pub fn promote(&mut self, model: BlobHash, expected: Option<BlobHash>) -> Answered {
        let Some(at) = self.models.iter().position(|m| m.hash == model) else {
            return Err("unknown");
        };
        let champion = self.champion();
        if champion != expected || self.models[at].state != "candidate" {
            return Err("conflict");
        }
        // The matches since the opponent last changed, if they were against the present champion.
        let matches = self.models[at].matches.iter().rev();
        let counted = matches.take_while(|(opponent, ..)| *opponent == champion);
        let (wins, losses) =
            counted.fold((0, 0), |(w, l), (_, wins, losses)| (w + wins, l + losses));
        let verdict = verdict(wins, losses);
        match verdict {
            "rejected" => self.models[at].state = "rejected",
            "promoted" => {
                for older in &mut self.models[..at] {
                    if older.state == "candidate" {
                        older.state = "rejected";
                    }
                }
                if let Some(before) = self.models.iter_mut().find(|m| Some(m.hash) == champion) {
                    before.state = "superseded";
                }
                self.models[at].state = "promoted";
                self.champions.push(model);
            }
            _ => {}
        }
        Ok(Answer::Judged(verdict, self.champion()))
    }

    pub fn reject(&mut self, model: BlobHash) -> Answered {
        let mut models = self.models.iter_mut();
        let found = models.find(|known| known.hash == model).ok_or("unknown")?;
        if found.state != "candidate" {
            return Err("conflict");
        }
        found.state = "rejected";
        Ok(Answer::Done)
    }

    pub fn roll_back(&mut self, model: BlobHash) -> Answered {
        let champion = self.champion();
        let target = self
            .models
            .iter()
            .position(|m| m.hash == model)
            .ok_or("unknown")?;
        if !matches!(self.models[target].state, "superseded" | "rolled back") {
            return Err("conflict");
        }
        for entry in &mut self.models {
            if Some(entry.hash) == champion {
                entry.state = "rolled back";
            }
        }
        self.models[target].state = "promoted";
        match self.champions.iter().position(|former| *former == model) {
            Some(reign) => self.champions.truncate(reign + 1),
            None => *self.champions.last_mut().unwrap() = model,
        }
        Ok(Answer::Done)
    }
}

/// The promotion rule in floating point.
fn verdict(wins: u32, losses: u32) -> &'static str {
    let p1 = 1.0 / (1.0 + 10f64.powf(-35.0 / 400.0));
    let ratio = f64::from(wins) * (p1 / 0.5).ln() + f64::from(losses) * ((1.0 - p1) / 0.5).ln();
    let bound = (0.95f64 / 0.05).ln();
    let capped = wins + losses >= 400;
    if ratio >= bound || (capped && ratio > 0.0) {
        "promoted"
    } else if ratio <= -bound || capped {
        "rejected"
    } else {
        "undecided"
    }
}
