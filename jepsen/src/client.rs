//! The HTTP API as any client sees it, with outcomes that say what is known.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::NodePlan;

/// A call is given up on after this long.
const DEADLINE: Duration = Duration::from_secs(3);
/// A longer answer is refused: the lists asked for are bounded.
const BODY_BYTES_MAX: u64 = 32 << 20;

/// How the API begins to say that nothing was done, and promises that nothing will be.
pub const NO_LEADER: &str = "no leader could be reached";

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It surely had no effect: nobody listened, or the request was refused as wrong.
    Refused(String),
    /// It may have had its effect, or still have it later.
    Unknown(String),
}

/// A client of the API.
#[derive(Debug, Clone)]
pub struct Api {
    agent: ureq::Agent,
}

impl Default for Api {
    fn default() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(DEADLINE))
            .http_status_as_error(false)
            .max_idle_connections(0)
            .build();
        Self {
            agent: config.into(),
        }
    }
}

impl Api {
    /// Asks a node.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn get(&self, node: &NodePlan, path: &str) -> Result<Value, Trouble> {
        let address = format!("http://{}{path}", node.http);
        within(node, || read(self.agent.get(address).call()))
    }

    /// Sends something to a node.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn post(&self, node: &NodePlan, path: &str, body: &Value) -> Result<Value, Trouble> {
        let address = format!("http://{}{path}", node.http);
        within(node, || read(self.agent.post(address).send_json(body)))
    }
}

impl Api {
    /// Reads what a node tells line by line, for `time`, or until it stops; whatever ends it once it has begun is no error.
    ///
    /// # Errors
    /// [`Trouble`]: it did not begin, and nothing is known to have been told.
    pub fn lines(
        &self,
        node: &NodePlan,
        path: &str,
        time: Duration,
        mut take: impl FnMut(&str) + Send,
    ) -> Result<(), Trouble> {
        let address = format!("http://{}{path}", node.http);
        let request = self.agent.get(address);
        let request = request.config().timeout_global(Some(time)).build();
        within(node, || {
            let response = request.call().map_err(|error| trouble(&error))?;
            let status = response.status().as_u16();
            let mut body = response.into_body();
            let body = body.with_config().limit(BODY_BYTES_MAX);
            if !(200..300).contains(&status) {
                let said = body.read_to_string().unwrap_or_default();
                return Err(Trouble::Refused(format!("{status} {}", said.trim())));
            }
            let mut lines = BufReader::new(body.reader());
            let mut line = String::new();
            // What is cut off in the middle was not told.
            while lines.read_line(&mut line).is_ok() && line.ends_with('\n') {
                take(line.trim_end());
                line.clear();
            }
            Ok(())
        })
    }
}

/// Connections are made where the node lives, so that no fault of the wire hides a node from its clients.
fn within<T: Send>(
    node: &NodePlan,
    act: impl FnOnce() -> Result<T, Trouble> + Send,
) -> Result<T, Trouble> {
    node.within(act)
        .unwrap_or_else(|error| Err(Trouble::Refused(format!("entering {}: {error}", node.name))))
}

fn read(outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Trouble> {
    let mut response = outcome.map_err(|error| trouble(&error))?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(BODY_BYTES_MAX);
    if (200..300).contains(&status) {
        return body
            .read_json()
            .map_err(|error| Trouble::Unknown(error.to_string()));
    }
    let said = body.read_to_string().unwrap_or_default();
    let text = format!("{status} {}", said.trim());
    // A request that makes no sense was not carried out, and neither was one that reached no leader; anything else may
    // have been.
    Err(match status {
        400..=499 => Trouble::Refused(text),
        503 if said.starts_with(NO_LEADER) => Trouble::Refused(text),
        _ => Trouble::Unknown(text),
    })
}

/// Only what failed before the request could leave is known to have had no effect.
fn trouble(error: &ureq::Error) -> Trouble {
    let text = error.to_string();
    match error {
        ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
            Trouble::Refused(text)
        }
        ureq::Error::ConnectionFailed
        | ureq::Error::HostNotFound
        | ureq::Error::Timeout(ureq::Timeout::Connect) => Trouble::Refused(text),
        _ => Trouble::Unknown(text),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};

    /// A server for one connection that says `answer`, or nothing and hangs up.
    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4_096];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    /// A server that answers each path with a text, for as long as the test lasts.
    pub(crate) fn serve(answers: Vec<(&'static str, String)>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 4_096];
                let length = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default();
                let body = answers.iter().find(|(own, _)| *own == path);
                let head = |status, length| {
                    format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                    )
                };
                let answer = match body {
                    Some((_, text)) => head("200 OK", text.len()) + text,
                    None => head("404 No", 0),
                };
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    pub(crate) fn node(http: SocketAddr) -> NodePlan {
        NodePlan {
            name: "v1".to_owned(),
            voter: true,
            mesh: http,
            http,
            namespace: None,
            disk: None,
        }
    }

    /// Lines are told as far as they are whole; one that breaks off was not told.
    #[test]
    fn lines_are_read_as_they_come() {
        let lines = |answer| {
            let mut told = Vec::new();
            let time = Duration::from_secs(5);
            let began = Api::default().lines(&node(server(answer)), "/", time, |line| {
                told.push(line.to_owned());
            });
            began.map(|()| told)
        };
        let broken = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\none\ntwo\nthr";
        assert_eq!(lines(broken).unwrap(), ["one", "two"]);
        let refused = "HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy";
        assert_eq!(lines(refused), Err(Trouble::Refused("503 busy".to_owned())));
    }

    /// What is not known to have failed stays possible.
    #[test]
    fn outcomes_say_what_is_known() {
        let get = |answer| Api::default().get(&node(server(answer)), "/");
        let json = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
        assert_eq!(get(json).unwrap()["a"], 1);
        assert!(matches!(
            get("HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n"),
            Err(Trouble::Refused(_))
        ));
        assert!(matches!(
            get("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"),
            Err(Trouble::Unknown(_))
        ));
        let nobody =
            "HTTP/1.1 503 No\r\ncontent-length: 32\r\n\r\nno leader could be reached: none";
        assert!(matches!(get(nobody), Err(Trouble::Refused(_))));
        assert!(
            matches!(get(""), Err(Trouble::Unknown(_))),
            "the connection broke after the request"
        );
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert!(
            matches!(
                Api::default().get(&node(free), "/"),
                Err(Trouble::Refused(_))
            ),
            "nobody listens"
        );
    }
}
