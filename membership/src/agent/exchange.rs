//! Push-pull: finding the mesh, comparing views with others, taking over what they know.

use std::net::SocketAddr;

use bytes::Bytes;
use foca::{Member, State};
use rand::RngExt;
use rand::seq::IteratorRandom;
use riftmesh_base::{Millis, NodeId, decode, encode};
use riftmesh_transport::Target;

use super::{Agent, Alarm, SEEK_SLOWDOWN_MAX};
use crate::effect::MeshEffect;
use crate::health::LocalHealth;
use crate::identity::NodeIdentity;
use crate::message::{MeshReply, MeshRequest, WholeView};
use crate::metadata::NODES_MAX;
use crate::view::NodeState;

/// Members that are told of a node's end by the node itself.
const GOODBYES: usize = 3;
/// Members of an earlier life that are asked at a time.
const MET_PER_TRY: usize = 4;

impl Agent {
    /// Asks seeds and gone members for their views, as long as no member is known, and once the seeds have had time to answer,
    /// members of an earlier life too.
    pub(super) fn seek(&mut self, now: Millis, tries: u64) {
        if self.left || self.seeking || self.is_deaf() || self.core.num_members() > 0 {
            return;
        }
        self.seeking = true;
        for seed in self.foreign_seeds() {
            self.exchange(Target {
                node: None,
                address: seed,
            });
        }
        if tries > 0 {
            for peer in self.met_before().sample(&mut self.rng, MET_PER_TRY) {
                self.exchange(peer);
            }
        }
        if let Some(gone) = self.random_gone() {
            self.exchange(gone);
        }
        let slowdown = (tries / 10 + 1).min(SEEK_SLOWDOWN_MAX);
        let period = Millis(self.settings.seek_every.0 * slowdown);
        self.schedule(now, period, Alarm::Seek { tries: tries + 1 });
    }

    /// Compares views with a random member, and with a seed and a gone member in case of another island.
    pub(super) fn repair(&mut self, now: Millis) {
        if self.left {
            return;
        }
        let is_known = |node| self.tracker.knows(node);
        self.announcements.book().clear_strangers(is_known);
        self.bodies.retain(is_known);
        let member = self.random_member();
        let known: Vec<_> = self.core.iter_members().map(|m| m.id().address).collect();
        let mut seeds = self.foreign_seeds();
        seeds.retain(|seed| !known.contains(seed));
        let seed = seeds.into_iter().choose(&mut self.rng);
        let seed = seed.map(|address| Target {
            node: None,
            address,
        });
        let gone = self.random_gone();
        if let Some(member) = member {
            self.compare(member);
        }
        for partner in [seed, gone].into_iter().flatten() {
            self.exchange(partner);
        }
        let period = self.settings.repair_every;
        let jitter = Millis(self.rng.random_range(0..=period.0 / 10));
        self.schedule(now, period + jitter, Alarm::Repair);
    }

    pub(super) fn foreign_seeds(&self) -> Vec<SocketAddr> {
        let own = self.identity().address;
        let seeds = self.seeds.named.iter().copied();
        seeds.filter(|seed| *seed != own).collect()
    }

    /// Whom this node knew in an earlier life.
    pub(super) fn met_before(&self) -> impl Iterator<Item = Target> + use<> {
        let own = self.identity().node;
        let met = self.seeds.met.clone().into_iter();
        met.filter(move |peer| peer.node != Some(own))
    }

    pub(super) fn random_member(&mut self) -> Option<Target> {
        let member = self.core.iter_members().choose(&mut self.rng);
        let member = member.map(|member| *member.id());
        member.map(|life| self.target(&life))
    }

    pub(super) fn random_gone(&mut self) -> Option<Target> {
        let lost = self
            .tracker
            .lost(&self.announcements.book())
            .choose(&mut self.rng);
        lost.map(|life| self.target(&life))
    }

    /// Tells a few members on a stream that this node leaves. Gossip alone may be lost with the connections that close at
    /// the end, and then a node that left is taken for one that died.
    pub(super) fn tell_goodbye(&mut self) {
        let members = self.core.iter_members().map(|member| *member.id());
        let told = members.sample(&mut self.rng, GOODBYES);
        for life in told {
            let target = self.target(&life);
            self.exchange(target);
        }
    }

    pub(super) fn exchange(&mut self, to: Target) {
        let body = encode(&MeshRequest::Exchange(self.whole_view())).into();
        self.effects.push(MeshEffect::Exchange { to, body });
    }

    /// Asks for another's view only if it differs from this node's.
    pub(super) fn compare(&mut self, with: Target) {
        let request = MeshRequest::Compare {
            digest: self.digest(),
        };
        let body = encode(&request).into();
        self.effects.push(MeshEffect::Exchange { to: with, body });
    }

    pub(super) fn own_state(&self) -> NodeState {
        match self.left {
            true => NodeState::Left,
            false => NodeState::Alive,
        }
    }

    /// All known lives, this node's among them.
    pub(super) fn everybody(&self) -> impl Iterator<Item = (NodeIdentity, NodeState)> {
        let own = self.identity();
        let state = self.own_state();
        let others = self.core.iter_membership_state();
        others
            .filter(move |member| member.id().node != own.node)
            .map(|member| (*member.id(), NodeState::from(member.state())))
            .chain([(own, state)])
    }

    pub(super) fn whole_view(&self) -> WholeView {
        let sender = self.identity();
        let members = self.core.iter_membership_state();
        let book = self.announcements.book();
        WholeView {
            sender,
            members: members
                .filter(|m| m.id().node != sender.node)
                .cloned()
                .collect(),
            announcements: book.nodes.values().map(|said| (**said).clone()).collect(),
        }
    }

    pub(super) fn request(
        &mut self,
        now: Millis,
        from: NodeId,
        body: &[u8],
    ) -> Result<Bytes, String> {
        if from == self.identity().node {
            return Err("a node does not call itself".to_owned());
        }
        if self.left {
            return Err("this node is leaving".to_owned());
        }
        match decode::<MeshRequest>(body).map_err(|error| error.to_string())? {
            MeshRequest::Exchange(view) if view.sender.node != from => {
                Err(format!("{from} sent a view of {}", view.sender.node))
            }
            MeshRequest::Exchange(view) => {
                let reply = MeshReply::View(self.whole_view());
                self.merge(now, view);
                Ok(encode(&reply).into())
            }
            MeshRequest::Compare { digest } => {
                let reply = if digest == self.digest() {
                    MeshReply::Same
                } else {
                    MeshReply::Different(self.identity())
                };
                Ok(encode(&reply).into())
            }
            MeshRequest::Goodbye { generation } => {
                if let Some(member) = self.member(from)
                    && member.id().generation == generation
                {
                    self.give_up(now, &member);
                }
                Ok(Bytes::new())
            }
            MeshRequest::Bodies { hashes } => self.answer_bodies(&hashes),
        }
    }

    /// Whether the sender suspects this node. One that suspects most others, too, was cut off itself.
    fn is_suspected_in(&self, view: &WholeView) -> bool {
        let suspects = view.members.iter();
        let suspects = suspects.filter(|member| member.state() == State::Suspect);
        let own = self.identity();
        suspects.clone().any(|member| *member.id() == own)
            && 2 * suspects.count() <= view.members.len()
    }

    /// Takes over what another node knows and this one does not.
    pub(super) fn merge(&mut self, now: Millis, view: WholeView) {
        if view.members.len() > NODES_MAX || view.announcements.len() > NODES_MAX {
            return tracing::warn!(sender = %view.sender, "a view with too many nodes was refused");
        }
        if self.is_suspected_in(&view) {
            self.feel(now, LocalHealth::suspected);
        }
        for member in [Member::alive(view.sender)].into_iter().chain(view.members) {
            if self.is_full() && !self.knows(member.id().node) {
                tracing::warn!(node = %member.id(), "the mesh is full; a node was refused");
                continue;
            }
            self.run(now, |core, runtime| {
                core.apply_many([member].into_iter(), true, runtime)
            });
        }
        for news in self.announcements.select_news(view.announcements) {
            self.run(now, |core, _| core.add_broadcast(&news).map(drop));
        }
    }
}
