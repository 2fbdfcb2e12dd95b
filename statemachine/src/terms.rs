//! What a job may ask for beyond its specification: whose it is, where it can run, when it may run, and again and again.
//!
//! Kept apart from [`JobSpec`] because its bytes are in logs: a plain `Submit` means [`Terms::default`].

use std::fmt::{Display, Formatter, Result};

use riftmesh_base::Millis;
use serde::{Deserialize, Serialize};

use crate::job::JobSpec;

/// A job as a client submits it, with its terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRequest {
    /// What is to be done.
    pub spec: JobSpec,
    /// On which terms.
    pub terms: Terms,
}

/// The terms of a job. The default is what `Submit` has always meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Whose job it is, for the shares of the cluster; empty for nobody in particular. At most `TENANT_BYTES_MAX`.
    pub tenant: String,
    /// Labels the worker must offer, at most `LABELS_MAX`, sorted and each once.
    pub labels: Vec<String>,
    /// GPU memory in MiB that is reserved for it, for a job that needs CUDA. Jobs that say how much they need share a
    /// device; one that does not say has it for itself.
    pub gpu_memory_mib: u32,
    /// What the jobs in `after` must have come to.
    pub after: AfterPolicy,
    /// Among which jobs the unique key is unique.
    pub scope: KeyScope,
    /// Enter it again each time it is done or dead, this much later than the time before, as often as it takes to lie
    /// ahead. At least `EVERY_MIN`.
    pub every: Option<Millis>,
}

/// What the jobs that a job waits for must have come to.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum AfterPolicy {
    /// All done. If one of them dies or is cancelled, so is this job.
    #[default]
    AllDone,
    /// One of them done. If none is, this job shares the fate of the last.
    AnyDone,
    /// All over, however they ended.
    AllOver,
}

/// Among which jobs a unique key is unique.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum KeyScope {
    /// All jobs of that scope, which is the scope of a plain `Submit`.
    #[default]
    Cluster,
    /// Those of the same configuration and this scope.
    Configuration,
    /// Those of the same tenant and this scope.
    Tenant,
}

/// What a worker offers, where slots and a device are not all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Slots.
    pub slots: u16,
    /// Whether it has a CUDA device.
    pub cuda: bool,
    /// Memory of that device in MiB; zero if it does not say, which fits no job that asks for memory.
    pub gpu_memory_mib: u32,
    /// Labels, at most `LABELS_MAX`, sorted and each once.
    pub labels: Vec<String>,
}

/// What a tenant is entitled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantShare {
    /// Slots it is granted in proportion to the weights of the others that have work waiting, 1 to `WEIGHT_MAX`. A
    /// tenant without a share weighs 1.
    pub weight: u16,
    /// Jobs it may have that are not finished; none for no limit of its own.
    pub jobs_live_max: Option<u32>,
    /// Slots its jobs may hold at a time; none for no limit.
    pub slots_max: Option<u32>,
}

impl Display for JobRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}{}", self.spec, self.terms)
    }
}

/// Nothing for the default; otherwise what differs from it, in brackets.
impl Display for Terms {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut parts = Vec::new();
        if !self.tenant.is_empty() {
            parts.push(format!("of {}", self.tenant));
        }
        if !self.labels.is_empty() {
            parts.push(format!("on {}", self.labels.join("+")));
        }
        if self.gpu_memory_mib > 0 {
            parts.push(format!("with {} MiB", self.gpu_memory_mib));
        }
        match self.after {
            AfterPolicy::AllDone => {}
            AfterPolicy::AnyDone => parts.push("after any".to_owned()),
            AfterPolicy::AllOver => parts.push("after all, however they end".to_owned()),
        }
        match self.scope {
            KeyScope::Cluster => {}
            KeyScope::Configuration => parts.push("key per configuration".to_owned()),
            KeyScope::Tenant => parts.push("key per tenant".to_owned()),
        }
        if let Some(every) = self.every {
            parts.push(format!("every {every}"));
        }
        if parts.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", parts.join(", "))
    }
}

impl Display for Offer {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} slots", self.slots)?;
        if self.cuda {
            f.write_str(" and CUDA")?;
        }
        if self.gpu_memory_mib > 0 {
            write!(f, " with {} MiB", self.gpu_memory_mib)?;
        }
        if !self.labels.is_empty() {
            write!(f, ", labels {}", self.labels.join("+"))?;
        }
        Ok(())
    }
}

impl Display for TenantShare {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "weight {}", self.weight)?;
        if let Some(jobs) = self.jobs_live_max {
            write!(f, ", at most {jobs} jobs")?;
        }
        if let Some(slots) = self.slots_max {
            write!(f, ", at most {slots} slots")?;
        }
        Ok(())
    }
}
