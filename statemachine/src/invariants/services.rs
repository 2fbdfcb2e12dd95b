//! The rules of locks, settings and held jobs.

use std::collections::{BTreeMap, BTreeSet};

use riftmesh_base::{LogIndex, Token};

use super::Violation;
use crate::archive::{ArchiveBatch, ArchiveLink};
use crate::bounds::{
    ARCHIVE_BATCH_JOBS, ARCHIVE_OUTBOX_MAX, CERTIFICATES_MAX, LOCKS_MAX, REVOCATIONS_MAX,
    SETTING_CHANGES_KEPT, SETTINGS_MAX, TENANTS_MAX, TOKENS_MAX,
};
use crate::job::{JobRecord, JobState};
use crate::state::State;

impl State {
    pub(super) fn check_locks(&self, found: &mut Vec<Violation>) {
        if *self.locks.index() != self.locks.derived_index() {
            found.push(Violation::LockIndex);
        }
        let end = Token::new(LogIndex(self.head.applied.0 + 1), 0);
        let grants = self.queue.records().filter_map(|record| record.last_token);
        let mut seen: BTreeSet<Token> = grants.collect();
        for record in self.locks.records() {
            let name = record.name.clone();
            if record.until <= self.head.now || record.since > self.head.now {
                found.push(Violation::LockTime(name.clone()));
            }
            if record.token >= end || !seen.insert(record.token) {
                let token = record.token;
                found.push(Violation::LockToken { name, token });
            }
        }
    }

    pub(super) fn check_settings(&self, found: &mut Vec<Violation>) {
        let settings = &self.settings;
        let last = settings.revision();
        let revisions = settings.history().iter().map(|change| change.revision);
        let first = (last + 1).saturating_sub(settings.history().len() as u64);
        if !revisions.eq(first..=last) {
            found.push(Violation::SettingHistory);
        }
        // What the history says of each setting last.
        let mut told = BTreeMap::new();
        for change in settings.history() {
            told.insert(&change.key, change);
        }
        for record in settings.records() {
            let agrees = match told.remove(&record.key) {
                Some(change) => {
                    change.revision == record.revision
                        && change.value.as_ref() == Some(&record.value)
                }
                None => record.revision < first,
            };
            if !agrees || record.revision > last {
                found.push(Violation::Setting(record.key.clone()));
            }
        }
        let ghosts = told.into_values().filter(|change| change.value.is_some());
        found.extend(ghosts.map(|change| Violation::Setting(change.key.clone())));
    }

    pub(super) fn check_trust(&self, found: &mut Vec<Violation>) {
        for token in self.trust.tokens() {
            if token.spent.len() as u64 > u64::from(token.new.uses) {
                found.push(Violation::TokenOverspent(token.new.id));
            }
        }
        for revocation in self.trust.revocations() {
            let entry = self.nodes.roster.get(&revocation.node);
            if entry.is_some_and(|entry| entry.session.is_some()) {
                found.push(Violation::RevokedSession(revocation.node));
            }
        }
        let roster = &self.nodes.roster;
        for node in self.authorities.reports() {
            if !roster.contains_key(&node) && !self.trust.is_certified(node) {
                found.push(Violation::Adoption(node));
            }
        }
        for (node, until) in self.drains.nodes() {
            let draining = roster.get(&node).is_some_and(|entry| entry.draining);
            if !draining || until <= self.head.now {
                found.push(Violation::Drain(node));
            }
        }
    }

    pub(super) fn check_holds(&self, found: &mut Vec<Violation>) {
        let over = self.holds.checkpoints().keys();
        let over = over.filter(|job| !self.queue.is_live(**job));
        found.extend(over.map(|job| Violation::Checkpoint(*job)));
        let mut listed = self.holds.yielding().iter();
        if *self.holds.held() != self.holds.derived(self.queue.records())
            || listed.any(|job| self.queue.get(*job).is_none())
        {
            found.push(Violation::HoldIndex);
        }
        if let Some(asked) = self.holds.asked() {
            let record = self.queue.get(asked.job);
            let holds = |record: &JobRecord| matches!(&record.state, JobState::Leased(lease) if lease.token == asked.token);
            let able = record.is_some_and(holds) && self.holds.yields(asked.job);
            if !able || asked.until <= self.head.now {
                found.push(Violation::Asked(asked.job));
            }
        }
    }

    pub(super) fn check_archive(&self, found: &mut Vec<Violation>) {
        let archive = &self.archive;
        let head = archive.head();
        for (number, outgoing) in archive.outbox() {
            let (number, hash) = (*number, outgoing.hash);
            let link = ArchiveLink { number, hash };
            let batch = ArchiveBatch::from_bytes(&link, &outgoing.bytes);
            // The one before may be with the nodes already; if it is here it must be the one that is named.
            let before = batch.as_ref().ok().and_then(ArchiveBatch::before);
            let fits = |before: &ArchiveLink| {
                let kept = archive.outbox().get(&before.number);
                kept.is_none_or(|kept| kept.hash == before.hash)
            };
            let last = head.is_some_and(|head| number < head.number || link == head);
            if batch.is_err() || !before.as_ref().is_none_or(fits) || !last {
                found.push(Violation::Archive(link.to_string()));
            }
        }
        let listed = archive
            .open()
            .iter()
            .find(|job| self.queue.get(job.id).is_some());
        if let Some(job) = listed {
            found.push(Violation::Archive(job.id.to_string()));
        }
    }

    /// Sizes of the tables whose caps are constants.
    pub(super) fn service_sizes(&self) -> [(&'static str, usize, usize); 10] {
        let (settings, trust) = (&self.settings, &self.trust);
        [
            (
                "archive's outbox",
                self.archive.outbox().len(),
                ARCHIVE_OUTBOX_MAX,
            ),
            ("open batch", self.archive.open().len(), ARCHIVE_BATCH_JOBS),
            ("join tokens", trust.tokens().len(), TOKENS_MAX),
            ("certificates", trust.certificates().len(), CERTIFICATES_MAX),
            ("revocations", trust.revocations().len(), REVOCATIONS_MAX),
            ("shares", self.tenants.shares().len(), TENANTS_MAX),
            // The nameless tenant has one too.
            ("passes", self.tenants.passes().len(), TENANTS_MAX + 1),
            ("locks", self.locks.records().len(), LOCKS_MAX),
            ("settings", settings.records().len(), SETTINGS_MAX),
            (
                "setting changes",
                settings.history().len(),
                SETTING_CHANGES_KEPT,
            ),
        ]
    }
}
