//! Shares of the cluster: who is granted work next when several have work waiting, and who may have how much.
//!
//! Stride scheduling: each tenant has a pass that rises with every slot it is granted, the slower the more it weighs,
//! and the tenant with the lowest pass is next. A tenant that comes back after a pause starts at the floor, where the
//! others are by now: it has saved nothing up.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::bounds::{CLASSES_MAX, EVERY_MIN, LABEL_BYTES_MAX, LABELS_MAX, TENANTS_MAX, WEIGHT_MAX};
use crate::effect::Effect;
use crate::job::{DeviceNeed, JobSpec};
use crate::jobs::{check_full, check_name};
use crate::queue::{Class, Queue};
use crate::reply::{Refusal, Reply};
use crate::state::{State, Turn};
use crate::terms::{TenantShare, Terms};

/// What a pass rises by for one slot at weight 1. Divides without rest by most weights people write.
const STRIDE: u64 = 720_720;

/// Shares, and how far each tenant is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tenants {
    shares: BTreeMap<String, TenantShare>,
    /// Of tenants with unfinished jobs that were granted something.
    passes: BTreeMap<String, u64>,
    /// The pass of the tenant that was granted something last. Nobody's pass counts as less.
    floor: u64,
}

impl Tenants {
    pub fn shares(&self) -> &BTreeMap<String, TenantShare> {
        &self.shares
    }

    pub fn passes(&self) -> &BTreeMap<String, u64> {
        &self.passes
    }

    pub fn share(&self, tenant: &str) -> Option<&TenantShare> {
        self.shares.get(tenant)
    }

    /// Where `tenant` stands; the lowest is next.
    pub fn pass(&self, tenant: &str) -> u64 {
        let own = self.passes.get(tenant).copied().unwrap_or(0);
        own.max(self.floor)
    }

    /// Notes that `tenant` was granted `slots`.
    ///
    /// While nobody has a name or a share there is nobody to share with, and nothing is noted: the state after a log
    /// from before there were tenants must stay what it was.
    pub fn charge(&mut self, tenant: &str, slots: u16, queue: &Queue) {
        if self.shares.is_empty() && !queue.has_tenants() {
            self.passes.clear();
            self.floor = 0;
            return;
        }
        let weight = self.share(tenant).map_or(1, |share| share.weight);
        self.floor = self.pass(tenant);
        let step = u64::from(slots) * STRIDE / u64::from(weight.max(1));
        self.passes
            .insert(tenant.to_owned(), self.floor.saturating_add(step));
        self.passes
            .retain(|tenant, _| queue.tenant_use(tenant).jobs > 0);
    }
}

impl State {
    pub(crate) fn set_tenant(
        &mut self,
        turn: &mut Turn,
        tenant: &str,
        share: Option<TenantShare>,
    ) -> Result<Reply, Refusal> {
        check_label("the name of a tenant", tenant)?;
        let shares = &mut self.tenants.shares;
        match share {
            None if shares.remove(tenant).is_none() => {
                return Err(Refusal::Unknown(format!("share of tenant {tenant}")));
            }
            None => {}
            Some(share) => {
                check_share(&share)?;
                let known = shares.contains_key(tenant);
                let after = shares.len() + usize::from(!known);
                check_full("the table of shares", after as u64, TENANTS_MAX as u64)?;
                shares.insert(tenant.to_owned(), share);
            }
        }
        turn.tell(Effect::TenantChanged {
            tenant: tenant.to_owned(),
        });
        Ok(Reply::Done)
    }

    /// Whether there is room for what new jobs bring with them beyond themselves: their tenants' shares, new tenants,
    /// new kinds of needs.
    pub(crate) fn check_shares(&self, fresh: &[(&JobSpec, &Terms)]) -> Result<(), Refusal> {
        let mut jobs: BTreeMap<&str, u64> = BTreeMap::new();
        let mut classes = BTreeSet::new();
        for (spec, terms) in fresh {
            *jobs.entry(&terms.tenant).or_default() += 1;
            if **terms != Terms::default() {
                classes.insert(Class::of(spec, terms));
            }
        }
        for (tenant, fresh) in &jobs {
            let limit = self.tenants.share(tenant).and_then(|s| s.jobs_live_max);
            if let Some(limit) = limit {
                let after = self.queue.tenant_use(tenant).jobs + fresh;
                let what = format!("the share of tenant `{tenant}` in the queue");
                check_full(&what, after, u64::from(limit))?;
            }
        }
        let known = self.queue.tenants();
        let new = jobs.keys().filter(|tenant| !tenant.is_empty());
        let new = new.filter(|tenant| self.queue.tenant_use(tenant).jobs == 0);
        let after = known + new.count();
        // Only those who bring something new are refused for it: everybody else's jobs are no reason.
        if after > known {
            check_full("the list of tenants", after as u64, TENANTS_MAX as u64)?;
        }
        let new = classes
            .iter()
            .filter(|class| !self.queue.has_class(class))
            .count();
        if new > 0 {
            let after = self.queue.classes() + new;
            check_full(
                "the list of different needs",
                after as u64,
                CLASSES_MAX as u64,
            )?;
        }
        Ok(())
    }
}

fn check_share(share: &TenantShare) -> Result<(), Refusal> {
    if (1..=WEIGHT_MAX).contains(&share.weight) {
        return Ok(());
    }
    Err(Refusal::Invalid(format!(
        "a weight of {}: 1 to {WEIGHT_MAX} are allowed",
        share.weight
    )))
}

/// Whether terms keep to their bounds and make sense for the job.
pub(crate) fn check_terms(spec: &JobSpec, terms: &Terms) -> Result<(), Refusal> {
    if !terms.tenant.is_empty() {
        check_label("the name of a tenant", &terms.tenant)?;
    }
    check_labels(&terms.labels)?;
    if terms.gpu_memory_mib > 0 && spec.needs.device != DeviceNeed::Cuda {
        return Err(Refusal::Invalid(
            "a job that needs GPU memory and no CUDA device".to_owned(),
        ));
    }
    if let Some(every) = terms.every.filter(|every| *every < EVERY_MIN) {
        return Err(Refusal::Invalid(format!(
            "a job that recurs every {every}: at least {EVERY_MIN} is allowed"
        )));
    }
    Ok(())
}

/// Whether labels keep to their bounds, sorted and each once: then equal needs are equal values.
pub(crate) fn check_labels(labels: &[String]) -> Result<(), Refusal> {
    if labels.len() > LABELS_MAX {
        return Err(Refusal::Invalid(format!(
            "{} labels, at most {LABELS_MAX} are allowed",
            labels.len()
        )));
    }
    if !labels.is_sorted_by(|a, b| a < b) {
        return Err(Refusal::Invalid(
            "labels must be sorted, each once".to_owned(),
        ));
    }
    labels
        .iter()
        .try_for_each(|label| check_label("a label", label))
}

fn check_label(what: &str, label: &str) -> Result<(), Refusal> {
    check_name(what, label)?;
    if label.len() <= LABEL_BYTES_MAX {
        return Ok(());
    }
    Err(Refusal::Invalid(format!(
        "{what} has {} bytes, at most {LABEL_BYTES_MAX} are allowed",
        label.len()
    )))
}
