//! A file system in memory that remembers everything that was done to it, so that a test can ask what a crash at any
//! moment would have left, and that fails when told to.
//!
//! Pessimistic where systems differ: a name is durable only when its directory was synced, unsynced writes may survive
//! in any combination of sectors, and content that a failed sync did not write is never written by a later one (names
//! are: a journal that cannot be written takes the whole file system down).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use riftmesh_base::Millis;

use crate::disk::{DiskFile, FileSystem};

/// What a disk writes at once.
const SECTOR: usize = 512;

/// Files and directories as they lie on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    pub directories: BTreeSet<PathBuf>,
}

/// What a crash takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerLoss {
    /// Nothing: the process was killed.
    Nothing,
    /// Everything that was not synced: the power went.
    Unsynced,
    /// Some of what was not synced, drawn from this seed, sector by sector.
    Some(u64),
    /// The last write from this byte on; the file ends there.
    Torn(usize),
    /// The last write from this byte on; zeros are in its place.
    Zeroed(usize),
}

/// What goes wrong at a step that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// A write takes only half of what it is given; the next one takes the rest.
    Short,
    /// The disk is full from here on.
    NoSpace,
    /// The next sync fails, once.
    SyncFails,
}

#[derive(Debug, Clone)]
enum Effect {
    Create {
        path: PathBuf,
        inode: usize,
    },
    Directory {
        path: PathBuf,
    },
    Write {
        inode: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    Cut {
        inode: usize,
        len: usize,
    },
    Sync {
        inode: usize,
        good: bool,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        inode: usize,
    },
    Remove {
        path: PathBuf,
    },
    SyncNames {
        directory: PathBuf,
        good: bool,
    },
}

#[derive(Debug, Clone, Default)]
struct Content {
    names: BTreeMap<PathBuf, usize>,
    directories: BTreeSet<PathBuf>,
    inodes: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct World {
    before: Content,
    now: Content,
    trace: Vec<Effect>,
    fault: Option<(usize, DiskFault)>,
    full: bool,
}

/// The disk; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct FaultyDisk(Arc<Mutex<World>>);

/// Numbers that look random and are the same for the same seed.
#[derive(Debug, Clone)]
pub struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// One of `0..end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

impl Content {
    fn of(image: &Image) -> Self {
        let mut content = Self {
            directories: image.directories.clone(),
            ..Self::default()
        };
        for (path, bytes) in &image.files {
            content.names.insert(path.clone(), content.inodes.len());
            content.inodes.push(bytes.clone());
        }
        content
    }

    fn image(&self) -> Image {
        // A directory whose own name was lost takes everything below it with it.
        let reachable = |path: &Path| {
            path.ancestors()
                .skip(1)
                .all(|above| above == Path::new("/") || self.directories.contains(above))
        };
        let files = self.names.iter().filter(|(path, _)| reachable(path));
        Image {
            files: files
                .map(|(path, inode)| (path.clone(), self.inodes[*inode].clone()))
                .collect(),
            directories: self
                .directories
                .iter()
                .filter(|path| reachable(path))
                .cloned()
                .collect(),
        }
    }

    fn write(&mut self, inode: usize, offset: usize, bytes: &[u8]) {
        let file = &mut self.inodes[inode];
        if file.len() < offset + bytes.len() {
            file.resize(offset + bytes.len(), 0);
        }
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Create { path, inode } => {
                if self.inodes.len() <= *inode {
                    self.inodes.resize(*inode + 1, Vec::new());
                }
                self.names.insert(path.clone(), *inode);
            }
            Effect::Directory { path } => drop(self.directories.insert(path.clone())),
            Effect::Write {
                inode,
                offset,
                bytes,
            } => self.write(*inode, *offset, bytes),
            Effect::Cut { inode, len } => self.inodes[*inode].truncate(*len),
            Effect::Rename { from, to, inode } => {
                // The new name may be durable although the old one never was.
                self.names.remove(from);
                self.names.insert(to.clone(), *inode);
            }
            Effect::Remove { path } => drop(self.names.remove(path)),
            Effect::Sync { .. } | Effect::SyncNames { .. } => {}
        }
    }

    /// Applies some sectors of a write, and of some of these only the beginning.
    fn apply_some(&mut self, effect: &Effect, draw: &mut Draw) {
        let Effect::Write {
            inode,
            offset,
            bytes,
        } = effect
        else {
            if draw.below(2) == 0 {
                self.apply(effect);
            }
            return;
        };
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at + SECTOR - (offset + at) % SECTOR);
            match draw.below(8) {
                0..4 => self.write(*inode, offset + at, &bytes[at..end]),
                4 => self.write(*inode, offset + at, &bytes[at..at + draw.below(end - at)]),
                _ => {}
            }
            at = end;
        }
    }
}

fn above(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

/// Which of the effects survive any crash behind them.
fn durable(trace: &[Effect]) -> Vec<bool> {
    let (mut inodes, mut directories) = (BTreeSet::new(), BTreeSet::new());
    let mut out: Vec<bool> = trace
        .iter()
        .rev()
        .map(|effect| match effect {
            Effect::Sync { inode, good: true } => inodes.insert(*inode),
            Effect::Sync { inode, good: false } => inodes.remove(inode),
            Effect::SyncNames {
                directory,
                good: true,
            } => directories.insert(directory.clone()),
            Effect::SyncNames { good: false, .. } => false,
            Effect::Write { inode, .. } | Effect::Cut { inode, .. } => inodes.contains(inode),
            Effect::Create { path, .. }
            | Effect::Directory { path }
            | Effect::Rename { to: path, .. }
            | Effect::Remove { path } => directories.contains(&above(path)),
        })
        .collect();
    out.reverse();
    out
}

impl FaultyDisk {
    /// A disk on which all of `image` is durable.
    pub fn of(image: &Image) -> Self {
        let content = Content::of(image);
        Self(Arc::new(Mutex::new(World {
            before: content.clone(),
            now: content,
            ..World::default()
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// How many effects there were.
    pub fn steps(&self) -> usize {
        self.world().trace.len()
    }

    /// Length of the write that is effect number `step - 1`, if it is one.
    pub fn written_before(&self, step: usize) -> Option<usize> {
        match self.world().trace.get(step.checked_sub(1)?)? {
            Effect::Write { bytes, .. } => Some(bytes.len()),
            _ => None,
        }
    }

    /// What is on the disk when everything stops after so many effects.
    pub fn crash(&self, steps: usize, loss: PowerLoss) -> Image {
        let world = self.world();
        let trace = &world.trace[..steps];
        let durable = durable(trace);
        let mut content = world.before.clone();
        let mut draw = Draw(match loss {
            PowerLoss::Some(seed) => seed,
            _ => 0,
        });
        for (at, effect) in trace.iter().enumerate() {
            if let Effect::Create { inode, .. } = effect
                && content.inodes.len() <= *inode
            {
                content.inodes.resize(*inode + 1, Vec::new());
            }
            let last = at + 1 == steps;
            match (loss, effect) {
                _ if durable[at] => content.apply(effect),
                (PowerLoss::Unsynced, _) => {}
                (PowerLoss::Some(_), _) => content.apply_some(effect, &mut draw),
                (
                    PowerLoss::Torn(cut),
                    Effect::Write {
                        inode,
                        offset,
                        bytes,
                    },
                ) if last => {
                    content.write(*inode, *offset, &bytes[..cut]);
                }
                (
                    PowerLoss::Zeroed(cut),
                    Effect::Write {
                        inode,
                        offset,
                        bytes,
                    },
                ) if last => {
                    let mut torn = bytes.clone();
                    torn[cut..].fill(0);
                    content.write(*inode, *offset, &torn);
                }
                _ => content.apply(effect),
            }
        }
        content.image()
    }

    /// What is there now, synced or not.
    pub fn image(&self) -> Image {
        self.world().now.image()
    }

    /// Lets `fault` happen once so many effects have happened.
    pub fn fail_after(&self, steps: usize, fault: DiskFault) {
        self.world().fault = Some((steps, fault));
    }

    /// Whether the fault that was asked for has happened; from then on all is well again.
    pub fn repair(&self) -> bool {
        let mut world = self.world();
        world.full = false;
        world.fault.take().is_none()
    }

    fn act(&self, effect: Effect) -> io::Result<()> {
        let mut world = self.world();
        world.check_space(&effect)?;
        world.now.apply(&effect);
        world.trace.push(effect);
        Ok(())
    }
}

impl World {
    /// Takes the fault if it is of this kind and its time has come.
    fn due(&mut self, kind: DiskFault) -> bool {
        let due = self
            .fault
            .is_some_and(|(at, fault)| fault == kind && self.trace.len() >= at);
        if due {
            self.fault = None;
        }
        due
    }

    fn check_space(&mut self, effect: &Effect) -> io::Result<()> {
        let takes_space = matches!(
            effect,
            Effect::Create { .. } | Effect::Directory { .. } | Effect::Write { .. }
        );
        if takes_space && self.due(DiskFault::NoSpace) {
            self.full = true;
        }
        if takes_space && self.full {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        self.now
            .names
            .get(path)
            .copied()
            .ok_or(ErrorKind::NotFound.into())
    }
}

#[derive(Debug)]
struct OpenFile {
    disk: FaultyDisk,
    inode: usize,
}

impl FileSystem for FaultyDisk {
    fn open(&self, path: &Path, _read_only: bool) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.world().inode(path)?;
        let disk = self.clone();
        Ok(Arc::new(OpenFile { disk, inode }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if !self.is_directory(&above(path)) {
            return Err(ErrorKind::NotFound.into());
        }
        let there = self.world().inode(path);
        let effect = match there {
            Ok(inode) => Effect::Cut { inode, len: 0 },
            Err(_) => Effect::Create {
                path: path.to_owned(),
                inode: self.world().now.inodes.len(),
            },
        };
        self.act(effect)?;
        self.open(path, false)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        if self.is_directory(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.act(Effect::Directory {
            path: path.to_owned(),
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.world().inode(from)?;
        self.act(Effect::Rename {
            inode,
            from: from.to_owned(),
            to: to.to_owned(),
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.world().inode(path)?;
        self.act(Effect::Remove {
            path: path.to_owned(),
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let world = self.world();
        let all = world.now.names.keys().chain(&world.now.directories);
        Ok(all
            .filter(|name| name.parent() == Some(path))
            .map(|name| name.file_name().unwrap().to_string_lossy().into_owned())
            .collect())
    }

    fn is_directory(&self, path: &Path) -> bool {
        path == Path::new("/") || self.world().now.directories.contains(path)
    }

    fn is_file(&self, path: &Path) -> bool {
        self.world().now.names.contains_key(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let good = !self.world().due(DiskFault::SyncFails);
        self.act(Effect::SyncNames {
            directory: path.to_owned(),
            good,
        })?;
        if good {
            Ok(())
        } else {
            Err(io::Error::other("the disk is broken"))
        }
    }

    fn modified(&self, path: &Path) -> io::Result<Millis> {
        self.world().inode(path)?;
        // Times are no part of what a crash is tried on.
        Ok(Millis(0))
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        self.world().inode(path).map(drop)
    }
}

impl DiskFile for OpenFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.world().now.inodes[self.inode].len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let world = self.disk.world();
        let content = &world.now.inodes[self.inode];
        let rest = content.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut len = bytes.len();
        let mut world = self.disk.world();
        let space_ends =
            matches!(world.fault, Some((at, DiskFault::NoSpace)) if world.trace.len() >= at);
        if space_ends || world.due(DiskFault::Short) {
            len = len.div_ceil(2);
        }
        if space_ends {
            // The last half fits; the next write finds no space.
            world.fault = None;
        }
        drop(world);
        self.disk.act(Effect::Write {
            inode: self.inode,
            offset: offset as usize,
            bytes: bytes[..len].to_vec(),
        })?;
        if space_ends {
            self.disk.world().full = true;
        }
        Ok(len)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.disk.act(Effect::Cut {
            inode: self.inode,
            len: len as usize,
        })
    }

    fn sync(&self) -> io::Result<()> {
        let good = !self.disk.world().due(DiskFault::SyncFails);
        self.disk.act(Effect::Sync {
            inode: self.inode,
            good,
        })?;
        if good {
            Ok(())
        } else {
            Err(io::Error::other("the disk is broken"))
        }
    }
}
