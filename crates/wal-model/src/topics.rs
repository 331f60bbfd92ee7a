//! What the log's own topics are called, under a prefix that is a setting.

use crate::delay::Wait;
use crate::lifecycle::Priority;
use crate::name::{Invalid, Namespace, Topic};

/// What stands between the prefix and the wait in the name of a delay topic.
const DELAY: &str = "delay.";

/// The log's own topics under one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

impl Topics {
    /// Topics under `prefix`, such as `wal.`; it must be a legal beginning of a topic name and leave room for the rest.
    pub fn new(prefix: &str) -> Result<Topics, Invalid> {
        // The longest of our names is a dead-letter topic of a namespace of full length.
        let longest = format!("dlq.{prefix}{}", "n".repeat(crate::name::NAMESPACE_LEN));
        Topic::parse(&longest)?;
        if prefix.is_empty() { Err(Invalid::Empty) } else { Ok(Topics { prefix: prefix.to_owned() }) }
    }

    /// The prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn named(&self, name: &str) -> Topic {
        Topic::parse(&format!("{}{name}", self.prefix)).expect("the prefix was checked with a longer name")
    }

    /// Where requests of a priority come in.
    pub fn ingress(&self, priority: Priority) -> Topic {
        self.named(match priority {
            Priority::High => "ingress.high",
            Priority::Normal => "ingress",
            Priority::Low => "ingress.low",
        })
    }

    /// Where receipts go that name no address of their own.
    pub fn receipts(&self) -> Topic {
        self.named("receipts")
    }

    /// What happened to entries, and what consumers completed.
    pub fn acks(&self) -> Topic {
        self.named("acks")
    }

    /// What consumers could not do.
    pub fn failures(&self) -> Topic {
        self.named("failures")
    }

    /// Rounds that are not to be delivered any more.
    pub fn cancels(&self) -> Topic {
        self.named("cancels")
    }

    /// Where each entry stands.
    pub fn status(&self) -> Topic {
        self.named("status")
    }

    /// Where everything waits for the same time.
    pub fn delay(&self, wait: Wait) -> Topic {
        self.named(&format!("{DELAY}{wait}"))
    }

    /// What the name of every delay topic begins with.
    pub fn delay_prefix(&self) -> String {
        format!("{}{DELAY}", self.prefix)
    }

    /// The wait of a delay topic; `None` if the topic is none of ours.
    pub fn wait_of(&self, topic: &Topic) -> Option<Wait> {
        topic.as_str().strip_prefix(&self.delay_prefix())?.parse().ok()
    }

    /// Who did what.
    pub fn audit(&self) -> Topic {
        self.named("audit")
    }

    /// Requests that were refused.
    pub fn dead_requests(&self) -> Topic {
        let name = format!("dlq.{}ingress", self.prefix);
        Topic::parse(&name).expect("the prefix was checked with a longer name")
    }

    /// Entries of a namespace that will not be tried again by themselves.
    pub fn dead_entries(&self, namespace: &Namespace) -> Topic {
        let name = format!("dlq.{}{namespace}", self.prefix);
        Topic::parse(&name).expect("the prefix was checked with a namespace of full length")
    }

    /// Whether a topic belongs to the log or to Kafka itself, so that nothing else may be sent there by a request.
    pub fn is_reserved(&self, topic: &Topic) -> bool {
        let name = topic.as_str();
        let after_dlq = name.strip_prefix("dlq.").unwrap_or(name);
        name.starts_with("__") || after_dlq.starts_with(&self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_topics_are_reserved() {
        let topics = Topics::new("wal.").unwrap();
        let ours = [
            topics.ingress(Priority::High),
            topics.ingress(Priority::Normal),
            topics.receipts(),
            topics.acks(),
            topics.audit(),
            topics.dead_requests(),
            topics.dead_entries(&Namespace::parse("orders").unwrap()),
            Topic::parse("__consumer_offsets").unwrap(),
        ];
        for topic in ours {
            assert!(topics.is_reserved(&topic), "{topic}");
        }
        assert!(!topics.is_reserved(&Topic::parse("walrus.orders").unwrap()));
    }

    #[test]
    fn delay_topics_tell_their_wait() {
        let topics = Topics::new("wal.").unwrap();
        let wait: Wait = "2m".parse().unwrap();
        assert_eq!(topics.delay(wait).as_str(), "wal.delay.2m");
        assert_eq!(topics.wait_of(&topics.delay(wait)), Some(wait));
        assert_eq!(topics.wait_of(&Topic::parse("wal.delay.120s").unwrap()), None);
        assert!(topics.is_reserved(&topics.delay(wait)));
    }

    #[test]
    fn prefixes_must_make_legal_topics() {
        assert!(Topics::new("a b.").is_err());
        assert!(Topics::new("").is_err());
        assert!(Topics::new(&"p".repeat(200)).is_err());
    }
}
