//! Where the nodes of a run live, and what lies between them.

mod frame;
pub mod masquerade;
pub mod namespace;
pub mod room;
pub mod rule;
pub mod spy;
mod tap;
pub mod wire;

use clap::ValueEnum;

/// How nodes are kept apart. A choice of the user: a run that fell back by itself would claim faults it cannot make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// Each node in a network namespace and on a small disk of its own, with a wire between them that can be broken.
    /// Needs root and iproute2.
    Namespaces,
    /// Processes on loopback. Faults of networks and disks are skipped, and a run that ordered them is void.
    Loopback,
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Namespaces => "namespaces",
            Self::Loopback => "loopback",
        })
    }
}
