//! A voter's link with a gate in it. While the gate is shut nothing leaves and nothing enters, but nothing is lost
//! either: what was held goes on, late, when the gate opens, as after a pause of the machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use riftmesh_base::{BlobHash, NodeId};
use riftmesh_transport::{
    Attachment, BoxFuture, CallError, Handler, Lane, Link, MemoryLink, Peer, Refused, Target,
};
use tokio::sync::watch;
use tokio::time::timeout;

/// The gate; clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    /// Open.
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(true)))
    }
}

impl Gate {
    /// Opens or shuts it.
    pub fn set_open(&self, open: bool) {
        self.0.send_replace(open);
    }

    /// Waits until it is open.
    pub async fn pass(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        self.0.subscribe().wait_for(|open| *open).await.ok();
    }
}

/// A link behind a gate.
pub struct GatedLink {
    /// The link.
    pub link: Arc<MemoryLink>,
    /// Its gate.
    pub gate: Gate,
}

/// What answers on a link behind a gate.
struct GatedHandler {
    handler: Arc<dyn Handler>,
    gate: Gate,
}

impl Handler for GatedHandler {
    fn call(
        &self,
        from: Peer,
        lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, Refused>> {
        Box::pin(async move {
            self.gate.pass().await;
            let reply = self.handler.call(from, lane, request).await;
            self.gate.pass().await;
            reply
        })
    }

    fn datagram(&self, from: Peer, payload: Bytes) {
        self.handler.datagram(from, payload);
    }

    fn blob(&self, from: Peer, hash: BlobHash) -> Option<PathBuf> {
        self.handler.blob(from, hash)
    }
}

impl Link for GatedLink {
    fn serve(&self, handler: Arc<dyn Handler>) {
        let gate = self.gate.clone();
        self.link.serve(Arc::new(GatedHandler { handler, gate }));
    }

    fn call(
        &self,
        to: Target,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, CallError>> {
        Box::pin(async move {
            self.gate.pass().await;
            let reply = self.link.call(to, lane, request, deadline).await;
            self.gate.pass().await;
            reply
        })
    }

    fn datagram(&self, to: Target, payload: Bytes) -> BoxFuture<'_, Result<(), CallError>> {
        self.link.datagram(to, payload)
    }

    fn fetch<'a>(
        &'a self,
        to: Target,
        hash: BlobHash,
        into: &'a Path,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<u64, CallError>> {
        self.link.fetch(to, hash, into, deadline)
    }

    fn identify(
        &self,
        address: SocketAddr,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<NodeId, CallError>> {
        self.link.identify(address, deadline)
    }

    fn port_refused(&self, address: SocketAddr, within: Duration) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            // A machine that is paused asks nobody.
            let open = timeout(within, self.gate.pass()).await;
            open.is_ok() && self.link.port_refused(address, within).await
        })
    }

    fn attach(
        &self,
        relay: SocketAddr,
        within: Duration,
    ) -> BoxFuture<'_, Result<Attachment, CallError>> {
        self.link.attach(relay, within)
    }

    fn local_address(&self) -> SocketAddr {
        self.link.local_address()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.link.close()
    }
}
