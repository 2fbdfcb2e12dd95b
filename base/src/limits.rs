//! Every bound of the system, with the relations between them checked when the code is compiled.

use crate::time::Millis;

/// Longest configuration name.
pub const CONFIGURATION_NAME_BYTES_MAX: usize = 32;
/// Longest node name.
pub const NODE_NAME_BYTES_MAX: usize = 64;
/// Longest name of a zone.
pub const ZONE_BYTES_MAX: usize = 64;

/// Largest gossip datagram before the path MTU is known (DISTRIBUTED rule 23).
pub const DATAGRAM_BYTES_MAX: usize = 1_150;
/// Largest request or reply on a message lane.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Largest blob (segment or checkpoint).
pub const BLOB_BYTES_MAX: u64 = 1 << 30;
/// Largest Raft snapshot image.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;

/// Commands packed into one log entry at most (DISTRIBUTED rule 8).
pub const BATCH_COMMANDS_MAX: usize = 256;
/// Bytes of commands packed into one log entry at most.
pub const BATCH_BYTES_MAX: usize = 256 << 10;
/// Log entries proposed and not yet committed at most.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 64;

/// Bytes of a job's payload.
pub const JOB_PAYLOAD_BYTES_MAX: usize = 16 << 10;
/// Jobs in one `Submit`.
pub const SUBMIT_JOBS_MAX: usize = 256;
/// Jobs granted by one `Claim`.
pub const CLAIM_JOBS_MAX: usize = 64;
/// Jobs that are not finished.
pub const JOBS_LIVE_MAX: usize = 200_000;
/// Finished jobs kept for queries.
pub const JOBS_FINISHED_KEPT: usize = 10_000;
/// Bytes of an error text or a note kept in the state.
pub const NOTE_BYTES_MAX: usize = 1 << 10;
/// Losses after which a job is quarantined instead of requeued (DISTRIBUTED rule 30).
pub const LOSSES_MAX: u32 = 10;

/// A worker sends a keep-alive this often.
pub const KEEPALIVE_EVERY: Millis = Millis(3_000);
/// A session silent for longer than this is expired by the leader.
pub const SESSION_TTL: Millis = Millis(30_000);
/// Extra patience of a new leader, and of every expiry by silence.
pub const SESSION_GRACE: Millis = Millis(10_000);
/// Silence needed, next to a gossip verdict, before a session is expired early.
pub const SESSION_SILENCE_WITH_EVIDENCE: Millis = Millis(8_000);
/// A leader advances cluster time by at most this per turn of its loop (DISTRIBUTED rule 2).
pub const CLOCK_STEP_MAX: Millis = Millis(1_000);

/// A node's certificate is valid this long, and renewed at half of it.
pub const CERTIFICATE_LIFE: Millis = Millis::from_secs(7 * 24 * 3_600);
/// Largest request of a node that asks to be let in, and largest answer to it.
pub const JOIN_BYTES_MAX: usize = 8 << 10;

const _: () = assert!(
    SESSION_TTL.0 >= 5 * KEEPALIVE_EVERY.0,
    "a session survives several lost keep-alives"
);
const _: () = assert!(
    SESSION_SILENCE_WITH_EVIDENCE.0 > 2 * KEEPALIVE_EVERY.0,
    "evidence needs real silence"
);
const _: () = assert!(
    BATCH_BYTES_MAX * 2 <= MESSAGE_BYTES_MAX,
    "an entry fits a message with room"
);
const _: () = assert!(
    JOB_PAYLOAD_BYTES_MAX * SUBMIT_JOBS_MAX <= MESSAGE_BYTES_MAX,
    "a full submission fits a message"
);
