//! Finding replay segments on disk.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use riftmesh_learning::segment::SEGMENT_MAGIC;

/// Folders in folders that are looked into.
const DEPTH_MAX: usize = 8;
/// Files looked at in one search.
const FILES_MAX: usize = 200_000;

/// Segments as given, folders by the segments in them, the oldest first within a folder. A segment is known by its first
/// bytes, so that a cluster's blobs are found too.
///
/// # Errors
/// A path does not exist or cannot be listed, or there is no segment at all.
pub fn segments(given: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in given {
        if path.is_dir() {
            let mut inside: Vec<_> = files(path)?
                .into_iter()
                .filter(|path| starts_with(path, &SEGMENT_MAGIC))
                .map(|path| (modified(&path), path))
                .collect();
            inside.sort();
            found.extend(inside.into_iter().map(|(_, path)| path));
        } else {
            anyhow::ensure!(path.is_file(), "there is no file {}", path.display());
            found.push(path.clone());
        }
    }
    anyhow::ensure!(
        !found.is_empty(),
        "no segment was found in {}",
        given
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(", ")
    );
    Ok(found)
}

/// Every regular file below `folder`, in the order of their paths.
///
/// # Errors
/// A folder cannot be listed, or there are more files than any run makes.
pub fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    list(folder, DEPTH_MAX, &mut found)?;
    found.sort();
    Ok(found)
}

fn list(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let context = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        // Links are not followed: they could lead round in circles.
        let kind = entry.file_type().with_context(context)?;
        if kind.is_dir() && depth > 0 {
            list(&entry.path(), depth - 1, found)?;
        } else if kind.is_file() {
            anyhow::ensure!(
                found.len() < FILES_MAX,
                "more than {FILES_MAX} files in {}: name a smaller folder",
                folder.display()
            );
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Whether the file starts with these bytes; a file that cannot be read does not.
pub fn starts_with(path: &Path, magic: &[u8; 4]) -> bool {
    let mut start = [0; 4];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *magic
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}
