//! Suspects: looking at them over other paths, evidence of death, and the end of a life.

use foca::{Member, State, Timer};
use rand::RngExt;
use riftmesh_base::{Millis, NodeId};

use super::{Agent, Alarm, INVESTIGATE_EVERY, INVESTIGATORS};
use crate::effect::MeshEffect;
use crate::identity::NodeIdentity;

impl Agent {
    /// The time for a direct answer to a probe is up. If foca now asks others to probe in its stead, there was none, and the
    /// host is asked about the port meanwhile: a killed process need not even be suspected to leave evidence.
    pub(super) fn probe_late(&mut self, now: Millis, probed: NodeIdentity, token: u8) {
        let before = self.effects.len();
        let timer = Timer::SendIndirectProbe {
            probed_id: probed,
            token,
        };
        self.run(now, |core, runtime| core.handle_timer(timer, runtime));
        if self.effects.len() > before {
            self.look_at_port(probed);
        }
    }

    pub(super) fn look_at_port(&mut self, of: NodeIdentity) {
        if of.is_dial_out() {
            return;
        }
        self.effects.push(MeshEffect::Investigate {
            node: of.node,
            generation: of.generation,
            address: of.address,
        });
    }

    pub(super) fn member(&self, node: NodeId) -> Option<Member<NodeIdentity>> {
        let mut members = self.core.iter_members();
        members.find(|member| member.id().node == node).cloned()
    }

    pub(super) fn is_suspect(&self, life: NodeIdentity) -> Option<Member<NodeIdentity>> {
        self.member(life.node)
            .filter(|member| *member.id() == life && member.state() == State::Suspect)
    }

    /// Looks at a suspect over other paths, again and again while it is suspect: a call tells it of the suspicion
    /// even if datagrams do not get through, and its host may say that its port is closed.
    pub(super) fn investigate(&mut self, now: Millis, suspect: NodeIdentity) {
        if self.is_suspect(suspect).is_none() {
            return;
        }
        let members = self.core.num_members();
        if self.rng.random_range(0..members) < INVESTIGATORS {
            self.exchange(self.target(&suspect));
            self.look_at_port(suspect);
        }
        self.schedule(now, INVESTIGATE_EVERY, Alarm::Investigate(suspect));
    }

    /// Suspects a node whose port is closed, and gives it up soon. Not at once: the word of its host can be forged, and a
    /// node that lives will object.
    pub(super) fn port_refused(&mut self, now: Millis, node: NodeId, generation: u64) {
        let known = self.member(node);
        let Some(known) = known.filter(|member| member.id().generation == generation) else {
            return;
        };
        let suspect = Member::new(*known.id(), known.incarnation(), State::Suspect);
        if known.state() == State::Alive {
            let news = [suspect.clone()].into_iter();
            self.run(now, |core, runtime| core.apply_many(news, true, runtime));
        }
        let patience = self.settings.evidence_patience;
        self.schedule(now, patience, Alarm::Verdict(suspect));
    }

    /// Declares a life over, unless it objected or was replaced since `known` was seen.
    pub(super) fn give_up(&mut self, now: Millis, known: &Member<NodeIdentity>) {
        if self.member(known.id().node).as_ref() == Some(known) {
            let down = Member::new(*known.id(), known.incarnation(), State::Down);
            self.run(now, |core, runtime| {
                core.apply_many([down].into_iter(), true, runtime)
            });
        }
    }
}
