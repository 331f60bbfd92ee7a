//! What is published: attempts, parked attempts, status events, dead letters, failures moved to their partition. Pure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wal_model::ack::Ack;
use wal_model::answer::Failed;
use wal_model::delay::Waits;
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::parked::Parked;
use wal_model::request::HEADERS_LEN;
use wal_model::seal::Keyring;
use wal_model::status::{Event, Failure, Outcome, Reason};
use wal_model::topics::Topics;
use wal_model::{Header, InRecord, Namespace, OutRecord, Refusal, Timestamp, Topic, dead_letter, wire};
use wal_runtime::brokers::{self, Shapes};
use wal_runtime::metrics::Ended;

use crate::decide::{Decision, Ignored};
use crate::due::{self, Park, Step, Verdict};
use crate::tally::Tally;

/// What does not change from record to record.
pub(crate) struct Press<'a> {
    pub topics: &'a Topics,
    pub keyring: &'a Keyring,
    pub group: &'a str,
    pub waits: &'a Waits,
    pub unknown_target_wait: Duration,
    pub shapes: &'a Shapes,
    pub now: Timestamp,
}

impl Press<'_> {
    /// The records to be published for a decided failure.
    pub(crate) fn decided(
        &self,
        record: &InRecord,
        failed: &Failed,
        decision: &Decision,
        tally: &mut Tally,
    ) -> Vec<OutRecord> {
        match decision {
            Decision::Retry { due } => {
                self.scheduled(failed, tally);
                let next = failed.echo.delivery.clone().next_attempt();
                let park = Park::until(*due, self.now, self.waits);
                vec![self.retrying(record, failed, *due), self.parked(next, park, tally)]
            }
            Decision::RetryNow => {
                self.scheduled(failed, tally);
                let next = failed.echo.delivery.clone().next_attempt();
                let mut outputs = self.at_once(next, tally);
                outputs.push(self.retrying(record, failed, self.now));
                outputs
            }
            Decision::Dead { reason, why } => {
                tally.ended(&failed.echo.delivery, Ended::Failed(*reason));
                vec![self.failed(record, failed, *reason, why), self.dead_failure(record, failed, why)]
            }
            Decision::Refuse(refusal) => vec![self.refused(record, refusal, tally)],
            Decision::Ignore(ignored) => {
                match ignored {
                    // Of a cancelled round nothing is said any more, so its failures change as little.
                    Ignored::Replay | Ignored::NoAnswers | Ignored::Cancelled => tally.ignored += 1,
                    Ignored::Repeat => tally.repeated += 1,
                }
                Vec::new()
            }
        }
    }

    fn scheduled(&self, failed: &Failed, tally: &mut Tally) {
        tally.scheduled += 1;
        tally.ended(&failed.echo.delivery, Ended::Retrying);
    }

    /// The next attempt, now; or parked for a moment where its target cannot be published to. Whether it ever can is decided there.
    fn at_once(&self, next: Delivery, tally: &mut Tally) -> Vec<OutRecord> {
        let published = next.encode(self.now, self.keyring);
        match self.verdict(&next, &published) {
            Verdict::Publish => vec![published],
            Verdict::Postpone(park, _) => vec![self.parked(next, park, tally)],
            Verdict::Fail(..) => vec![self.parked(next, Park::until(self.now, self.now, self.waits), tally)],
        }
    }

    /// The records to be published for a parked attempt whose hop is over.
    pub(crate) fn released(&self, record: &InRecord, parked: Parked, step: Step, tally: &mut Tally) -> Vec<OutRecord> {
        match step {
            Step::Drop => {
                tally.cancelled += 1;
                Vec::new()
            }
            Step::Park(park) => vec![self.parked(parked.delivery, park, tally)],
            Step::Fail(reason, why) => self.ended(record, &parked.delivery, reason, &why, tally),
            Step::Publish => self.due(record, parked, tally),
        }
    }

    fn due(&self, record: &InRecord, parked: Parked, tally: &mut Tally) -> Vec<OutRecord> {
        let Parked { delivery, due, .. } = parked;
        let published = delivery.encode(self.now, self.keyring);
        match self.verdict(&delivery, &published) {
            Verdict::Publish => {
                tally.released.push(due);
                match delivery.answers {
                    Answers::Expected => vec![published],
                    Answers::None => vec![self.completed(&delivery, tally), published],
                }
            }
            Verdict::Postpone(park, why) => {
                tally.postponed += 1;
                tracing::debug!(log_id = %delivery.log_id, target = %delivery.target, why, "an attempt that is due waits");
                vec![self.parked(delivery, park, tally)]
            }
            Verdict::Fail(reason, why) => self.ended(record, &delivery, reason, &why, tally),
        }
    }

    /// What says that an attempt whose answer nobody wants is done.
    fn completed(&self, delivery: &Delivery, tally: &mut Tally) -> OutRecord {
        tally.ended(delivery, Ended::Completed);
        let ack = Ack::of(delivery, Outcome::Completed { result: None }, None, self.now);
        ack.encode(self.topics.acks(), self.keyring)
    }

    fn verdict(&self, delivery: &Delivery, published: &OutRecord) -> Verdict {
        let target = brokers::target(self.shapes, &delivery.target);
        due::verdict(delivery, published.size_as_batch(), target, self.unknown_target_wait, self.waits, self.now)
    }

    /// What says that an attempt was never made and its round is over.
    fn ended(
        &self,
        record: &InRecord,
        delivery: &Delivery,
        reason: Reason,
        why: &Refusal,
        tally: &mut Tally,
    ) -> Vec<OutRecord> {
        tally.ended(delivery, Ended::Failed(reason));
        let failure = Failure { code: why.code.as_str().to_owned(), message: why.message.clone() };
        let ack = Ack::of(delivery, Outcome::Failed { reason }, Some(failure), self.now);
        let topic = self.dead_letters(delivery.log_id.namespace());
        let limit = brokers::limit(self.shapes, &topic);
        let letter = dead_letter::of_delivery(delivery, &record.coordinates(), why, self.group, topic, limit);
        vec![ack.encode(self.topics.acks(), self.keyring), letter]
    }

    fn parked(&self, delivery: Delivery, Park { due, wait }: Park, tally: &mut Tally) -> OutRecord {
        tally.hops += 1;
        Parked { delivery, due, parked_at: self.now, wait }.encode(self.topics, self.keyring)
    }

    fn retrying(&self, record: &InRecord, failed: &Failed, next_attempt_at: Timestamp) -> OutRecord {
        self.event(failed, failed.event(record, Outcome::Retrying { next_attempt_at }))
    }

    fn failed(&self, record: &InRecord, failed: &Failed, reason: Reason, why: &Refusal) -> OutRecord {
        let mut event = failed.event(record, Outcome::Failed { reason });
        if let (Reason::Expired, Some(failure)) = (reason, &mut event.failure) {
            // Else nobody would understand why an entry has expired whose deadline is still to come.
            failure.message.clone_from(&why.message);
        }
        self.event(failed, event)
    }

    fn event(&self, failed: &Failed, event: Event) -> OutRecord {
        let Delivery { log_id, tenant, .. } = &failed.echo.delivery;
        let ack = Ack { log_id: log_id.clone(), tenant: tenant.clone(), event };
        ack.encode(self.topics.acks(), self.keyring)
    }

    /// The failure itself, under the consumer's own error.
    fn dead_failure(&self, record: &InRecord, failed: &Failed, why: &Refusal) -> OutRecord {
        let Delivery { log_id, attempt, .. } = &failed.echo.delivery;
        let topic = self.dead_letters(log_id.namespace());
        let limit = brokers::limit(self.shapes, &topic);
        let attributes = vec![
            Header::new(wire::CE_WALERRORCODE, failed.failure.code.clone()),
            Header::new(wire::CE_WALERRORMESSAGE, failed.failure.message.clone()),
            Header::new(wire::DLQ_DELIVERY_COUNT, attempt.to_string()),
        ];
        let key = Some(Bytes::from(log_id.to_string()));
        dead_letter::encode(record, why, self.group, key, attributes, topic, limit)
    }

    /// The dead letter of a record that nothing may come of, or that the log did not park where it stands. Nothing it says of itself is
    /// believed, so it goes where refused requests go.
    pub(crate) fn refused(&self, record: &InRecord, refusal: &Refusal, tally: &mut Tally) -> OutRecord {
        tally.refused(refusal.code);
        let topic = self.topics.dead_requests();
        let limit = brokers::limit(self.shapes, &topic);
        dead_letter::encode(record, refusal, self.group, None, Vec::new(), topic, limit)
    }

    /// Where dead letters of a namespace go.
    fn dead_letters(&self, namespace: &Namespace) -> Topic {
        let own = self.topics.dead_entries(namespace);
        if brokers::is_known(self.shapes, &own) { own } else { self.topics.dead_requests() }
    }

    /// A failure for the partition that its log id names. Made anew from what was verified, so that it fits wherever the delivery did,
    /// whatever the consumer put beside it.
    pub(crate) fn moved(&self, failed: &Failed, partition: i32, tally: &mut Tally) -> OutRecord {
        tally.moved += 1;
        let delivered = failed.echo.delivery.encode(failed.echo.sent, self.keyring);
        let delivered = InRecord {
            cluster: Arc::from(""),
            topic: delivered.topic,
            partition: 0,
            offset: 0,
            time: None,
            key: delivered.key,
            value: delivered.value,
            headers: delivered.headers,
        };
        let moved = Failed::encode(&delivered, &failed.failure, &failed.wish, self.topics.failures());
        OutRecord { partition: Some(partition), ..moved }
    }
}

/// Leaves out the callers' headers beyond what an entry may have, the last first: the seal does not cover them, and a consumer that adds
/// some to every answer would make an attempt that fits nowhere. Whether any was left out.
pub(crate) fn cut_headers(headers: &mut Vec<Header>) -> bool {
    let mut size = 0;
    let fits = headers.iter().take_while(|header| {
        size += header.size();
        size <= HEADERS_LEN
    });
    let fit = fits.count();
    let is_cut = fit < headers.len();
    headers.truncate(fit);
    is_cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_beyond_what_an_entry_may_have_are_left_out_the_last_first() {
        let header = |name: &'static str, length| Header::new(name, vec![b'x'; length]);
        let mut headers = vec![header("a", 10), header("b", HEADERS_LEN - 12)];
        assert!(!cut_headers(&mut headers));
        headers.push(header("c", 0));
        assert!(cut_headers(&mut headers));
        assert_eq!(headers.iter().map(|header| header.name_str().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
