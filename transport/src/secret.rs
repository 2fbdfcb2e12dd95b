//! Files that only their owner may read.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use pem::{EncodeConfig, LineEnding, Pem};

use crate::identity::CredentialError;

/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;
/// A PEM file with a key and a few certificates is a few KiB.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Writes `text` to `path` with mode 0600: aside, synced, renamed.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), CredentialError> {
    let aside = path.with_extension("part");
    write_aside(&aside, path, text).map_err(|error| CredentialError::Disk {
        path: path.to_owned(),
        error: error.to_string(),
    })
}

fn write_aside(aside: &Path, path: &Path, text: &str) -> io::Result<()> {
    match std::fs::remove_file(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(aside, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Reads a secret; refuses a file that others may read, since it is no secret any more.
pub(crate) fn read(path: &Path) -> Result<String, CredentialError> {
    let disk = |error: io::Error| CredentialError::Disk {
        path: path.to_owned(),
        error: error.to_string(),
    };
    let file = File::open(path).map_err(disk)?;
    let metadata = file.metadata().map_err(disk)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(CredentialError::Permissions {
            path: path.to_owned(),
            mode,
        });
    }
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(CredentialError::Malformed(format!(
            "{} has {} bytes, a credential has at most {SECRET_BYTES_MAX}",
            path.display(),
            metadata.len()
        )));
    }
    io::read_to_string(file).map_err(disk)
}

/// One PEM section.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new(label, der), config)
}
