//! The words of a script line, and the commands they stand for.

use std::str::FromStr;

use riftmesh_base::{
    BlobHash, ClusterId, ConfigurationName, JobId, LogIndex, Millis, NodeId, SessionId, Token,
};

use crate::command::{Body, Loss};
use crate::job::{JobKind, MatchRecord, ModelRecord, Output, Player, SegmentRecord};
use crate::roster::{NodeRecord, Role};

use super::services::parse_service;
use super::trust::parse_trust;
use super::work::{parse_checkpoint, parse_open, parse_share, parse_submit, parse_upgrade};

/// The words of a line, read from the left.
pub(super) struct Words<'a> {
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Words<'a> {
    pub fn new(line: &'a str) -> Self {
        Self {
            words: line.split_whitespace().collect(),
            at: 0,
        }
    }

    pub fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    pub fn skip(&mut self) {
        self.at += 1;
    }

    fn take(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.skip();
        Some(word)
    }

    pub fn next(&mut self, what: &str) -> Result<&'a str, String> {
        self.take().ok_or_else(|| format!("{what} is missing"))
    }

    /// The next word if it is a setting, `name=value`.
    pub fn setting(&mut self) -> Option<(&'a str, &'a str)> {
        let setting = self.peek()?.split_once('=')?;
        self.skip();
        Some(setting)
    }

    /// Whether the next word is `word`, which is then taken.
    pub fn flag(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.at += usize::from(found);
        found
    }

    /// The rest of the line as one text.
    pub fn rest(&mut self) -> String {
        let rest = self.words[self.at.min(self.words.len())..].join(" ");
        self.at = self.words.len();
        rest
    }

    pub fn parse<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        parse(self.next(what)?, what)
    }

    pub fn configuration(&mut self) -> Result<ConfigurationName, String> {
        self.parse("a configuration")
    }

    pub fn node(&mut self) -> Result<NodeId, String> {
        let word = self.next("a node")?;
        let number = word
            .strip_prefix('n')
            .ok_or_else(|| format!("`{word}` is no node"))?;
        Ok(NodeId(parse(number, "a node")?))
    }

    fn session(&mut self) -> Result<SessionId, String> {
        self.parse("a session")
    }

    fn job(&mut self) -> Result<JobId, String> {
        self.parse("a job")
    }

    pub fn grant(&mut self) -> Result<(JobId, Token), String> {
        Ok((self.job()?, parse_token(self.next("a token")?)?))
    }

    pub fn hash(&mut self) -> Result<BlobHash, String> {
        parse_hash(self.next("a hash")?)
    }

    /// Objects to words that nobody asked for.
    pub fn end(&mut self) -> Result<(), String> {
        match self.take() {
            None => Ok(()),
            Some(word) => Err(format!("`{word}` is one word too many")),
        }
    }
}

pub(super) fn parse<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not {what}"))
}

/// `10s` or `250ms`.
pub(super) fn parse_time(text: &str) -> Result<Millis, String> {
    match text.strip_suffix("ms") {
        Some(millis) => parse(millis, "a time").map(Millis),
        None => {
            let seconds = text.strip_suffix('s').unwrap_or(text);
            parse(seconds, "a time").map(Millis::from_secs)
        }
    }
}

/// `entry.ordinal`.
pub(super) fn parse_token(text: &str) -> Result<Token, String> {
    let (index, ordinal) = text
        .split_once('.')
        .ok_or_else(|| format!("`{text}` is no token such as `4.0`"))?;
    let index = LogIndex(parse(index, "a log index")?);
    Ok(Token::new(index, parse(ordinal, "an ordinal")?))
}

/// Two hexadecimal digits, repeated.
pub(super) fn parse_hash(text: &str) -> Result<BlobHash, String> {
    match u8::from_str_radix(text, 16) {
        Ok(byte) if text.len() == 2 => Ok(BlobHash([byte; 32])),
        Ok(_) | Err(_) => Err(format!("`{text}` is no hash of two digits")),
    }
}

fn parse_loss(text: &str) -> Result<Loss, String> {
    match text {
        "silent" => Ok(Loss::Silent),
        "down" => Ok(Loss::Down),
        "died" => Ok(Loss::Died),
        "left" => Ok(Loss::Left),
        "process" => Ok(Loss::Process),
        _ => Err(format!(
            "`{text}` is no reason: silent, down, died, left or process"
        )),
    }
}

fn parse_player(text: &str) -> Result<Player, String> {
    match text.split_once('@') {
        None if text == "random" => Ok(Player::Random),
        None if text == "heuristic" => Ok(Player::Heuristic),
        None => Err(format!("`{text}` is no player")),
        Some((who, budget)) => {
            let simulations = parse(budget, "a budget")?;
            if who == "untrained" {
                return Ok(Player::Untrained { simulations });
            }
            let model = parse_hash(who)?;
            Ok(Player::Model { model, simulations })
        }
    }
}

/// `candidate:wins-losses:opponent`.
fn parse_match(text: &str) -> Result<MatchRecord, String> {
    let wrong = || format!("`{text}` is no match such as `bb@64:7-3:random`");
    let (candidate, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (score, opponent) = rest.split_once(':').ok_or_else(wrong)?;
    let (wins, losses) = score.split_once('-').ok_or_else(wrong)?;
    Ok(MatchRecord {
        candidate: parse_player(candidate)?,
        opponent: parse_player(opponent)?,
        wins: parse(wins, "a number of wins")?,
        losses: parse(losses, "a number of losses")?,
    })
}

/// `hash` or `hash:parent`.
fn parse_model(text: &str) -> Result<ModelRecord, String> {
    let (hash, parent) = match text.split_once(':') {
        None => (text, None),
        Some((hash, parent)) => (hash, Some(parse_hash(parent)?)),
    };
    let hash = parse_hash(hash)?;
    Ok(ModelRecord {
        hash,
        bytes: 1_000,
        manifest: BlobHash::of(&hash.0),
        parent,
        shape: "tiny".to_owned(),
        rows: 0,
        steps: 0,
        holder: NodeId(1),
    })
}

/// `hash:games:rows`.
fn parse_segment(text: &str) -> Result<SegmentRecord, String> {
    let mut parts = text.split(':');
    let mut part = || {
        parts
            .next()
            .ok_or_else(|| format!("`{text}` is no segment"))
    };
    Ok(SegmentRecord {
        hash: parse_hash(part()?)?,
        bytes: 1_000,
        games: parse(part()?, "a number of games")?,
        rows: parse(part()?, "a number of rows")?,
        model: None,
        holder: NodeId(1),
    })
}

fn parse_outputs(words: &mut Words<'_>) -> Result<Vec<Output>, String> {
    let mut outputs = Vec::new();
    while let Some((kind, text)) = words.setting() {
        outputs.push(match kind {
            "segment" => Output::Segment(parse_segment(text)?),
            "model" => Output::Model(parse_model(text)?),
            "match" => Output::Match(parse_match(text)?),
            _ => return Err(format!("`{kind}` is no output")),
        });
    }
    Ok(outputs)
}

fn parse_claim(words: &mut Words<'_>) -> Result<Body, String> {
    let session = words.session()?;
    let jobs_max = words.parse("a number of jobs")?;
    let kinds = match words.take() {
        None => JobKind::ALL.to_vec(),
        Some(kinds) => {
            let kinds = kinds.split(',').map(|kind| parse(kind, "a kind of job"));
            kinds.collect::<Result<_, _>>()?
        }
    };
    Ok(Body::Claim {
        session,
        kinds,
        jobs_max,
    })
}

fn parse_admit(words: &mut Words<'_>) -> Result<Body, String> {
    let id = words.node()?;
    let role = match words.next("a role")? {
        "voter" => Role::Voter,
        "worker" => Role::Worker,
        other => return Err(format!("`{other}` is no role")),
    };
    let name = format!("n{}", id.0);
    let address = format!("{name}:7400");
    Ok(Body::AdmitNode(NodeRecord {
        id,
        name,
        role,
        address,
    }))
}

/// The verbs of a worker about a job it holds.
fn parse_held(verb: &str, words: &mut Words<'_>) -> Result<Option<Body>, String> {
    if verb == "checkpoint" {
        return parse_checkpoint(words).map(Some);
    }
    if !["progress", "complete", "fail", "release"].contains(&verb) {
        return Ok(None);
    }
    let (job, token) = words.grant()?;
    Ok(Some(match verb {
        "progress" => {
            let word = words.next("progress")?;
            let (done, total) = word.split_once('/').ok_or("progress is `done/total`")?;
            Body::Progress {
                job,
                token,
                done: parse(done, "a number")?,
                total: parse(total, "a number")?,
            }
        }
        "complete" => Body::Complete {
            job,
            token,
            outputs: parse_outputs(words)?,
        },
        "fail" => Body::Fail {
            job,
            token,
            retry: match words.next("`retry` or `final`")? {
                "retry" => true,
                "final" => false,
                other => return Err(format!("`{other}` is neither `retry` nor `final`")),
            },
            error: words.rest(),
        },
        _ => Body::Release {
            job,
            token,
            reason: parse_loss(words.next("a reason")?)?,
        },
    }))
}

/// The verbs about models.
fn parse_registry(verb: &str, words: &mut Words<'_>) -> Result<Option<Body>, String> {
    if !["register", "match", "promote", "rollback", "reject"].contains(&verb) {
        return Ok(None);
    }
    let configuration = words.configuration()?;
    Ok(Some(match verb {
        "register" => Body::RegisterModel {
            configuration,
            model: parse_model(words.next("a model")?)?,
        },
        "match" => Body::ReportMatch {
            id: words.hash()?,
            configuration,
            result: parse_match(words.next("a match")?)?,
        },
        "promote" => Body::Promote {
            configuration,
            model: words.hash()?,
            expected: match words.setting() {
                Some(("over", "none")) => None,
                Some(("over", champion)) => Some(parse_hash(champion)?),
                Some(_) | None => return Err("`over=` the champion is missing".to_owned()),
            },
        },
        "reject" => Body::RejectModel {
            configuration,
            model: words.hash()?,
            reason: words.rest(),
        },
        _ => Body::Rollback {
            configuration,
            model: words.hash()?,
            reason: words.rest(),
        },
    }))
}

fn parse_drain(drain: bool, words: &mut Words<'_>) -> Result<Body, String> {
    let node = words.node()?;
    Ok(match words.setting() {
        Some(("within", grace)) if drain => Body::DrainWithin {
            node,
            grace: parse_time(grace)?,
        },
        Some((name, value)) => return Err(format!("a drain has no `{name}={value}`")),
        None => Body::DrainNode { node, drain },
    })
}

/// One command.
pub(super) fn parse_body(words: &mut Words<'_>) -> Result<Body, String> {
    let verb = words.next("a verb")?;
    if let Some(body) = parse_held(verb, words)? {
        return Ok(body);
    }
    if let Some(body) = parse_registry(verb, words)? {
        return Ok(body);
    }
    if let Some(body) = parse_service(verb, words)? {
        return Ok(body);
    }
    if let Some(body) = parse_trust(verb, words)? {
        return Ok(body);
    }
    Ok(match verb {
        "found" => Body::FoundCluster {
            cluster: ClusterId([0xc1; 16]),
        },
        "tick" => Body::Tick,
        "admit" => parse_admit(words)?,
        "drain" | "undrain" => parse_drain(verb == "drain", words)?,
        "forget" => Body::ForgetNode {
            node: words.node()?,
        },
        "open" => parse_open(words)?,
        "expire" => Body::ExpireSession {
            session: words.session()?,
            reason: parse_loss(words.next("a reason")?)?,
        },
        "submit" => parse_submit(words)?,
        "upgrade" => parse_upgrade(words)?,
        "share" | "unshare" => parse_share(verb == "share", words)?,
        "claim" => parse_claim(words)?,
        "cancel" => Body::Cancel { job: words.job()? },
        "requeue" => Body::Requeue { job: words.job()? },
        "takeback" => Body::TakeBack { job: words.job()? },
        "holder" => Body::AddHolder {
            blob: words.hash()?,
            node: words.node()?,
        },
        _ => return Err(format!("`{verb}` is no verb")),
    })
}
