//! How a node comes to its certificate when it starts: it issues one to itself if it has the cluster's credential, finds
//! the one on its disk, or asks the voters for one with a join token.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use riftmesh_base::limits::CERTIFICATE_LIFE;
use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, NodeId, Role};
use riftmesh_storage::DataDir;
use riftmesh_transport::{
    CallError, ClusterAuthority, CredentialError, JoinToken, NodeCredential, NodeKey, knock,
};
use tokio::time::{Instant, sleep};

use super::ring::AuthorityRing;
use crate::node::NodeConfig;
use crate::protocol::{JoinReply, JoinRequest};

/// In the data directory: the key a node made for itself, until it is certified.
const KEY_FILE: &str = "node.key";
/// In the data directory: key and certificate of a node that came with a token.
const CREDENTIAL_FILE: &str = "node.credential";
/// One voter has this long to answer.
const ASK_MAX: Duration = Duration::from_secs(12);
/// All of them together; the node ends then, and whatever runs it starts it again.
const JOIN_MAX: Duration = Duration::from_secs(60);
/// Time between two rounds over the seeds.
const ROUND: Duration = Duration::from_secs(1);

/// What a node proves who it is with.
pub struct Identity {
    /// Its key and certificate.
    pub credential: NodeCredential,
    /// The cluster's authority, on nodes that were given it.
    pub authority: Option<AuthorityRing>,
    /// Where a certificate that others issued is kept.
    pub file: PathBuf,
}

/// Finds or gets the node's certificate, and notes the cluster in its directory.
///
/// # Errors
/// There is none and none is to be had; the text says why and what to do.
pub async fn obtain(config: &NodeConfig, data: &mut DataDir) -> anyhow::Result<Identity> {
    let file = data.path().join(CREDENTIAL_FILE);
    if let Some(path) = &config.credential {
        return certify_itself(config.role, data, path, file);
    }
    ensure!(
        config.role == Role::Worker,
        "a voter needs the cluster's credential: copy the file from another voter's machine and give --credential; a join \
         token lets in machines that only work (--role worker)"
    );
    let credential = match (saved(&file)?, &config.join) {
        (Saved::Valid(credential), token) => {
            check_same_cluster(&credential, token.as_ref())?;
            *credential
        }
        (Saved::Expired, None) => bail!(
            "the certificate of this node has expired; give it a new token with --join (`riftmesh token create` on a voter)"
        ),
        (Saved::None, None) => bail!(
            "this directory holds no certificate: give --join with a token (`riftmesh token create` on a voter), or --credential"
        ),
        (Saved::Expired | Saved::None, Some(token)) => join(config, data, token, &file).await?,
    };
    ensure!(
        credential.node() == data.node(),
        "{} is the certificate of {}, and this directory is node {}; a directory cannot be copied",
        file.display(),
        credential.node(),
        data.node()
    );
    data.join_cluster(credential.cluster())?;
    Ok(Identity {
        credential,
        authority: None,
        file,
    })
}

/// A node that holds the authority issues its certificate itself, and trusts whom it trusted when it ran last.
fn certify_itself(
    role: Role,
    data: &mut DataDir,
    path: &Path,
    file: PathBuf,
) -> anyhow::Result<Identity> {
    let given = ClusterAuthority::read(path).context("the cluster's credential (--credential)")?;
    data.join_cluster(given.cluster())?;
    let trusted = if file.exists() {
        NodeCredential::authorities_in(&file).context("the certificate of this node")?
    } else {
        Vec::new()
    };
    let used = trusted.first().map(|authority| BlobHash::of(authority));
    let ring = AuthorityRing::open(given, data.path(), used)?;
    let issued = ring
        .present()
        .issue(data.node(), role, CERTIFICATE_LIFE, wall_clock())?;
    Ok(Identity {
        credential: issued.trusting(&still_trusted(&ring, trusted))?,
        authority: Some(ring),
        file,
    })
}

/// What others know the node of a directory by, for whoever runs it; it does not run now. With the cluster's credential that
/// is a certificate that was issued just now.
///
/// # Errors
/// There is none, or it cannot be used any more.
pub fn present(data: &mut DataDir, credential: Option<&Path>) -> anyhow::Result<NodeCredential> {
    let file = data.path().join(CREDENTIAL_FILE);
    match credential {
        Some(path) => Ok(certify_itself(Role::Worker, data, path, file)?.credential),
        None => NodeCredential::read(&file, wall_clock()).context("the certificate of the node"),
    }
}

/// Whom the node trusted when it ran last; nobody, if an operator has given it another authority since.
fn still_trusted(ring: &AuthorityRing, trusted: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let issuer = trusted.first().map(|authority| BlobHash::of(authority));
    if issuer == Some(ring.present().fingerprint()) {
        trusted
    } else {
        Vec::new()
    }
}

/// What lies in the data directory.
enum Saved {
    Valid(Box<NodeCredential>),
    Expired,
    None,
}

fn saved(file: &std::path::Path) -> anyhow::Result<Saved> {
    if !file.exists() {
        return Ok(Saved::None);
    }
    match NodeCredential::read(file, wall_clock()) {
        Ok(credential) => Ok(Saved::Valid(Box::new(credential))),
        Err(CredentialError::Expired) => Ok(Saved::Expired),
        Err(error) => Err(error).context("the certificate of this node"),
    }
}

fn check_same_cluster(
    credential: &NodeCredential,
    token: Option<&JoinToken>,
) -> anyhow::Result<()> {
    let Some(token) = token else { return Ok(()) };
    ensure!(
        token.cluster == credential.cluster(),
        "this directory belongs to cluster {}, and the token to cluster {}; use an empty directory",
        credential.cluster(),
        token.cluster
    );
    tracing::info!("this node has its certificate already; the join token is not used");
    Ok(())
}

/// Makes a key, has it certified, and keeps both.
async fn join(
    config: &NodeConfig,
    data: &DataDir,
    token: &JoinToken,
    file: &std::path::Path,
) -> anyhow::Result<NodeCredential> {
    if let Some(own) = data.cluster() {
        ensure!(
            own == token.cluster,
            "this directory belongs to cluster {own}, and the token to cluster {}; use an empty directory",
            token.cluster
        );
    }
    ensure!(
        wall_clock() < token.expires,
        "the join token has expired; `riftmesh token create` on a voter makes a new one (or this machine's clock is wrong)"
    );
    let pending = data.path().join(KEY_FILE);
    let key = pending_key(&pending, file)?;
    let request = JoinRequest {
        cluster: token.cluster,
        token: token.id,
        secret: token.secret.clone(),
        node: data.node(),
        request: key.request()?,
    };
    tracing::info!(node = %data.node(), cluster = %token.cluster, token = %token.id, "asking to be let in");
    let (certificate, authority) = ask(&config.seeds, token, &request).await?;
    let credential = accept(&key, &certificate, &authority, token, data.node())?;
    credential.write(file)?;
    if pending.exists() {
        std::fs::remove_file(&pending)
            .with_context(|| format!("cannot remove {}", pending.display()))?;
    }
    let lasts = credential.expires().since(wall_clock());
    tracing::info!(node = %data.node(), %lasts, "let in");
    Ok(credential)
}

/// The key to be certified: that of an expired certificate, one that waits for its first, or a new one. It is on the disk
/// before anybody hears of it, so that a repeat after a crash is the same node's.
fn pending_key(pending: &std::path::Path, file: &std::path::Path) -> anyhow::Result<NodeKey> {
    if file.exists() {
        return NodeKey::read(file).context("the key of this node");
    }
    if pending.exists() {
        return NodeKey::read(pending).context("the key of this node");
    }
    let key = NodeKey::generate()?;
    key.write(pending)?;
    Ok(key)
}

/// Looks at what a voter gave before it is believed. Its authority need not be the one that the token pins: that one has
/// shown who the voter is, and may be being replaced.
fn accept(
    key: &NodeKey,
    certificate: &[u8],
    authority: &[u8],
    token: &JoinToken,
    node: NodeId,
) -> anyhow::Result<NodeCredential> {
    let credential = key
        .certified(certificate, authority, wall_clock())
        .context("the certificate that came is not usable")?;
    let facts = credential.facts();
    ensure!(
        facts.name.cluster == token.cluster && facts.name.node == node && facts.role == token.role,
        "the certificate that came is for {} as {}, not for this node",
        facts.name,
        facts.role
    );
    Ok(credential)
}

/// What one seed said.
enum Said {
    Certified(Vec<u8>, Vec<u8>),
    No(String),
    Nothing(String),
}

async fn ask(
    seeds: &[SocketAddr],
    token: &JoinToken,
    request: &JoinRequest,
) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let end = Instant::now() + JOIN_MAX;
    let bytes = Bytes::from(request.to_bytes());
    let mut told = String::new();
    loop {
        let (mut reasons, mut untrusted) = (Vec::new(), 0);
        for seed in seeds {
            let answer = knock(
                *seed,
                token.cluster,
                token.authority,
                bytes.clone(),
                ASK_MAX,
            )
            .await;
            untrusted += usize::from(matches!(answer, Err(CallError::Untrusted { .. })));
            match said(answer) {
                Said::Certified(certificate, authority) => return Ok((certificate, authority)),
                Said::No(reason) => bail!("{seed} refuses to let this node in: {reason}"),
                Said::Nothing(reason) => reasons.push(format!("  {reason}")),
            }
        }
        let reasons = reasons.join("\n");
        if untrusted == seeds.len() {
            bail!(
                "nobody there belongs to the token's cluster {}:\n{reasons}",
                token.cluster
            );
        }
        if Instant::now() + ROUND >= end {
            bail!("nobody let this node in within {JOIN_MAX:?}:\n{reasons}");
        }
        if told != reasons {
            tracing::warn!("not let in yet:\n{reasons}");
            told = reasons;
        }
        sleep(ROUND).await;
    }
}

fn said(answer: Result<Bytes, CallError>) -> Said {
    let bytes = match answer {
        Ok(bytes) => bytes,
        Err(error) => return Said::Nothing(error.to_string()),
    };
    match riftmesh_base::decode(&bytes) {
        Ok(JoinReply::Certified {
            certificate,
            authority,
        }) => Said::Certified(certificate, authority),
        Ok(JoinReply::No { reason }) => Said::No(reason),
        Ok(JoinReply::Later { reason }) => Said::Nothing(reason),
        Err(error) => Said::Nothing(format!("a malformed answer: {error}")),
    }
}
