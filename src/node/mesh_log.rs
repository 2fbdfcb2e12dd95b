//! What this node saw happen in the mesh: the last lines of it, and the next ones for whoever follows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use riftmesh_base::time::wall_clock;
use riftmesh_base::{Millis, NodeId};
use riftmesh_membership::{Membership, NodeState, NodeView};
use tokio::sync::watch;

use crate::answers::{MeshHappening, MeshLine};

/// Lines kept.
const LINES_MAX: usize = 1_024;

/// Nodes as gossip has them at one moment.
type Nodes = BTreeMap<NodeId, NodeView>;

/// The last lines, shared by those who read them.
#[derive(Clone)]
pub struct MeshLog(Arc<Shared>);

struct Shared {
    lines: Mutex<VecDeque<MeshLine>>,
    /// How many lines there ever were.
    written: watch::Sender<u64>,
}

impl Default for MeshLog {
    fn default() -> Self {
        Self(Arc::new(Shared {
            lines: Mutex::default(),
            written: watch::Sender::new(0),
        }))
    }
}

impl MeshLog {
    /// Notes what changes in the view of `membership` from now on, until the node has left the mesh.
    pub async fn follow(self, membership: Membership) {
        let mut views = membership.subscribe();
        let mut before = Nodes::new();
        loop {
            let now = views.borrow_and_update().nodes.clone();
            self.write(happened(&before, &now, wall_clock()));
            before = now;
            if views.changed().await.is_err() {
                return;
            }
        }
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<MeshLine>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, new: Vec<MeshLine>) {
        if new.is_empty() {
            return;
        }
        let mut lines = self.lines();
        let count = new.len() as u64;
        lines.extend(new);
        let surplus = lines.len().saturating_sub(LINES_MAX);
        lines.drain(..surplus);
        // While the lines are locked, so that the count is that of the lines for everybody.
        self.0.written.send_modify(|written| *written += count);
    }

    /// A reader that begins with the oldest line that is kept.
    pub fn read(&self) -> MeshReader {
        MeshReader {
            log: self.clone(),
            written: self.0.written.subscribe(),
            next: 0,
        }
    }
}

/// Reads the lines in their order.
pub struct MeshReader {
    log: MeshLog,
    written: watch::Receiver<u64>,
    /// How many lines there were before the next to be read.
    next: u64,
}

impl MeshReader {
    /// The lines that were not read yet; a gap first if some of them are not kept any more.
    pub fn rest(&mut self) -> Vec<MeshLine> {
        let lines = self.log.lines();
        let written = *self.written.borrow_and_update();
        let first = written - lines.len() as u64;
        let begin = self.next.max(first);
        let gap = (begin > self.next).then_some(MeshLine::Gap);
        let skip = usize::try_from(begin - first).unwrap_or(usize::MAX);
        self.next = written;
        gap.into_iter()
            .chain(lines.iter().skip(skip).cloned())
            .collect()
    }

    /// The same, when there are any; none once nothing more can come.
    pub async fn more(&mut self) -> Option<Vec<MeshLine>> {
        let next = self.next;
        self.written
            .wait_for(|written| *written > next)
            .await
            .ok()?;
        Some(self.rest())
    }
}

/// What lies between two views.
fn happened(before: &Nodes, now: &Nodes, at: Millis) -> Vec<MeshLine> {
    let line = |node: &NodeView, what| MeshLine::Seen {
        at,
        node: node.id,
        name: node.name(),
        generation: node.generation,
        what,
    };
    let mut lines = Vec::new();
    for (id, node) in now {
        let what = changes(before.get(id), node);
        lines.extend(what.into_iter().map(|what| line(node, what)));
    }
    let gone = before.iter().filter(|(id, _)| !now.contains_key(id));
    lines.extend(gone.map(|(_, node)| line(node, MeshHappening::Forgotten)));
    lines
}

fn changes(before: Option<&NodeView>, now: &NodeView) -> Vec<MeshHappening> {
    let address = now.address;
    let gone = |state| matches!(state, NodeState::Down | NodeState::Left);
    let Some(before) = before else {
        let joined = MeshHappening::Joined { address };
        // Hearsay about somebody who was gone before this node came.
        let state = ended(now.state);
        return [joined].into_iter().chain(state).collect();
    };
    let mut what = Vec::new();
    let again = before.generation != now.generation || gone(before.state);
    if !gone(now.state) && again {
        what.push(MeshHappening::Returned { address });
    } else if before.address != address {
        let from = before.address;
        what.push(MeshHappening::Moved { from, to: address });
    }
    match (before.state, now.state) {
        (old, new) if old == new => {}
        (NodeState::Suspect, NodeState::Alive) if !again => what.push(MeshHappening::Recovered),
        (_, NodeState::Alive) => {}
        (_, state) => what.extend(ended(state)),
    }
    what
}

fn ended(state: NodeState) -> Option<MeshHappening> {
    match state {
        NodeState::Alive => None,
        NodeState::Suspect => Some(MeshHappening::Suspected),
        NodeState::Down => Some(MeshHappening::Died),
        NodeState::Left => Some(MeshHappening::Left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(node: u64, generation: u64, port: u16, state: NodeState) -> NodeView {
        NodeView {
            id: NodeId(node),
            address: ([10, 0, 0, 1], port).into(),
            generation,
            state,
            since: Millis(0),
            metadata: None,
            body: None,
            relay: None,
        }
    }

    fn nodes(views: impl IntoIterator<Item = NodeView>) -> Nodes {
        views.into_iter().map(|view| (view.id, view)).collect()
    }

    /// The whole life of a node as another one tells it, and what is no news.
    #[test]
    fn a_life_is_told() {
        use NodeState::{Alive, Down, Left, Suspect};
        let story = [
            vec![view(1, 5, 7700, Alive)],
            vec![view(1, 5, 7700, Suspect)],
            vec![view(1, 5, 7700, Alive)],
            vec![view(1, 5, 7701, Alive)],
            vec![view(1, 5, 7701, Suspect)],
            vec![view(1, 5, 7701, Down)],
            vec![view(1, 6, 7702, Alive)],
            vec![view(1, 6, 7702, Alive)],
            vec![view(1, 7, 7702, Alive)],
            vec![view(1, 7, 7702, Left), view(2, 1, 7800, Down)],
            vec![view(2, 1, 7800, Down)],
        ];
        let mut before = Nodes::new();
        let mut told = Vec::new();
        for views in story {
            let now = nodes(views);
            for line in happened(&before, &now, Millis(9)) {
                let MeshLine::Seen { node, what, .. } = line else {
                    panic!("a gap in one step");
                };
                told.push(format!("{}: {what}", node.0));
            }
            before = now;
        }
        let expected = [
            "1: joined at 10.0.0.1:7700",
            "1: is suspected",
            "1: answers again",
            "1: moved from 10.0.0.1:7700 to 10.0.0.1:7701",
            "1: is suspected",
            "1: is down",
            "1: is back at 10.0.0.1:7702",
            "1: is back at 10.0.0.1:7702",
            "1: left",
            "2: joined at 10.0.0.1:7800",
            "2: is down",
            "1: is forgotten",
        ];
        assert_eq!(told, expected);
    }

    /// A reader gets every line once and in order, and is told when it came too late for some.
    #[tokio::test]
    async fn readers_miss_nothing_in_silence() {
        let log = MeshLog::default();
        let line = |node| {
            let alive = nodes([view(node, 1, 7700, NodeState::Alive)]);
            happened(&Nodes::new(), &alive, Millis(9))
        };
        let mut early = log.read();
        assert_eq!(early.rest(), []);
        log.write(line(0));
        assert_eq!(early.more().await.unwrap(), line(0));
        for node in 1..=LINES_MAX as u64 {
            log.write(line(node));
        }
        assert_eq!(early.rest().len(), LINES_MAX, "all since the last time");
        let late = log.read().rest();
        assert_eq!(late.len(), LINES_MAX + 1);
        assert_eq!((&late[0], &late[1..2]), (&MeshLine::Gap, &line(1)[..]));
    }
}
