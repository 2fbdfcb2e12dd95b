//! Asking nodes over HTTP: a list of addresses, one deadline for all of them.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answers::Envelope;

/// A person gets an answer within this time, whatever is broken.
pub const DEADLINE: Duration = Duration::from_millis(1_900);
/// A file may take longer.
const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(60);
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

    /// The bytes at `path`, at most `max`, from the first address that gives them.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn download(&self, path: &str, max: u64) -> Result<Vec<u8>, AskError> {
        let mut failures = String::new();
        for address in &self.addresses {
            let request = self.agent.get(format!("http://{address}{path}"));
            let request = request.config().timeout_global(Some(DOWNLOAD_DEADLINE));
            let read = request.build().call().and_then(|mut response| {
                let status = response.status();
                let body = response.body_mut().with_config().limit(max);
                Ok((status, body.read_to_vec()?))
            });
            match read {
                Ok((status, bytes)) if status.is_success() => return Ok(bytes),
                Ok((status, text)) => {
                    let text = String::from_utf8_lossy(&text);
                    if status.is_client_error() && !text.is_empty() {
                        return Err(AskError::Refused(text.into_owned()));
                    }
                    failures.push_str(&format!("  {address}: {status}: {text}\n"));
                }
                Err(error) => failures.push_str(&format!("  {address}: {error}\n")),
            }
        }
        Err(AskError::Unreachable(failures.trim_end().to_owned()))
    }

    /// The open end of what the first address that answers has to tell, for as long as it does.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn stream(&self, path: &str) -> Result<impl BufRead + use<>, AskError> {
        let mut failures = String::new();
        for address in &self.addresses {
            let request = self.agent.get(format!("http://{address}{path}"));
            let request = request.config().timeout_connect(Some(SHARE));
            match request.build().call() {
                Ok(response) if response.status().is_success() => {
                    let body = response.into_body();
                    return Ok(BufReader::new(body.into_reader()));
                }
                Ok(mut response) => {
                    let text = response.body_mut().read_to_string().unwrap_or_default();
                    if response.status().is_client_error() && !text.is_empty() {
                        return Err(AskError::Refused(text));
                    }
                    let status = response.status();
                    failures.push_str(&format!("  {address}: {status}: {text}\n"));
                }
                Err(error) => failures.push_str(&format!("  {address}: {error}\n")),
            }
        }
        Err(AskError::Unreachable(failures.trim_end().to_owned()))
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
