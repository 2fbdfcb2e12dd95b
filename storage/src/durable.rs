//! Writing files so that a crash at any moment leaves the old content or the new, never a mixture.

use std::io::ErrorKind;
use std::path::Path;

use crate::disk::FileSystem;
use crate::error::StorageError;

/// Replaces the file at `path` by `content`: written to `path` with the extension `tmp`, synced, renamed over
/// `path`, and the directory synced. Durable on return.
///
/// # Errors
/// [`StorageError::Io`]; `path` then holds the old content or the new.
pub fn replace_file(
    disk: &dyn FileSystem,
    path: &Path,
    content: &[&[u8]],
) -> Result<(), StorageError> {
    let aside = path.with_extension("tmp");
    let file = disk
        .create(&aside)
        .map_err(|e| StorageError::io("create", &aside, &e))?;
    let mut offset = 0;
    for part in content {
        file.write_all_at(part, offset)
            .map_err(|e| StorageError::io("write", &aside, &e))?;
        offset += part.len() as u64;
    }
    file.sync()
        .map_err(|e| StorageError::io("sync", &aside, &e))?;
    rename(disk, &aside, path)
}

/// All bytes of a file; none when there is no such file.
///
/// # Errors
/// [`StorageError::Io`].
pub fn read_file(disk: &dyn FileSystem, path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    let failed = |e| StorageError::io("read", path, &e);
    let file = match disk.open(path, true) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let len = file.length().map_err(failed)?;
    let len = usize::try_from(len)
        .map_err(|_| StorageError::damaged(path, "it is too long to be read"))?;
    let mut bytes = vec![0; len];
    let filled = file.fill_at(&mut bytes, 0).map_err(failed)?;
    bytes.truncate(filled);
    Ok(Some(bytes))
}

/// Renames `from` to `to` in the same directory or below the same file system, and syncs the target's directory.
///
/// # Errors
/// [`StorageError::Io`].
pub fn rename(disk: &dyn FileSystem, from: &Path, to: &Path) -> Result<(), StorageError> {
    disk.rename(from, to)
        .map_err(|e| StorageError::io("rename", from, &e))?;
    sync_directory(disk, parent(to))
}

/// Makes the names in a directory durable.
///
/// # Errors
/// [`StorageError::Io`].
pub fn sync_directory(disk: &dyn FileSystem, path: &Path) -> Result<(), StorageError> {
    disk.sync_directory(path)
        .map_err(|e| StorageError::io("sync", path, &e))
}

/// Creates a directory with its parents and makes its name durable; also that of one which is there already, because a
/// crash may have come between its creation and its sync.
///
/// # Errors
/// [`StorageError::Io`].
pub fn create_directory(disk: &dyn FileSystem, path: &Path) -> Result<(), StorageError> {
    let above = parent(path);
    // Also above what is there: a start that failed may have left any of these names unsynced.
    if above != path {
        create_directory(disk, above)?;
    }
    if disk.is_directory(path) {
        return match disk.sync_directory(above) {
            // Someone else made it, in a directory that is none of our business.
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(()),
            synced => synced.map_err(|e| StorageError::io("sync", above, &e)),
        };
    }
    match disk.create_directory(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(StorageError::io("create", path, &e)),
        _ => sync_directory(disk, above),
    }
}

/// Removes a file that may be absent; the removal need not be durable.
///
/// # Errors
/// [`StorageError::Io`].
pub fn remove_if_present(disk: &dyn FileSystem, path: &Path) -> Result<(), StorageError> {
    match disk.remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(StorageError::io("remove", path, &e)),
        _ => Ok(()),
    }
}

/// The directory that holds the name; the working directory for a bare name, and the root for itself.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        None => path,
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    }
}
