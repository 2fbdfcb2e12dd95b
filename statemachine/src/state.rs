//! The state as a whole.

use std::collections::BTreeMap;

use riftmesh_base::{ClusterId, ConfigurationName, LogIndex, Millis};
use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::authorities::Authorities;
use crate::bounds::Bounds;
use crate::clients::Clients;
use crate::drains::Drains;
use crate::effect::Effect;
use crate::holds::Holds;
use crate::ledger::Ledger;
use crate::level::Level;
use crate::locks::Locks;
use crate::nodes::Nodes;
use crate::pairs::{MatchNames, Pairs};
use crate::queue::Queue;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::tenants::Tenants;
use crate::tokens::Trust;

/// Everything the voters agree on.
///
/// It changes only through [`State::apply`], and equal entries give equal states. Freezing a view is cloning it; that
/// copies every map, which takes about a microsecond per job, so a caller that must not wait clones on its apply
/// thread and encodes the clone elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub(crate) head: Head,
    pub(crate) clients: Clients,
    pub(crate) nodes: Nodes,
    pub(crate) queue: Queue,
    pub(crate) matches: MatchNames,
    pub(crate) configurations: BTreeMap<ConfigurationName, Configuration>,
    pub(crate) locks: Locks,
    pub(crate) settings: Settings,
    pub(crate) tenants: Tenants,
    pub(crate) level: Level,
    pub(crate) trust: Trust,
    pub(crate) holds: Holds,
    pub(crate) archive: Archive,
    pub(crate) drains: Drains,
    pub(crate) authorities: Authorities,
}

/// The few values the rest hangs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub bounds: Bounds,
    pub cluster: Option<ClusterId>,
    /// Cluster time. Never goes back.
    pub now: Millis,
    /// Index of the last entry applied.
    pub applied: LogIndex,
}

/// What the cluster knows about one board and player count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Configuration {
    pub ledger: Ledger,
    pub registry: Registry,
    pub pairs: Pairs,
}

/// What a handler needs to know of the entry it works for, and where it says what happened.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Cluster time.
    pub now: Millis,
    /// The entry.
    pub index: LogIndex,
    /// Grants made by this entry so far.
    pub grants: u32,
    /// What happened so far.
    pub effects: Vec<Effect>,
}

impl Turn {
    pub fn tell(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

impl State {
    /// The state before the first entry.
    pub fn new() -> Self {
        Self::with_bounds(Bounds::default())
    }

    /// The state before the first entry, with other bounds. Every replica must be given the same ones.
    pub fn with_bounds(bounds: Bounds) -> Self {
        Self {
            head: Head {
                bounds,
                ..Head::default()
            },
            clients: Clients::default(),
            nodes: Nodes::default(),
            queue: Queue::default(),
            matches: MatchNames::default(),
            configurations: BTreeMap::new(),
            locks: Locks::default(),
            settings: Settings::default(),
            tenants: Tenants::default(),
            level: Level::default(),
            trust: Trust::default(),
            holds: Holds::default(),
            archive: Archive::default(),
            drains: Drains::default(),
            authorities: Authorities::default(),
        }
    }

    /// The cluster's id, once it is founded.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.head.cluster
    }

    /// Cluster time: the highest stamped on an entry so far.
    pub fn now(&self) -> Millis {
        self.head.now
    }

    /// Index of the last entry applied, zero before the first.
    pub fn applied(&self) -> LogIndex {
        self.head.applied
    }

    /// The caps this state keeps to.
    pub fn bounds(&self) -> &Bounds {
        &self.head.bounds
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}
