//! numpy archives: a zip of plain `.npy` arrays that loads with pickling forbidden, and a list of what is in it.
//!
//! The last member, `manifest.json`, has the writer's description and, for every array, its dtype, its shape and the
//! CRC-32 of its numbers (`zlib.crc32(array.tobytes())` in Python).

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use rawzip::{CompressionMethod, ZipArchiveWriter};
use serde::Serialize;

/// Name of the list in the archive.
pub const MANIFEST_NAME: &str = "manifest.json";

/// A number that numpy knows.
pub trait Element: Copy {
    /// numpy's name of the type, little-endian.
    const DTYPE: &'static str;

    /// Appends its bytes.
    fn put(self, bytes: &mut Vec<u8>);
}

macro_rules! elements {
    ($($type:ty = $name:literal),*) => {
        $(impl Element for $type {
            const DTYPE: &'static str = $name;

            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        })*
    };
}
elements!(f32 = "<f4", u8 = "|u1", u32 = "<u4", u64 = "<u8");

/// An array that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArraySummary {
    /// Its name.
    pub name: String,
    /// numpy's name of the type.
    pub dtype: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// CRC-32 of its numbers' bytes.
    pub crc32: u32,
}

/// The list in the archive.
#[derive(Serialize)]
struct List<'a, T> {
    #[serde(flatten)]
    description: &'a T,
    arrays: &'a [ArraySummary],
}

/// Writes an archive array by array, under a temporary name (`.part`) until it is finished.
pub struct NpzWriter {
    path: PathBuf,
    temporary: PathBuf,
    archive: ZipArchiveWriter<BufWriter<File>>,
    arrays: Vec<ArraySummary>,
}

impl NpzWriter {
    /// Starts the archive that will be at `path`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".part");
        let temporary = PathBuf::from(temporary);
        let file = BufWriter::new(File::create(&temporary)?);
        Ok(Self {
            path: path.to_owned(),
            temporary,
            archive: ZipArchiveWriter::new(file),
            arrays: Vec::new(),
        })
    }

    /// Writes the array `name`, whose numbers come in pieces: `fill` hands each to its argument, row-major.
    ///
    /// # Errors
    /// What writing or `fill` failed with; [`io::ErrorKind::InvalidData`] when the numbers do not fill `shape`.
    pub fn array<T: Element>(
        &mut self,
        name: &str,
        shape: &[usize],
        fill: impl FnOnce(&mut dyn FnMut(&[T]) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut hasher, mut count, mut bytes) = (crc32fast::Hasher::new(), 0, Vec::new());
        member(&mut self.archive, &format!("{name}.npy"), |out| {
            out.write_all(&header(T::DTYPE, shape))?;
            fill(&mut |numbers| {
                bytes.clear();
                numbers.iter().for_each(|number| number.put(&mut bytes));
                count += numbers.len();
                hasher.update(&bytes);
                out.write_all(&bytes)
            })
        })?;
        if count != shape.iter().product::<usize>() {
            let text = format!("array {name} has {count} numbers, not the {shape:?} announced");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.list(name, T::DTYPE, shape, hasher.finalize());
        Ok(())
    }

    /// Writes an array of texts of up to `width` ASCII characters, such as `S12`.
    ///
    /// # Errors
    /// What writing failed with; [`io::ErrorKind::InvalidData`] for a text that is longer.
    pub fn texts(&mut self, name: &str, width: usize, texts: &[String]) -> io::Result<()> {
        let (dtype, shape) = (format!("|S{width}"), [texts.len()]);
        let mut bytes = Vec::with_capacity(width * texts.len());
        for text in texts {
            if text.len() > width || !text.is_ascii() {
                let text = format!("`{text}` does not fit into {width} ASCII characters");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            bytes.extend_from_slice(text.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(width), 0);
        }
        member(&mut self.archive, &format!("{name}.npy"), |out| {
            out.write_all(&header(&dtype, &shape))?;
            out.write_all(&bytes)
        })?;
        self.list(name, &dtype, &shape, crc32fast::hash(&bytes));
        Ok(())
    }

    /// Writes the list, syncs, and gives the file its name; what was written and how long it is.
    ///
    /// # Errors
    /// Writing failed; the file keeps its temporary name.
    pub fn finish<T: Serialize>(mut self, description: &T) -> io::Result<(Vec<ArraySummary>, u64)> {
        let arrays = &self.arrays;
        let list = serde_json::to_vec_pretty(&List {
            description,
            arrays,
        })?;
        member(&mut self.archive, MANIFEST_NAME, |out| out.write_all(&list))?;
        let file = self.archive.finish().map_err(io::Error::other)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        Ok((self.arrays, file.metadata()?.len()))
    }

    /// Removes what was written so far.
    ///
    /// # Errors
    /// The temporary file cannot be removed.
    pub fn abandon(self) -> io::Result<()> {
        drop(self.archive);
        fs::remove_file(&self.temporary)
    }

    fn list(&mut self, name: &str, dtype: &str, shape: &[usize], crc32: u32) {
        self.arrays.push(ArraySummary {
            name: name.to_owned(),
            dtype: dtype.to_owned(),
            shape: shape.to_vec(),
            crc32,
        });
    }
}

/// Writes a compressed member of the archive.
fn member(
    archive: &mut ZipArchiveWriter<BufWriter<File>>,
    name: &str,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let builder = archive
        .new_file(name)
        .compression_method(CompressionMethod::DEFLATE);
    let (mut entry, config) = builder.start().map_err(io::Error::other)?;
    let mut writer = config.wrap(DeflateEncoder::new(&mut entry, Compression::fast()));
    fill(&mut writer)?;
    let (encoder, descriptor) = writer.finish().map_err(io::Error::other)?;
    encoder.finish()?;
    entry.finish(descriptor).map_err(io::Error::other)?;
    Ok(())
}

/// The header of a `.npy` array, version 1.0: magic, version, length, and a Python literal padded to a multiple of 64.
fn header(dtype: &str, shape: &[usize]) -> Vec<u8> {
    const ALIGN: usize = 64;
    const PREFIX: usize = 10;
    let sizes: Vec<String> = shape.iter().map(|size| format!("{size},")).collect();
    let literal = format!(
        "{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({}), }}",
        sizes.concat()
    );
    let length = (PREFIX + literal.len() + 1).next_multiple_of(ALIGN) - PREFIX;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    // A name and a handful of sizes stay far below the 64 KiB that the field can say.
    bytes.extend_from_slice(&(length as u16).to_le_bytes());
    bytes.extend_from_slice(literal.as_bytes());
    bytes.resize(PREFIX + length - 1, b' ');
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `numpy.lib.format` writes it, but for the comma behind the last size, which Python does not mind.
    #[test]
    fn headers_are_those_of_numpy() {
        let bytes = header("<f4", &[3, 36, 9, 9]);
        assert_eq!(bytes.len() % 64, 0);
        assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
        let text = String::from_utf8(bytes[10..].to_vec()).unwrap();
        assert!(
            text.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (3,36,9,9,), }")
        );
        assert!(text.ends_with('\n'));
    }
}
