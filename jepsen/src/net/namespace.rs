//! Network namespaces with one TAP device each.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::tap;

/// Name of the device in every namespace.
const DEVICE: &str = "wire0";

/// A network namespace of a node.
#[derive(Debug)]
pub struct Namespace {
    handle: File,
}

/// Runs `ip` with `arguments`.
///
/// # Errors
/// It is missing or fails; the text is its own.
pub fn ip<'a>(arguments: impl IntoIterator<Item = &'a str>) -> anyhow::Result<()> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let output = Command::new("ip")
        .args(&arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot start `ip` (package iproute2)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`ip {}` failed: {}",
        arguments.join(" "),
        said.trim()
    );
    Ok(())
}

/// The address of the node with this number, from 0.
pub fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number + 1)
}

/// The hardware address of the node with this number. The last byte says who it is.
pub fn hardware_address(number: u8) -> [u8; 6] {
    [0x02, b'r', b'i', b'f', b't', number.wrapping_add(1)]
}

/// Tells a namespace whose hardware an address belongs to.
///
/// # Errors
/// `ip` fails.
pub fn know(name: &str, address: Ipv4Addr, number: u8) -> anyhow::Result<()> {
    let hardware = hardware_address(number).map(|byte| format!("{byte:02x}"));
    let (at, lladdr) = (address.to_string(), hardware.join(":"));
    ip([
        "-n", name, "neigh", "replace", &at, "lladdr", &lladdr, "dev", DEVICE,
    ])
}

/// Gives a namespace another address than it had.
///
/// # Errors
/// `ip` fails.
pub fn replace_address(name: &str, old: Ipv4Addr, new: Ipv4Addr) -> anyhow::Result<()> {
    let (old, new) = (format!("{old}/24"), format!("{new}/24"));
    // In this order: with the first address of a network the kernel takes all others of it away.
    ip(["-n", name, "addr", "del", &old, "dev", DEVICE])?;
    ip(["-n", name, "addr", "add", &new, "dev", DEVICE])
}

impl Namespace {
    /// Makes the namespace of node `number` of `count`, and the end of the wire that its frames come out of.
    ///
    /// # Errors
    /// Not root, or `ip` fails.
    pub fn create(name: &str, number: u8, count: u8) -> anyhow::Result<(Self, File)> {
        ip(["netns", "add", name])?;
        let path = format!("/run/netns/{name}");
        let handle = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        let namespace = Self { handle };
        let end = namespace.within(|| tap::open(DEVICE))?.context(
            "cannot make a TAP device; /dev/net/tun has to be there, and this to run as root",
        )?;
        let hardware = |number| {
            hardware_address(number)
                .map(|byte| format!("{byte:02x}"))
                .join(":")
        };
        let own = format!("{}/24", address(number));
        ip([
            "-n",
            name,
            "link",
            "set",
            DEVICE,
            "address",
            &hardware(number),
        ])?;
        ip(["-n", name, "addr", "add", &own, "dev", DEVICE])?;
        ip(["-n", name, "link", "set", DEVICE, "up"])?;
        ip(["-n", name, "link", "set", "lo", "up"])?;
        // Everyone knows everyone: an address that could not be resolved would outlast the fault that hid it.
        for other in (0..count).filter(|other| *other != number) {
            know(name, address(other), other)?;
        }
        Ok((namespace, end))
    }

    /// Runs `act` inside: sockets it makes and processes it starts belong to this namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> std::io::Result<T> {
        // A thread of its own, so that none is ever left in the wrong place.
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.handle.as_fd(), network)?;
                Ok(act())
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}
