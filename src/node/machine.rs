//! What a node says about its machine: its GPUs, by the driver's own library if there is one, and how busy it is.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use riftmesh_base::NodeId;
use sysinfo::System;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::answers::{DEVICES_MAX, DeviceReport, LoadReport, NodeReport, REPORT_EVERY};
use crate::client::Client;
use crate::protocol::Request;

/// The driver's library, under the name that comes with the driver itself; the one without a number comes with
/// development files.
const NVML: &str = "libnvidia-ml.so.1";
/// A driver that was not there is looked for again after this time: it may be installed, or a container be given it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The leader has this long to take a report; the next one is due soon.
const DELIVERY_MAX: Duration = Duration::from_secs(2);
const MIB: u64 = 1 << 20;

/// The machine a node runs on.
struct Gauges {
    system: System,
    nvml: Result<Nvml, Instant>,
}

impl Gauges {
    fn new() -> Result<Self, sysinfo::Error> {
        Ok(Self {
            system: System::new()?,
            nvml: open_nvml(false),
        })
    }

    /// Measures. Takes milliseconds, some of them in the driver.
    fn read(&mut self) -> NodeReport {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        if let Err(since) = self.nvml
            && since.elapsed() > LOOK_AGAIN
        {
            self.nvml = open_nvml(true);
        }
        let (total, free) = (self.system.total_memory(), self.system.available_memory());
        NodeReport {
            devices: self.nvml.as_ref().map(devices).unwrap_or_default(),
            load: LoadReport {
                cores: u16::try_from(self.system.cpus().len()).unwrap_or(u16::MAX),
                cpu_percent: percent(f64::from(self.system.global_cpu_usage())),
                memory_mib: mib(total),
                memory_used_mib: mib(total.saturating_sub(free)),
            },
        }
    }
}

/// A machine without a driver is no error: it has no GPU that jobs could use.
fn open_nvml(again: bool) -> Result<Nvml, Instant> {
    let opened = Nvml::builder().lib_path(OsStr::new(NVML)).init();
    opened.map_err(|error| {
        if !again {
            tracing::info!(%error, "no NVIDIA driver answers: this node reports no GPU");
        }
        Instant::now()
    })
}

fn devices(nvml: &Nvml) -> Vec<DeviceReport> {
    let driver = nvml.sys_driver_version().unwrap_or_default();
    let count = nvml.device_count().unwrap_or(0);
    let read = (0..count).filter_map(|index| {
        device(nvml, index, &driver)
            .inspect_err(|error| tracing::debug!(index, %error, "a GPU does not answer"))
            .ok()
    });
    read.take(DEVICES_MAX).collect()
}

fn device(nvml: &Nvml, index: u32, driver: &str) -> Result<DeviceReport, NvmlError> {
    let device = nvml.device_by_index(index)?;
    let memory = device.memory_info()?;
    // Parts of a GPU that is shared out do not tell how busy they are.
    let busy = device.utilization_rates().map(|busy| busy.gpu).ok();
    Ok(DeviceReport {
        index,
        model: cut(device.name()?),
        driver: cut(driver.to_owned()),
        memory_mib: mib(memory.total),
        memory_used_mib: mib(memory.used),
        busy_percent: busy.map(|busy| percent(f64::from(busy))),
    })
}

/// Short enough for a report.
fn cut(mut text: String) -> String {
    let end = text.floor_char_boundary(DeviceReport::TEXT_BYTES_MAX);
    text.truncate(end);
    text
}

fn mib(bytes: u64) -> u32 {
    u32::try_from(bytes / MIB).unwrap_or(u32::MAX)
}

fn percent(value: f64) -> u8 {
    value.round().clamp(0.0, 100.0) as u8
}

/// Tells the leader every few seconds how this node's machine is, until the node stops.
pub async fn report(client: Client, node: NodeId, mut stopping: watch::Receiver<bool>) {
    let telling = async {
        let mut gauges = match Gauges::new() {
            Ok(gauges) => gauges,
            Err(error) => return tracing::error!(%error, "this node tells nothing of its load"),
        };
        loop {
            let read = tokio::task::spawn_blocking(move || {
                let report = gauges.read();
                (gauges, report)
            });
            let (back, report) = match read.await {
                Ok(read) => read,
                Err(error) => return tracing::error!(%error, "this node tells nothing of its load"),
            };
            gauges = back;
            let told = client.ask_leader(Request::Report { report }, DELIVERY_MAX);
            if let Err(error) = told.await {
                tracing::debug!(%node, %error, "nobody heard how this node is");
            }
            sleep(REPORT_EVERY.duration()).await;
        }
    };
    tokio::select! {
        () = telling => {}
        // The sender ends with the node.
        _ = stopping.changed() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever this machine has or lacks, its report is plausible and within the bounds that the leader checks.
    #[test]
    fn any_machine_can_be_described() {
        let mut gauges = Gauges::new().unwrap();
        let report = gauges.read();
        report.check().unwrap();
        assert!(report.load.cores > 0 && report.load.memory_mib > 0);
        assert!(report.load.memory_used_mib <= report.load.memory_mib);
        for device in &report.devices {
            assert!(!device.model.is_empty() && device.memory_used_mib <= device.memory_mib);
        }
        assert_eq!(
            gauges.nvml.is_ok(),
            std::path::Path::new("/dev/nvidiactl").exists()
        );
    }

    #[test]
    fn texts_are_cut_between_letters() {
        assert_eq!(cut("H200".to_owned()), "H200");
        assert_eq!(cut("é".repeat(64)).len(), DeviceReport::TEXT_BYTES_MAX);
        assert_eq!(cut(format!("x{}", "é".repeat(64))).len(), 63);
    }
}
