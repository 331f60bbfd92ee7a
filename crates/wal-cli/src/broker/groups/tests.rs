use super::*;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

fn applicant(member: &str) -> Applicant {
    Applicant {
        member: member.to_owned(),
        instance: None,
        client: "c".to_owned(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from_static(b"wish"))],
        first: First::GiveId,
    }
}

/// The id a newcomer is given.
fn id(groups: &Groups, now: Instant) -> String {
    let refused = groups.join("g", applicant(""), now).try_recv().unwrap();
    let refused = refused.unwrap_err();
    assert_eq!(refused.error, ErrorCode::MemberIdRequired);
    refused.member
}

/// A group of one that has its assignment.
fn stable(groups: &Groups, now: Instant) -> (String, i32) {
    let id = id(groups, now);
    let mut join = groups.join("g", applicant(&id), now);
    let joined = join.try_recv().unwrap().unwrap();
    assert_eq!(joined.leader, id);
    let assigned = vec![(id.clone(), Bytes::from_static(b"all"))];
    let mut sync = groups.sync("g", joined.generation, &id, assigned, now);
    assert_eq!(sync.try_recv().unwrap().unwrap().assignment, &b"all"[..]);
    (id, joined.generation)
}

#[test]
fn one_member_has_everything_at_once() {
    let now = Instant::now();
    let groups = Groups::default();

    let (id, generation) = stable(&groups, now);

    assert_eq!(groups.heartbeat("g", generation, &id, now), Ok(()));
}

#[test]
fn a_second_member_waits_until_the_first_has_joined_again() {
    let now = Instant::now();
    let groups = Groups::default();
    let (first, generation) = stable(&groups, now);

    let second = id(&groups, now);
    let mut second_join = groups.join("g", applicant(&second), now);
    assert!(second_join.try_recv().is_err());
    let beat = groups.heartbeat("g", generation, &first, now);
    assert_eq!(beat, Err(ErrorCode::RebalanceInProgress));
    let mut first_join = groups.join("g", applicant(&first), now);

    let leader = first_join.try_recv().unwrap().unwrap();
    let follower = second_join.try_recv().unwrap().unwrap();
    assert_eq!(leader.members.len(), 2);
    assert_eq!(follower.generation, generation + 1);
    let mut waiting = groups.sync("g", follower.generation, &second, Vec::new(), now);
    assert!(waiting.try_recv().is_err());
    let assigned = vec![(second.clone(), Bytes::from_static(b"half"))];
    drop(groups.sync("g", leader.generation, &first, assigned, now));
    let half = waiting.try_recv().unwrap().unwrap();
    assert_eq!(half.assignment, &b"half"[..]);
}

#[test]
fn a_killed_leader_is_replaced_after_its_session() {
    let start = Instant::now();
    let groups = Groups::default();
    let (_, generation) = stable(&groups, start);
    let later = start + SESSION - Duration::from_secs(1);
    let second = id(&groups, later);
    let mut join = groups.join("g", applicant(&second), later);

    groups.tick(later);
    assert!(join.try_recv().is_err());
    groups.tick(start + SESSION + Duration::from_secs(1));

    let joined = join.try_recv().unwrap().unwrap();
    assert_eq!(joined.leader, second);
    assert_eq!(joined.generation, generation + 1);
    assert_eq!(joined.members.len(), 1);
}

#[test]
fn a_leader_that_dies_before_it_assigns_does_not_hold_up_the_others() {
    let start = Instant::now();
    let groups = Groups::default();
    let (first, _) = stable(&groups, start);
    let second = id(&groups, start);
    let mut second_join = groups.join("g", applicant(&second), start);
    drop(groups.join("g", applicant(&first), start));
    let joined = second_join.try_recv().unwrap().unwrap();
    let mut waiting = groups.sync("g", joined.generation, &second, Vec::new(), start);

    groups.tick(start + SESSION + Duration::from_secs(1));

    let told = waiting.try_recv().unwrap();
    assert_eq!(told, Err(ErrorCode::RebalanceInProgress));
    let mut again = groups.join("g", applicant(&second), start + SESSION);
    assert_eq!(again.try_recv().unwrap().unwrap().leader, second);
}

#[test]
fn a_zombie_cannot_commit() {
    let now = Instant::now();
    let groups = Groups::default();
    let (first, generation) = stable(&groups, now);
    let may = |generation, member: &str, commit| groups.may_commit("g", generation, member, commit, now);

    for commit in [Commit::Plain, Commit::Transaction] {
        assert_eq!(may(generation, &first, commit), Ok(()));
        let old = may(generation - 1, &first, commit);
        assert_eq!(old, Err(ErrorCode::IllegalGeneration));
        let stranger = may(generation, "stranger", commit);
        assert_eq!(stranger, Err(ErrorCode::UnknownMemberId));
    }
}

#[test]
fn an_operator_sets_offsets_only_of_a_group_without_members() {
    let now = Instant::now();
    let groups = Groups::default();
    let set = || groups.may_commit("g", -1, "", Commit::Plain, now);

    assert_eq!(set(), Ok(()));
    let (member, _) = stable(&groups, now);
    assert_eq!(set(), Err(ErrorCode::UnknownMemberId));
    groups.leave("g", &member, None, now).unwrap();
    assert_eq!(set(), Ok(()));
}

#[test]
fn strangers_with_another_protocol_are_refused() {
    let now = Instant::now();
    let groups = Groups::default();
    stable(&groups, now);
    let other = Applicant { protocols: vec![("cooperative-sticky".to_owned(), Bytes::new())], ..applicant("") };

    let refused = groups.join("g", other, now).try_recv().unwrap();

    let refused = refused.unwrap_err();
    assert_eq!(refused.error, ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn a_static_member_that_comes_back_takes_its_own_place() {
    let now = Instant::now();
    let groups = Groups::default();
    let fixed = Applicant { instance: Some("pod-0".to_owned()), ..applicant("") };
    let mut first = groups.join("g", fixed.clone(), now);
    let first = first.try_recv().unwrap().unwrap();

    let mut second = groups.join("g", fixed, now);

    let second = second.try_recv().unwrap().unwrap();
    assert_eq!(second.members.len(), 1);
    let old = groups.heartbeat("g", second.generation, &first.member, now);
    assert_eq!(old, Err(ErrorCode::UnknownMemberId));
}
