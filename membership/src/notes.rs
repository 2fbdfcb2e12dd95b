//! What foca has changed since somebody looked.
//!
//! foca tells of members that come and go, but not of those that are suspected or cleared. It passes on whatever it learns
//! about a member, though, and to do so encodes the member as it is known from then on; so its codec sees every change, but
//! for one: a gone member that is forgotten, which takes a timer of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, PostcardCodec};
use riftmesh_base::NodeId;

use crate::identity::NodeIdentity;

/// Members that were encoded since the last look, each as it was then: those that changed, and maybe others.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemberNotes(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    members: BTreeMap<NodeId, Member<NodeIdentity>>,
    /// How many were ever written down.
    written: u64,
}

impl MemberNotes {
    pub(crate) fn note(&self, member: Member<NodeIdentity>) {
        let mut notes = self.lock();
        notes.members.insert(member.id().node, member);
        notes.written += 1;
    }

    /// Those noted since this was last called, by their nodes.
    pub(crate) fn take(&self) -> BTreeMap<NodeId, Member<NodeIdentity>> {
        std::mem::take(&mut self.lock().members)
    }

    /// The same number as before means that no member has changed.
    pub(crate) fn written(&self) -> u64 {
        self.lock().written
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// foca's codec, which notes the members that it encodes.
pub(crate) struct NotingCodec {
    codec: PostcardCodec,
    notes: MemberNotes,
}

impl NotingCodec {
    pub(crate) fn new(notes: MemberNotes) -> Self {
        Self {
            codec: PostcardCodec,
            notes,
        }
    }
}

impl Codec<NodeIdentity> for NotingCodec {
    type Error = postcard::Error;

    fn encode_header(
        &mut self,
        header: &Header<NodeIdentity>,
        buf: impl BufMut,
    ) -> Result<(), postcard::Error> {
        self.codec.encode_header(header, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<NodeIdentity>, postcard::Error> {
        self.codec.decode_header(buf)
    }

    fn encode_member(
        &mut self,
        member: &Member<NodeIdentity>,
        buf: impl BufMut,
    ) -> Result<(), postcard::Error> {
        // First, because it has changed even if it cannot be encoded.
        self.notes.note(member.clone());
        self.codec.encode_member(member, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<NodeIdentity>, postcard::Error> {
        self.codec.decode_member(buf)
    }
}
