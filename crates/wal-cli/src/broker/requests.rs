//! One request in, one answer out. Records, offsets and transactions go to the ledger; topics, their settings and the
//! membership of groups go to Tansu.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rama::{Context, Service as _};
use tansu_broker::coordinator::group::{Coordinator as _, administrator::Controller};
use tansu_sans_io::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, AlterConfigsRequest, AlterConfigsResponse, ApiKey as _, ApiVersionsRequest, ApiVersionsResponse, Body,
    ConfigResource, CreatePartitionsRequest, CreatePartitionsResponse, DeleteGroupsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, DescribeConfigsRequest, DescribeGroupsRequest, DescribeGroupsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    EndTxnRequest, EndTxnResponse, ErrorCode, FetchRequest, FetchResponse, Frame,
    InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
    ProduceRequest, ProduceResponse, RootMessageMeta, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
    add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
    },
    alter_configs_response,
    api_versions_response::ApiVersion,
    create_partitions_response::CreatePartitionsTopicResult,
    delete_topics_response::DeletableTopicResult,
    describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult},
    describe_groups_response::DescribedGroup,
    fetch_response::{FetchableTopicResponse, PartitionData},
    incremental_alter_configs_response,
    list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    },
    produce_response::{PartitionProduceResponse, TopicProduceResponse},
    record::deflated,
    txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic},
};
use tansu_service::FrameRouteService;
use tansu_storage::{NamedGroupDetail, StorageContainer};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    batch::{Write, check},
    ledger::{Ledger, Want, When},
    topics::{DEFAULTS, Mode, Topics},
    transactions::{Outcome, Position, Producer},
};

/// What we answer ourselves, and the newest version we speak: later ones name topics by id (Fetch), batch several
/// transactions (AddPartitionsToTxn) or begin transactions implicitly (KIP-890), which nothing here needs.
const OURS: [(i16, i16); 16] = [
    (ProduceRequest::KEY, 9),
    (FetchRequest::KEY, 12),
    (ListOffsetsRequest::KEY, 7),
    (OffsetCommitRequest::KEY, 8),
    (OffsetFetchRequest::KEY, 8),
    (ApiVersionsRequest::KEY, 3),
    (InitProducerIdRequest::KEY, 4),
    (AddPartitionsToTxnRequest::KEY, 3),
    (AddOffsetsToTxnRequest::KEY, 3),
    (EndTxnRequest::KEY, 3),
    (TxnOffsetCommitRequest::KEY, 3),
    (CreatePartitionsRequest::KEY, 3),
    (DeleteTopicsRequest::KEY, 5),
    (AlterConfigsRequest::KEY, 2),
    (IncrementalAlterConfigsRequest::KEY, 1),
    (DescribeGroupsRequest::KEY, 5),
];

/// The broker's own settings a client may ask for. Transactions block nobody here, but a client that checks that they
/// end in time shall find the answer of a well set broker.
const BROKER_SETTINGS: [(&str, &str); 4] = [
    ("auto.create.topics.enable", "false"),
    ("message.max.bytes", "1048588"),
    ("transaction.max.timeout.ms", "60000"),
    ("transaction.state.log.min.isr", "1"),
];

/// A transaction may stay open this long at most, as `BROKER_SETTINGS` says.
const MAX_TRANSACTION: Duration = Duration::from_secs(60);

/// One fetch answers with this much at most, whatever the client allows.
const MAX_FETCH_BYTES: i32 = 16 * 1024 * 1024;

/// A fetch waits this long at most: it holds up the connection's other requests and the stopping broker.
const MAX_FETCH_WAIT: Duration = Duration::from_secs(10);

/// Everything a connection needs to answer.
#[derive(Clone)]
pub(super) struct Requests {
    pub(super) tansu: FrameRouteService<(), tansu_broker::Error>,
    /// API keys Tansu answers.
    pub(super) tansu_keys: Vec<i16>,
    pub(super) groups: Controller<StorageContainer>,
    pub(super) topics: Topics,
    pub(super) ledger: Ledger,
    pub(super) stop: CancellationToken,
}

/// Why a request ends its connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("handle a group or topic request")]
    Tansu(#[from] tansu_broker::Error),
    #[error("read or write the request's message")]
    Message(#[from] tansu_sans_io::Error),
}

impl Requests {
    /// `None`: the client wants no answer.
    pub(super) async fn answer(&self, frame: Frame) -> Result<Option<Body>, Error> {
        Ok(Some(match frame.body {
            Body::ApiVersionsRequest(_) => self.api_versions(),
            Body::ProduceRequest(request) if request.acks == 0 => {
                self.produce(request).await;
                return Ok(None);
            }
            Body::ProduceRequest(request) => self.produce(request).await,
            Body::FetchRequest(request) => self.fetch(request).await,
            Body::ListOffsetsRequest(request) => self.list_offsets(request).await,
            Body::OffsetCommitRequest(request) => self.commit_offsets(request).await?,
            Body::OffsetFetchRequest(request) => self.fetch_offsets(request).await,
            Body::InitProducerIdRequest(request) => self.init_producer(request).await,
            Body::AddPartitionsToTxnRequest(request) => self.add_partitions(request).await,
            Body::AddOffsetsToTxnRequest(request) => self.add_group(request).await,
            Body::TxnOffsetCommitRequest(request) => self.hold_offsets(request).await?,
            Body::EndTxnRequest(request) => self.end_transaction(request).await,
            Body::CreatePartitionsRequest(request) => self.create_partitions(request).await,
            Body::DescribeConfigsRequest(_) => self.describe_configs(frame).await?,
            Body::DeleteTopicsRequest(request) => self.delete_topics(request).await,
            Body::AlterConfigsRequest(request) => self.alter_configs(request).await,
            Body::IncrementalAlterConfigsRequest(request) => {
                self.alter_configs_by_step(request).await
            }
            Body::DescribeGroupsRequest(request) => self.describe_groups(request).await,
            Body::DeleteGroupsRequest(_) => self.delete_groups(frame).await?,
            Body::CreateTopicsRequest(_) => {
                let body = self.ask_tansu(frame).await;
                self.topics.forget();
                body?
            }
            _ => self.ask_tansu(frame).await?,
        }))
    }

    async fn ask_tansu(&self, frame: Frame) -> Result<Body, Error> {
        Ok(self.tansu.serve(Context::default(), frame).await?.body)
    }

    fn api_versions(&self) -> Body {
        let messages = RootMessageMeta::messages();
        let newest = |key: i16, known: i16| {
            let ours = OURS.iter().find(|(ours, _)| *ours == key);
            ours.map_or(known, |(_, newest)| known.min(*newest))
        };
        let keys = messages
            .requests()
            .iter()
            .filter(|(key, _)| {
                self.tansu_keys.contains(key) || OURS.iter().any(|(ours, _)| ours == *key)
            })
            .map(|(key, meta)| {
                ApiVersion::default()
                    .api_key(*key)
                    .min_version(meta.version.valid.start)
                    .max_version(newest(*key, meta.version.valid.end))
            })
            .collect();
        ApiVersionsResponse::default()
            .api_keys(Some(keys))
            .throttle_time_ms(Some(0))
            .supported_features(Some(Vec::new()))
            .finalized_features(Some(Vec::new()))
            .finalized_features_epoch(Some(-1))
            .zk_migration_ready(Some(false))
            .into()
    }

    async fn produce(&self, request: ProduceRequest) -> Body {
        let mut responses = Vec::new();
        for topic in request.topic_data.unwrap_or_default() {
            let mut partitions = Vec::new();
            for partition in topic.partition_data.unwrap_or_default() {
                let batches = partition
                    .records
                    .map(|frame| frame.batches)
                    .unwrap_or_default();
                let name = request.transactional_id.as_deref();
                let appended = self
                    .append(name, &topic.name, partition.index, batches)
                    .await;
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
            let write = Write {
                place,
                stamp: topic.stamp,
                batch,
            };
            let name = transactional_id.map(str::to_owned);
            let appended = self.ledger.append(write, name).await?;
            first.get_or_insert((appended.base_offset, appended.low));
        }
        first.ok_or(ErrorCode::InvalidRecord)
    }

    /// Waits for records instead of asking the log again and again: woken by every append, at most `max_wait_ms`.
    async fn fetch(&self, request: FetchRequest) -> Body {
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
                        self.stop.cancelled().await;
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
                let place = topic
                    .as_ref()
                    .map_err(|error| *error)
                    .and_then(|topic| topic.place(wanted.partition));
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

    async fn list_offsets(&self, request: ListOffsetsRequest) -> Body {
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
        ListOffsetsResponse::default()
            .throttle_time_ms(Some(0))
            .topics(Some(topics))
            .into()
    }

    async fn commit_offsets(&self, request: OffsetCommitRequest) -> Result<Body, Error> {
        let generation = request.generation_id_or_member_epoch.unwrap_or(-1);
        let member = request.member_id.as_deref().unwrap_or_default();
        // A member whose group is about to change may still commit what it worked off before it joins again.
        let membership = match self.membership(&request.group_id, generation, member).await? {
            Err(ErrorCode::RebalanceInProgress) => Ok(()),
            other => other,
        };
        let mut positions = BTreeMap::new();
        let mut topics = Vec::new();
        for topic in request.topics.unwrap_or_default() {
            let mut partitions = Vec::new();
            for partition in topic.partitions.unwrap_or_default() {
                let index = partition.partition_index;
                let place = self.topics.place(&topic.name, index).await;
                let error = membership.err().or(place.err());
                if let (Ok(()), Ok(place)) = (membership, place) {
                    let position = Position {
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch.unwrap_or(-1),
                        metadata: partition.committed_metadata,
                    };
                    positions.insert((request.group_id.clone(), place), position);
                }
                let response = OffsetCommitResponsePartition::default().partition_index(index);
                partitions.push(response.error_code(error.unwrap_or(ErrorCode::None).into()));
            }
            let response = OffsetCommitResponseTopic::default().name(topic.name);
            topics.push(response.partitions(Some(partitions)));
        }
        if let Err(error) = self.ledger.commit_positions(positions).await {
            for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                for partition in partition {
                    partition.error_code = error.into();
                }
            }
        }
        Ok(OffsetCommitResponse::default()
            .throttle_time_ms(Some(0))
            .topics(Some(topics))
            .into())
    }

    /// Tansu keeps the text beside a committed offset and never gives it back; we need it.
    async fn fetch_offsets(&self, request: OffsetFetchRequest) -> Body {
        let response = OffsetFetchResponse::default()
            .throttle_time_ms(Some(0))
            .error_code(Some(ErrorCode::None.into()));
        if let Some(groups) = request.groups {
            let mut responses = Vec::new();
            for group in groups {
                let wanted = group.topics.map(|topics| {
                    let topics = topics.into_iter();
                    topics
                        .map(|topic| (topic.name, topic.partition_indexes.unwrap_or_default()))
                        .collect()
                });
                let found = self.positions(&group.group_id, wanted).await;
                let error = found.as_ref().err().copied().unwrap_or(ErrorCode::None);
                let topics = found.unwrap_or_default().into_iter().map(|(name, found)| {
                    let partitions = found.into_iter().map(|(index, position)| {
                        OffsetFetchResponsePartitions::default()
                            .partition_index(index)
                            .committed_offset(position.offset)
                            .committed_leader_epoch(position.leader_epoch)
                            .metadata(Some(position.metadata.unwrap_or_default()))
                            .error_code(ErrorCode::None.into())
                    });
                    OffsetFetchResponseTopics::default()
                        .name(name)
                        .partitions(Some(partitions.collect()))
                });
                responses.push(
                    OffsetFetchResponseGroup::default()
                        .group_id(group.group_id)
                        .topics(Some(topics.collect()))
                        .error_code(error.into()),
                );
            }
            return response.groups(Some(responses)).into();
        }
        let wanted = request.topics.map(|topics| {
            let topics = topics.into_iter();
            topics
                .map(|topic| (topic.name, topic.partition_indexes.unwrap_or_default()))
                .collect()
        });
        let group = request.group_id.unwrap_or_default();
        let found = self.positions(&group, wanted).await;
        let error = found.as_ref().err().copied().unwrap_or(ErrorCode::None);
        let topics = found.unwrap_or_default().into_iter().map(|(name, found)| {
            let partitions = found.into_iter().map(|(index, position)| {
                OffsetFetchResponsePartition::default()
                    .partition_index(index)
                    .committed_offset(position.offset)
                    .committed_leader_epoch(Some(position.leader_epoch))
                    .metadata(Some(position.metadata.unwrap_or_default()))
                    .error_code(ErrorCode::None.into())
            });
            OffsetFetchResponseTopic::default()
                .name(name)
                .partitions(Some(partitions.collect()))
        });
        response
            .topics(Some(topics.collect()))
            .error_code(Some(error.into()))
            .into()
    }

    /// Committed positions by topic; a partition asked for that has none answers with offset -1.
    async fn positions(
        &self,
        group: &str,
        wanted: Option<Vec<(String, Vec<i32>)>>,
    ) -> Result<Vec<(String, Vec<(i32, Position)>)>, ErrorCode> {
        let mut known = self.ledger.positions(group.to_owned()).await?;
        let Some(wanted) = wanted else {
            let mut found = Vec::new();
            for (name, topic) in self.topics.all().await? {
                let of_topic: Vec<(i32, Position)> = known
                    .iter()
                    .filter(|(place, _)| place.topic == topic.id)
                    .map(|(place, position)| (place.partition, position.clone()))
                    .collect();
                if !of_topic.is_empty() {
                    found.push((name, of_topic));
                }
            }
            return Ok(found);
        };
        let mut found = Vec::with_capacity(wanted.len());
        for (name, partitions) in wanted {
            let mut of_topic = Vec::with_capacity(partitions.len());
            for index in partitions {
                let place = self.topics.place(&name, index).await;
                let position = place.ok().and_then(|place| known.remove(&place));
                of_topic.push((index, position.unwrap_or(NOWHERE)));
            }
            found.push((name, of_topic));
        }
        Ok(found)
    }

    /// Whether a member that names its generation is what it says; who names none is no member and may write.
    async fn membership(
        &self,
        group: &str,
        generation: i32,
        member: &str,
    ) -> Result<Result<(), ErrorCode>, Error> {
        if generation < 0 || member.is_empty() {
            return Ok(Ok(()));
        }
        let mut groups = self.groups.clone();
        let body = groups.heartbeat(group, generation, member, None).await?;
        let Body::HeartbeatResponse(heartbeat) = body else {
            return Ok(Err(ErrorCode::UnknownServerError));
        };
        let error = ErrorCode::try_from(heartbeat.error_code);
        Ok(match error {
            Ok(ErrorCode::None) => Ok(()),
            Ok(error) => Err(error),
            Err(_) => Err(ErrorCode::UnknownServerError),
        })
    }

    async fn init_producer(&self, request: InitProducerIdRequest) -> Body {
        let response = InitProducerIdResponse::default().throttle_time_ms(0);
        let timeout = u64::try_from(request.transaction_timeout_ms).map(Duration::from_millis);
        let is_transactional = request.transactional_id.is_some();
        let timeout = match timeout {
            Ok(timeout) if timeout <= MAX_TRANSACTION => timeout,
            _ if !is_transactional => Duration::ZERO,
            _ => {
                let error = ErrorCode::InvalidTransactionTimeout.into();
                return response
                    .error_code(error)
                    .producer_id(-1)
                    .producer_epoch(-1)
                    .into();
            }
        };
        let former = match (request.producer_id, request.producer_epoch) {
            (Some(id), Some(epoch)) if id >= 0 && is_transactional => Some(Producer { id, epoch }),
            _ => None,
        };
        let started = self
            .ledger
            .start_producer(request.transactional_id, timeout, former)
            .await;
        match started {
            Ok(producer) => response
                .producer_id(producer.id)
                .producer_epoch(producer.epoch)
                .into(),
            Err(error) => response
                .error_code(error.into())
                .producer_id(-1)
                .producer_epoch(-1)
                .into(),
        }
    }

    async fn add_partitions(&self, request: AddPartitionsToTxnRequest) -> Body {
        let name = request.v_3_and_below_transactional_id.unwrap_or_default();
        let producer = Producer {
            id: request.v_3_and_below_producer_id.unwrap_or(-1),
            epoch: request.v_3_and_below_producer_epoch.unwrap_or(-1),
        };
        let wanted = request.v_3_and_below_topics.unwrap_or_default();
        let mut places = Vec::new();
        let mut unknown = Vec::new();
        for topic in &wanted {
            for index in topic.partitions.as_deref().unwrap_or_default() {
                match self.topics.place(&topic.name, *index).await {
                    Ok(place) => places.push(place),
                    Err(error) => unknown.push((topic.name.clone(), *index, error)),
                }
            }
        }
        // All or nothing, as in Kafka: one unknown partition and none is added.
        let added = if unknown.is_empty() {
            self.ledger.add_partitions(name, producer, places).await
        } else {
            Err(ErrorCode::OperationNotAttempted)
        };
        let results = wanted.into_iter().map(|topic| {
            let partitions = topic.partitions.unwrap_or_default().into_iter().map(|index| {
                let reason = unknown
                    .iter()
                    .find(|(name, at, _)| *name == topic.name && *at == index)
                    .map(|(_, _, error)| *error);
                let error = reason.or(added.err()).unwrap_or(ErrorCode::None);
                AddPartitionsToTxnPartitionResult::default()
                    .partition_index(index)
                    .partition_error_code(error.into())
            });
            let partitions = Some(partitions.collect());
            AddPartitionsToTxnTopicResult::default()
                .results_by_partition(partitions)
                .name(topic.name)
        });
        AddPartitionsToTxnResponse::default()
            .throttle_time_ms(0)
            .error_code(Some(ErrorCode::None.into()))
            .results_by_transaction(Some(Vec::new()))
            .results_by_topic_v_3_and_below(Some(results.collect()))
            .into()
    }

    async fn add_group(&self, request: AddOffsetsToTxnRequest) -> Body {
        let producer = Producer {
            id: request.producer_id,
            epoch: request.producer_epoch,
        };
        let added = self
            .ledger
            .add_group(request.transactional_id, producer, request.group_id)
            .await;
        AddOffsetsToTxnResponse::default()
            .throttle_time_ms(0)
            .error_code(code(added))
            .into()
    }

    async fn hold_offsets(&self, request: TxnOffsetCommitRequest) -> Result<Body, Error> {
        let producer = Producer {
            id: request.producer_id,
            epoch: request.producer_epoch,
        };
        let generation = request.generation_id.unwrap_or(-1);
        let member = request.member_id.as_deref().unwrap_or_default();
        let membership = match self.membership(&request.group_id, generation, member).await? {
            // Tansu cannot tell a group about to change from one that has changed: in doubt it is a zombie.
            Err(ErrorCode::RebalanceInProgress) => Err(ErrorCode::IllegalGeneration),
            other => other,
        };
        let wanted = request.topics.unwrap_or_default();
        let mut positions = Vec::new();
        let mut refused = membership.err();
        for topic in &wanted {
            for partition in topic.partitions.as_deref().unwrap_or_default() {
                let index = partition.partition_index;
                match self.topics.place(&topic.name, index).await {
                    Ok(place) => positions.push((place, position(partition))),
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
        }
        let held = match refused {
            None => {
                let name = request.transactional_id;
                let group = request.group_id;
                let held = self
                    .ledger
                    .hold_positions(name, producer, group, positions);
                held.await
            }
            Some(error) => Err(error),
        };
        let topics = wanted.into_iter().map(|topic| {
            let partitions = topic.partitions.unwrap_or_default().into_iter();
            let partitions = partitions.map(|partition| {
                TxnOffsetCommitResponsePartition::default()
                    .partition_index(partition.partition_index)
                    .error_code(code(held))
            });
            let partitions = Some(partitions.collect());
            TxnOffsetCommitResponseTopic::default()
                .partitions(partitions)
                .name(topic.name)
        });
        Ok(TxnOffsetCommitResponse::default()
            .throttle_time_ms(0)
            .topics(Some(topics.collect()))
            .into())
    }

    async fn end_transaction(&self, request: EndTxnRequest) -> Body {
        let producer = Producer {
            id: request.producer_id,
            epoch: request.producer_epoch,
        };
        let outcome = if request.committed {
            Outcome::Commit
        } else {
            Outcome::Abort
        };
        let started = Instant::now();
        let ended = self
            .ledger
            .end(request.transactional_id, producer, outcome)
            .await;
        debug!(?outcome, ?ended, elapsed = ?started.elapsed(), "transaction ended");
        EndTxnResponse::default()
            .throttle_time_ms(0)
            .error_code(code(ended))
            .into()
    }

    async fn create_partitions(&self, request: CreatePartitionsRequest) -> Body {
        let mut results = Vec::new();
        for topic in request.topics.unwrap_or_default() {
            let mode = Mode::of(request.validate_only);
            let grown = self.topics.grow(&topic, mode).await;
            results.push(
                CreatePartitionsTopicResult::default()
                    .name(topic.name)
                    .error_code(code(grown))
                    .error_message(grown.err().map(|error| error.to_string())),
            );
        }
        CreatePartitionsResponse::default()
            .throttle_time_ms(0)
            .results(Some(results))
            .into()
    }

    async fn delete_topics(&self, request: DeleteTopicsRequest) -> Body {
        let mut responses = Vec::new();
        for name in request.topic_names.unwrap_or_default() {
            let deleted = self.topics.delete(&name).await;
            responses.push(
                DeletableTopicResult::default()
                    .name(Some(name))
                    .error_code(code(deleted.map(|_| ())))
                    .error_message(deleted.err().map(|error| error.to_string())),
            );
        }
        DeleteTopicsResponse::default()
            .throttle_time_ms(Some(0))
            .responses(Some(responses))
            .into()
    }

    /// Sets what is named and leaves the rest. Kafka would reset the rest, which is what made it invent the other one.
    async fn alter_configs(&self, request: AlterConfigsRequest) -> Body {
        let mode = Mode::of(request.validate_only);
        let mut responses = Vec::new();
        for resource in request.resources.unwrap_or_default() {
            let settings: Vec<_> = resource
                .configs
                .unwrap_or_default()
                .into_iter()
                .map(|config| (config.name, config.value))
                .collect();
            let altered = self
                .alter(
                    resource.resource_type,
                    &resource.resource_name,
                    &settings,
                    mode,
                )
                .await;
            responses.push(
                alter_configs_response::AlterConfigsResourceResponse::default()
                    .error_code(code(altered))
                    .error_message(altered.err().map(|error| error.to_string()))
                    .resource_type(resource.resource_type)
                    .resource_name(resource.resource_name),
            );
        }
        AlterConfigsResponse::default()
            .throttle_time_ms(0)
            .responses(Some(responses))
            .into()
    }

    async fn alter_configs_by_step(&self, request: IncrementalAlterConfigsRequest) -> Body {
        let mode = Mode::of(request.validate_only);
        let mut responses = Vec::new();
        for resource in request.resources.unwrap_or_default() {
            let mut settings = Vec::new();
            let mut refused = None;
            for config in resource.configs.unwrap_or_default() {
                match config.config_operation {
                    0 => settings.push((config.name, config.value)),
                    1 => settings.push((config.name, None)),
                    _ => refused = Some(ErrorCode::InvalidConfig),
                }
            }
            let altered = match refused {
                Some(error) => Err(error),
                None => {
                    let name = &resource.resource_name;
                    self.alter(resource.resource_type, name, &settings, mode)
                        .await
                }
            };
            responses.push(
                incremental_alter_configs_response::AlterConfigsResourceResponse::default()
                    .error_code(code(altered))
                    .error_message(altered.err().map(|error| error.to_string()))
                    .resource_type(resource.resource_type)
                    .resource_name(resource.resource_name),
            );
        }
        IncrementalAlterConfigsResponse::default()
            .throttle_time_ms(0)
            .responses(Some(responses))
            .into()
    }

    async fn alter(
        &self,
        resource_type: i8,
        name: &str,
        settings: &[(String, Option<String>)],
        mode: Mode,
    ) -> Result<(), ErrorCode> {
        match ConfigResource::from(resource_type) {
            ConfigResource::Topic => self.topics.configure(name, settings, mode).await,
            _ => Err(ErrorCode::InvalidConfig),
        }
    }

    async fn describe_groups(&self, request: DescribeGroupsRequest) -> Body {
        let mut groups = Vec::new();
        for name in request.groups.unwrap_or_default() {
            let named = match self.topics.group(&name).await {
                Ok(Some(detail)) => NamedGroupDetail::found(name, detail),
                Ok(None) => NamedGroupDetail::error_code(name, ErrorCode::GroupIdNotFound),
                Err(error) => NamedGroupDetail::error_code(name, error),
            };
            groups.push(DescribedGroup::from(&named));
        }
        DescribeGroupsResponse::default()
            .throttle_time_ms(Some(0))
            .groups(Some(groups))
            .into()
    }

    /// Tansu has the members, the ledger the offsets: a group exists if either knows it.
    async fn delete_groups(&self, frame: Frame) -> Result<Body, Error> {
        let body = self.ask_tansu(frame).await?;
        let mut answer = DeleteGroupsResponse::try_from(body)?;
        for result in answer.results.iter_mut().flatten() {
            let group = result.group_id.clone();
            match self.ledger.forget_group(group).await {
                Ok(0) => {}
                Ok(_) => result.error_code = ErrorCode::None.into(),
                Err(error) => result.error_code = error.into(),
            }
        }
        Ok(answer.into())
    }

    /// Tansu knows only the settings a topic was made with, and none of the broker's.
    async fn describe_configs(&self, frame: Frame) -> Result<Body, Error> {
        let wanted = DescribeConfigsRequest::try_from(frame.body.clone())?;
        let wanted = wanted.resources.unwrap_or_default();
        let body = self.ask_tansu(frame).await?;
        let mut answer = tansu_sans_io::DescribeConfigsResponse::try_from(body)?;
        for result in answer.results.iter_mut().flatten() {
            let defaults = match ConfigResource::from(result.resource_type) {
                ConfigResource::Topic if result.error_code == i16::from(ErrorCode::None) => {
                    DEFAULTS.as_slice()
                }
                ConfigResource::Broker => {
                    result.error_code = ErrorCode::None.into();
                    BROKER_SETTINGS.as_slice()
                }
                _ => continue,
            };
            result.error_message = None;
            let keys = wanted
                .iter()
                .find(|resource| resource.resource_name == result.resource_name)
                .and_then(|resource| resource.configuration_keys.as_deref());
            complete(result, defaults, keys);
        }
        Ok(answer.into())
    }
}

/// Where a group is that committed nothing.
const NOWHERE: Position = Position {
    offset: -1,
    leader_epoch: -1,
    metadata: None,
};

fn position(
    partition: &tansu_sans_io::txn_offset_commit_request::TxnOffsetCommitRequestPartition,
) -> Position {
    Position {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch.unwrap_or(-1),
        metadata: partition.committed_metadata.clone(),
    }
}

fn produced(index: i32, appended: Result<(i64, i64), ErrorCode>) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default()
        .index(index)
        .log_append_time_ms(Some(-1))
        .record_errors(Some(Vec::new()));
    match appended {
        Ok((base_offset, low)) => response
            .base_offset(base_offset)
            .log_start_offset(Some(low)),
        Err(error) => response
            .error_code(error.into())
            .base_offset(-1)
            .log_start_offset(Some(-1))
            .error_message(Some(error.to_string())),
    }
}

/// Adds the settings not given, and leaves out those not asked for.
fn complete(result: &mut DescribeConfigsResult, defaults: &[(&str, &str)], keys: Option<&[String]>) {
    let mut configs = result.configs.take().unwrap_or_default();
    for (name, value) in defaults {
        if configs.iter().any(|config| config.name == *name) {
            continue;
        }
        configs.push(
            DescribeConfigsResourceResult::default()
                .name((*name).to_owned())
                .value(Some((*value).to_owned()))
                .is_default(Some(true))
                // "default config", as Kafka numbers its sources
                .config_source(Some(5))
                .synonyms(Some(Vec::new()))
                // "string"
                .config_type(Some(2))
                .documentation(None),
        );
    }
    if let Some(keys) = keys {
        configs.retain(|config| keys.contains(&config.name));
    }
    result.configs = Some(configs);
}

fn code(result: Result<(), ErrorCode>) -> i16 {
    result.err().unwrap_or(ErrorCode::None).into()
}
