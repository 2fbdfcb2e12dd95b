//! What an agent makes of what changed in a step, so that a step costs what it changes and not what the mesh holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use foca::Member;
use riftmesh_base::{BlobHash, Millis, NodeId};

use super::Agent;
use crate::effect::{MeshEffect, MeshEvent};
use crate::identity::NodeIdentity;
use crate::message::digest;
use crate::metadata::Announcement;
use crate::track::News;
use crate::view::{MembershipView, NodeState};

/// What a digest was made of: notes of members, things said, and this node's own life.
type DigestAge = (u64, u64, NodeIdentity, bool);

/// The digest of what an agent knows, while it knows nothing new.
#[derive(Debug, Default)]
pub(super) struct LastDigest(Option<(DigestAge, BlobHash)>);

/// Members that know one another, from whom others can take it over; see [`Agent::acquaint`].
#[derive(Debug, Default)]
pub struct Acquaintances {
    lives: Vec<NodeIdentity>,
    said: Vec<Arc<Announcement>>,
}

impl<'a> FromIterator<&'a Agent> for Acquaintances {
    fn from_iter<T: IntoIterator<Item = &'a Agent>>(agents: T) -> Self {
        let (lives, said) = agents
            .into_iter()
            .map(|agent| (agent.identity(), Arc::new(agent.own.clone())))
            .unzip();
        Self { lives, said }
    }
}

impl Agent {
    /// What this node believes.
    pub fn view(&self, now: Millis) -> MembershipView {
        let book = self.announcements.book();
        MembershipView {
            local: self.identity().node,
            at: now,
            nodes: self.tracker.view(&book, &self.bodies),
        }
    }

    /// Takes these for members, with what they say, and tells nobody: for experiments that begin with a mesh at rest which
    /// would take too long to form.
    pub fn acquaint(&mut self, now: Millis, with: &Acquaintances) -> Vec<MeshEffect> {
        let own = self.identity().node;
        let others = with.lives.iter().filter(|life| life.node != own);
        let others = others.map(|life| Member::alive(*life));
        for member in others.clone() {
            self.notes.note(member);
        }
        self.run(now, |core, runtime| core.apply_many(others, false, runtime));
        self.announcements.book().extend(&with.said);
        let effects = self.finish(now);
        self.tracker.pack();
        effects
    }

    /// Tells readers what the last step changed, and what is to be done about it.
    pub(super) fn finish(&mut self, now: Millis) -> Vec<MeshEffect> {
        self.refute(now);
        let news = self.take_news();
        if news.is_empty() {
            return std::mem::take(&mut self.effects);
        }
        let book = self.announcements.book();
        let events = self.tracker.refresh(now, &news, &book, &self.bodies);
        let own = self.identity().node;
        for node in news.nodes().into_iter().chain(news.forgotten) {
            let is_there = node != own && self.tracker.is_active(node);
            let said = book.said_by(node).filter(|_| is_there);
            self.bodies.want(node, said.and_then(|said| said.body));
        }
        drop(book);
        for event in events {
            if let MeshEvent::Changed {
                node,
                state: NodeState::Suspect,
                ..
            } = event
                && let Some(member) = self.member(node)
            {
                self.investigate(now, *member.id());
            }
            self.effects.push(MeshEffect::Notify(event));
        }
        self.want_bodies(now);
        std::mem::take(&mut self.effects)
    }

    fn take_news(&mut self) -> News {
        let own = self.identity();
        let noted = self.notes.take().into_values();
        // foca keeps former lives of this node, and says goodbye in its name.
        let others = noted.filter(|member| member.id().node != own.node);
        let mut members: BTreeMap<_, _> = others
            .map(|member| (member.id().node, (*member.id(), member.state().into())))
            .collect();
        let shown = (own, self.own_state());
        if self.shown != Some(shown) {
            self.shown = Some(shown);
            members.insert(own.node, shown);
        }
        News {
            members,
            said: self.announcements.book().take_news(),
            learned: self.bodies.take_learned(),
            forgotten: std::mem::take(&mut self.forgotten),
        }
    }

    /// Takes note that foca has forgotten a gone node, if it has. It forgets former lives of this one too.
    pub(super) fn forget(&mut self, node: NodeId) {
        if node != self.identity().node && self.tracker.knows(node) && !self.knows(node) {
            self.forgotten.push(node);
        }
    }

    /// What this agent's view is compared by.
    pub(crate) fn digest(&mut self) -> BlobHash {
        let book = self.announcements.book();
        let age = (
            self.notes.written(),
            book.changes,
            self.identity(),
            self.left,
        );
        if let Some((of, known)) = self.last_digest.0
            && of == age
        {
            return known;
        }
        let digest = digest(self.everybody(), &book.nodes);
        self.last_digest = LastDigest(Some((age, digest)));
        digest
    }
}
