//! What a node is started in: a clock of its own, or nothing special.
//!
//! The machine's clock is never touched. A base of its own comes from a time namespace, everything else from libfaketime.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

/// Where distributions put the library.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// The clock that a process sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Dress {
    /// The machine's.
    #[default]
    Plain,
    /// Its monotonic and boot clocks read so much more.
    Base(Duration),
    /// All its clocks run at so many per mille of the real rate.
    Rate(u32),
    /// Its wall clock reads what this file says, from one moment to the next.
    Wall(PathBuf),
}

impl Dress {
    /// Why this machine cannot do it, if it cannot.
    pub fn missing(&self) -> Option<String> {
        match self {
            Self::Plain => None,
            Self::Base(_) => (!Path::new("/proc/self/ns/time").exists())
                .then(|| "this kernel has no time namespaces".to_owned()),
            Self::Rate(_) | Self::Wall(_) => library()
                .is_none()
                .then(|| "libfaketime is not installed".to_owned()),
        }
    }

    /// The command that starts `program` in it.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        match self {
            Self::Plain => {}
            Self::Base(base) => {
                command = Command::new("unshare");
                let seconds = base.as_secs();
                command
                    .arg("--time")
                    .args(["--monotonic", &seconds.to_string()])
                    .args(["--boottime", &seconds.to_string()])
                    .arg(program);
            }
            Self::Rate(per_mille) => {
                let rate = format!("+0 x{:.3}", f64::from(*per_mille) / 1_000.0);
                command.env("FAKETIME", rate);
            }
            Self::Wall(file) => {
                command
                    .env("FAKETIME_TIMESTAMP_FILE", file)
                    .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                    .env("FAKETIME_NO_CACHE", "1");
            }
        }
        if let (Self::Rate(_) | Self::Wall(_), Some(library)) = (self, library()) {
            command.env("LD_PRELOAD", library);
        }
        command
    }

    /// Whether the process `id` wears it.
    pub fn is_worn(&self, id: u32) -> bool {
        match self {
            Self::Plain => true,
            Self::Base(_) => {
                let of =
                    |process: &str| std::fs::read_link(format!("/proc/{process}/ns/time")).ok();
                let (own, other) = (of("self"), of(&id.to_string()));
                other.is_some() && own != other
            }
            Self::Rate(_) | Self::Wall(_) => std::fs::read_to_string(format!("/proc/{id}/maps"))
                .is_ok_and(|maps| maps.contains("libfaketime")),
        }
    }
}

/// Sets the wall clock of processes that follow `file` to be off by `seconds`.
///
/// # Errors
/// The file cannot be written.
pub fn set_wall(file: &Path, seconds: i64) -> anyhow::Result<()> {
    // Readers never see half a line.
    let aside = file.with_extension("new");
    std::fs::write(&aside, format!("{seconds:+}\n"))
        .and_then(|()| std::fs::rename(&aside, file))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn library() -> Option<&'static str> {
    LIBRARIES.into_iter().find(|path| Path::new(path).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(command: &mut Command) -> i64 {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let whole = text.split('.').next().unwrap();
        whole.trim().parse().unwrap()
    }

    /// A process sees the clock it was dressed in, and the others do not. Where the machine has not what it takes, that is
    /// said and not tested.
    #[test]
    fn a_dressed_process_sees_another_clock() {
        let base = Dress::Base(Duration::from_secs(1_000_000));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        let wall = Dress::Wall(file.clone());
        let uptime = |dress: &Dress| seconds(dress.command(Path::new("cat")).arg("/proc/uptime"));
        let date = |dress: &Dress| seconds(dress.command(Path::new("date")).arg("+%s"));
        match base.missing() {
            Some(why) => eprintln!("not tested: {why}"),
            // Only root may.
            None if !rustix::process::geteuid().is_root() => eprintln!("not tested: not root"),
            None => assert!(uptime(&base) - uptime(&Dress::Plain) >= 999_999),
        }
        match wall.missing() {
            Some(why) => eprintln!("not tested: {why}"),
            None => {
                set_wall(&file, -7_200).unwrap();
                let off = date(&wall) - date(&Dress::Plain);
                assert!((-7_200..-7_100).contains(&off), "{off}");
            }
        }
    }
}
