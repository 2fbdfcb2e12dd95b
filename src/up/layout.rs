//! The directory, ports and disk of an `up`: checked before anything is started, with errors that say what to do.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use riftmesh_base::ConfigurationName;
use serde::{Deserialize, Serialize};

use super::UpOptions;
use crate::chores::settings::Preset;

/// Less free space than this and nothing is started.
const FREE_BYTES_MIN: u64 = 512 << 20;
/// How long nodes of an earlier `up` in the same directory may take to leave.
const LEAVING_MAX: Duration = Duration::from_secs(15);
/// The file that makes a directory ours.
const MARKER: &str = "up.json";

/// What an `up` directory remembers, so that the same command resumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterLayout {
    /// Version of this file.
    pub format: u32,
    /// Nodes that vote.
    pub voters: u16,
    /// Nodes that run jobs.
    pub workers: u16,
    /// Jobs each worker runs at once.
    pub slots: u16,
    /// What is learned.
    pub configuration: ConfigurationName,
    /// How.
    pub preset: Preset,
    /// First port.
    pub port: u16,
    /// Seed of the run.
    pub seed: u64,
}

/// One node of the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlace {
    /// Such as `v1` or `w1`.
    pub name: String,
    /// Votes or works.
    pub voter: bool,
    /// QUIC and HTTP alike.
    pub address: SocketAddr,
    /// Its data directory.
    pub dir: PathBuf,
}

/// A checked and locked directory.
pub struct Prepared {
    /// What runs in it.
    pub layout: ClusterLayout,
    /// It has been used before.
    pub resumed: bool,
    /// The nodes to start.
    pub nodes: Vec<NodePlace>,
    /// The cluster's credential.
    pub credential: PathBuf,
    // Released when the process ends, however it ends.
    _lock: File,
}

/// Checks everything that can be checked before the first process is started.
///
/// # Errors
/// Says what is wrong and what to do about it. Nothing was started; the directory may have been made.
pub fn prepare(options: &UpOptions) -> anyhow::Result<Prepared> {
    let dir = std::path::absolute(&options.dir)?;
    let saved = read_marker(&dir)?;
    std::fs::create_dir_all(&dir).with_context(|| unwritable(&dir))?;
    let lock = lock(&dir)?;
    check_disk(&dir)?;
    let layout = merge(saved.as_ref(), options)?;
    let nodes = places(&layout, &dir);
    wait_for_ports(
        &nodes,
        if saved.is_some() {
            LEAVING_MAX
        } else {
            Duration::ZERO
        },
    )?;
    if saved.as_ref() != Some(&layout) {
        write_marker(&dir, &layout)?;
    }
    Ok(Prepared {
        resumed: saved.is_some(),
        nodes,
        credential: dir.join("cluster.credential"),
        layout,
        _lock: lock,
    })
}

fn unwritable(dir: &Path) -> String {
    format!(
        "cannot write to {}; choose another directory with --dir",
        dir.display()
    )
}

/// The saved layout, none for a directory that is new or empty.
fn read_marker(dir: &Path) -> anyhow::Result<Option<ClusterLayout>> {
    let marker = dir.join(MARKER);
    match std::fs::read_to_string(&marker) {
        Ok(text) => {
            let layout: ClusterLayout = serde_json::from_str(&text).with_context(|| {
                format!(
                    "{} is damaged or of another version of riftmesh",
                    marker.display()
                )
            })?;
            ensure!(
                layout.format == 1,
                "{} has format {}; this riftmesh reads 1",
                marker.display(),
                layout.format
            );
            Ok(Some(layout))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let foreign = std::fs::read_dir(dir)
                .ok()
                .into_iter()
                .flatten()
                .flatten()
                .find(|entry| entry.file_name() != "up.lock");
            if let Some(entry) = foreign {
                bail!(
                    "{} is not a riftmesh directory (it has {} and no {MARKER}); choose a new one with --dir",
                    dir.display(),
                    entry.file_name().to_string_lossy()
                );
            }
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            bail!(
                "{} is not a directory; choose another with --dir",
                dir.display()
            )
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", marker.display())),
    }
}

fn write_marker(dir: &Path, layout: &ClusterLayout) -> anyhow::Result<()> {
    let (aside, marker) = (dir.join("up.json.new"), dir.join(MARKER));
    let file = File::create(&aside).with_context(|| unwritable(dir))?;
    serde_json::to_writer_pretty(&file, layout).with_context(|| unwritable(dir))?;
    file.sync_all().with_context(|| unwritable(dir))?;
    std::fs::rename(&aside, &marker).with_context(|| unwritable(dir))
}

fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("up.lock");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| unwritable(dir))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(
        |_| {
            anyhow::anyhow!(
                "another `riftmesh up` is running in {}; stop it or use another --dir",
                dir.display()
            )
        },
    )?;
    Ok(file)
}

fn check_disk(dir: &Path) -> anyhow::Result<()> {
    let stat = rustix::fs::statvfs(dir)
        .with_context(|| format!("cannot look at the disk of {}", dir.display()))?;
    let free = stat.f_bavail * stat.f_frsize;
    ensure!(
        free >= FREE_BYTES_MIN,
        "only {} MiB are free on the disk of {}, {} MiB are needed; make room or choose another directory with --dir",
        free >> 20,
        dir.display(),
        FREE_BYTES_MIN >> 20
    );
    Ok(())
}

/// Options over what was saved over defaults. What is learned and who votes cannot change within a directory.
fn merge(saved: Option<&ClusterLayout>, options: &UpOptions) -> anyhow::Result<ClusterLayout> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u16);
    let workers = options.workers.or(saved.map(|s| s.workers)).unwrap_or(1);
    let layout = ClusterLayout {
        format: 1,
        voters: options.voters.or(saved.map(|s| s.voters)).unwrap_or(3),
        workers,
        slots: options
            .slots
            .or(saved.map(|s| s.slots))
            .unwrap_or((cores / workers.max(1)).max(1)),
        configuration: match options
            .configuration
            .clone()
            .or(saved.map(|s| s.configuration.clone()))
        {
            Some(configuration) => configuration,
            None => "hex8_2p".parse()?,
        },
        preset: options
            .preset
            .or(saved.map(|s| s.preset))
            .unwrap_or(Preset::Tiny),
        port: options.port.or(saved.map(|s| s.port)).unwrap_or(7_700),
        seed: options.seed.or(saved.map(|s| s.seed)).unwrap_or(1),
    };
    ensure!(
        [1, 3, 5].contains(&layout.voters),
        "--voters takes 1, 3 or 5, not {}",
        layout.voters
    );
    ensure!(layout.workers <= 64, "--workers takes at most 64");
    ensure!(
        (1..=1_024).contains(&layout.slots),
        "--slots takes 1 to 1024"
    );
    ensure!(
        usize::from(layout.port) + usize::from(layout.voters + layout.workers) <= 65_536
            && layout.port > 0,
        "--port {} leaves no room for {} nodes",
        layout.port,
        layout.voters + layout.workers
    );
    if let Some(saved) = saved {
        ensure!(
            saved.voters == layout.voters,
            "this directory's cluster has {} voters; leave --voters away or use another --dir",
            saved.voters
        );
        ensure!(
            saved.configuration == layout.configuration,
            "this directory's cluster learns {}; leave --configuration away or use another --dir",
            saved.configuration
        );
    }
    Ok(layout)
}

fn places(layout: &ClusterLayout, dir: &Path) -> Vec<NodePlace> {
    let voters = (1..=layout.voters).map(|n| (format!("v{n}"), true));
    let workers = (1..=layout.workers).map(|n| (format!("w{n}"), false));
    voters
        .chain(workers)
        .zip(layout.port..)
        .map(|((name, voter), port)| NodePlace {
            dir: dir.join("nodes").join(&name),
            name,
            voter,
            address: (Ipv4Addr::LOCALHOST, port).into(),
        })
        .collect()
}

/// Checks all ports. Nodes of an `up` that was killed a moment ago are still leaving: they are given time.
fn wait_for_ports(nodes: &[NodePlace], patience: Duration) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        match nodes.iter().try_for_each(check_ports) {
            Err(_) if begin.elapsed() < patience => {
                std::thread::park_timeout(Duration::from_millis(200));
            }
            outcome => return outcome,
        }
    }
}

fn check_ports(place: &NodePlace) -> anyhow::Result<()> {
    let free = TcpListener::bind(place.address)
        .map(drop)
        .and_then(|()| UdpSocket::bind(place.address).map(drop));
    free.with_context(|| {
        format!(
            "port {} is taken; stop what uses it (an earlier `riftmesh up`?) or choose other ports with --port",
            place.address.port()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dir: &Path, port: u16) -> UpOptions {
        UpOptions {
            port: Some(port),
            ..UpOptions::in_dir(dir.to_owned())
        }
    }

    /// A port that was free a moment ago, with room above it.
    fn port() -> u16 {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        port.min(60_000)
    }

    #[test]
    fn a_directory_remembers_what_it_is_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let mut given = options(&path, port());
        given.workers = Some(2);
        let first = prepare(&given).unwrap();
        assert!(!first.resumed);
        assert_eq!(first.nodes.len(), 5);
        let layout = first.layout.clone();
        drop(first);
        let again = prepare(&UpOptions::in_dir(path.clone())).unwrap();
        assert!(again.resumed);
        assert_eq!(again.layout, layout);
        drop(again);
        let other = UpOptions {
            voters: Some(5),
            ..UpOptions::in_dir(path)
        };
        assert!(
            prepare(&other)
                .err()
                .unwrap()
                .to_string()
                .contains("has 3 voters")
        );
    }

    #[test]
    fn errors_say_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let error = prepare(&options(dir.path(), port())).err().unwrap();
        assert!(
            error.to_string().contains("thesis.tex") && error.to_string().contains("--dir"),
            "{error}"
        );

        let clean = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let error = prepare(&options(clean.path(), number)).err().unwrap();
        assert!(error.to_string().contains("is taken"), "{error}");

        let held = prepare(&options(clean.path(), port())).unwrap();
        let error = prepare(&options(clean.path(), port())).err().unwrap();
        assert!(
            error.to_string().contains("another `riftmesh up`"),
            "{error}"
        );
        drop(held);
    }
}
