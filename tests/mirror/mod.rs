//! A batch loop without a store: every record is published to another topic, once.

use wal_model::{InRecord, OutRecord, Topic};
use wal_runtime::batch_loop::{Batch, CannotGoOn, Handler};

/// Copies what it reads to one topic.
pub struct Mirror {
    /// The topic.
    pub to: Topic,
    /// Each of these gets a small record for each copy.
    pub beside: Vec<Topic>,
}

/// How much of a record is in a small one: so long is a receipt, or an audit event.
const SMALL: usize = 300;

impl Handler for Mirror {
    const OVERLAPS: bool = true;

    type Handled = Vec<OutRecord>;

    async fn handle(&self, batch: &Batch) -> Result<Vec<OutRecord>, CannotGoOn> {
        let copy = |topic: &Topic, record: &InRecord, length: usize| OutRecord {
            topic: topic.clone(),
            partition: None,
            key: record.key.clone(),
            value: record.value.as_ref().map(|value| value.slice(..length.min(value.len()))),
            headers: record.headers.clone(),
        };
        let of_one = |record: &InRecord| {
            let small: Vec<_> = self.beside.iter().map(|topic| copy(topic, record, SMALL)).collect();
            std::iter::once(copy(&self.to, record, usize::MAX)).chain(small)
        };
        Ok(batch.records.iter().flat_map(of_one).collect())
    }

    async fn outputs(&self, _: &Batch, outputs: Vec<OutRecord>) -> Result<Vec<OutRecord>, CannotGoOn> {
        Ok(outputs)
    }
}
