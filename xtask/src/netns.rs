//! Real nodes on addresses of their own, in network namespaces: the story of eight machines, then the README's walkthrough.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::shell;

/// Where the binaries are.
#[derive(clap::Args)]
pub struct NetnsArguments {
    /// The folder with `riftmesh` and `riftmesh-jepsen`, such as `target/release`. Default: that of this program, where
    /// `cargo test` puts them
    #[arg(long)]
    binaries: Option<PathBuf>,
}

/// Runs both. Where the machine does not permit namespaces it says so and is content.
///
/// # Errors
/// A binary is missing, or something is not as it should be.
pub fn run(root: &Path, arguments: &NetnsArguments) -> anyhow::Result<()> {
    if let Some(reason) = missing(root) {
        eprintln!("SKIPPED: no nodes in network namespaces: {reason}");
        return Ok(());
    }
    let folder = match &arguments.binaries {
        Some(folder) => std::path::absolute(folder)?,
        None => {
            let own = std::env::current_exe()?;
            own.parent().context("no folder")?.to_path_buf()
        }
    };
    let program = |name: &str| {
        let path = folder.join(name);
        ensure!(
            path.is_file(),
            "{} is not there: run `cargo test` or `cargo build` first, or name another folder with --binaries",
            path.display()
        );
        path.to_str()
            .map(str::to_owned)
            .context("a path that is no text")
    };
    let (node, harness) = (program("riftmesh")?, program("riftmesh-jepsen")?);
    let store = std::env::temp_dir().join(format!("riftmesh-netns-{}", std::process::id()));
    let files = store.to_str().context("a path that is no text")?;
    eprintln!("== eight machines, one of them behind NAT");
    let eight = ["mesh", "--binary", &node, "--folder", files];
    // Kept when it fails, for the logs in it.
    shell::run(root, &harness, &eight, &[], "")?;
    std::fs::remove_dir_all(&store).with_context(|| format!("cannot remove {files}"))?;
    eprintln!("== three machines by hand, as the README has it");
    shell::run(root, "bash", &["bench/three_machines.sh", &node], &[], "")
}

/// What this machine lacks.
fn missing(root: &Path) -> Option<String> {
    let tools = [
        ("unshare", "--version", "util-linux"),
        ("ip", "-V", "iproute2"),
        ("timeout", "--version", "coreutils"),
        ("python3", "--version", "python3"),
        ("bash", "--version", "bash"),
    ];
    for (tool, question, package) in tools {
        if !shell::answers(tool, &[question]) {
            return Some(format!("`{tool}` does not work here (package {package})"));
        }
    }
    let attempt = [
        "--mount", "--net", "--pid", "--fork", "ip", "tuntap", "add", "dev", "try0", "mode", "tap",
    ];
    let permitted = shell::capture(root, "unshare", &attempt);
    permitted.err().map(|_| {
        "this process may not make namespaces with TAP devices in them (it needs root and /dev/net/tun)".to_owned()
    })
}
