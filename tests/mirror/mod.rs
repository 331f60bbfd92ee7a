//! A batch loop without a store: every record is published to another topic, once.

use wal_model::{InRecord, OutRecord, Topic};
use wal_runtime::batch_loop::{Batch, CannotGoOn, Handler};

/// Copies what it reads to one topic.
pub struct Mirror {
    /// The topic.
    pub to: Topic,
}

impl Handler for Mirror {
    const OVERLAPS: bool = true;

    async fn handle(&self, batch: &Batch) -> Result<Vec<OutRecord>, CannotGoOn> {
        let copy = |record: &InRecord| OutRecord {
            topic: self.to.clone(),
            partition: None,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        };
        Ok(batch.records.iter().map(copy).collect())
    }
}
