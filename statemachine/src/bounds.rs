//! The bounds of the replicated state that concern nothing outside it.
//!
//! They decide how commands are answered, so every replica must use the same ones: they are part of the state and of
//! its snapshots, and a change of a default here needs a new command version.

use riftmesh_base::Millis;
use riftmesh_base::limits::{
    BATCH_COMMANDS_MAX, CLAIM_JOBS_MAX, JOBS_FINISHED_KEPT, JOBS_LIVE_MAX, LOSSES_MAX,
};
use serde::{Deserialize, Serialize};

/// Waiting this long is worth one step of priority.
pub const AGE_PER_PRIORITY: Millis = Millis(10_000);
/// A refused submission may be repeated after this time.
pub const RETRY_AFTER: Millis = Millis(5_000);
/// Most slots a session offers or a job needs.
pub const SLOTS_MAX: u16 = 1_024;
/// Jobs one job waits for.
pub const AFTER_MAX: usize = 64;
/// Outputs of one job.
pub const OUTPUTS_MAX: usize = 64;
/// Bytes of a unique key, a network shape, an address, or the name of a lock or setting.
pub const NAME_BYTES_MAX: usize = 256;
/// Attempts a retry policy may ask for.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// Nodes known to hold one blob.
pub const HOLDERS_MAX: usize = 64;
/// A cancelled job's holder may take this long to answer, from level 2 on: time for a keep-alive to tell it, and for a
/// process to be killed.
pub const CANCEL_GRACE: Millis = Millis(60_000);
/// A holder that is asked to give way may take this long to write a checkpoint and give the job back.
pub const YIELD_GRACE: Millis = Millis(60_000);
/// Urgent jobs looked at, of different needs, before it is clear that nobody is asked to give way for now. Bounds the
/// time that takes.
pub const YIELD_HEADS_MAX: usize = 16;
/// Jobs in one batch of the archive.
pub const ARCHIVE_BATCH_JOBS: usize = 256;
/// A batch of the archive is closed when its jobs' payloads, keys and outputs have this many bytes.
pub const ARCHIVE_BATCH_BYTES: u64 = 1 << 20;
/// Nodes that must have said to have a batch of the archive before the state lets go of it; all voters if there are fewer.
pub const ARCHIVE_COPIES: usize = 2;
/// Batches of the archive that the state keeps at most until they are copied.
pub const ARCHIVE_OUTBOX_MAX: usize = 16;
/// Labels of a job or a worker.
pub const LABELS_MAX: usize = 16;
/// Bytes of a label or of a tenant's name.
pub const LABEL_BYTES_MAX: usize = 64;
/// Tenants with unfinished jobs or a share.
pub const TENANTS_MAX: usize = 256;
/// Different needs (kind, slots, device, memory, labels, tenant) among unfinished jobs, before jobs with terms of their
/// own are refused. A claim looks at the first job of each, so this bounds its time.
pub const CLASSES_MAX: usize = 1_024;
/// Largest weight of a tenant.
pub const WEIGHT_MAX: u16 = 1_000;
/// A recurring job waits at least this long from one time to the next.
pub const EVERY_MIN: Millis = Millis(1_000);
/// Locks held at once.
pub const LOCKS_MAX: usize = 1_024;
/// Shortest time a lock is held for: several entries of a leader that is busy.
pub const LOCK_TTL_MIN: Millis = Millis(1_000);
/// Longest time a lock is held for without being renewed.
pub const LOCK_TTL_MAX: Millis = Millis(24 * 3_600_000);
/// Settings.
pub const SETTINGS_MAX: usize = 1_024;
/// Bytes of a setting's value.
pub const SETTING_BYTES_MAX: usize = 4 << 10;
/// Changes of settings kept in the history.
pub const SETTING_CHANGES_KEPT: usize = 1_024;

/// Join tokens.
pub const TOKENS_MAX: usize = 256;
/// Nodes one join token lets in.
pub const TOKEN_USES_MAX: u32 = 1_000;
/// Longest life of a join token.
pub const TOKEN_LIFE_MAX: Millis = Millis::from_secs(30 * 24 * 3_600);
/// Certificates issued to nodes that came with a token.
pub const CERTIFICATES_MAX: usize = 4_096;
/// Nodes that are trusted no more.
pub const REVOCATIONS_MAX: usize = 4_096;

/// Bytes of an authority's certificate.
pub const AUTHORITY_BYTES_MAX: usize = 4 << 10;
/// Longest time that a node being drained may be given for the jobs it holds.
pub const DRAIN_GRACE_MAX: Millis = Millis::from_secs(30 * 24 * 3_600);

/// The caps of the maps in the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Nodes in the roster, and so sessions.
    pub nodes_max: usize,
    /// Clients whose last reply is kept. The one silent for longest, in log order, is forgotten first.
    pub clients_max: usize,
    /// Jobs that are not finished.
    pub jobs_live_max: usize,
    /// Bytes of payloads and keys of jobs that are not finished.
    pub jobs_live_bytes_max: u64,
    /// Finished jobs kept for queries.
    pub jobs_finished_kept: usize,
    /// Bytes of payloads and keys of finished jobs kept.
    pub jobs_finished_bytes_kept: u64,
    /// Losses after which a job is quarantined.
    pub losses_max: u32,
    /// Configurations.
    pub configurations_max: usize,
    /// Segments listed per configuration. Older ones are retired; the totals keep counting them.
    pub segments_kept: usize,
    /// Models kept per configuration, the champion, its predecessor and the latest always among them.
    pub models_kept: usize,
    /// Pairs of players whose games are kept per configuration.
    pub pairs_kept: usize,
    /// Names of reported matches remembered.
    pub matches_kept: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            nodes_max: 1_024,
            clients_max: 4_096,
            jobs_live_max: JOBS_LIVE_MAX,
            jobs_live_bytes_max: 64 << 20,
            jobs_finished_kept: JOBS_FINISHED_KEPT,
            jobs_finished_bytes_kept: 32 << 20,
            losses_max: LOSSES_MAX,
            configurations_max: 64,
            segments_kept: 8_192,
            models_kept: 512,
            pairs_kept: 2_048,
            matches_kept: 65_536,
        }
    }
}

const _: () = assert!(
    BATCH_COMMANDS_MAX * CLAIM_JOBS_MAX <= 1 << 16,
    "every grant of an entry has an ordinal of its own"
);
