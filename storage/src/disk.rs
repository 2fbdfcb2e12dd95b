//! The few things that the stores ask of a file system, so that tests can put a failing one in its place.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use riftmesh_base::Millis;
use riftmesh_base::time::wall_clock;

/// A file system. Nothing is durable before it is synced: content by [`DiskFile::sync`], names by
/// [`FileSystem::sync_directory`].
pub trait FileSystem: Debug + Send + Sync + 'static {
    /// Opens a file that is there; for writing too unless `read_only`.
    fn open(&self, path: &Path, read_only: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes an empty file, in place of one that is there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a directory whose parent is there.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// Gives a file or directory another name, in place of a file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no particular order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Whether there is a directory of that name.
    fn is_directory(&self, path: &Path) -> bool;
    /// Whether there is a file of that name.
    fn is_file(&self, path: &Path) -> bool;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// When the file was last written or touched, on the wall clock.
    fn modified(&self, path: &Path) -> io::Result<Millis>;
    /// Dates the file as if it had been written now. A crash may undo that.
    fn touch(&self, path: &Path) -> io::Result<()>;
}

/// An open file, usable from many threads. It stays readable when its name is removed.
pub trait DiskFile: Debug + Send + Sync {
    /// Its length.
    fn length(&self) -> io::Result<u64>;
    /// Reads from `offset`; gives how many bytes, zero at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at `offset`; gives how many bytes, perhaps fewer than asked.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Cuts the file to `len` bytes.
    fn cut(&self, len: u64) -> io::Result<()>;
    /// Makes content and length durable. After an error nothing is known about the content, and it never will be:
    /// do not call it again.
    fn sync(&self) -> io::Result<()>;
}

impl dyn DiskFile {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// The first of [`DiskFile::write_at`]; some bytes may have been written.
    pub fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads from `offset` until `buffer` is full or the file ends; gives how many bytes.
    ///
    /// # Errors
    /// The first of [`DiskFile::read_at`].
    pub fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostDisk;

impl FileSystem for HostDisk {
    fn open(&self, path: &Path, read_only: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(!read_only).open(path)?;
        Ok(Arc::new(file))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(Arc::new(file))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn modified(&self, path: &Path) -> io::Result<Millis> {
        let modified = fs::metadata(path)?.modified()?;
        // Before 1970 is as long ago as can be.
        Ok(modified
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .into())
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.set_modified(UNIX_EPOCH + wall_clock().duration())
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, bytes, offset)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
