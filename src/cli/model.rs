//! `model list|show|lineage|promote|reject|rollback|inspect`.

use std::path::PathBuf;

use clap::Subcommand;
use riftmesh_base::BlobHash;
use riftmesh_statemachine::models::ModelState;

use super::ask::Asker;
use super::inspect_model;
use super::order::{failed, order, said};
use super::output::{data, table};
use super::query::ask_and_print;
use super::{AskArgs, Exit};
use crate::answers::ModelAnswer;
use crate::orders::Order;

/// The `model` family.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Models, newest first
    List {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Everything about one model
    Show {
        /// The start of its hash, or its number
        model: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// A model, the one it was trained from, and so on back to the oldest that is known
    Lineage {
        /// The start of its hash, or its number
        model: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Have the promotion rule look at a candidate now; it alone decides
    Promote {
        /// The start of its hash, or its number
        model: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Reject a candidate, whatever its evidence
    Reject {
        /// The start of its hash, or its number
        model: String,
        /// Why, for those who come after
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Make a former champion champion again
    Rollback {
        /// The former champion: the start of its hash, or its number
        model: String,
        /// Why, for those who come after
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Read a model's files, without a cluster
    Inspect {
        /// The model's folder or manifest
        path: PathBuf,
        /// The weights; looked for beside the manifest if not given
        #[arg(long, value_name = "FILE")]
        weights: Option<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs a `model` command.
pub fn run(command: &ModelCommand) -> anyhow::Result<Exit> {
    match command {
        ModelCommand::List { ask } => ask_and_print(
            ask,
            "/v1/models",
            |models: &Vec<ModelAnswer>| print_models(models),
            |_| Exit::Ok,
        ),
        ModelCommand::Show { model, ask } => {
            ask_and_print(ask, &format!("/v1/models/{model}"), print_model, |_| {
                Exit::Ok
            })
        }
        ModelCommand::Lineage { model, ask } => ask_and_print(
            ask,
            &format!("/v1/models/{model}/lineage"),
            |models: &Vec<ModelAnswer>| print_models(models),
            |_| Exit::Ok,
        ),
        ModelCommand::Promote { model, ask } => {
            decide(ask, model, |model, expected| Order::JudgeModel {
                configuration: model.configuration.clone(),
                model: model.entry.record.hash,
                expected,
            })
        }
        ModelCommand::Reject { model, reason, ask } => {
            decide(ask, model, |model, _| Order::RejectModel {
                configuration: model.configuration.clone(),
                model: model.entry.record.hash,
                reason: reason.clone(),
            })
        }
        ModelCommand::Inspect {
            path,
            weights,
            json,
        } => inspect_model::run(path, weights.as_deref(), *json),
        ModelCommand::Rollback { model, reason, ask } => {
            decide(ask, model, |model, _| Order::RollBackModel {
                configuration: model.configuration.clone(),
                model: model.entry.record.hash,
                reason: reason.clone(),
            })
        }
    }
}

/// Finds the model that is meant and the champion of its configuration, then gives the order about them. The order names
/// both by hash: if the champion changes in between, the cluster refuses instead of deciding about something else.
fn decide(
    ask: &AskArgs,
    wanted: &str,
    make: impl FnOnce(&ModelAnswer, Option<BlobHash>) -> Order,
) -> anyhow::Result<Exit> {
    let asker = Asker::new(&ask.addr);
    let found = asker
        .get::<ModelAnswer>(&format!("/v1/models/{wanted}"))
        .and_then(|model| Ok((model, asker.get::<Vec<ModelAnswer>>("/v1/models")?)));
    let (model, models) = match found {
        Ok((model, models)) => (model.answer, models.answer),
        Err(error) => return Ok(failed(&error)),
    };
    let mut reigning = models
        .iter()
        .filter(|other| other.configuration == model.configuration && other.champion);
    let expected = reigning.next().map(|champion| champion.entry.record.hash);
    order(ask, make(&model, expected), said)
}

/// A state in a word and its reason.
fn state(state: &ModelState) -> (&'static str, &str) {
    match state {
        ModelState::Candidate => ("candidate", ""),
        ModelState::Promoted => ("champion", ""),
        ModelState::Rejected { reason } => ("rejected", reason),
        ModelState::Superseded => ("superseded", ""),
        ModelState::RolledBack { reason } => ("rolled back", reason),
    }
}

fn print_models(models: &[ModelAnswer]) {
    table(
        &[
            "MODEL",
            "NUMBER",
            "CONFIGURATION",
            "STATE",
            "ROWS",
            "STEPS",
            "EVIDENCE",
            "HOLDERS",
            "REASON",
        ],
        models.iter().map(|model| {
            let entry = &model.entry;
            let (word, reason) = state(&entry.state);
            vec![
                entry.record.hash.short(),
                format!("#{}", entry.number),
                model.configuration.to_string(),
                word.to_owned(),
                entry.record.rows.to_string(),
                entry.record.steps.to_string(),
                format!("{}-{}", entry.evidence.wins, entry.evidence.losses),
                entry.holders.len().to_string(),
                reason.to_owned(),
            ]
        }),
    );
}

fn print_model(model: &ModelAnswer) {
    let entry = &model.entry;
    let (word, reason) = state(&entry.state);
    let opponent = entry.evidence.opponent.map_or_else(
        || "the untrained network".to_owned(),
        |hash| hash.to_string(),
    );
    let parent = entry
        .record
        .parent
        .map_or_else(|| "none".to_owned(), |hash| hash.to_string());
    data(
        format!(
            "#{} {} of {}: {word} {reason}",
            entry.number, entry.record.hash, model.configuration
        )
        .trim_end(),
    );
    data(&format!(
        "  shape     {}, {} bytes",
        entry.record.shape, entry.record.bytes
    ));
    data(&format!("  parent    {parent}"));
    data(&format!(
        "  trained   {} steps, {} rows in the ledger",
        entry.record.steps, entry.record.rows
    ));
    data(&format!(
        "  evidence  {} won, {} lost against {opponent}",
        entry.evidence.wins, entry.evidence.losses
    ));
    data(&format!("  manifest  {}", entry.record.manifest));
    data(&format!(
        "  holders   {}",
        entry
            .holders
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    ));
}
