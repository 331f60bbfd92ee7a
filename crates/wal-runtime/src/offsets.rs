//! Where reading begins: no jumps, no guesses.

use wal_model::Topic;

/// What is known of a partition.
#[derive(Clone, Debug)]
pub struct PartitionFacts {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The group's committed offset.
    pub committed: Option<i64>,
    /// The first offset there is.
    pub log_start: i64,
    /// The offset after the last.
    pub log_end: i64,
}

/// Where a partition is read from.
#[derive(Clone, Debug)]
pub struct Start {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The first offset to read.
    pub offset: i64,
}

/// The group's place is gone.
#[derive(Clone, Debug, thiserror::Error)]
#[error("group {group} has lost its place in {lost:?}; see `wal topics apply --adopt`")]
pub struct OffsetsLost {
    group: String,
    lost: Vec<String>,
}

/// The rule.
pub fn decide(group: &str, facts: &[PartitionFacts]) -> Result<Vec<Start>, OffsetsLost> {
    let has_place = facts.iter().any(|fact| fact.committed.is_some());
    let mut lost = Vec::new();
    let mut starts = Vec::new();
    for fact in facts {
        let offset = match fact.committed {
            Some(offset) if (fact.log_start..=fact.log_end).contains(&offset) => offset,
            None if has_place && fact.log_start == 0 => 0,
            _ => {
                lost.push(format!("{}[{}]", fact.topic, fact.partition));
                continue;
            }
        };
        starts.push(Start { topic: fact.topic.clone(), partition: fact.partition, offset });
    }
    if lost.is_empty() { Ok(starts) } else { Err(OffsetsLost { group: group.to_owned(), lost }) }
}
