//! The log in memory, for tests and as the reference the disk engine is compared with.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::StorageError;
use crate::log::{LogEngine, LogHead, LogOp};

#[derive(Debug, Clone, Default)]
struct Content {
    head: LogHead,
    entries: BTreeMap<u64, Vec<u8>>,
}

/// A log that lives as long as the value. "Durable" means here: visible.
#[derive(Debug, Default)]
pub struct MemoryLog(Mutex<Content>);

impl MemoryLog {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogEngine for MemoryLog {
    fn head(&self) -> Result<LogHead, StorageError> {
        Ok(self.content().head.clone())
    }

    fn write(&self, ops: &[LogOp]) -> Result<(), StorageError> {
        let mut content = self.content();
        let mut head = content.head.clone();
        ops.iter().try_for_each(|op| head.apply(op))?;
        content.head = head;
        for op in ops {
            match op {
                LogOp::Append { index, bytes } => {
                    content.entries.insert(*index, bytes.clone());
                }
                LogOp::TruncateFrom(from) => drop(content.entries.split_off(from)),
                LogOp::Purge(point) => {
                    content.entries = content.entries.split_off(&(point.index + 1));
                }
                LogOp::Vote(_) | LogOp::Committed(_) => {}
            }
        }
        Ok(())
    }

    fn read(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StorageError> {
        let mut bytes = 0;
        let mut out = Vec::new();
        if from >= to {
            return Ok(out);
        }
        for (index, entry) in self.content().entries.range(from..to) {
            if bytes > bytes_max {
                break;
            }
            bytes += entry.len();
            out.push((*index, entry.clone()));
        }
        Ok(out)
    }
}
