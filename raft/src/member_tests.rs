//! Members that come and go on a live group.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::Membership;
use openraft::async_runtime::WatchReceiver as _;
use riftmesh_base::{LogIndex, Millis, NodeId};
use riftmesh_statemachine::job::JobPhase;
use tokio::time::{Instant, sleep};

use crate::cluster_tests::{Group, SOON, address, submit, until};
use crate::error::{MemberError, RecoverError};
use crate::inspect;
use crate::members::{MemberOrder, MemberProgress};
use crate::recovery;
use crate::settings::{RaftStore, RaftTimings};
use crate::types::Address;

/// Learners get their vote after half a second, so that a test sees both sides of it.
fn timings() -> RaftTimings {
    RaftTimings {
        learner_steady: Millis(500),
        ..RaftTimings::default()
    }
}

/// Nodes 1 to 4 are there, 1 to 3 vote.
async fn three_of_four() -> Group {
    let group = Group::empty(4, timings()).await;
    let voters: BTreeMap<_, _> = (1..=3)
        .map(|i| (NodeId(i), address(i).to_string()))
        .collect();
    group.node(1).initialize(voters.clone()).await.unwrap();
    let again = group.node(1).initialize(voters).await.unwrap_err();
    assert!(matches!(again, MemberError::Refused(reason) if reason.contains("has data")));
    group.leader_among(&[1, 2, 3]).await;
    group
}

fn add_voter(i: u64) -> MemberOrder {
    MemberOrder::AddVoter {
        node: NodeId(i),
        address: address(i).to_string(),
    }
}

fn remove(i: u64) -> MemberOrder {
    MemberOrder::Remove { node: NodeId(i) }
}

/// Orders again, at whoever leads, until it is done; gives what had to be waited for.
async fn carried_out(group: &Group, order: MemberOrder) -> Vec<String> {
    carried_out_by(group, &[1, 2, 3, 4], order).await
}

/// The same, at whoever leads among `ids`.
async fn carried_out_by(group: &Group, ids: &[u64], order: MemberOrder) -> Vec<String> {
    let deadline = Instant::now() + SOON;
    let mut waits = Vec::new();
    loop {
        let leader = group.leader_among(ids).await;
        let step = group.node(leader).change_members(order.clone(), None, SOON);
        match step.await {
            Ok(MemberProgress::Done(_)) => return waits,
            Ok(MemberProgress::Waiting(reason)) => waits.push(reason),
            Err(MemberError::NotLeader { .. }) => {}
            Err(error) => panic!("{order:?}: {error}"),
        }
        assert!(Instant::now() < deadline, "{order:?}: {waits:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn voters_of(group: &Group, i: u64) -> Vec<u64> {
    let members = group.node(i).status().members;
    let voters = members.iter().filter(|member| member.voter);
    voters.map(|member| member.node.0).collect()
}

/// A fourth node becomes a voter by way of learner, catching up and a steady while; then the leader is removed, which
/// hands over first. Nothing acknowledged is lost, and each order may be repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_a_live_group_and_the_leader_leaves_it() {
    let mut group = three_of_four().await;
    for _ in 0..20 {
        group.propose(submit(3, 10)).await;
    }
    let began = Instant::now();
    let waits = carried_out(&group, add_voter(4)).await;
    assert!(
        waits.iter().any(|wait| wait.contains("steady for")),
        "{waits:?}"
    );
    assert!(
        began.elapsed() >= Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    let leader = group.leader().await;
    assert_eq!(voters_of(&group, leader), [1, 2, 3, 4]);
    assert_eq!(
        carried_out(&group, add_voter(4)).await,
        Vec::<String>::new()
    );

    carried_out(&group, remove(leader)).await;
    let next = group.leader_among(&group.followers(leader)).await;
    assert!(!voters_of(&group, next).contains(&leader));
    assert!(!group.node(next).status().joint);
    carried_out(&group, remove(leader)).await;
    let (index, _) = group.node(next).propose(submit(1, 1), SOON).await.unwrap();
    group.crash(leader).await;
    group.all_agree_at(index).await;
    let refused = group.node(group.followers(next)[0]);
    let refused = refused.change_members(remove(next), None, SOON).await;
    assert!(
        matches!(refused, Err(MemberError::NotLeader { .. })),
        "{refused:?}"
    );
}

/// An order that was given for other members than there are now does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_for_members_of_yesterday_is_refused() {
    let group = three_of_four().await;
    let leader = group.node(group.leader().await);
    let seen = leader.status().members_index;
    let learner = MemberOrder::AddLearner {
        node: NodeId(4),
        address: address(4).to_string(),
    };
    let wrong = leader
        .change_members(learner.clone(), Some(LogIndex(77)), SOON)
        .await;
    assert!(
        matches!(&wrong, Err(MemberError::Refused(reason)) if reason.contains("not 77")),
        "{wrong:?}"
    );
    let done = leader.change_members(learner.clone(), seen, SOON).await;
    assert!(matches!(done, Ok(MemberProgress::Done(_))), "{done:?}");
    until("the members have changed", || {
        (leader.status().members_index > seen).then_some(())
    })
    .await;
    let late = leader.change_members(remove(4), seen, SOON).await;
    assert!(matches!(late, Err(MemberError::Refused(_))), "{late:?}");
    // What is as ordered needs no change, so it is no matter of whose members.
    let again = leader.change_members(learner, seen, SOON).await;
    assert!(matches!(again, Ok(MemberProgress::Done(_))), "{again:?}");
}

/// A leader that is cut off and was removed meanwhile does not know it. Asked to give itself a vote it must not say that it
/// has one: by the members that were voted for since, it has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_does_not_say_that_all_is_as_ordered() {
    let group = three_of_four().await;
    let old = group.leader().await;
    group.isolate(old);
    let others: Vec<u64> = (1..=3).filter(|i| *i != old).collect();
    carried_out_by(&group, &others, remove(old)).await;
    assert!(voters_of(&group, old).contains(&old), "it has not heard");
    let said = group.node(old).change_members(add_voter(old), None, SOON);
    let said = said.await;
    assert!(
        matches!(said, Err(MemberError::NotLeader { .. })),
        "{said:?}"
    );
}

/// A leader that dies between the two halves of a change leaves a joint configuration; the next one finishes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_finishes_a_joint_change() {
    let mut group = three_of_four().await;
    let old = group.leader().await;
    let core = group.node(old).0.core.clone();
    let (mut nodes, voters) = {
        let metrics = core.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let nodes: BTreeMap<_, _> = members.nodes().map(|(id, at)| (*id, at.clone())).collect();
        (nodes, members.get_joint_config()[0].clone())
    };
    nodes.insert(4, Address(address(4).to_string()));
    let more = voters.iter().copied().chain([4]).collect();
    let joint = Membership::new(vec![voters, more], nodes).unwrap();
    group.propose(submit(1, 1)).await;
    core.append_membership(joint, openraft::EntryPayload::Blank, [])
        .await
        .unwrap();
    group.crash(old).await;
    let next = until("the change is whole", || {
        let whole = |i: &u64| {
            let status = group.node(*i).status();
            status.has_quorum && !status.joint && voters_of(&group, *i).len() == 4
        };
        group.followers(old).into_iter().find(whole)
    })
    .await;
    assert_eq!(voters_of(&group, next), [1, 2, 3, 4]);
}

/// Two of three voters are lost for good. The third is recovered: it goes on alone with everything it had, refuses the
/// lost ones should they come back, and takes a new node in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_quorum_is_given_up_and_the_lost_ones_are_refused() {
    let mut group = three_of_four().await;
    let (index, _) = group.propose(submit(5, 10)).await;
    until("all three have it", || {
        let have = |i| *group.node(i).applied().borrow() >= index;
        (1..=3).all(have).then_some(())
    })
    .await;
    let jobs = group.node(1).read(|_, state| state.hash());
    for i in 1..=3 {
        group.crash(i).await;
    }
    let store = group.store(1);
    let before = recovery::holdings(&store).unwrap();
    assert_eq!(before.voters.len(), 3);
    assert!(before.last >= index, "{before:?}");
    let after = recovery::recover(&store, NodeId(1), address(1).to_string()).unwrap();
    assert_eq!((after.epoch, after.voters.len()), (1, 1));

    group.start(1).await;
    assert_eq!(group.leader_among(&[1]).await, 1);
    assert_eq!(group.node(1).read(|_, state| state.hash()), jobs);
    let (index, _) = group.node(1).propose(submit(1, 1), SOON).await.unwrap();

    // The lost ones come back and elect a leader of their own at higher terms.
    for i in 2..=3 {
        group.start(i).await;
    }
    let other = group.leader_among(&[2, 3]).await;
    group.node(other).propose(submit(7, 1), SOON).await.unwrap();
    let old_append = crate::wire::Envelope {
        to: 1,
        request: crate::wire::Request::ReadIndex,
    };
    let refused = group
        .node(1)
        .handle(NodeId(other), riftmesh_base::encode(&old_append).into());
    assert!(refused.await.unwrap_err().0.contains("given up"));
    // On a starved machine the last answer may be older than an election at any one moment.
    until("it goes on in its own epoch", || {
        let status = group.node(1).status();
        (status.has_quorum && status.epoch == 1).then_some(())
    })
    .await;

    carried_out_by(&group, &[1], add_voter(4)).await;
    assert_eq!(voters_of(&group, 1), [1, 4]);
    assert!(*group.node(4).applied().borrow() >= index);
    assert_eq!(group.node(4).status().epoch, 1);
    assert_eq!(
        group
            .node(1)
            .read(|_, state| state.jobs_in(JobPhase::Ready)),
        6
    );
    let again = recovery::restore(
        &store,
        &store.snapshots.load().unwrap().unwrap(),
        1,
        NodeId(9),
        String::new(),
    );
    assert_eq!(again, Err(RecoverError::NotEmpty));
}

/// A snapshot becomes the beginning of a cluster of one, on a node that was nowhere before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_restored_into_an_empty_store() {
    let mut group = three_of_four().await;
    group.propose(submit(5, 10)).await;
    let leader = group.leader().await;
    let index = group.node(leader).snapshot(SOON).await.unwrap();
    let saved = group.store(leader).snapshots.load().unwrap().unwrap();
    let state = group.node(leader).read(|_, state| state.hash());
    let seen = inspect::snapshot(&saved).unwrap();
    assert_eq!(seen.last.map(|(_, last)| last), Some(index));
    assert_eq!((seen.voters.len(), seen.state.hash()), (3, state));
    for i in 1..=4 {
        group.crash(i).await;
    }
    let store = RaftStore::in_memory();
    let restored = recovery::restore(&store, &saved, 0, NodeId(5), address(5).to_string());
    assert_eq!(restored, Ok(index));
    group.set_store(5, store);
    group.start(5).await;
    assert_eq!(group.leader_among(&[5]).await, 5);
    assert_eq!(group.node(5).read(|_, state| state.hash()), state);
    group.node(5).propose(submit(1, 1), SOON).await.unwrap();
}
