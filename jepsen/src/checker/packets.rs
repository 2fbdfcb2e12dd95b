//! What a cluster does when long packets vanish.

use super::installed;
use crate::history::History;
use crate::nemesis::{BLOCKED, Fault};
use crate::verdict::Finding;

/// A path that became narrow is noticed, and what has to be written is written in shorter packets: while the fault is on.
pub fn long_writes_come_through(history: &History) -> Finding {
    const PROPERTY: &str = "long writes come through";
    let met = installed(history, Fault::Mtu);
    if let Some((index, detail)) = met.iter().find(|(_, detail)| detail.ends_with(BLOCKED)) {
        return Finding::invalid(PROPERTY, format!("event {index}: {detail}"));
    }
    match met.len() {
        0 => Finding::unknown(PROPERTY, "no packet was lost for its length"),
        count => Finding::valid(PROPERTY, format!("each of {count} times")),
    }
}
