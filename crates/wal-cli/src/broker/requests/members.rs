//! Membership of groups: joining, assigning, beating, leaving; and what operators ask about groups.

use std::time::Instant;

use tansu_sans_io::{
    Body, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, ErrorCode,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
    delete_groups_response::DeletableGroupResult,
    describe_groups_response::{DescribedGroup, DescribedGroupMember},
    join_group_response::JoinGroupResponseMember,
    leave_group_response::MemberResponse,
    list_groups_response::ListedGroup,
};
use tokio::sync::oneshot;

use super::{Requests, code, millis};
use crate::broker::groups::{Applicant, First, Refused};

impl Requests {
    pub(super) async fn join_group(&self, request: JoinGroupRequest, client: String, version: i16) -> Body {
        let protocols = request.protocols.unwrap_or_default().into_iter();
        let session_timeout = millis(request.session_timeout_ms);
        let rebalance_timeout = request.rebalance_timeout_ms.map(millis);
        let applicant = Applicant {
            member: request.member_id.clone(),
            instance: request.group_instance_id,
            client,
            session_timeout,
            rebalance_timeout: rebalance_timeout.unwrap_or(session_timeout),
            protocol_type: request.protocol_type,
            protocols: protocols.map(|protocol| (protocol.name, protocol.metadata)).collect(),
            first: if version < 4 { First::LetIn } else { First::GiveId },
        };
        let joining = self.groups.join(&request.group_id, applicant, Instant::now());
        let response = JoinGroupResponse::default().throttle_time_ms(Some(0)).skip_assignment(Some(false));
        let refused = match self.wait_for(joining).await {
            Some(Ok(joined)) => {
                let members = joined.members.into_iter().map(|wish| {
                    JoinGroupResponseMember::default()
                        .member_id(wish.member)
                        .group_instance_id(wish.instance)
                        .metadata(wish.metadata)
                });
                return response
                    .generation_id(joined.generation)
                    .protocol_type(Some(joined.protocol_type))
                    .protocol_name(Some(joined.protocol))
                    .leader(joined.leader)
                    .member_id(joined.member)
                    .members(Some(members.collect()))
                    .into();
            }
            Some(Err(refused)) => refused,
            None => Refused { error: ErrorCode::CoordinatorNotAvailable, member: request.member_id },
        };
        response
            .error_code(refused.error.into())
            .generation_id(-1)
            .protocol_type(Some(String::new()))
            .protocol_name(Some(String::new()))
            .member_id(refused.member)
            .members(Some(Vec::new()))
            .into()
    }

    pub(super) async fn sync_group(&self, request: SyncGroupRequest) -> Body {
        let assignments = request.assignments.unwrap_or_default().into_iter();
        let assignments = assignments.map(|assigned| (assigned.member_id, assigned.assignment)).collect();
        let syncing =
            self.groups.sync(&request.group_id, request.generation_id, &request.member_id, assignments, Instant::now());
        let gone = || Err(ErrorCode::CoordinatorNotAvailable);
        let response = SyncGroupResponse::default().throttle_time_ms(Some(0));
        match self.wait_for(syncing).await.unwrap_or_else(gone) {
            Ok(synced) => response
                .protocol_type(Some(synced.protocol_type))
                .protocol_name(Some(synced.protocol))
                .assignment(synced.assignment)
                .into(),
            Err(error) => response.error_code(error.into()).into(),
        }
    }

    /// `None`: the broker stops.
    async fn wait_for<T>(&self, answer: oneshot::Receiver<T>) -> Option<T> {
        tokio::select! {
            answer = answer => answer.ok(),
            () = self.stop.cancelled() => None,
        }
    }

    pub(super) fn heartbeat(&self, request: HeartbeatRequest) -> Body {
        let beaten =
            self.groups.heartbeat(&request.group_id, request.generation_id, &request.member_id, Instant::now());
        HeartbeatResponse::default().throttle_time_ms(Some(0)).error_code(code(beaten)).into()
    }

    /// One member in old versions, several in newer ones.
    pub(super) fn leave_group(&self, request: LeaveGroupRequest) -> Body {
        let now = Instant::now();
        let group = &request.group_id;
        let response = LeaveGroupResponse::default().throttle_time_ms(Some(0));
        if let Some(member) = request.member_id {
            let left = self.groups.leave(group, &member, None, now);
            return response.error_code(code(left)).into();
        }
        let members = request.members.unwrap_or_default().into_iter();
        let members = members.map(|member| {
            let instance = member.group_instance_id.as_deref();
            let left = self.groups.leave(group, &member.member_id, instance, now);
            MemberResponse::default()
                .member_id(member.member_id)
                .group_instance_id(member.group_instance_id)
                .error_code(code(left))
        });
        response.members(Some(members.collect())).into()
    }

    /// A group is one that has members or offsets.
    pub(super) async fn list_groups(&self) -> Body {
        let response = ListGroupsResponse::default().throttle_time_ms(Some(0));
        let mut names = match self.ledger.groups().await {
            Ok(names) => names,
            Err(error) => {
                return response.error_code(error.into()).groups(Some(Vec::new())).into();
            }
        };
        names.extend(self.groups.names());
        let groups = names.into_iter().map(|name| {
            let description = self.groups.describe(&name);
            let state = description.as_ref().map_or("Empty", |group| group.state);
            let protocol_type = description.map_or_else(String::new, |group| group.protocol_type);
            ListedGroup::default()
                .group_id(name)
                .protocol_type(protocol_type)
                .group_state(Some(state.to_owned()))
                .group_type(Some("classic".to_owned()))
        });
        response.groups(Some(groups.collect())).into()
    }

    pub(super) fn describe_groups(&self, request: DescribeGroupsRequest) -> Body {
        let names = request.groups.unwrap_or_default().into_iter();
        let groups = names.map(|name| {
            let described = DescribedGroup::default().authorized_operations(Some(i32::MIN));
            let Some(group) = self.groups.describe(&name) else {
                // What Kafka says of a group it does not know.
                let dead = described.group_id(name).group_state("Dead".to_owned());
                return dead.members(Some(Vec::new()));
            };
            let members = group.members.into_iter().map(|(wish, client, assignment)| {
                DescribedGroupMember::default()
                    .member_id(wish.member)
                    .group_instance_id(wish.instance)
                    .client_id(client)
                    .client_host("/127.0.0.1".to_owned())
                    .member_metadata(wish.metadata)
                    .member_assignment(assignment)
            });
            described
                .group_id(name)
                .group_state(group.state.to_owned())
                .protocol_type(group.protocol_type)
                .protocol_data(group.protocol)
                .members(Some(members.collect()))
        });
        DescribeGroupsResponse::default().throttle_time_ms(Some(0)).groups(Some(groups.collect())).into()
    }

    pub(super) async fn delete_groups(&self, request: DeleteGroupsRequest) -> Body {
        let mut results = Vec::new();
        for name in request.groups_names.unwrap_or_default() {
            let deleted = self.delete_group(&name).await;
            let result = DeletableGroupResult::default().group_id(name);
            results.push(result.error_code(code(deleted)));
        }
        DeleteGroupsResponse::default().throttle_time_ms(0).results(Some(results)).into()
    }

    async fn delete_group(&self, name: &str) -> Result<(), ErrorCode> {
        let was_known = self.groups.delete(name)?;
        let offsets = self.ledger.forget_group(name.to_owned()).await?;
        if was_known || offsets > 0 { Ok(()) } else { Err(ErrorCode::GroupIdNotFound) }
    }
}
