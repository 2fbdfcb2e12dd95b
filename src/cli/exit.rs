//! The exit codes, in one place; `--help` quotes them.

use std::process::ExitCode;

use crate::answers::Health;

/// What is printed below `riftmesh --help`.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0   healthy, or done
  1   degraded, or a check or command failed
  2   no quorum
  3   no node could be reached
  64  the command line is wrong";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Healthy, or done.
    Ok,
    /// Degraded, or a check or command failed.
    Failed,
    /// No quorum.
    NoQuorum,
    /// No node could be reached.
    Unreachable,
    /// The command line is wrong.
    Usage,
}

impl Exit {
    /// Whether everything asked for was done.
    pub fn of(done: bool) -> Self {
        if done { Self::Ok } else { Self::Failed }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::NoQuorum => 2,
            Exit::Unreachable => 3,
            Exit::Usage => 64,
        })
    }
}

impl From<Health> for Exit {
    fn from(health: Health) -> Self {
        match health {
            Health::Healthy => Self::Ok,
            Health::Degraded => Self::Failed,
            Health::NoQuorum => Self::NoQuorum,
        }
    }
}
