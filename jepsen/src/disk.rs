//! A small disk of a node's own, in memory, that can be filled.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::mount::{MountFlags, mount};

/// Size of a disk: far more than a node of a run writes.
const MIB: u32 = 192;
/// Name of the file that fills it.
const BALLAST: &str = "ballast";

/// A disk that is mounted. It goes with the room it was mounted in.
#[derive(Debug, Clone)]
pub struct NodeDisk {
    at: PathBuf,
}

impl NodeDisk {
    /// Mounts an empty disk at `at`.
    ///
    /// # Errors
    /// Not root, or not inside a room.
    pub fn mount(at: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(at).with_context(|| format!("cannot make {}", at.display()))?;
        let size = CString::new(format!("size={MIB}m"))?;
        mount(
            "none",
            at,
            "tmpfs",
            MountFlags::empty(),
            Some(size.as_c_str()),
        )
        .with_context(|| format!("cannot mount a disk at {}", at.display()))?;
        Ok(Self { at: at.to_owned() })
    }

    /// Fills the disk to the last byte.
    ///
    /// # Errors
    /// It ends with another error than that it is full.
    pub fn fill(&self) -> anyhow::Result<()> {
        let path = self.at.join(BALLAST);
        let mut file = File::create(&path)?;
        for length in [1 << 20, 4_096, 1] {
            let block = vec![0_u8; length];
            // More blocks than the disk has, so that the loop ends whatever happens.
            for _ in 0..=(u64::from(MIB) << 20) / length as u64 {
                match file.write_all(&block) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling a disk"),
                }
            }
        }
        Ok(())
    }

    /// Whether there is no room for a byte.
    pub fn is_full(&self) -> bool {
        let ballast = OpenOptions::new().append(true).open(self.at.join(BALLAST));
        ballast.is_ok_and(|mut file| {
            let refused = file.write_all(&[0; 4_096]);
            refused.is_err_and(|error| error.kind() == ErrorKind::StorageFull)
        })
    }

    /// Takes out what filled it.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn free(&self) -> std::io::Result<()> {
        match std::fs::remove_file(self.at.join(BALLAST)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
