//! Fetching what nodes say at length: one small call at a time, of whoever may have it.
//!
//! In a large mesh only some ask the node itself, and the rest ask one another, so that a thousand members do not call
//! the one that has news. What comes is believed by its hash.

use bytes::Bytes;
use rand::RngExt;
use rand::seq::IteratorRandom;
use riftmesh_base::{BlobHash, Millis, encode};

use super::{Agent, Alarm};
use crate::bodies::{BODIES_PER_CALL, BODY_BYTES_MAX, KnownBody};
use crate::effect::MeshEffect;
use crate::message::{MeshReply, MeshRequest};
use crate::metadata::within;

/// Missing bodies are asked for this often, in one call.
const FETCH_EVERY: Millis = Millis(500);
/// In vain, it slows down to this multiple of the period.
const FETCH_SLOWDOWN_MAX: u64 = 10;
/// About this many of the members ask the node itself, in each period.
const OWNER_ASKERS: usize = 32;

impl Agent {
    /// Says `body` about this node from now on.
    pub(super) fn say(&mut self, now: Millis, bytes: Bytes) {
        if let Err(error) = within("body", bytes.len(), BODY_BYTES_MAX) {
            return tracing::error!(%error, "the body was not changed");
        }
        let hash = BlobHash::of(&bytes);
        if self.own.body == Some(hash) {
            return;
        }
        let body = KnownBody {
            hash,
            bytes,
            since: now,
        };
        self.bodies.keep(self.identity().node, body);
        self.own.body = Some(hash);
        self.own.version += 1;
        self.publish(now);
    }

    /// Begins to fetch if something is missing and that is not under way.
    pub(super) fn want_bodies(&mut self, now: Millis) {
        if self.fetching || self.left || self.bodies.missing().is_empty() {
            return;
        }
        self.fetching = true;
        let jitter = Millis(self.rng.random_range(0..=FETCH_EVERY.0));
        self.schedule(now, jitter, Alarm::Fetch);
    }

    /// Asks for what is missing and comes back to it, until nothing is.
    pub(super) fn fetch_bodies(&mut self, now: Millis) {
        let missing = self.bodies.missing();
        let wanted = missing.iter().choose(&mut self.rng);
        let Some((&owner, &hash)) = wanted.filter(|_| !self.left) else {
            self.fetching = false;
            self.fruitless = 0;
            return;
        };
        let members = self.core.num_members().max(1);
        // Every other time in vain, so that one whom only others can reach is heard of too.
        let asks_owner =
            self.fruitless.is_multiple_of(2) && self.rng.random_range(0..members) < OWNER_ASKERS;
        let lives = self.core.iter_members().map(|member| *member.id());
        let life = lives
            .filter(|life| asks_owner == (life.node == owner))
            .choose(&mut self.rng);
        let partner = life.map(|life| self.target(&life));
        let rest = self.bodies.missing().values().copied();
        let rest = rest
            .filter(|other| *other != hash)
            .sample(&mut self.rng, BODIES_PER_CALL - 1);
        let hashes = [hash].into_iter().chain(rest).collect();
        if let Some(to) = partner {
            let body = encode(&MeshRequest::Bodies { hashes }).into();
            self.effects.push(MeshEffect::Exchange { to, body });
        }
        self.fruitless += 1;
        let slowdown = self.fruitless.min(FETCH_SLOWDOWN_MAX);
        self.schedule(now, Millis(FETCH_EVERY.0 * slowdown), Alarm::Fetch);
    }

    pub(super) fn answer_bodies(&self, hashes: &[BlobHash]) -> Result<Bytes, String> {
        let asked = hashes.len();
        if asked > BODIES_PER_CALL {
            return Err(format!(
                "{asked} bodies were asked for; one call is for {BODIES_PER_CALL}"
            ));
        }
        Ok(encode(&MeshReply::Bodies(self.bodies.select(hashes))).into())
    }

    /// Keeps those of `bodies` that somebody announced and that were missing.
    pub(super) fn learn_bodies(&mut self, now: Millis, bodies: Vec<Vec<u8>>) {
        if bodies.len() > BODIES_PER_CALL {
            let count = bodies.len();
            return tracing::warn!(count, "an answer with too many bodies was refused");
        }
        // One hash may be wanted of several, and an answer may hold it twice.
        let missing = self.bodies.missing().clone();
        for bytes in bodies {
            if let Err(error) = within("body", bytes.len(), BODY_BYTES_MAX) {
                tracing::warn!(%error, "a body was refused");
                continue;
            }
            let (hash, bytes) = (BlobHash::of(&bytes), Bytes::from(bytes));
            // Of none, if it was damaged, or if another peer was quicker.
            for (node, _) in missing.iter().filter(|(_, wanted)| **wanted == hash) {
                let body = KnownBody {
                    hash,
                    bytes: bytes.clone(),
                    since: now,
                };
                self.bodies.keep(*node, body);
                self.fruitless = 0;
            }
        }
    }
}
