//! A room for a run: namespaces of processes, mounts and networks that end with the process that entered them.
//!
//! Whatever is started, mounted or wired up inside is taken down by the kernel when the room's first process dies, be
//! it by `kill -9`. So nothing has to be cleaned up, and nothing can be forgotten.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context;
use rustix::mount::{MountFlags, mount};

use super::namespace;

/// Option of the command line that says: this is the program inside.
pub const INSIDE: &str = "--in-room";

/// Replaces this process by one that runs the same command inside a new room.
///
/// # Errors
/// The room cannot be made; on success this function does not return.
pub fn enter() -> anyhow::Result<Infallible> {
    let program = std::env::current_exe()?;
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child=SIGKILL",
        ])
        .args(["--mount-proc", "--"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .arg(INSIDE);
    Err(command.exec()).context("cannot start `unshare` (package util-linux)")
}

/// Furnishes the room: names of network namespaces are kept to it, and its own loopback is up.
///
/// # Errors
/// The mount is refused, or `ip` is missing.
pub fn furnish() -> anyhow::Result<()> {
    // `ip netns` keeps its names below /run; those of the host are not ours to see or to leave anything in.
    let none: Option<&CStr> = None;
    mount("none", "/run", "tmpfs", MountFlags::empty(), none)
        .context("cannot mount inside the room")?;
    namespace::ip(["link", "set", "lo", "up"])
}
