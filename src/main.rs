//! riftmesh binary
fn main() {}
