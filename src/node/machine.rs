//! What a node says about its machine: its GPUs, by the driver's own library if there is one, and how busy it is.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use anyhow::Context;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use riftmesh_membership::Membership;
use sysinfo::System;
use tokio::sync::watch;
use tokio::time::sleep;

use super::body::{NodeBody, is_news};
use crate::answers::{DEVICES_MAX, DeviceReport, LoadReport, NodeReport, REPORT_EVERY};

/// The driver's library, under the name that comes with the driver itself; the one without a number comes with
/// development files.
const NVML: &str = "libnvidia-ml.so.1";
/// A driver that was not there is looked for again after this time: it may be installed, or a container be given it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
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

/// Tells the mesh what this node is, at once, and how its machine is, whenever that has changed, until the node stops.
///
/// # Errors
/// What the node says of itself is over a bound, or its machine cannot be looked at; others hear no more of it then.
pub async fn tell(
    membership: Membership,
    body: NodeBody,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    body.check().context("what this node says of itself")?;
    membership.publish(body.to_bytes().into()).await?;
    let mut gauges = Gauges::new()?;
    tokio::select! {
        told = keep_told(membership, body, move || gauges.read()) => told,
        // The sender ends with the node.
        _ = stopping.changed() => Ok(()),
    }
}

/// Looks at the machine again and again, and tells what it sees if it is news.
async fn keep_told(
    membership: Membership,
    mut body: NodeBody,
    mut look: impl FnMut() -> NodeReport + Send + 'static,
) -> anyhow::Result<()> {
    loop {
        let looking = tokio::task::spawn_blocking(move || {
            let report = look();
            (look, report)
        });
        let (back, report) = looking.await?;
        look = back;
        let told = body.report.as_ref();
        if told.is_none_or(|told| is_news(told, &report)) {
            body.report = Some(report);
            membership.publish(body.to_bytes().into()).await?;
        }
        sleep(REPORT_EVERY.duration()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU8, Ordering};
    use std::sync::{Arc, OnceLock};

    use bytes::Bytes;
    use riftmesh_base::{BlobHash, NodeId, Seed};
    use riftmesh_membership::{
        AdvertisedRole, GenerationFile, MembershipSettings, MembershipView, NodeMetadata,
    };
    use riftmesh_transport::link::{BoxFuture, Handler, Lane, Peer, Refused};
    use riftmesh_transport::{Link, MemoryNetwork};

    use super::super::body::PROTOCOLS;
    use super::*;

    /// Hands what arrives to the membership.
    #[derive(Default)]
    struct Door(OnceLock<Membership>);

    impl Handler for Door {
        fn call(
            &self,
            from: Peer,
            _: Lane,
            request: Bytes,
        ) -> BoxFuture<'_, Result<Bytes, Refused>> {
            Box::pin(self.0.get().unwrap().handle_call(from, request))
        }
        fn datagram(&self, from: Peer, payload: Bytes) {
            self.0.get().unwrap().handle_datagram(from, payload);
        }
        fn blob(&self, _: Peer, _: BlobHash) -> Option<PathBuf> {
            None
        }
    }

    const MEMBERS: u8 = 5;

    fn members(folder: &tempfile::TempDir) -> Vec<Membership> {
        let network = MemoryNetwork::new(Seed(1));
        let address = |node: u8| ([10, 1, 1, node], 7_000).into();
        let start = |node: u8| {
            let link = network.link(NodeId(node.into()), address(node));
            let door = Arc::new(Door::default());
            let membership = Membership::start(
                MembershipSettings::default(),
                link.clone(),
                NodeId(node.into()),
                link.local_address(),
                GenerationFile::new(folder.path().join(node.to_string())),
                NodeMetadata {
                    name: format!("n{node}"),
                    role: AdvertisedRole::Worker,
                },
                vec![address(1)],
            );
            door.0.set(membership.unwrap()).ok();
            link.serve(Arc::clone(&door) as Arc<dyn Handler>);
            door.0.get().unwrap().clone()
        };
        (1..=MEMBERS).map(start).collect()
    }

    fn told_percent(view: &MembershipView) -> Option<u8> {
        let body = view.get(NodeId(1))?.body.as_ref()?;
        let report = NodeBody::from_bytes(&body.bytes).unwrap().report?;
        Some(report.load.cpu_percent)
    }

    /// Any node tells within 15 s that another has become busy, and that it idles again, whoever leads: there is no leader
    /// here. What does not matter is not told at all.
    #[tokio::test(start_paused = true)]
    async fn load_is_known_everywhere_within_15_seconds() {
        let folder = tempfile::tempdir().unwrap();
        let members = members(&folder);
        let busy = Arc::new(AtomicU8::new(1));
        let body = NodeBody {
            zone: None,
            labels: Vec::new(),
            slots: 1,
            version: "0.1.0".to_owned(),
            protocols: PROTOCOLS,
            http: ([127, 0, 0, 1], 7_700).into(),
            report: None,
        };
        let gauge = Arc::clone(&busy);
        let look = move || NodeReport {
            devices: Vec::new(),
            load: LoadReport {
                cores: 2,
                cpu_percent: gauge.load(Ordering::SeqCst),
                memory_mib: 1_000,
                memory_used_mib: 100,
            },
        };
        tokio::spawn(keep_told(members[0].clone(), body, look));
        for (percent, seen) in [(1, 1), (90, 90), (95, 90), (2, 2)] {
            busy.store(percent, Ordering::SeqCst);
            let changed = tokio::time::Instant::now();
            if percent != seen {
                sleep(Duration::from_secs(15)).await;
            }
            for member in &members {
                let mut views = member.subscribe();
                let known = views.wait_for(|view| told_percent(view) == Some(seen));
                let node = member.node();
                let known = tokio::time::timeout(Duration::from_secs(60), known).await;
                known
                    .unwrap_or_else(|_| panic!("{node} does not know {seen}"))
                    .unwrap();
            }
            let took = changed.elapsed();
            assert!(took <= Duration::from_secs(16), "{percent}: {took:?}");
        }
    }

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
