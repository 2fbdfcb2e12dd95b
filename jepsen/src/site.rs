//! Builds what the nodes of a run stand on: namespaces, a wire and disks, or ports on loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};

use crate::cluster::{NodePlan, Site};
use crate::disk::NodeDisk;
use crate::net::Isolation;
use crate::net::namespace::{self, Namespace};
use crate::net::wire::Wire;
use crate::reaper::Reaper;

/// Every namespace has its own ports, so all nodes have the same.
const PORT: u16 = 7_700;

/// How many nodes, and on what.
#[derive(Debug, Clone, Copy)]
pub struct SiteLayout {
    /// Nodes that vote, 1 to 9.
    pub voters: u16,
    /// Nodes that work, at most 8.
    pub workers: u16,
    /// How they are kept apart.
    pub net: Isolation,
    /// First of the ports on loopback, one for each node.
    pub port: u16,
}

/// Builds a site below `folder`.
///
/// # Errors
/// A number is out of bounds, a port is taken, or the machine does not permit what `layout` asks for.
pub fn build(layout: SiteLayout, folder: &Path, seed: u64) -> anyhow::Result<Site> {
    ensure!((1..=9).contains(&layout.voters), "--nodes takes 1 to 9");
    ensure!(layout.workers <= 8, "--workers takes 0 to 8");
    let voters = (1..=layout.voters).map(|n| (format!("v{n}"), true));
    let workers = (1..=layout.workers).map(|n| (format!("w{n}"), false));
    let names: Vec<_> = voters.chain(workers).collect();
    match layout.net {
        Isolation::Namespaces => apart(&names, folder, seed),
        Isolation::Loopback => on_loopback(&names, layout.port),
    }
}

fn apart(names: &[(String, bool)], folder: &Path, seed: u64) -> anyhow::Result<Site> {
    let count = u8::try_from(names.len())?;
    let (mut plans, mut ends) = (Vec::new(), Vec::new());
    for (number, (name, voter)) in (0..count).zip(names) {
        let (namespace, end) = Namespace::create(name, number, count)?;
        plans.push(NodePlan {
            name: name.clone(),
            voter: *voter,
            mesh: SocketAddr::new(IpAddr::V4(namespace::address(number)), PORT),
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
            namespace: Some(Arc::new(namespace)),
            disk: Some(NodeDisk::mount(&folder.join(name))?),
        });
        ends.push(end);
    }
    Ok(Site {
        plans,
        wire: Some(Wire::lay(ends, seed)),
        reaper: None,
    })
}

fn on_loopback(names: &[(String, bool)], port: u16) -> anyhow::Result<Site> {
    let mut plans = Vec::new();
    for (offset, (name, voter)) in (0..).zip(names) {
        let port = port.checked_add(offset).context("--port is too high")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        TcpListener::bind(address)
            .with_context(|| format!("{address} is taken; choose another --port"))?;
        plans.push(NodePlan {
            name: name.clone(),
            voter: *voter,
            mesh: address,
            http: address,
            namespace: None,
            disk: None,
        });
    }
    Ok(Site {
        plans,
        wire: None,
        reaper: Some(Reaper::start(&std::env::current_exe()?)?),
    })
}
