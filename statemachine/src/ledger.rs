//! What a configuration's training data is: the accepted segments and their totals.

use std::collections::BTreeMap;

use riftmesh_base::{BlobHash, ConfigurationName, JobId, Millis, NodeId};
use serde::{Deserialize, Serialize};

use crate::bounds::HOLDERS_MAX;
use crate::effect::Effect;
use crate::job::SegmentRecord;
use crate::reply::{Refusal, Reply};
use crate::state::{State, Turn};

/// Every segment is counted once: a job completes once, and a hash that is listed is not accepted again. The newest
/// segments are listed; retired ones live on in the totals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    totals: LedgerTotals,
    /// By serial number.
    segments: BTreeMap<u64, SegmentEntry>,
    #[serde(skip)]
    by_hash: BTreeMap<BlobHash, u64>,
}

/// Everything ever accepted, retired segments included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerTotals {
    /// Segments.
    pub segments: u64,
    /// Games in them.
    pub games: u64,
    /// Training rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Segments among them that are no longer listed.
    pub retired: u64,
}

/// A segment that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Counts the segments of a configuration from 1, in the order they were accepted.
    pub serial: u64,
    /// As its job reported it.
    pub record: SegmentRecord,
    /// The job that made it.
    pub job: JobId,
    /// Nodes known to have the bytes, at most `HOLDERS_MAX`, the longest known first.
    pub holders: Vec<NodeId>,
    /// Cluster time of acceptance.
    pub accepted: Millis,
}

impl Ledger {
    pub fn totals(&self) -> LedgerTotals {
        self.totals
    }

    /// The listed segments, oldest first.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &SegmentEntry> {
        self.segments.values()
    }

    pub fn listed(&self) -> usize {
        self.segments.len()
    }

    fn accept(&mut self, record: &SegmentRecord, job: JobId, now: Millis) -> bool {
        if let Some(serial) = self.by_hash.get(&record.hash) {
            if let Some(entry) = self.segments.get_mut(serial) {
                add_holder(&mut entry.holders, record.holder);
            }
            return false;
        }
        self.totals.segments += 1;
        self.totals.games += u64::from(record.games);
        self.totals.rows += u64::from(record.rows);
        self.totals.bytes = self.totals.bytes.saturating_add(record.bytes);
        let serial = self.totals.segments;
        let entry = SegmentEntry {
            serial,
            record: record.clone(),
            job,
            holders: vec![record.holder],
            accepted: now,
        };
        self.by_hash.insert(record.hash, serial);
        self.segments.insert(serial, entry);
        true
    }

    /// Takes the oldest segment off the list if there are more than `kept`.
    fn retire(&mut self, kept: usize) -> Option<BlobHash> {
        if self.segments.len() <= kept {
            return None;
        }
        let (_, entry) = self.segments.pop_first()?;
        self.by_hash.remove(&entry.record.hash);
        self.totals.retired += 1;
        Some(entry.record.hash)
    }

    pub fn holders(&self, blob: BlobHash) -> Option<&[NodeId]> {
        let serial = self.by_hash.get(&blob)?;
        Some(&self.segments.get(serial)?.holders)
    }

    pub fn holders_mut(&mut self, blob: BlobHash) -> Option<&mut Vec<NodeId>> {
        let serial = self.by_hash.get(&blob)?;
        Some(&mut self.segments.get_mut(serial)?.holders)
    }

    pub fn drop_holder(&mut self, node: NodeId) {
        for entry in self.segments.values_mut() {
            entry.holders.retain(|holder| *holder != node);
        }
    }

    pub fn derived_index(&self) -> BTreeMap<BlobHash, u64> {
        let segments = self.segments.iter();
        segments
            .map(|(serial, e)| (e.record.hash, *serial))
            .collect()
    }

    pub fn index(&self) -> &BTreeMap<BlobHash, u64> {
        &self.by_hash
    }

    /// Builds the index that is not part of the image.
    pub fn rebuild(&mut self) {
        self.by_hash = self.derived_index();
    }
}

/// Notes that `node` holds a blob. With the list full, the holder known for longest makes room.
pub(crate) fn add_holder(holders: &mut Vec<NodeId>, node: NodeId) {
    if holders.contains(&node) {
        return;
    }
    if holders.len() >= HOLDERS_MAX {
        holders.remove(0);
    }
    holders.push(node);
}

impl State {
    /// Lets a segment of a finished job count, unless its hash is listed already.
    pub(crate) fn accept(
        &mut self,
        turn: &mut Turn,
        name: &ConfigurationName,
        job: JobId,
        record: &SegmentRecord,
    ) {
        let kept = self.head.bounds.segments_kept;
        let Some(configuration) = self.configurations.get_mut(name) else {
            return;
        };
        let ledger = &mut configuration.ledger;
        if ledger.accept(record, job, turn.now) {
            turn.tell(Effect::SegmentAccepted {
                configuration: name.clone(),
                segment: record.hash,
            });
        }
        while let Some(segment) = ledger.retire(kept) {
            turn.tell(Effect::SegmentRetired {
                configuration: name.clone(),
                segment,
            });
        }
    }

    pub(crate) fn add_holder(
        &mut self,
        turn: &mut Turn,
        blob: BlobHash,
        node: NodeId,
    ) -> Result<Reply, Refusal> {
        if !self.nodes.roster.contains_key(&node) {
            return Err(Refusal::Unknown(format!("node {node} in the roster")));
        }
        let mut known = self.add_archive_holder(turn, blob, node);
        for configuration in self.configurations.values_mut() {
            let segment = configuration.ledger.holders_mut(blob);
            let lists = segment
                .into_iter()
                .chain(configuration.registry.holders_mut(blob));
            for holders in lists {
                add_holder(holders, node);
                known = true;
            }
        }
        if known {
            Ok(Reply::Done)
        } else {
            Err(Refusal::Unknown(format!("segment or model {blob}")))
        }
    }
}
