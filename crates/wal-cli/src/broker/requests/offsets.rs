//! The offsets groups commit, with the text beside them: OffsetCommit, OffsetFetch.

use std::{collections::BTreeMap, time::Instant};

use tansu_sans_io::{
    Body, ErrorCode, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
    offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    },
};

use super::Requests;
use crate::broker::{groups::Commit, transactions::Position};

/// Where a group is that committed nothing.
const NOWHERE: Position = Position { offset: -1, leader_epoch: -1, metadata: None };

impl Requests {
    pub(super) async fn commit_offsets(&self, request: OffsetCommitRequest) -> Body {
        let generation = request.generation_id_or_member_epoch.unwrap_or(-1);
        let member = request.member_id.as_deref().unwrap_or_default();
        let membership = self.groups.may_commit(&request.group_id, generation, member, Commit::Plain, Instant::now());
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
        OffsetCommitResponse::default().throttle_time_ms(Some(0)).topics(Some(topics)).into()
    }

    /// Tansu keeps the text beside a committed offset and never gives it back; we need it.
    pub(super) async fn fetch_offsets(&self, request: OffsetFetchRequest) -> Body {
        let response =
            OffsetFetchResponse::default().throttle_time_ms(Some(0)).error_code(Some(ErrorCode::None.into()));
        if let Some(groups) = request.groups {
            let mut responses = Vec::new();
            for group in groups {
                let wanted = group.topics.map(|topics| {
                    let topics = topics.into_iter();
                    topics.map(|topic| (topic.name, topic.partition_indexes.unwrap_or_default())).collect()
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
                    OffsetFetchResponseTopics::default().name(name).partitions(Some(partitions.collect()))
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
            topics.map(|topic| (topic.name, topic.partition_indexes.unwrap_or_default())).collect()
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
            OffsetFetchResponseTopic::default().name(name).partitions(Some(partitions.collect()))
        });
        response.topics(Some(topics.collect())).error_code(Some(error.into())).into()
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
}
