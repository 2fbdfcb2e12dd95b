//! The `riftmesh` command: parse, run, exit code. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    riftmesh::cli::main().into()
}
