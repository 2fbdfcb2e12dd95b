//! riftmesh
