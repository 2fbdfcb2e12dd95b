//! One conformance suite, run on every log engine: the same random changes must leave the same head and the same
//! entries as a model that is nothing but a map.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::disk::HostDisk;
use crate::error::StorageError;
use crate::log::{ENTRY_BYTES_MAX, LogEngine, LogOp, PurgePoint};
use crate::memory_log::MemoryLog;
use crate::segments::SegmentLog;
use crate::sled_log::SledLog;

/// Opens the engine again on the same data; engines without disk give the same value.
type Reopen = Box<dyn FnMut(Option<Arc<dyn LogEngine>>) -> Arc<dyn LogEngine>>;

fn memory() -> Reopen {
    Box::new(|old| old.unwrap_or_else(|| Arc::new(MemoryLog::default())))
}

fn sled() -> Reopen {
    let dir = tempfile::tempdir().unwrap();
    Box::new(move |old| {
        drop(old);
        Arc::new(SledLog::open(&dir.path().join("log")).unwrap())
    })
}

fn segments() -> Reopen {
    let dir = tempfile::tempdir().unwrap();
    Box::new(move |old| {
        drop(old);
        // Small files, so that the cases go through many of them.
        let log = SegmentLog::open_on(Arc::new(HostDisk), &dir.path().join("log"), 20_000);
        Arc::new(log.unwrap())
    })
}

/// What the changes should leave, kept the slow and obvious way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    entries: BTreeMap<u64, Vec<u8>>,
    vote: Option<Vec<u8>>,
    committed: Option<Vec<u8>>,
    purged: Option<PurgePoint>,
}

impl Model {
    /// What `engine` holds.
    pub fn of(engine: &dyn LogEngine) -> Self {
        let head = engine.head().unwrap();
        let read = engine.read(0, u64::MAX, usize::MAX).unwrap();
        let ends = read.first().zip(read.last());
        assert_eq!(
            head.entries,
            ends.map(|((first, _), (last, _))| (*first, *last))
        );
        Self {
            entries: read.into_iter().collect(),
            vote: head.vote,
            committed: head.committed,
            purged: head.purged,
        }
    }

    /// The index that an append has to have.
    pub fn next(&self) -> u64 {
        let purged = self.purged.as_ref().map_or(0, |point| point.index);
        self.entries
            .keys()
            .next_back()
            .copied()
            .unwrap_or(0)
            .max(purged)
            + 1
    }

    pub fn apply(&mut self, op: &LogOp) {
        match op.clone() {
            LogOp::Append { index, bytes } => drop(self.entries.insert(index, bytes)),
            LogOp::TruncateFrom(from) => self.entries.retain(|index, _| *index < from),
            LogOp::Purge(point) => {
                self.entries.retain(|index, _| *index > point.index);
                if self.purged.as_ref().is_none_or(|p| p.index < point.index) {
                    self.purged = Some(point);
                }
            }
            LogOp::Vote(bytes) => self.vote = Some(bytes),
            LogOp::Committed(bytes) => self.committed = Some(bytes),
        }
    }

    fn check(&self, engine: &dyn LogEngine) {
        assert_eq!(&Self::of(engine), self);
    }
}

/// A step of a test, made into a valid change for whatever the log holds then.
#[derive(Debug, Clone)]
enum Step {
    Append(u8, usize),
    Truncate(u64),
    Purge(i64),
    Vote(u8),
    Committed(u8),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (any::<u8>(), prop_oneof![0..40usize, 16_000..40_000usize]).prop_map(|(b, n)| Step::Append(b, n)),
        1 => (0..5u64).prop_map(Step::Truncate),
        1 => (-3..3i64).prop_map(Step::Purge),
        1 => any::<u8>().prop_map(Step::Vote),
        1 => any::<u8>().prop_map(Step::Committed),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

fn change(step: &Step, model: &Model) -> Option<LogOp> {
    let next = model.next();
    Some(match *step {
        Step::Append(byte, len) => LogOp::Append {
            index: next,
            bytes: vec![byte; len],
        },
        Step::Truncate(back) => LogOp::TruncateFrom(next.saturating_sub(back)),
        Step::Purge(ahead) => {
            let index = next.saturating_add_signed(ahead);
            LogOp::Purge(PurgePoint {
                index,
                mark: index.to_string().into_bytes(),
            })
        }
        Step::Vote(byte) => LogOp::Vote(vec![byte]),
        Step::Committed(byte) => LogOp::Committed(vec![byte]),
        Step::Reopen => return None,
    })
}

fn behaves_like_the_model(make: fn() -> Reopen, cases: u32) {
    let mut runner = TestRunner::new(ProptestConfig::with_cases(cases));
    runner
        .run(&steps(), |steps| {
            let mut reopen = make();
            let mut engine = reopen(None);
            let mut model = Model::default();
            let mut batch = Vec::new();
            for (i, step) in steps.iter().enumerate() {
                match change(step, &model) {
                    Some(op) => {
                        model.apply(&op);
                        batch.push(op);
                    }
                    None => {
                        engine.write(&std::mem::take(&mut batch)).unwrap();
                        engine = reopen(Some(engine));
                        model.check(&*engine);
                    }
                }
                // Batches of one to three changes.
                if i % 3 == 0 {
                    engine.write(&std::mem::take(&mut batch)).unwrap();
                    model.check(&*engine);
                }
            }
            Ok(())
        })
        .unwrap();
}

fn refuses_misuse(make: fn() -> Reopen) {
    let engine = make()(None);
    let append = |index, len| LogOp::Append {
        index,
        bytes: vec![1; len],
    };
    engine.write(&[append(5, 1), append(6, 1)]).unwrap();
    let before = engine.head().unwrap();
    for bad in [append(8, 1), append(6, 1), append(7, ENTRY_BYTES_MAX + 1)] {
        let error = engine.write(&[LogOp::Vote(vec![9]), bad]).unwrap_err();
        assert!(
            matches!(
                error,
                StorageError::Misuse(_) | StorageError::TooLarge { .. }
            ),
            "{error}"
        );
        assert_eq!(engine.head().unwrap(), before, "all or none");
    }
    let point = PurgePoint {
        index: 9,
        mark: Vec::new(),
    };
    engine.write(&[LogOp::Purge(point)]).unwrap();
    assert!(
        engine.write(&[append(9, 1)]).is_err(),
        "a purged index is gone for good"
    );
    engine.write(&[append(10, 1)]).unwrap();
}

fn reads_are_bounded(make: fn() -> Reopen) {
    let engine = make()(None);
    let ops: Vec<LogOp> = (1..=50)
        .map(|index| LogOp::Append {
            index,
            bytes: vec![7; 100],
        })
        .collect();
    engine.write(&ops).unwrap();
    let indexes = |from, to, max| -> Vec<u64> {
        engine
            .read(from, to, max)
            .unwrap()
            .into_iter()
            .map(|(index, _)| index)
            .collect()
    };
    assert_eq!(indexes(10, 20, usize::MAX), (10..20).collect::<Vec<_>>());
    assert_eq!(indexes(10, 20, 0), [10], "at least one");
    assert!((2..9).contains(&indexes(10, 20, 300).len()));
    assert!(indexes(20, 10, 300).is_empty() && indexes(51, 60, 300).is_empty());
}

/// A purge of a long log happens in small steps: the point moves at once, the rest follows with later writes, and a
/// restart in between changes nothing.
fn purges_in_steps(make: fn() -> Reopen) {
    let mut reopen = make();
    let engine = reopen(None);
    let ops: Vec<LogOp> = (1..=2_000)
        .map(|index| LogOp::Append {
            index,
            bytes: vec![7; 20],
        })
        .collect();
    engine.write(&ops).unwrap();
    engine
        .write(&[LogOp::Purge(PurgePoint {
            index: 1_900,
            mark: vec![1],
        })])
        .unwrap();
    let engine = reopen(Some(engine));
    for i in 0..10 {
        assert_eq!(engine.head().unwrap().entries, Some((1_901, 2_000)));
        assert_eq!(engine.read(0, 3_000, usize::MAX).unwrap().len(), 100);
        engine.write(&[LogOp::Vote(vec![i])]).unwrap();
    }
}

#[test]
fn memory_log_conforms() {
    behaves_like_the_model(memory, 200);
    refuses_misuse(memory);
    reads_are_bounded(memory);
    purges_in_steps(memory);
}

#[test]
fn sled_log_conforms() {
    behaves_like_the_model(sled, 12);
    refuses_misuse(sled);
    reads_are_bounded(sled);
    purges_in_steps(sled);
}

#[test]
fn segment_log_conforms() {
    behaves_like_the_model(segments, 60);
    refuses_misuse(segments);
    reads_are_bounded(segments);
    purges_in_steps(segments);
}
