//! What a process does when its disk fails.

use super::installed;
use crate::history::History;
use crate::nemesis::{Fault, SURVIVED};
use crate::verdict::Finding;

/// A failed sync says nothing of what is on the disk, so a voter that met one must not go on.
pub fn failed_syncs_end_the_process(history: &History) -> Finding {
    const PROPERTY: &str = "failed syncs end the process";
    let met = installed(history, Fault::SyncError);
    if let Some((index, detail)) = met.iter().find(|(_, detail)| detail.ends_with(SURVIVED)) {
        return Finding::invalid(PROPERTY, format!("event {index}: {detail}"));
    }
    match met.len() {
        0 => Finding::unknown(PROPERTY, "no sync failed"),
        count => Finding::valid(PROPERTY, format!("{count} processes ended")),
    }
}
