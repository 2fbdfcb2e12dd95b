//! openraft's configuration, made from ours.

use std::sync::Arc;

use openraft::{Config, SnapshotPolicy};

use crate::error::OpenError;
use crate::mutants::{Mutant, is_planted};
use crate::settings::RaftTimings;

/// Entries sent to a follower in one message at most; their bytes are bounded by the log reader.
const ENTRIES_PER_MESSAGE: u64 = 256;

/// The effective configuration. What is switched on or off here on purpose:
/// - leader restore off: a restarted leader that resumed its term could write other entries where it lost unsynced
///   ones, and committed data would diverge;
/// - pre-vote on: a node that cannot win does not disturb the leader;
/// - quorum-loss probe on: with pre-vote, it frees a majority from a leader that only one of them can hear.
pub(crate) fn effective(timings: &RaftTimings) -> Result<Arc<Config>, OpenError> {
    if timings.quorum_loss_probe.0 < 2 * timings.election_max.0 {
        return Err(OpenError::Settings(format!(
            "the quorum-loss probe ({}) must be at least twice the longest election timeout ({})",
            timings.quorum_loss_probe, timings.election_max
        )));
    }
    let config = Config {
        cluster_name: "riftmesh".to_owned(),
        election_timeout_min: timings.election_min.0,
        election_timeout_max: timings.election_max.0,
        heartbeat_interval: timings.heartbeat.0,
        quorum_loss_probe_interval: (!is_planted(Mutant::NoProbe))
            .then_some(timings.quorum_loss_probe.0),
        enable_pre_vote: Some(!is_planted(Mutant::NoPreVote)),
        enable_leader_restore: Some(is_planted(Mutant::LeaderRestore)),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(timings.snapshot_every),
        max_in_snapshot_log_to_keep: timings.entries_kept,
        replication_lag_threshold: timings.entries_kept,
        install_snapshot_timeout: timings.install_snapshot.0,
        max_payload_entries: ENTRIES_PER_MESSAGE,
        state_machine_channel_size: Some(1_024),
        ..Config::default()
    };
    let config = config
        .validate()
        .map_err(|e| OpenError::Settings(e.to_string()))?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The switches that safety and liveness hang on, read from the configuration openraft will use.
    #[test]
    fn the_switches_are_set() {
        let config = effective(&RaftTimings::default()).unwrap();
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.enable_pre_vote, Some(true));
        assert_eq!(config.quorum_loss_probe_interval, Some(800));
        assert_eq!(config.allow_log_reversion, None);
        let times = (config.election_timeout_min, config.election_timeout_max);
        assert_eq!((times, config.heartbeat_interval), ((200, 400), 66));
        effective(&RaftTimings::patient()).unwrap();
    }

    /// The switches above were checked against this very version: a bump must pass the gate scenarios first.
    #[test]
    fn openraft_is_the_version_that_was_checked() {
        let lock = include_str!("../../Cargo.lock");
        assert!(lock.contains("name = \"openraft\"\nversion = \"0.10.0-alpha.37\""));
    }

    #[test]
    fn contradictory_times_are_refused() {
        let timings = RaftTimings {
            quorum_loss_probe: riftmesh_base::Millis(500),
            ..RaftTimings::default()
        };
        let error = effective(&timings).unwrap_err().to_string();
        assert!(error.contains("twice"), "{error}");
    }
}
