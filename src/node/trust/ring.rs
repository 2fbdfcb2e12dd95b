//! The keys of the cluster's authority that this node holds: the one it certifies with, and, while another replaces it, the
//! other one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, ClusterId};
use riftmesh_transport::{ClusterAuthority, CredentialError};

/// In the data directory: the authority in force, on nodes that have seen one replaced. Elsewhere it is the file of
/// `--credential`.
const PRESENT_FILE: &str = "authority.credential";
/// In the data directory: the authority that is to replace it.
const NEXT_FILE: &str = "authority.next";

/// The authorities of one node. Clones share them.
#[derive(Clone)]
pub struct AuthorityRing(Arc<Shared>);

struct Shared {
    folder: PathBuf,
    keys: Mutex<Keys>,
}

struct Keys {
    present: Arc<ClusterAuthority>,
    others: Vec<Arc<ClusterAuthority>>,
}

impl AuthorityRing {
    /// The authority that the node was `given`, with those that lie in its data directory `folder`. It certifies with the
    /// one that it certified with last, `used`, if that is among them.
    ///
    /// # Errors
    /// A file cannot be used; the text says why.
    pub fn open(
        given: ClusterAuthority,
        folder: &Path,
        used: Option<BlobHash>,
    ) -> anyhow::Result<Self> {
        let cluster = given.cluster();
        let mut all = vec![Arc::new(given)];
        for name in [PRESENT_FILE, NEXT_FILE] {
            let path = folder.join(name);
            if path.exists() {
                all.push(Arc::new(read(&path, cluster)?));
            }
        }
        let last = all
            .iter()
            .position(|authority| Some(authority.fingerprint()) == used);
        let present = all.remove(last.unwrap_or(0));
        all.retain(|other| other.fingerprint() != present.fingerprint());
        all.dedup_by_key(|other| other.fingerprint());
        let keys = Keys {
            present,
            others: all,
        };
        Ok(Self(Arc::new(Shared {
            folder: folder.to_owned(),
            keys: Mutex::new(keys),
        })))
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that certifies.
    pub fn present(&self) -> Arc<ClusterAuthority> {
        Arc::clone(&self.keys().present)
    }

    /// The one with this fingerprint, if it is here.
    pub fn get(&self, fingerprint: BlobHash) -> Option<Arc<ClusterAuthority>> {
        let keys = self.keys();
        let mut all = std::iter::once(&keys.present).chain(&keys.others);
        all.find(|authority| authority.fingerprint() == fingerprint)
            .cloned()
    }

    /// The authority that is to replace the present one: the one that was made for that before and is not among `trusted`,
    /// or a new one. It is on the disk when this returns.
    ///
    /// # Errors
    /// No randomness, or the disk's.
    pub fn next(&self, trusted: &[BlobHash]) -> anyhow::Result<Arc<ClusterAuthority>> {
        let cluster = self.present().cluster();
        let path = self.0.folder.join(NEXT_FILE);
        if path.exists() {
            let next = read(&path, cluster)?;
            let known = next.fingerprint();
            if !trusted.contains(&known) && known != self.present().fingerprint() {
                return Ok(self.get(known).unwrap_or_else(|| self.add(next)));
            }
        }
        let next = ClusterAuthority::create(cluster, wall_clock())?;
        self.keep(next)
    }

    /// Takes the key of the next authority, which another voter gave.
    ///
    /// # Errors
    /// It is not the one with that fingerprint, or the disk's.
    pub fn take(&self, pem: &str, fingerprint: BlobHash) -> anyhow::Result<Arc<ClusterAuthority>> {
        let next = ClusterAuthority::from_pem(pem).context("the next authority")?;
        anyhow::ensure!(
            next.fingerprint() == fingerprint && next.cluster() == self.present().cluster(),
            "another authority came than the one asked for"
        );
        self.keep(next)
    }

    fn keep(&self, next: ClusterAuthority) -> anyhow::Result<Arc<ClusterAuthority>> {
        next.write(&self.0.folder.join(NEXT_FILE))?;
        Ok(self.add(next))
    }

    fn add(&self, next: ClusterAuthority) -> Arc<ClusterAuthority> {
        let next = Arc::new(next);
        self.keys().others.push(Arc::clone(&next));
        next
    }

    /// Certifies with the one that has this fingerprint from now on; false if it is not here.
    pub fn switch(&self, fingerprint: BlobHash) -> bool {
        let keys = &mut *self.keys();
        if keys.present.fingerprint() == fingerprint {
            return true;
        }
        let mut others = keys.others.iter();
        let Some(at) = others.position(|other| other.fingerprint() == fingerprint) else {
            return false;
        };
        std::mem::swap(&mut keys.present, &mut keys.others[at]);
        true
    }

    /// Keeps the present one as the only one, since the other was replaced, or was not to replace it after all. False if
    /// it was the only one before.
    ///
    /// # Errors
    /// The disk's.
    pub fn settle(&self) -> Result<bool, CredentialError> {
        let keys = &mut *self.keys();
        let (present, next) = (
            self.0.folder.join(PRESENT_FILE),
            self.0.folder.join(NEXT_FILE),
        );
        if keys.others.is_empty() && !next.exists() {
            return Ok(false);
        }
        keys.present.write(&present)?;
        if let Err(error) = std::fs::remove_file(&next)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(CredentialError::Disk {
                path: next,
                error: error.to_string(),
            });
        }
        keys.others.clear();
        Ok(true)
    }
}

fn read(path: &Path, cluster: ClusterId) -> anyhow::Result<ClusterAuthority> {
    let authority = ClusterAuthority::read(path)
        .with_context(|| format!("the authority in {}", path.display()))?;
    anyhow::ensure!(
        authority.cluster() == cluster,
        "{} is the authority of cluster {}, and --credential that of {cluster}",
        path.display(),
        authority.cluster()
    );
    Ok(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> ClusterAuthority {
        ClusterAuthority::create(ClusterId([7; 16]), wall_clock()).unwrap()
    }

    /// A node that is killed anywhere in a rotation starts again with the authority it certified with last, and finds the
    /// key of the next one where it left it.
    #[test]
    fn a_rotation_survives_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let given = authority();
        let old = given.fingerprint();
        let pem = given.to_pem();
        let open = |used| {
            let given = ClusterAuthority::from_pem(&pem).unwrap();
            AuthorityRing::open(given, folder.path(), used).unwrap()
        };
        let ring = open(None);
        assert_eq!(ring.present().fingerprint(), old);
        let next = ring.next(&[]).unwrap().fingerprint();
        assert_ne!(next, old);
        // The order got lost: asked again, it is the same one.
        let ring = open(Some(old));
        assert_eq!(ring.present().fingerprint(), old);
        assert_eq!(ring.next(&[]).unwrap().fingerprint(), next);
        assert!(ring.switch(next));
        let ring = open(Some(next));
        assert_eq!(ring.present().fingerprint(), next);
        assert!(ring.get(old).is_some(), "tokens made before are good still");
        assert!(ring.settle().unwrap());
        assert!(!ring.settle().unwrap(), "there is nothing left to settle");
        assert!(ring.get(old).is_none());
        // The file that the node was given is out of date from here on.
        let ring = open(Some(next));
        assert_eq!(ring.present().fingerprint(), next);
        let third = ring.next(&[next]).unwrap().fingerprint();
        assert!(![old, next].contains(&third));
        // It was not to be.
        let ring = open(Some(next));
        ring.settle().unwrap();
        let ring = open(Some(next));
        assert_eq!(ring.present().fingerprint(), next);
        assert!(ring.get(third).is_none());
    }

    /// Another voter's word does not make an authority: what came has to be what was asked for.
    #[test]
    fn the_key_that_comes_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let ring = AuthorityRing::open(authority(), folder.path(), None).unwrap();
        let (wanted, other) = (authority(), authority());
        assert!(ring.take(&other.to_pem(), wanted.fingerprint()).is_err());
        assert!(ring.take("nonsense", wanted.fingerprint()).is_err());
        assert!(!ring.switch(wanted.fingerprint()));
        let taken = ring.take(&wanted.to_pem(), wanted.fingerprint()).unwrap();
        assert_eq!(taken.fingerprint(), wanted.fingerprint());
    }
}
