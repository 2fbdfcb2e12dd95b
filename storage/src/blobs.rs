//! Replay segments, checkpoints and models: files named by the BLAKE3 hash of their bytes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use riftmesh_base::limits::BLOB_BYTES_MAX;
use riftmesh_base::{BlobHash, Millis};

use crate::disk::{DiskFile, FileSystem, HostDisk};
use crate::durable;
use crate::error::StorageError;

const COPY_BYTES: usize = 256 << 10;

/// A content-addressed store in a directory: `ab/ab12...` for the blob whose hash begins with `ab`.
///
/// A file under its final name is whole: it was written aside, synced and renamed. The store may be used from many
/// threads. After an error of a sync it takes nothing more, because nothing it would say about what is durable could be
/// believed; it can still be read.
#[derive(Debug)]
pub struct BlobStore {
    disk: Arc<dyn FileSystem>,
    root: PathBuf,
    next: AtomicU64,
    /// A sync failed.
    stopped: AtomicBool,
}

/// Where a store at `root` has a blob.
pub(crate) fn place(root: &Path, hash: &BlobHash) -> PathBuf {
    let name = hash.to_string();
    root.join(&name[..2]).join(name)
}

impl BlobStore {
    /// Opens the store at `root`, creating it if needed, and removes what interrupted writes left behind.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn open(root: &Path) -> Result<Self, StorageError> {
        Self::open_on(Arc::new(HostDisk), root)
    }

    /// As [`Self::open`], on any file system.
    pub(crate) fn open_on(disk: Arc<dyn FileSystem>, root: &Path) -> Result<Self, StorageError> {
        durable::create_directory(&*disk, root)?;
        let store = Self {
            disk,
            root: root.to_owned(),
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        };
        let aside = store.aside();
        for directory in store.shards().chain([aside.clone()]) {
            if !store.disk.is_directory(&directory) {
                store
                    .disk
                    .create_directory(&directory)
                    .map_err(|e| StorageError::io("create", &directory, &e))?;
            }
            let whole = |name: &str| directory != aside && name.parse::<BlobHash>().is_ok();
            for name in store.names(&directory)? {
                if !whole(&name) {
                    durable::remove_if_present(&*store.disk, &directory.join(name))?;
                }
            }
        }
        durable::sync_directory(&*store.disk, root)?;
        Ok(store)
    }

    /// Where the blob is, or would be. Its directory exists, so that a download may be written beside it and
    /// renamed; files there whose names are no hashes are removed at the next open.
    pub fn path(&self, hash: &BlobHash) -> PathBuf {
        place(&self.root, hash)
    }

    /// Whether the blob is here.
    pub fn contains(&self, hash: &BlobHash) -> bool {
        self.disk.is_file(&self.path(hash))
    }

    /// Stores bytes; durable on return. Of what is here already only the name is made durable.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] over `BLOB_BYTES_MAX`, [`StorageError::Stopped`] after a failed sync, else
    /// [`StorageError::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<BlobHash, StorageError> {
        let hash = BlobHash::of(bytes);
        if !self.contains(&hash) {
            return self.put_reader(bytes).map(|(hash, _)| hash);
        }
        self.check_running()?;
        self.touch(&hash)?;
        // Whoever put it may have been stopped between giving it its name and syncing that.
        let shard = self.root.join(&hash.to_string()[..2]);
        self.synced(durable::sync_directory(&*self.disk, &shard))?;
        Ok(hash)
    }

    /// Stores a copy of a file; durable on return. Gives its name and length.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_file(&self, path: &Path) -> Result<(BlobHash, u64), StorageError> {
        let file = File::open(path).map_err(|e| StorageError::io("open", path, &e))?;
        self.put_reader(file)
    }

    /// Stores what `reader` gives until its end; durable on return. Gives its name and length.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_reader(&self, reader: impl Read) -> Result<(BlobHash, u64), StorageError> {
        self.check_running()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let aside = self.aside().join(number.to_string());
        let written = self.write_aside(reader, &aside).and_then(|(hash, bytes)| {
            self.synced(durable::rename(&*self.disk, &aside, &self.path(&hash)))?;
            Ok((hash, bytes))
        });
        if written.is_err() {
            durable::remove_if_present(&*self.disk, &aside)?;
        }
        written
    }

    /// The bytes of a blob, checked against its name.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when they do not hash to it, else [`StorageError::Io`].
    pub fn read(&self, hash: &BlobHash) -> Result<Vec<u8>, StorageError> {
        let path = self.path(hash);
        let missing = || StorageError::io("read", &path, &std::io::ErrorKind::NotFound.into());
        let bytes = durable::read_file(&*self.disk, &path)?.ok_or_else(missing)?;
        check(&path, hash, BlobHash::of(&bytes))?;
        Ok(bytes)
    }

    /// Reads the blob and checks it against its name.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn verify(&self, hash: &BlobHash) -> Result<(), StorageError> {
        let path = self.path(hash);
        let file = self
            .disk
            .open(&path, true)
            .map_err(|e| StorageError::io("open", &path, &e))?;
        let mut hasher = blake3::Hasher::new();
        copy(InOrder(&*file, 0), &path, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        check(&path, hash, BlobHash(*hasher.finalize().as_bytes()))
    }

    /// All blobs with their lengths, in the order of their names.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn list(&self) -> Result<Vec<(BlobHash, u64)>, StorageError> {
        let mut blobs = Vec::new();
        for shard in self.shards() {
            for name in self.names(&shard)? {
                let Ok(hash) = name.parse::<BlobHash>() else {
                    continue;
                };
                let path = shard.join(name);
                let len = self.disk.open(&path, true).and_then(|file| file.length());
                let len = len.map_err(|e| StorageError::io("inspect", &path, &e))?;
                blobs.push((hash, len));
            }
        }
        blobs.sort_unstable();
        Ok(blobs)
    }

    /// Whether the blob begins with these bytes.
    ///
    /// # Errors
    /// [`StorageError::Io`]; a blob that is not here is one too.
    pub fn begins_with(&self, hash: &BlobHash, expected: &[u8]) -> Result<bool, StorageError> {
        let path = self.path(hash);
        let mut found = vec![0; expected.len()];
        let file = self.disk.open(&path, true);
        let read = file.and_then(|file| file.fill_at(&mut found, 0));
        let read = read.map_err(|e| StorageError::io("read", &path, &e))?;
        Ok(&found[..read] == expected)
    }

    /// When the blob was last put or touched, on the wall clock.
    ///
    /// # Errors
    /// [`StorageError::Io`]; a blob that is not here is one too.
    pub fn last_use(&self, hash: &BlobHash) -> Result<Millis, StorageError> {
        let path = self.path(hash);
        let modified = self.disk.modified(&path);
        modified.map_err(|e| StorageError::io("inspect", &path, &e))
    }

    /// Notes that the blob is of use now.
    ///
    /// # Errors
    /// [`StorageError::Io`]; a blob that is not here is one too.
    pub fn touch(&self, hash: &BlobHash) -> Result<(), StorageError> {
        let path = self.path(hash);
        let touched = self.disk.touch(&path);
        touched.map_err(|e| StorageError::io("touch", &path, &e))
    }

    /// Removes a blob; one that is not here is no error.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn remove(&self, hash: &BlobHash) -> Result<(), StorageError> {
        durable::remove_if_present(&*self.disk, &self.path(hash))
    }

    fn aside(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn shards(&self) -> impl Iterator<Item = PathBuf> + '_ {
        (0..=u8::MAX).map(|shard| self.root.join(format!("{shard:02x}")))
    }

    fn names(&self, directory: &Path) -> Result<Vec<String>, StorageError> {
        self.disk
            .list(directory)
            .map_err(|e| StorageError::io("list", directory, &e))
    }

    fn check_running(&self) -> Result<(), StorageError> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(StorageError::Stopped(
                "an earlier sync of a blob failed".to_owned(),
            ));
        }
        Ok(())
    }

    /// Passes on the outcome of something that ends with a sync.
    fn synced(&self, outcome: Result<(), StorageError>) -> Result<(), StorageError> {
        outcome.inspect_err(|_| self.stopped.store(true, Ordering::Relaxed))
    }

    /// Writes and syncs a file, hashing on the way.
    fn write_aside(&self, reader: impl Read, path: &Path) -> Result<(BlobHash, u64), StorageError> {
        let file = self
            .disk
            .create(path)
            .map_err(|e| StorageError::io("create", path, &e))?;
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        let bytes = copy(reader, path, |bytes| {
            hasher.update(bytes);
            file.write_all_at(bytes, offset)
                .map_err(|e| StorageError::io("write", path, &e))?;
            offset += bytes.len() as u64;
            Ok(())
        })?;
        self.synced(file.sync().map_err(|e| StorageError::io("sync", path, &e)))?;
        Ok((BlobHash(*hasher.finalize().as_bytes()), bytes))
    }
}

/// Reads a file from here on.
struct InOrder<'a>(&'a dyn DiskFile, u64);

impl Read for InOrder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read_at(buffer, self.1)?;
        self.1 += read as u64;
        Ok(read)
    }
}

/// Feeds all of `reader` to `sink`; gives the number of bytes.
fn copy(
    mut reader: impl Read,
    path: &Path,
    mut sink: impl FnMut(&[u8]) -> Result<(), StorageError>,
) -> Result<u64, StorageError> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut total = 0;
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(read) => read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(StorageError::io("read", path, &e)),
        };
        total += read as u64;
        if total > BLOB_BYTES_MAX {
            return Err(StorageError::TooLarge {
                what: "blob",
                bytes: total,
                max: BLOB_BYTES_MAX,
            });
        }
        sink(&buffer[..read])?;
    }
}

fn check(path: &Path, expected: &BlobHash, found: BlobHash) -> Result<(), StorageError> {
    if found == *expected {
        return Ok(());
    }
    Err(StorageError::damaged(
        path,
        format!("its bytes hash to {found}"),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A blob comes back under the hash of its bytes, however it was put, and putting it twice is harmless.
    #[test]
    fn blobs_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(&dir.path().join("blobs")).unwrap();
        let bytes: Vec<u8> = (0..600_000u32).map(|i| (i % 251) as u8).collect();
        let hash = store.put(&bytes).unwrap();
        assert_eq!(hash, BlobHash::of(&bytes));
        let source = dir.path().join("source");
        fs::write(&source, &bytes).unwrap();
        assert_eq!(store.put_file(&source).unwrap(), (hash, 600_000));
        assert_eq!(store.read(&hash).unwrap(), bytes);
        store.verify(&hash).unwrap();
        let empty = store.put(b"").unwrap();
        let mut expected = [(hash, 600_000), (empty, 0)];
        expected.sort_unstable();
        assert_eq!(store.list().unwrap(), expected);
        store.remove(&hash).unwrap();
        store.remove(&hash).unwrap();
        assert!(!store.contains(&hash) && store.contains(&empty));
    }

    /// A reader that fails half-way leaves nothing behind.
    #[test]
    fn a_failed_put_leaves_nothing() {
        struct Broken(u32);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.0 += 1;
                if self.0 > 2 {
                    return Err(std::io::Error::other("unplugged"));
                }
                Ok(buffer.len())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let error = store.put_reader(Broken(0)).unwrap_err();
        assert!(error.to_string().contains("unplugged"), "{error}");
        assert!(store.list().unwrap().is_empty());
        assert!(store.names(&store.aside()).unwrap().is_empty());
    }

    /// Remains of a crash disappear at the next open; whole blobs stay.
    #[test]
    fn remains_are_cleaned_at_open() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let hash = store.put(b"whole").unwrap();
        fs::write(dir.path().join("tmp/0"), b"half").unwrap();
        let stray = store.path(&hash).with_extension("part");
        fs::write(&stray, b"half").unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        assert_eq!(store.list().unwrap(), [(hash, 5)]);
        assert!(!stray.exists());
        store.put(b"another").unwrap();
    }

    /// A flipped bit is found by `verify` and never served by `read`.
    #[test]
    fn damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let hash = store.put(b"weights").unwrap();
        fs::write(store.path(&hash), b"weightz").unwrap();
        assert!(matches!(
            store.verify(&hash),
            Err(StorageError::Damaged { .. })
        ));
        assert!(matches!(
            store.read(&hash),
            Err(StorageError::Damaged { .. })
        ));
    }
}
