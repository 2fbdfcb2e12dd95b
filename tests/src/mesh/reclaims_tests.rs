//! Who loses a job, and who must not.

use riftmesh_membership::MembershipSettings;

use super::*;
use crate::mesh::trials;

const NODES: u64 = 24;
const PLAN: Pauses = Pauses {
    shortest: Millis(4_000),
    longest: Millis(16_000),
    every: Millis::from_secs(20),
};

fn half_an_hour(settings: MembershipSettings, plan: Pauses) -> FleetRecord {
    let mut world = trials::formed_with(settings, 1, NODES, 0.05);
    let mut fleet = Fleet::new(&world, 1, NODES);
    let (length, kill_every) = (Millis::from_secs(1_800), Millis::from_secs(240));
    a_busy_time(&mut world, &mut fleet, 1, plan, length, kill_every);
    let reserved = fleet.state.sessions().count();
    assert_eq!(
        reserved as u64,
        NODES - VOTERS,
        "everybody is at work again"
    );
    fleet.record
}

/// Nobody who lives loses a job, be it frozen for as long as is tolerated, and be the leader frozen too; everybody who is
/// killed does, soon.
#[test]
fn only_the_dead_lose_their_jobs() {
    let record = half_an_hour(MembershipSettings::default(), PLAN);
    assert_eq!((record.false_reclaims(), record.false_verdicts), (0, 0));
    assert!(record.terms > 0, "no leader was ever frozen");
    assert!(record.kills >= 6, "{record:?}");
    assert_eq!(record.reclaims.len(), record.kills, "{record:?}");
    let (killed, silent) = (record.waits(End::Killed), record.waits(End::Silent));
    assert!(
        *killed.last().unwrap() <= Millis::from_secs(8),
        "{killed:?}"
    );
    assert!(
        *silent.last().unwrap() <= Millis::from_secs(24),
        "{silent:?}"
    );
}

/// A mesh that tolerates less than it is given takes jobs from the living, and is found out.
#[test]
fn false_reclaims_are_found() {
    let hasty = MembershipSettings {
        pause_tolerance: Millis(2_000),
        ..MembershipSettings::default()
    };
    let long = Pauses {
        shortest: Millis(14_000),
        ..PLAN
    };
    let record = half_an_hour(hasty, long);
    assert!(
        record.false_reclaims() > 0 && record.false_verdicts > 0,
        "{record:?}"
    );
}
