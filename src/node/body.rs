//! What a node says about itself at length: its peers fetch it by the hash that gossip carries, so every node can tell it
//! of every other one, whoever leads.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use riftmesh_base::limits::ZONE_BYTES_MAX;
use riftmesh_membership::BODY_BYTES_MAX;
use riftmesh_statemachine::bounds::{LABEL_BYTES_MAX, LABELS_MAX};
use riftmesh_transport::PROTOCOL_VERSION;
use serde::{Deserialize, Serialize};

use crate::answers::{DeviceReport, NodeReport, ProtocolRange};

/// The only version of [`NodeBody`] so far.
const BODY_VERSION: u16 = 1;
/// Longest version text of a build.
const BUILD_BYTES_MAX: usize = 64;

/// The wire protocols that this build speaks.
pub const PROTOCOLS: ProtocolRange = ProtocolRange {
    oldest: PROTOCOL_VERSION,
    newest: PROTOCOL_VERSION,
};

/// What a node says about itself at length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeBody {
    /// Where it stands, in its operator's words.
    pub zone: Option<String>,
    /// Labels it offers to jobs.
    pub labels: Vec<String>,
    /// Jobs it can run at a time.
    pub slots: u16,
    /// The version of its binary.
    pub version: String,
    /// The wire protocols that it speaks.
    pub protocols: ProtocolRange,
    /// Where its HTTP API listens.
    pub http: SocketAddr,
    /// Its machine, once it has been looked at.
    pub report: Option<NodeReport>,
}

impl NodeBody {
    /// Its bytes, behind the version.
    pub fn to_bytes(&self) -> Vec<u8> {
        riftmesh_base::encode(&(BODY_VERSION, self))
    }

    /// Reads what [`NodeBody::to_bytes`] wrote on another node; the version before anything else.
    ///
    /// # Errors
    /// It is of another version, malformed, or over a bound.
    pub fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        let (version, rest) = postcard::take_from_bytes::<u16>(bytes).context("no version")?;
        ensure!(
            version == BODY_VERSION,
            "a body of version {version}: this build reads version {BODY_VERSION}"
        );
        let body: Self = riftmesh_base::decode(rest)?;
        body.check()?;
        Ok(body)
    }

    /// Whether it keeps to its bounds; then it also fits what the mesh carries.
    ///
    /// # Errors
    /// The first that it breaks.
    pub fn check(&self) -> anyhow::Result<()> {
        let zone = self.zone.as_ref().map_or(0, String::len);
        ensure!(zone <= ZONE_BYTES_MAX, "a zone of {zone} bytes");
        ensure!(
            self.version.len() <= BUILD_BYTES_MAX,
            "a version of {} bytes",
            self.version.len()
        );
        let labels = self.labels.len();
        ensure!(labels <= LABELS_MAX, "{labels} labels");
        let longest = self.labels.iter().map(String::len).max().unwrap_or(0);
        ensure!(longest <= LABEL_BYTES_MAX, "a label of {longest} bytes");
        match &self.report {
            Some(report) => report.check().map_err(anyhow::Error::msg),
            None => Ok(()),
        }
    }
}

/// Texts and numbers of one GPU in a body.
const DEVICE_BYTES_MAX: usize = 2 * (DeviceReport::TEXT_BYTES_MAX + 2) + 20;
const _: () = assert!(
    crate::answers::DEVICES_MAX * DEVICE_BYTES_MAX
        + LABELS_MAX * (LABEL_BYTES_MAX + 2)
        + ZONE_BYTES_MAX
        + BUILD_BYTES_MAX
        + 128
        <= BODY_BYTES_MAX,
    "whatever keeps to its bounds can be said"
);

/// How much a share may change before the others are told, in percent of the whole. Each telling reaches every node.
const SHARE_CHANGE: u32 = 10;
/// The same for how busy something is, which changes more.
const BUSY_CHANGE: u8 = 15;

/// Whether a machine has changed so much since it was told of that the others should know.
pub fn is_news(told: &NodeReport, now: &NodeReport) -> bool {
    let (before, after) = (&told.load, &now.load);
    let same_devices = told.devices.len() == now.devices.len();
    let mut pairs = told.devices.iter().zip(&now.devices);
    !same_devices
        || pairs.any(|(before, after)| is_other(before, after))
        || (before.cores, before.memory_mib) != (after.cores, after.memory_mib)
        || moved(before.cpu_percent, after.cpu_percent)
        || share_moved(
            before.memory_used_mib,
            after.memory_used_mib,
            after.memory_mib,
        )
}

fn is_other(before: &DeviceReport, after: &DeviceReport) -> bool {
    let what = |one: &DeviceReport| (one.index, one.memory_mib, one.busy_percent.is_some());
    let busy = |one: &DeviceReport| one.busy_percent.unwrap_or(0);
    what(before) != what(after)
        || (&before.model, &before.driver) != (&after.model, &after.driver)
        || moved(busy(before), busy(after))
        || share_moved(
            before.memory_used_mib,
            after.memory_used_mib,
            after.memory_mib,
        )
}

fn moved(before: u8, after: u8) -> bool {
    before.abs_diff(after) >= BUSY_CHANGE
}

fn share_moved(before: u32, after: u32, whole: u32) -> bool {
    u64::from(before.abs_diff(after)) * 100 >= u64::from(whole.max(1)) * u64::from(SHARE_CHANGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::{DEVICES_MAX, LoadReport};

    fn device(index: u32) -> DeviceReport {
        DeviceReport {
            index,
            model: "x".repeat(DeviceReport::TEXT_BYTES_MAX),
            driver: "x".repeat(DeviceReport::TEXT_BYTES_MAX),
            memory_mib: u32::MAX,
            memory_used_mib: u32::MAX / 2,
            busy_percent: Some(50),
        }
    }

    fn largest() -> NodeBody {
        NodeBody {
            zone: Some("x".repeat(ZONE_BYTES_MAX)),
            labels: vec!["x".repeat(LABEL_BYTES_MAX); LABELS_MAX],
            slots: u16::MAX,
            version: "x".repeat(BUILD_BYTES_MAX),
            protocols: PROTOCOLS,
            http: "[ffff:ffff::1]:65535".parse().unwrap(),
            report: Some(NodeReport {
                devices: (0..DEVICES_MAX as u32).map(device).collect(),
                load: LoadReport {
                    cores: u16::MAX,
                    cpu_percent: 40,
                    memory_mib: 1_000,
                    memory_used_mib: 500,
                },
            }),
        }
    }

    /// The largest body there can be is carried; what is over a bound, cut short or of another version is refused by name.
    #[test]
    fn bodies_are_read_with_care() {
        let body = largest();
        let bytes = body.to_bytes();
        assert!(bytes.len() <= BODY_BYTES_MAX, "{}", bytes.len());
        assert_eq!(NodeBody::from_bytes(&bytes).unwrap(), body);
        for end in 0..bytes.len() {
            assert!(NodeBody::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        let refused = |bytes: &[u8]| NodeBody::from_bytes(bytes).unwrap_err().to_string();
        let newer = riftmesh_base::encode(&(2_u16, &body));
        assert_eq!(
            refused(&newer),
            "a body of version 2: this build reads version 1"
        );
        let mut long = body.clone();
        long.zone = Some("x".repeat(ZONE_BYTES_MAX + 1));
        assert_eq!(refused(&long.to_bytes()), "a zone of 65 bytes");
        let mut many = body;
        many.labels.push("one more".to_owned());
        assert_eq!(refused(&many.to_bytes()), "17 labels");
    }

    /// A machine that idles or works on says nothing; one that begins, ends, fills up or loses a GPU does.
    #[test]
    fn only_a_real_change_is_told() {
        let told = largest().report.unwrap();
        let is_news = |change: fn(&mut NodeReport)| {
            let mut now = told.clone();
            change(&mut now);
            is_news(&told, &now)
        };
        assert!(!is_news(|_| ()));
        assert!(!is_news(|now| now.load.cpu_percent += 14));
        assert!(is_news(|now| now.load.cpu_percent += 15));
        assert!(is_news(|now| now.load.cpu_percent = 0));
        assert!(!is_news(|now| now.load.memory_used_mib += 99));
        assert!(is_news(|now| now.load.memory_used_mib -= 100));
        assert!(is_news(|now| now.devices[3].busy_percent = Some(70)));
        assert!(is_news(|now| now.devices[3].busy_percent = None));
        assert!(!is_news(|now| now.devices[3].memory_used_mib += 1_000));
        assert!(is_news(|now| now.devices[3].memory_used_mib = 0));
        assert!(is_news(|now| now.devices[3].driver = "580".to_owned()));
        assert!(is_news(|now| drop(now.devices.pop())));
    }
}
