//! What a node tells of its machine.

use riftmesh_base::Millis;
use serde::{Deserialize, Serialize};

/// Every node looks at its machine this often.
pub const REPORT_EVERY: Millis = Millis(5_000);
/// GPUs of one report.
pub const DEVICES_MAX: usize = 16;

/// What a node says about its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its GPUs, as their driver numbers them; at most [`DEVICES_MAX`].
    pub devices: Vec<DeviceReport>,
    /// How busy it is.
    pub load: LoadReport,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Its number, as in `cuda:0`.
    pub index: u32,
    /// What it is.
    pub model: String,
    /// The version of its driver.
    pub driver: String,
    /// Its memory in MiB.
    pub memory_mib: u32,
    /// Of that in use, by whomever.
    pub memory_used_mib: u32,
    /// How much of the last moments it was busy, if it tells.
    pub busy_percent: Option<u8>,
}

/// How busy a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Processors.
    pub cores: u16,
    /// How busy they were since the last look, all together.
    pub cpu_percent: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Of that in use.
    pub memory_used_mib: u32,
}

/// A report and its age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// How long ago the node that answers learned it; it has not changed much since.
    pub age_ms: u64,
    /// What it said.
    #[serde(flatten)]
    pub report: NodeReport,
}

impl DeviceReport {
    /// Bytes of its texts at most.
    pub const TEXT_BYTES_MAX: usize = 64;
}

impl NodeReport {
    /// Whether it keeps to its bounds.
    ///
    /// # Errors
    /// The first that it breaks.
    pub fn check(&self) -> Result<(), String> {
        if self.devices.len() > DEVICES_MAX {
            return Err(format!("{} GPUs in one report", self.devices.len()));
        }
        let texts = self
            .devices
            .iter()
            .flat_map(|one| [&one.model, &one.driver]);
        match texts.map(String::len).max() {
            Some(bytes) if bytes > DeviceReport::TEXT_BYTES_MAX => {
                Err(format!("a text of {bytes} bytes in a report"))
            }
            Some(_) | None => Ok(()),
        }
    }
}
