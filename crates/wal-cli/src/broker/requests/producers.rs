//! Producers' ids and transactions: InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn.

use std::time::{Duration, Instant};

use tansu_sans_io::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, Body,
    EndTxnRequest, EndTxnResponse, ErrorCode, InitProducerIdRequest, InitProducerIdResponse, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
    add_partitions_to_txn_response::{AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult},
    txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic},
};
use tracing::debug;

use super::{Requests, code};
use crate::broker::{
    groups::Commit,
    transactions::{Outcome, Position, Producer},
};

/// A transaction may stay open this long at most, as `BROKER_SETTINGS` says.
const MAX_TRANSACTION: Duration = Duration::from_secs(60);

impl Requests {
    pub(super) async fn init_producer(&self, request: InitProducerIdRequest) -> Body {
        let response = InitProducerIdResponse::default().throttle_time_ms(0);
        let timeout = u64::try_from(request.transaction_timeout_ms).map(Duration::from_millis);
        let is_transactional = request.transactional_id.is_some();
        let timeout = match timeout {
            Ok(timeout) if timeout <= MAX_TRANSACTION => timeout,
            _ if !is_transactional => Duration::ZERO,
            _ => {
                let error = ErrorCode::InvalidTransactionTimeout.into();
                return response.error_code(error).producer_id(-1).producer_epoch(-1).into();
            }
        };
        let former = match (request.producer_id, request.producer_epoch) {
            (Some(id), Some(epoch)) if id >= 0 && is_transactional => Some(Producer { id, epoch }),
            _ => None,
        };
        let started = self.ledger.start_producer(request.transactional_id, timeout, former).await;
        match started {
            Ok(producer) => response.producer_id(producer.id).producer_epoch(producer.epoch).into(),
            Err(error) => response.error_code(error.into()).producer_id(-1).producer_epoch(-1).into(),
        }
    }

    pub(super) async fn add_partitions(&self, request: AddPartitionsToTxnRequest) -> Body {
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
                AddPartitionsToTxnPartitionResult::default().partition_index(index).partition_error_code(error.into())
            });
            let partitions = Some(partitions.collect());
            AddPartitionsToTxnTopicResult::default().results_by_partition(partitions).name(topic.name)
        });
        AddPartitionsToTxnResponse::default()
            .throttle_time_ms(0)
            .error_code(Some(ErrorCode::None.into()))
            .results_by_transaction(Some(Vec::new()))
            .results_by_topic_v_3_and_below(Some(results.collect()))
            .into()
    }

    pub(super) async fn add_group(&self, request: AddOffsetsToTxnRequest) -> Body {
        let producer = Producer { id: request.producer_id, epoch: request.producer_epoch };
        let added = self.ledger.add_group(request.transactional_id, producer, request.group_id).await;
        AddOffsetsToTxnResponse::default().throttle_time_ms(0).error_code(code(added)).into()
    }

    pub(super) async fn hold_offsets(&self, request: TxnOffsetCommitRequest) -> Body {
        let producer = Producer { id: request.producer_id, epoch: request.producer_epoch };
        let generation = request.generation_id.unwrap_or(-1);
        let member = request.member_id.as_deref().unwrap_or_default();
        let membership =
            self.groups.may_commit(&request.group_id, generation, member, Commit::Transaction, Instant::now());
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
                let held = self.ledger.hold_positions(name, producer, group, positions);
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
            TxnOffsetCommitResponseTopic::default().partitions(partitions).name(topic.name)
        });
        TxnOffsetCommitResponse::default().throttle_time_ms(0).topics(Some(topics.collect())).into()
    }

    pub(super) async fn end_transaction(&self, request: EndTxnRequest) -> Body {
        let producer = Producer { id: request.producer_id, epoch: request.producer_epoch };
        let outcome = if request.committed { Outcome::Commit } else { Outcome::Abort };
        let started = Instant::now();
        let ended = self.ledger.end(request.transactional_id, producer, outcome).await;
        debug!(?outcome, ?ended, elapsed = ?started.elapsed(), "transaction ended");
        EndTxnResponse::default().throttle_time_ms(0).error_code(code(ended)).into()
    }
}

fn position(partition: &tansu_sans_io::txn_offset_commit_request::TxnOffsetCommitRequestPartition) -> Position {
    Position {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch.unwrap_or(-1),
        metadata: partition.committed_metadata.clone(),
    }
}
