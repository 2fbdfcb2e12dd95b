//! Sends an operator's order and prints what became of it.

use super::ask::{AskError, Asker};
use super::output::{data, json, talk};
use super::{AskArgs, Exit};
use crate::answers::Envelope;
use crate::orders::{Order, OrderAnswer, OrderRequest};

/// Has `order` carried out and prints what `words` makes of the answer.
///
/// A node that does not answer in time may still have done it, so the next one is asked for the very same order: the
/// cluster knows it by its number and does it once.
pub fn order(
    ask: &AskArgs,
    order: Order,
    words: impl FnOnce(&OrderAnswer) -> String,
) -> anyhow::Result<Exit> {
    match place(ask, order) {
        Ok(envelope) if ask.json => json(&envelope).map(|()| Exit::Ok),
        Ok(envelope) => {
            data(&words(&envelope.answer));
            Ok(Exit::Ok)
        }
        Err(error) => Ok(failed(&error)),
    }
}

/// Has `order` carried out.
///
/// # Errors
/// See [`AskError`].
pub fn place(ask: &AskArgs, order: Order) -> Result<Envelope<OrderAnswer>, AskError> {
    let request = OrderRequest {
        client: rand::random(),
        order,
    };
    Asker::new(&ask.addr).post("/v1/orders", &request)
}

/// The answer in the cluster's own words.
pub fn said(answer: &OrderAnswer) -> String {
    answer.said.clone()
}

/// Says why there is no answer, and gives the exit code for that.
pub fn failed(error: &AskError) -> Exit {
    talk(&format!("error: {error}"));
    match error {
        AskError::Unreachable(_) => Exit::Unreachable,
        AskError::Refused(_) => Exit::Failed,
    }
}
