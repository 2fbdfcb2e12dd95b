//! Writing files so that a crash at any moment leaves the old content or the new, never a mixture.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::StorageError;

/// Replaces the file at `path` by `content`: written to `path` with the extension `tmp`, synced, renamed over
/// `path`, and the directory synced. Durable on return.
///
/// # Errors
/// [`StorageError::Io`]; `path` then holds the old content or the new.
pub fn replace_file(path: &Path, content: &[&[u8]]) -> Result<(), StorageError> {
    let aside = path.with_extension("tmp");
    let mut file = File::create(&aside).map_err(|e| StorageError::io("create", &aside, &e))?;
    for part in content {
        file.write_all(part)
            .map_err(|e| StorageError::io("write", &aside, &e))?;
    }
    file.sync_all()
        .map_err(|e| StorageError::io("sync", &aside, &e))?;
    rename(&aside, path)
}

/// Renames `from` to `to` in the same directory or below the same file system, and syncs the target's directory.
///
/// # Errors
/// [`StorageError::Io`].
pub fn rename(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::rename(from, to).map_err(|e| StorageError::io("rename", from, &e))?;
    match to.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Makes the names in a directory durable.
///
/// # Errors
/// [`StorageError::Io`].
pub fn sync_directory(path: &Path) -> Result<(), StorageError> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| StorageError::io("sync", path, &e))
}

/// Creates a directory with its parents and makes its name durable.
///
/// # Errors
/// [`StorageError::Io`].
pub fn create_directory(path: &Path) -> Result<(), StorageError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|e| StorageError::io("create", path, &e))?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Removes a file that may be absent; the removal need not be durable.
///
/// # Errors
/// [`StorageError::Io`].
pub fn remove_if_present(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(StorageError::io("remove", path, &e))
        }
        _ => Ok(()),
    }
}
