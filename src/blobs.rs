//! The node's blobs, and other nodes' when this one lacks them: fetched by hash over QUIC and verified before they
//! are believed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use riftmesh_base::{BlobHash, ConfigurationName, NodeId};
use riftmesh_storage::BlobStore;
use riftmesh_transport::link::{SharedLink, Target};
use tokio::time::{Instant, sleep};

use crate::client::{Client, deadlines};
use crate::protocol::{Holder, LOCATE_BLOBS_MAX};

/// One download.
const FETCH_MAX: Duration = Duration::from_secs(120);
/// A holder that is restarting comes back within this time.
const OBTAIN_MAX: Duration = Duration::from_secs(30);
/// Wait before asking again who has a blob.
const PAUSE: Duration = Duration::from_secs(1);

/// Files of segments and models that a job needs.
#[derive(Debug, Default)]
pub struct Obtained {
    /// Segments and weights.
    pub files: BTreeMap<BlobHash, PathBuf>,
    /// Manifests, by the model they belong to.
    pub manifests: BTreeMap<BlobHash, PathBuf>,
}

/// Blobs of this node and how to get others.
pub struct BlobAccess {
    store: Arc<BlobStore>,
    link: SharedLink,
    node: NodeId,
}

impl BlobAccess {
    /// Access for the node `node`.
    pub fn new(store: Arc<BlobStore>, link: SharedLink, node: NodeId) -> Self {
        Self { store, link, node }
    }

    /// The file of a blob, if it is here.
    pub fn local(&self, hash: &BlobHash) -> Option<PathBuf> {
        self.store.contains(hash).then(|| self.store.path(hash))
    }

    /// The bytes of a small blob, if it is here and whole.
    pub fn read(&self, hash: &BlobHash) -> Option<Vec<u8>> {
        self.local(hash)?;
        self.store
            .read(hash)
            .map_err(|error| tracing::warn!(%error, "a blob cannot be read"))
            .ok()
    }

    /// Takes a file into the store; durable on return.
    ///
    /// # Errors
    /// The disk's.
    pub async fn keep(&self, file: PathBuf) -> anyhow::Result<(BlobHash, u64)> {
        let store = Arc::clone(&self.store);
        Ok(tokio::task::spawn_blocking(move || store.put_file(&file)).await??)
    }

    /// Takes bytes into the store; durable on return.
    ///
    /// # Errors
    /// The disk's.
    pub async fn keep_bytes(&self, bytes: Vec<u8>) -> anyhow::Result<BlobHash> {
        let store = Arc::clone(&self.store);
        Ok(tokio::task::spawn_blocking(move || store.put(&bytes)).await??)
    }

    /// Takes a blob that nothing names any more off this disk at once. One that stays is swept up later.
    pub async fn discard(&self, hash: BlobHash) {
        let store = Arc::clone(&self.store);
        let removed = tokio::task::spawn_blocking(move || store.remove(&hash)).await;
        if !matches!(removed, Ok(Ok(()))) {
            tracing::warn!(hash = hash.short(), ?removed, "a blob could not be removed");
        }
    }

    /// The bytes of a blob, or why they are not to be had from this disk.
    ///
    /// # Errors
    /// In words: it is not here, or damaged.
    pub fn read_whole(&self, hash: &BlobHash) -> Result<Vec<u8>, String> {
        if !self.store.contains(hash) {
            return Err("it is not on this node".to_owned());
        }
        self.store.read(hash).map_err(|error| error.to_string())
    }

    /// Brings segments and models onto this disk, asking the cluster who has them.
    ///
    /// # Errors
    /// A blob could not be had in time; the text names it and why.
    pub async fn obtain(
        &self,
        client: &Client,
        configuration: &ConfigurationName,
        wanted: &[BlobHash],
    ) -> anyhow::Result<Obtained> {
        let end = Instant::now() + OBTAIN_MAX;
        loop {
            match self.obtain_once(client, configuration, wanted).await {
                Ok(obtained) => return Ok(obtained),
                Err(error) if Instant::now() + PAUSE >= end => return Err(error),
                Err(error) => {
                    tracing::info!(%error, "inputs are not here yet");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn obtain_once(
        &self,
        client: &Client,
        configuration: &ConfigurationName,
        wanted: &[BlobHash],
    ) -> anyhow::Result<Obtained> {
        let mut obtained = Obtained::default();
        for chunk in wanted.chunks(LOCATE_BLOBS_MAX) {
            let located = client
                .locate(configuration, chunk.to_vec(), deadlines::COMMAND)
                .await?;
            for hash in chunk {
                let place = located.iter().find(|place| place.blob == *hash);
                let holders = place
                    .map(|place| place.holders.as_slice())
                    .unwrap_or_default();
                obtained
                    .files
                    .insert(*hash, self.fetch(*hash, holders).await?);
                if let Some(manifest) = place.and_then(|place| place.manifest) {
                    obtained
                        .manifests
                        .insert(*hash, self.fetch(manifest, holders).await?);
                }
            }
        }
        Ok(obtained)
    }

    /// The file of a blob, fetched from whichever holder gives it if it is not here.
    ///
    /// # Errors
    /// What the last holder said, or that there is none.
    pub async fn fetch(&self, hash: BlobHash, holders: &[Holder]) -> anyhow::Result<PathBuf> {
        let path = self.store.path(&hash);
        if self.store.contains(&hash) {
            return Ok(path);
        }
        let mut last = None;
        for holder in holders.iter().filter(|holder| holder.node != self.node) {
            let target = Target {
                node: Some(holder.node),
                address: holder.address,
            };
            match self.link.fetch(target, hash, &path, FETCH_MAX).await {
                Ok(bytes) => {
                    tracing::info!(hash = hash.short(), bytes, from = %holder.node, "fetched and verified");
                    return Ok(path);
                }
                Err(error) => last = Some(error),
            }
        }
        let error = last
            .map(anyhow::Error::from)
            .unwrap_or_else(|| anyhow::anyhow!("no node is known to have it"));
        Err(error).with_context(|| format!("blob {}", hash.short()))
    }
}
