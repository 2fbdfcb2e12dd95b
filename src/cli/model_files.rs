//! The two files of a model on disk.

use std::path::{Path, PathBuf};

use anyhow::Context;
use riftmesh_learning::checkpoint::{Checkpoint, MANIFEST_BYTES_MAX, Manifest};

/// The files of a model.
#[derive(Debug)]
pub struct ModelFiles {
    /// Its manifest.
    pub manifest: PathBuf,
    /// Its weights.
    pub weights: PathBuf,
}

impl ModelFiles {
    /// Finds the files of the model at `path`: a folder with the two files, or a manifest with the weights beside it. The
    /// weights are `weights`, or called by their hash as in a node's blobs.
    ///
    /// # Errors
    /// Says which file is missing or is no manifest.
    pub fn find(path: &Path, weights: Option<&Path>) -> anyhow::Result<Self> {
        let manifest = if path.is_dir() {
            path.join("manifest")
        } else {
            path.to_owned()
        };
        if let Some(weights) = weights {
            let weights = weights.to_owned();
            return Ok(Self { manifest, weights });
        }
        let hash = read_manifest(&manifest)?.weights.to_string();
        let folder = manifest.parent().unwrap_or(Path::new("."));
        let blob = folder.join("..").join(&hash[..2]).join(&hash);
        let weights = [folder.join("weights"), folder.join(&hash), blob]
            .into_iter()
            .find(|path| path.is_file())
            .with_context(|| {
                format!(
                    "the weights {hash} do not lie beside {}: name them with --weights",
                    manifest.display()
                )
            })?;
        Ok(Self { manifest, weights })
    }

    /// Reads both files.
    ///
    /// # Errors
    /// A file is missing or damaged, or they do not belong together.
    pub fn read(&self) -> anyhow::Result<Checkpoint> {
        Checkpoint::read(&self.manifest, &self.weights)
            .with_context(|| self.manifest.display().to_string())
    }
}

/// Reads a manifest without its weights.
///
/// # Errors
/// The file is missing, too large, or no manifest.
pub fn read_manifest(path: &Path) -> anyhow::Result<Manifest> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        bytes.len() <= MANIFEST_BYTES_MAX,
        "{} is too large for a manifest",
        path.display()
    );
    serde_json::from_slice(&bytes).with_context(|| format!("{} is no manifest", path.display()))
}
