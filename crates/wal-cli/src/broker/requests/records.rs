//! Writing and reading records: Produce, Fetch, ListOffsets.

use std::time::Duration;

use tansu_sans_io::{
    Body, ErrorCode, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, ProduceRequest,
    ProduceResponse,
    fetch_response::{FetchableTopicResponse, PartitionData},
    list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    produce_response::{PartitionProduceResponse, TopicProduceResponse},
    record::deflated,
};

use super::Requests;
use crate::broker::{
    batch::{Write, check},
    ledger::{Want, When},
};

/// One fetch answers with this much at most, whatever the client allows.
const MAX_FETCH_BYTES: i32 = 16 * 1024 * 1024;

/// A fetch waits this long at most: it holds up the connection's other requests and the stopping broker.
const MAX_FETCH_WAIT: Duration = Duration::from_secs(10);

impl Requests {
    pub(super) async fn produce(&self, request: ProduceRequest) -> Body {
        let mut responses = Vec::new();
        for topic in request.topic_data.unwrap_or_default() {
            let mut partitions = Vec::new();
            for partition in topic.partition_data.unwrap_or_default() {
                let batches = partition.records.map(|frame| frame.batches).unwrap_or_default();
                let name = request.transactional_id.as_deref();
                let appended = self.append(name, &topic.name, partition.index, batches).await;
                partitions.push(produced(partition.index, appended));
            }
            let response = TopicProduceResponse::default().name(topic.name);
            responses.push(response.partition_responses(Some(partitions)));
        }
        ProduceResponse::default()
            .responses(Some(responses))
            .throttle_time_ms(Some(0))
            .node_endpoints(Some(Vec::new()))
            .into()
    }

    async fn append(
        &self,
        transactional_id: Option<&str>,
        topic: &str,
        partition: i32,
        batches: Vec<deflated::Batch>,
    ) -> Result<(i64, i64), ErrorCode> {
        let topic = self.topics.find(topic).await?;
        let place = topic.place(partition)?;
        for batch in &batches {
            check(batch, topic.max_message_bytes)?;
        }
        let mut first = None;
        for batch in batches {
            let write = Write { place, stamp: topic.stamp, batch };
            let name = transactional_id.map(str::to_owned);
            let appended = self.ledger.append(write, name).await?;
            first.get_or_insert((appended.base_offset, appended.low));
        }
        first.ok_or(ErrorCode::InvalidRecord)
    }

    /// Waits for records instead of asking the log again and again: woken by every append, at most `max_wait_ms`.
    pub(super) async fn fetch(&self, request: FetchRequest) -> Body {
        let wait = u64::try_from(request.max_wait_ms).map_or(Duration::ZERO, Duration::from_millis);
        let deadline = tokio::time::Instant::now() + wait.min(MAX_FETCH_WAIT);
        let enough = usize::try_from(request.min_bytes).unwrap_or(0);
        let mut appended = self.ledger.appended();
        loop {
            appended.mark_unchanged();
            let (responses, bytes, is_failed) = self.read(&request).await;
            let is_due = tokio::time::Instant::now() >= deadline || self.stop.is_cancelled();
            if bytes >= enough || is_failed || is_due {
                return FetchResponse::default()
                    .throttle_time_ms(Some(0))
                    .error_code(Some(ErrorCode::None.into()))
                    .session_id(Some(0))
                    .responses(Some(responses))
                    .node_endpoints(Some(Vec::new()))
                    .into();
            }
            // Every arm only waits; what they wait for is looked up again above.
            tokio::select! {
                changed = appended.changed() => {
                    if changed.is_err() {
                        // The ledger is gone; the next look says so, and an empty request must not spin.
                        tokio::time::sleep_until(deadline).await;
                    }
                }
                () = tokio::time::sleep_until(deadline) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    async fn read(&self, request: &FetchRequest) -> (Vec<FetchableTopicResponse>, usize, bool) {
        let max_bytes = request.max_bytes.unwrap_or(MAX_FETCH_BYTES);
        let mut left = usize::try_from(max_bytes.clamp(1, MAX_FETCH_BYTES)).unwrap_or(1);
        let mut total = 0;
        let mut is_failed = false;
        let mut responses = Vec::new();
        for fetch in request.topics.as_deref().unwrap_or_default() {
            let name = fetch.topic.as_deref().unwrap_or_default();
            let topic = self.topics.find(name).await;
            let mut partitions = Vec::new();
            for wanted in fetch.partitions.as_deref().unwrap_or_default() {
                let place = topic.as_ref().map_err(|error| *error).and_then(|topic| topic.place(wanted.partition));
                let found = match place {
                    Ok(place) => {
                        let want = Want {
                            place,
                            offset: wanted.fetch_offset,
                            max_bytes: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
                        };
                        let found = self.ledger.read(vec![want], left).await.pop();
                        found.unwrap_or(Err(ErrorCode::KafkaStorageError))
                    }
                    Err(error) => Err(error),
                };
                let data = PartitionData::default()
                    .partition_index(wanted.partition)
                    .aborted_transactions(Some(Vec::new()))
                    .preferred_read_replica(Some(-1));
                partitions.push(match found {
                    Ok(found) => {
                        total += found.bytes;
                        left = left.saturating_sub(found.bytes);
                        let batches = found.batches;
                        data.high_watermark(found.head.high)
                            .last_stable_offset(Some(found.head.high))
                            .log_start_offset(Some(found.head.low))
                            .records(Some(deflated::Frame { batches }))
                    }
                    Err(error) => {
                        is_failed = true;
                        data.error_code(error.into())
                            .high_watermark(-1)
                            .last_stable_offset(Some(-1))
                            .log_start_offset(Some(-1))
                            .records(None)
                    }
                });
            }
            let response = FetchableTopicResponse::default().topic(Some(name.to_owned()));
            responses.push(response.partitions(Some(partitions)));
        }
        (responses, total, is_failed)
    }

    pub(super) async fn list_offsets(&self, request: ListOffsetsRequest) -> Body {
        let mut topics = Vec::new();
        for topic in request.topics.unwrap_or_default() {
            let mut partitions = Vec::new();
            for partition in topic.partitions.unwrap_or_default() {
                let index = partition.partition_index;
                let when = match partition.timestamp {
                    -1 => When::Latest,
                    -2 => When::Earliest,
                    timestamp => When::At(timestamp),
                };
                let found = match self.topics.place(&topic.name, index).await {
                    Ok(place) => self.ledger.find_offset(place, when).await,
                    Err(error) => Err(error),
                };
                let response = ListOffsetsPartitionResponse::default().partition_index(index);
                partitions.push(match found {
                    Ok((offset, timestamp)) => response
                        .offset(Some(offset))
                        .timestamp(Some(timestamp))
                        .old_style_offsets(Some(vec![offset]))
                        .leader_epoch(Some(0)),
                    Err(error) => response
                        .error_code(error.into())
                        .offset(Some(-1))
                        .timestamp(Some(-1))
                        .old_style_offsets(Some(Vec::new()))
                        .leader_epoch(Some(-1)),
                });
            }
            let response = ListOffsetsTopicResponse::default().name(topic.name);
            topics.push(response.partitions(Some(partitions)));
        }
        ListOffsetsResponse::default().throttle_time_ms(Some(0)).topics(Some(topics)).into()
    }
}

fn produced(index: i32, appended: Result<(i64, i64), ErrorCode>) -> PartitionProduceResponse {
    let response =
        PartitionProduceResponse::default().index(index).log_append_time_ms(Some(-1)).record_errors(Some(Vec::new()));
    match appended {
        Ok((base_offset, low)) => response.base_offset(base_offset).log_start_offset(Some(low)),
        Err(error) => response
            .error_code(error.into())
            .base_offset(-1)
            .log_start_offset(Some(-1))
            .error_message(Some(error.to_string())),
    }
}
