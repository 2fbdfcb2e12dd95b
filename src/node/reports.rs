//! What the leader remembers of how nodes are. None of it is in the log: it is as old as it says, and a new leader hears
//! everybody again within seconds.

use std::collections::BTreeMap;

use riftmesh_base::{Millis, NodeId};

use crate::answers::{NodeReport, REPORT_EVERY, ReportAnswer};

/// Reports kept; a node that reports when there are more is not heard.
const REPORTS_MAX: usize = 4_096;
/// A report older than this says nothing any more.
const KEPT: Millis = Millis(REPORT_EVERY.0 * 12);

/// The last report of each node, and when it came.
#[derive(Debug, Default)]
pub struct NodeReports(BTreeMap<NodeId, (Millis, NodeReport)>);

impl NodeReports {
    /// Keeps a report that came at `now`; false if there is no place for it.
    pub fn note(&mut self, node: NodeId, report: NodeReport, now: Millis) -> bool {
        self.0.retain(|_, (at, _)| now.since(*at) <= KEPT);
        if self.0.len() >= REPORTS_MAX && !self.0.contains_key(&node) {
            return false;
        }
        self.0.insert(node, (now, report));
        true
    }

    /// All of them, with their ages.
    pub fn all(&self, now: Millis) -> Vec<(NodeId, ReportAnswer)> {
        let fresh = self.0.iter().filter(|(_, (at, _))| now.since(*at) <= KEPT);
        fresh
            .map(|(node, (at, report))| {
                let answer = ReportAnswer {
                    age_ms: now.since(*at).0,
                    report: report.clone(),
                };
                (*node, answer)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::LoadReport;

    fn report(cpu_percent: u8) -> NodeReport {
        NodeReport {
            devices: Vec::new(),
            load: LoadReport {
                cores: 2,
                cpu_percent,
                memory_mib: 100,
                memory_used_mib: 10,
            },
        }
    }

    /// The last word counts, with its age; one that has not spoken for a minute is not quoted.
    #[test]
    fn the_last_word_counts() {
        let mut reports = NodeReports::default();
        for (second, node, cpu) in [(0, 1, 10), (0, 2, 20), (5, 1, 90)] {
            let now = Millis::from_secs(second);
            assert!(reports.note(NodeId(node), report(cpu), now));
        }
        let told = |reports: &NodeReports, second| {
            let all = reports.all(Millis::from_secs(second)).into_iter();
            all.map(|(node, told)| (node.0, told.age_ms, told.report.load.cpu_percent))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&reports, 6), [(1, 1_000, 90), (2, 6_000, 20)]);
        assert_eq!(told(&reports, 61), [(1, 56_000, 90)]);
        assert!(reports.note(NodeId(3), report(1), Millis::from_secs(61)));
        assert_eq!(told(&reports, 61).len(), 2, "the silent one was forgotten");
    }

    /// Node ids that nobody knows cannot fill the leader's memory.
    #[test]
    fn there_is_an_end_to_it() {
        let mut reports = NodeReports::default();
        for node in 0..REPORTS_MAX as u64 {
            assert!(reports.note(NodeId(node), report(1), Millis(0)));
        }
        assert!(!reports.note(NodeId(u64::MAX), report(1), Millis(1)));
        assert!(reports.note(NodeId(7), report(2), Millis(1)), "a known one");
    }
}
