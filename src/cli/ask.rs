//! Asking nodes over HTTP: a list of addresses, one deadline for all of them.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answers::Envelope;

/// A person gets an answer within this time, whatever is broken.
pub const DEADLINE: Duration = Duration::from_millis(1_900);
/// The most one address may use of it, unless it is the only one.
const SHARE: Duration = Duration::from_millis(1_600);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No address answered.
    #[error("no node answered:\n{0}\nis the cluster running? `--addr host:port` asks another node")]
    Unreachable(String),
    /// A node answered that it cannot say.
    #[error("{0}")]
    Refused(String),
}

/// A client for the HTTP API.
pub struct Asker {
    addresses: Vec<String>,
    agent: ureq::Agent,
}

impl Asker {
    /// Asks these addresses, in order.
    pub fn new(addresses: &[String]) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build();
        Self {
            addresses: addresses.to_vec(),
            agent: config.into(),
        }
    }

    /// The answer of the first address that gives one.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Envelope<T>, AskError> {
        self.first(
            |agent, url, left| {
                agent
                    .get(url)
                    .config()
                    .timeout_global(Some(left))
                    .build()
                    .call()
            },
            path,
        )
    }

    /// Posts a value as JSON.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Envelope<T>, AskError> {
        self.first(
            |agent, url, left| {
                agent
                    .post(url)
                    .config()
                    .timeout_global(Some(left))
                    .build()
                    .send_json(body)
            },
            path,
        )
    }

    fn first<T: DeserializeOwned>(
        &self,
        call: impl Fn(
            &ureq::Agent,
            &str,
            Duration,
        ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        path: &str,
    ) -> Result<Envelope<T>, AskError> {
        let end = Instant::now() + DEADLINE;
        let mut failures = String::new();
        for address in &self.addresses {
            let left = end.saturating_duration_since(Instant::now());
            let left = if self.addresses.len() == 1 {
                left
            } else {
                left.min(SHARE)
            };
            if left < Duration::from_millis(50) {
                failures.push_str(&format!("  {address}: not asked, no time left\n"));
                continue;
            }
            match call(&self.agent, &format!("http://{address}{path}"), left) {
                Ok(mut response) if response.status().is_success() => {
                    match response.body_mut().read_json() {
                        Ok(answer) => return Ok(answer),
                        Err(error) => {
                            failures.push_str(&format!("  {address}: not an answer: {error}\n"))
                        }
                    }
                }
                Ok(mut response) => {
                    let status = response.status();
                    let text = response
                        .body_mut()
                        .read_to_string()
                        .unwrap_or_else(|error| error.to_string());
                    if status.is_client_error() {
                        let said = if text.is_empty() {
                            format!(
                                "{address} answered {status}; is it another version of riftmesh?"
                            )
                        } else {
                            text
                        };
                        return Err(AskError::Refused(said));
                    }
                    failures.push_str(&format!("  {address}: {status}: {text}\n"));
                }
                Err(error) => failures.push_str(&format!("  {address}: {error}\n")),
            }
        }
        Err(AskError::Unreachable(failures.trim_end().to_owned()))
    }
}
