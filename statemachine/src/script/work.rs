//! The verbs about work to be done and those who offer to do it.

use crate::command::Body;
use crate::hold::{HoldVerb, JobCheckpoint};
use crate::job::{DeviceNeed, JobSpec};
use crate::terms::{AfterPolicy, JobRequest, KeyScope, Offer, TenantShare, Terms};

use super::parse::{Words, parse, parse_time};

/// A plain `Submit` unless the job has terms of its own.
pub(super) fn parse_submit(words: &mut Words<'_>) -> Result<Body, String> {
    let kind = words.parse("a kind of job")?;
    let mut spec = JobSpec::plain(kind, words.configuration()?, "{}");
    let mut terms = Terms::default();
    let mut copies = 1;
    let mut yields = false;
    loop {
        if words.flag("yields") {
            yields = true;
        } else if words.flag("cuda") {
            spec.needs.device = DeviceNeed::Cuda;
        } else if let Some((name, value)) = words.setting() {
            if name == "x" {
                copies = parse(value, "a number of jobs")?;
            } else if !set_term(&mut terms, name, value)? {
                set_spec(&mut spec, name, value)?;
            }
        } else if yields {
            let jobs = vec![JobRequest { spec, terms }; copies];
            return Ok(Body::Hold(HoldVerb::SubmitYielding { jobs }));
        } else if terms == Terms::default() {
            let jobs = vec![spec; copies];
            return Ok(Body::Submit { jobs });
        } else {
            let jobs = vec![JobRequest { spec, terms }; copies];
            return Ok(Body::SubmitWith { jobs });
        }
    }
}

fn set_spec(spec: &mut JobSpec, name: &str, value: &str) -> Result<(), String> {
    match name {
        "key" => spec.unique_key = Some(value.to_owned()),
        "payload" => spec.payload = value.to_owned(),
        "prio" => spec.priority = parse(value, "a priority")?,
        "from" => spec.not_before = parse_time(value)?,
        "slots" => spec.needs.slots = parse(value, "a number of slots")?,
        "attempts" => spec.retry.attempts_max = parse(value, "a number of attempts")?,
        "backoff" => spec.retry.backoff = parse_time(value)?,
        "after" => {
            let jobs = value.split(',').map(|job| parse(job, "a job"));
            spec.after = jobs.collect::<Result<_, _>>()?;
        }
        _ => return Err(format!("a job has no `{name}`")),
    }
    Ok(())
}

/// Whether `name` is a term, which is then set.
fn set_term(terms: &mut Terms, name: &str, value: &str) -> Result<bool, String> {
    match (name, value) {
        ("tenant", _) => terms.tenant = value.to_owned(),
        ("labels", _) => terms.labels = labels(value),
        ("mem", _) => terms.gpu_memory_mib = parse(value, "a number of MiB")?,
        ("every", _) => terms.every = Some(parse_time(value)?),
        ("await", "any") => terms.after = AfterPolicy::AnyDone,
        ("await", "over") => terms.after = AfterPolicy::AllOver,
        ("scope", "configuration") => terms.scope = KeyScope::Configuration,
        ("scope", "tenant") => terms.scope = KeyScope::Tenant,
        ("await" | "scope", _) => return Err(format!("`{value}` is no {name}")),
        (_, _) => return Ok(false),
    }
    Ok(true)
}

/// Words with `+` between them.
fn labels(text: &str) -> Vec<String> {
    text.split('+').map(str::to_owned).collect()
}

/// A plain `OpenSession` unless the worker offers more.
pub(super) fn parse_open(words: &mut Words<'_>) -> Result<Body, String> {
    let node = words.node()?;
    let mut generation = 1;
    let mut offer = Offer {
        slots: 1,
        ..Offer::default()
    };
    while let Some((name, value)) = words.setting() {
        match name {
            "gen" => generation = parse(value, "a generation")?,
            "slots" => offer.slots = parse(value, "a number of slots")?,
            "mem" => offer.gpu_memory_mib = parse(value, "a number of MiB")?,
            "labels" => offer.labels = labels(value),
            _ => return Err(format!("a session has no `{name}`")),
        }
    }
    offer.cuda = words.flag("cuda");
    if offer.gpu_memory_mib > 0 || !offer.labels.is_empty() {
        return Ok(Body::OpenWorker {
            node,
            generation,
            offer,
        });
    }
    Ok(Body::OpenSession {
        node,
        generation,
        slots: offer.slots,
        cuda: offer.cuda,
    })
}

/// `j1 4.0 cc BYTES DONE n1`.
pub(super) fn parse_checkpoint(words: &mut Words<'_>) -> Result<Body, String> {
    let (job, token) = words.grant()?;
    let checkpoint = JobCheckpoint {
        blob: words.hash()?,
        bytes: words.parse("a number of bytes")?,
        done: words.parse("how far it is")?,
        holder: words.node()?,
    };
    Ok(Body::Hold(HoldVerb::Checkpoint {
        job,
        token,
        checkpoint,
    }))
}

/// `2 n1,n2`; nobody has advertised if nobody is named.
pub(super) fn parse_upgrade(words: &mut Words<'_>) -> Result<Body, String> {
    let level = words.parse("a level")?;
    let named = words.rest();
    let names = named.split(',').filter(|name| !name.is_empty());
    let nodes = names.map(|name| Words::new(name).node());
    Ok(Body::UpgradeTo {
        level,
        advertised: nodes.collect::<Result<_, _>>()?,
    })
}

pub(super) fn parse_share(give: bool, words: &mut Words<'_>) -> Result<Body, String> {
    let tenant = words.next("a tenant")?.to_owned();
    let mut share = TenantShare {
        weight: 1,
        jobs_live_max: None,
        slots_max: None,
    };
    while let Some((name, value)) = words.setting() {
        match name {
            "weight" => share.weight = parse(value, "a weight")?,
            "jobs" => share.jobs_live_max = Some(parse(value, "a number of jobs")?),
            "slots" => share.slots_max = Some(parse(value, "a number of slots")?),
            _ => return Err(format!("a share has no `{name}`")),
        }
    }
    let share = give.then_some(share);
    Ok(Body::SetTenant { tenant, share })
}
