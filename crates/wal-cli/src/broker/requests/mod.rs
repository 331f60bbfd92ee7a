//! One request in, one answer out. Records, offsets and transactions go to the ledger, membership to the groups, topics
//! and their settings to Tansu.

mod admin;
mod members;
mod offsets;
mod producers;
mod records;

use std::time::Duration;

use rama::{Context, Service as _};
use tansu_sans_io::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterConfigsRequest, ApiKey as _, ApiVersionsRequest,
    ApiVersionsResponse, Body, CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeTopicPartitionsRequest,
    EndTxnRequest, ErrorCode, FetchRequest, FindCoordinatorRequest, Frame, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, RootMessageMeta,
    SyncGroupRequest, TxnOffsetCommitRequest, api_versions_response::ApiVersion,
};
use tansu_storage::{
    CreateTopicsService, DescribeClusterService, DescribeTopicPartitionsService, FindCoordinatorService,
    MetadataService, StorageContainer,
};
use tokio_util::sync::CancellationToken;

use super::{groups::Groups, ledger::Ledger, topics::Topics};

/// What we answer ourselves, and the newest version we speak: later ones name topics by id (Fetch), batch several
/// transactions (AddPartitionsToTxn) or begin transactions implicitly (KIP-890), which nothing here needs.
const OURS: [(i16, i16); 22] = [
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
    (JoinGroupRequest::KEY, 9),
    (SyncGroupRequest::KEY, 5),
    (HeartbeatRequest::KEY, 4),
    (LeaveGroupRequest::KEY, 5),
    (ListGroupsRequest::KEY, 4),
    (DescribeGroupsRequest::KEY, 5),
    (DeleteGroupsRequest::KEY, 2),
];

/// What Tansu's services answer for us.
const TANSUS: [i16; 6] = [
    CreateTopicsRequest::KEY,
    DescribeClusterRequest::KEY,
    DescribeConfigsRequest::KEY,
    DescribeTopicPartitionsRequest::KEY,
    FindCoordinatorRequest::KEY,
    MetadataRequest::KEY,
];

/// Everything a connection needs to answer.
#[derive(Clone)]
pub(super) struct Requests {
    pub(super) storage: StorageContainer,
    pub(super) topics: Topics,
    pub(super) groups: Groups,
    pub(super) ledger: Ledger,
    pub(super) stop: CancellationToken,
}

/// Why a request ends its connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("handle a topic request")]
    Storage(#[from] tansu_storage::Error),
    #[error("read or write the request's message")]
    Message(#[from] tansu_sans_io::Error),
    #[error("answer a request of kind {api_key}: it was not offered")]
    NotOffered { api_key: i16 },
}

impl Requests {
    /// `None`: the client wants no answer.
    pub(super) async fn answer(&self, frame: Frame) -> Result<Option<Body>, Error> {
        let api_key = frame.api_key()?;
        let version = frame.api_version()?;
        let client = frame.client_id()?.unwrap_or_default().to_owned();
        Ok(Some(match frame.body {
            Body::ApiVersionsRequest(_) => api_versions(),
            Body::ProduceRequest(request) if request.acks == 0 => {
                self.produce(request).await;
                return Ok(None);
            }
            Body::ProduceRequest(request) => self.produce(request).await,
            Body::FetchRequest(request) => self.fetch(request).await,
            Body::ListOffsetsRequest(request) => self.list_offsets(request).await,
            Body::OffsetCommitRequest(request) => self.commit_offsets(request).await,
            Body::OffsetFetchRequest(request) => self.fetch_offsets(request).await,
            Body::InitProducerIdRequest(request) => self.init_producer(request).await,
            Body::AddPartitionsToTxnRequest(request) => self.add_partitions(request).await,
            Body::AddOffsetsToTxnRequest(request) => self.add_group(request).await,
            Body::TxnOffsetCommitRequest(request) => self.hold_offsets(request).await,
            Body::EndTxnRequest(request) => self.end_transaction(request).await,
            Body::CreatePartitionsRequest(request) => self.create_partitions(request).await,
            Body::DeleteTopicsRequest(request) => self.delete_topics(request).await,
            Body::AlterConfigsRequest(request) => self.alter_configs(request).await,
            Body::IncrementalAlterConfigsRequest(request) => self.alter_configs_by_step(request).await,
            Body::DescribeConfigsRequest(request) => self.describe_configs(request).await?,
            Body::CreateTopicsRequest(request) => {
                let created = CreateTopicsService.serve(self.tansu(), request).await;
                self.topics.forget();
                created?.into()
            }
            Body::MetadataRequest(request) => MetadataService.serve(self.tansu(), request).await?.into(),
            Body::FindCoordinatorRequest(request) => FindCoordinatorService.serve(self.tansu(), request).await?.into(),
            Body::DescribeClusterRequest(request) => DescribeClusterService.serve(self.tansu(), request).await?.into(),
            Body::DescribeTopicPartitionsRequest(request) => {
                DescribeTopicPartitionsService.serve(self.tansu(), request).await?.into()
            }
            Body::JoinGroupRequest(request) => self.join_group(request, client, version).await,
            Body::SyncGroupRequest(request) => self.sync_group(request).await,
            Body::HeartbeatRequest(request) => self.heartbeat(request),
            Body::LeaveGroupRequest(request) => self.leave_group(request),
            Body::ListGroupsRequest(_) => self.list_groups().await,
            Body::DescribeGroupsRequest(request) => self.describe_groups(request),
            Body::DeleteGroupsRequest(request) => self.delete_groups(request).await,
            _ => return Err(Error::NotOffered { api_key }),
        }))
    }

    fn tansu(&self) -> Context<StorageContainer> {
        Context::with_state(self.storage.clone())
    }
}

fn api_versions() -> Body {
    let messages = RootMessageMeta::messages();
    let newest = |key: i16, known: i16| {
        let ours = OURS.iter().find(|(ours, _)| *ours == key);
        ours.map_or(known, |(_, newest)| known.min(*newest))
    };
    let keys = messages
        .requests()
        .iter()
        .filter(|(key, _)| TANSUS.contains(key) || OURS.iter().any(|(ours, _)| ours == *key))
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

/// A negative time is none at all.
fn millis(millis: i32) -> Duration {
    u64::try_from(millis).map_or(Duration::ZERO, Duration::from_millis)
}

fn code(result: Result<(), ErrorCode>) -> i16 {
    result.err().unwrap_or(ErrorCode::None).into()
}
