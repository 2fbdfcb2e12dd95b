//! Whole nodes on real links. The agent under a virtual clock is in the `tests` crate.

mod comparison;
mod driver;

use crate::{AdvertisedRole, NodeMetadata};

fn metadata(node: u64) -> NodeMetadata {
    NodeMetadata {
        name: format!("node-{node}"),
        role: AdvertisedRole::Worker,
        slots: 2,
        cuda_devices: 0,
        version: "0.1.0".to_owned(),
        http: None,
    }
}
