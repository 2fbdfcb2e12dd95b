//! Thousands of messages that nobody should send, to every request a voter answers: each is refused, or the node stops
//! cleanly, with a reason; nothing acknowledged is lost, and the group serves on.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use riftmesh_base::{BlobHash, Millis, NodeId, Seed, SystemClock, encode};
use riftmesh_statemachine::Batch;
use riftmesh_transport::Refused;
use riftmesh_transport::memory::MemoryNetwork;
use tokio::time::timeout;

use crate::cluster_tests::{Group, address, submit};
use crate::node::RaftNode;
use crate::settings::{RaftSettings, RaftStore, RaftTimings};
use crate::types::{Address, Entry, LogId, Membership, Payload, TypeConfig, Vote};
use crate::wire::{Envelope, Request, SnapshotPart};

/// Messages to each request.
const MESSAGES: u64 = 10_000;
/// Longest run of bytes put in.
const RUN_MAX: u64 = 64;
/// An answer takes no longer, or there is none.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Nobody in the group.
const STRANGER: NodeId = NodeId(0xdead_beef_dead_beef);
const KINDS: [&str; 7] = [
    "append",
    "vote",
    "pre-vote",
    "transfer",
    "snapshot",
    "read-index",
    "in-epoch",
];

/// Numbers from a seed.
struct Draw(blake3::OutputReader);

impl Draw {
    fn of(seed: Seed) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.0.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    /// Below `bound`, which is not zero.
    fn below(&mut self, bound: u64) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % bound).unwrap()
    }

    fn run(&mut self) -> Vec<u8> {
        let mut run = vec![0; self.below(RUN_MAX)];
        self.0.fill(&mut run);
        run
    }

    /// Something made of `message` that differs from it: garbage, a beginning, flipped bits, bytes replaced or put in,
    /// bytes behind it.
    fn mutate(&mut self, message: &[u8]) -> Vec<u8> {
        loop {
            let mut bytes = message.to_vec();
            let at = self.below(bytes.len() as u64);
            match self.below(6) {
                0 => bytes = self.run(),
                1 => bytes.truncate(at),
                2 => {
                    for _ in 0..=self.below(8) {
                        let at = self.below(bytes.len() as u64);
                        bytes[at] ^= 1 << self.below(8);
                    }
                }
                3 => {
                    let run = self.run();
                    let end = bytes.len().min(at + run.len());
                    bytes[at..end].copy_from_slice(&run[..end - at]);
                }
                4 => {
                    let rest = bytes.split_off(at);
                    bytes.extend(self.run());
                    bytes.extend(rest);
                }
                _ => bytes.extend(self.run()),
            }
            if bytes != message {
                return bytes;
            }
        }
    }
}

fn id(index: u64) -> LogId {
    LogId::new(Vote::new(1, 1).leader_id, index)
}

fn batch() -> Payload {
    let commands = vec![submit(1, 8)];
    Payload(Batch::new(Millis(5), commands).to_bytes().into())
}

fn members() -> openraft::Membership<u64, Address> {
    let nodes: BTreeMap<u64, Address> = (1..=4)
        .map(|i| (i, Address(address(i).to_string())))
        .collect();
    openraft::Membership::new(vec![BTreeSet::from([1, 2, 3, 4])], nodes).unwrap()
}

/// The first entries of a log, as node 1 sends them.
fn first_append() -> AppendEntriesRequest<TypeConfig> {
    let entry = |index, payload| Entry {
        log_id: id(index),
        payload,
    };
    let mut entries = vec![entry(0, EntryPayload::Membership(members()))];
    entries.extend((1..=6).map(|index| entry(index, EntryPayload::Normal(batch()))));
    AppendEntriesRequest {
        vote: Vote::new_committed(1, 1),
        prev_log_id: None,
        leader_commit: Some(id(4)),
        entries,
    }
}

/// What node 1 may well send of each kind.
fn request(kind: &str) -> Request {
    let vote = VoteRequest::new(Vote::new(3, 1), Some(id(6)));
    match kind {
        "append" => Request::Append(AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(6)),
            leader_commit: Some(id(6)),
            entries: (7..9)
                .map(|index| Entry {
                    log_id: id(index),
                    payload: EntryPayload::Normal(batch()),
                })
                .collect(),
        }),
        "vote" => Request::Vote(vote),
        "pre-vote" => Request::PreVote(vote),
        "transfer" => {
            let leader = Vote::new_committed(1, 1);
            Request::Transfer(TransferLeaderRequest::new(leader, 4, Some(id(6))))
        }
        "snapshot" => {
            let image = riftmesh_statemachine::State::new().snapshot();
            Request::Snapshot(SnapshotPart {
                vote: Vote::new_committed(1, 1),
                last_log_id: Some(id(9)),
                membership: Membership::new(Some(id(0)), members()),
                total: image.len() as u64,
                hash: BlobHash::of(&image),
                offset: 0,
                bytes: Payload(image.into()),
            })
        }
        "read-index" => Request::ReadIndex,
        _ => request("vote").within(7),
    }
}

fn message(to: u64, request: Request) -> Vec<u8> {
    encode(&Envelope { to, request })
}

/// What a node says to a message; it must say something, and not by panicking.
async fn answer(node: &RaftNode, from: NodeId, bytes: Vec<u8>) -> Result<Bytes, Refused> {
    let shown = format!("from {from}: {bytes:02x?}");
    let asked = AssertUnwindSafe(node.handle(from, bytes.into())).catch_unwind();
    match timeout(ANSWER_MAX, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => panic!("it panicked at {shown}"),
        Err(_) => panic!("no answer to {shown}"),
    }
}

/// A follower hears 10,000 mutants of each request from somebody who is not the one they speak for. It refuses them
/// all, whatever they are, and the group goes on with everything that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_nothing_but_refusals() {
    let group = Group::of(3, RaftTimings::patient()).await;
    group.propose(submit(3, 10)).await;
    let victim = group.followers(group.leader().await)[0];
    let node = group.node(victim);
    for (number, kind) in (0..).zip(KINDS) {
        let message = message(victim, request(kind));
        let mut draw = Draw::of(Seed(1).derive("stranger", number));
        for n in 0..MESSAGES {
            let bytes = draw.mutate(&message);
            let reply = answer(node, STRANGER, bytes.clone()).await;
            // Anybody whom the link lets on this lane may ask for a read index.
            assert!(
                reply.is_err() || kind == "read-index",
                "{kind} {n}: {bytes:02x?}"
            );
        }
        group.propose(submit(1, 10)).await;
    }
    let (last, _) = group.propose(submit(1, 10)).await;
    group.all_agree_at(last).await;
    assert_eq!(group.node(victim).status().dead, None);
}

/// A node that belongs to a group, with entries and a vote, whose other members are out of its reach.
async fn member() -> RaftNode {
    let network = MemoryNetwork::new(Seed(1));
    let settings = RaftSettings {
        node: NodeId(4),
        store: RaftStore::in_memory(),
        timings: RaftTimings::patient(),
    };
    let link = network.link(NodeId(4), address(4));
    let node = RaftNode::open(settings, link, Arc::new(SystemClock::start()))
        .await
        .unwrap();
    let first = message(4, Request::Append(first_append()));
    answer(&node, NodeId(1), first).await.unwrap();
    node
}

/// The same from the very node they speak for, which a broken voter could send: refused, or answered, or the node stops
/// with a reason and says so from then on. It never panics in whoever asked, and never goes silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_voter_stops_a_node_at_most() {
    for (number, kind) in (0..).zip(KINDS) {
        let message = message(4, request(kind));
        let mut draw = Draw::of(Seed(1).derive("broken", number));
        let mut node = member().await;
        let (mut answered, mut refused, mut stops) = (0, 0, 0);
        for _ in 0..MESSAGES {
            let bytes = draw.mutate(&message);
            match answer(&node, NodeId(1), bytes).await {
                Ok(_) => answered += 1,
                Err(Refused(reason)) if reason.starts_with("consensus has died") => {
                    stops += 1;
                    let again = answer(
                        &node,
                        NodeId(1),
                        self::message(4, Request::PreVote(VoteRequest::new(Vote::new(9, 1), None))),
                    )
                    .await;
                    assert!(again.is_err(), "a dead node answers");
                    node.halt().await;
                    node = member().await;
                }
                Err(Refused(reason)) => {
                    assert!(!reason.is_empty());
                    refused += 1;
                }
            }
        }
        node.halt().await;
        eprintln!("{kind}: {answered} answered, {refused} refused, {stops} stops");
        assert!(
            refused > MESSAGES / 3,
            "{kind}: mutants are not that harmless"
        );
    }
}
