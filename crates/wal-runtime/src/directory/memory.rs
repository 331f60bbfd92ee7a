//! What the directory remembers: the last answer about each topic, how old it is, and what it is still good for. No I/O, no clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use wal_model::Topic;

use super::{Presence, TopicShape};

/// From this age on, a shape is asked for again behind the answer.
const SHAPE_GETS_OLD: Duration = Duration::from_secs(30);
/// From this age on, a shape is not believed any more: nobody has said a word about the topic for all that time.
const SHAPE_IS_TOO_OLD: Duration = Duration::from_secs(300);
/// The shortest time between two questions about one topic.
const QUESTION_EVERY: Duration = Duration::from_millis(500);
/// The longest time between two answers "unknown topic" for the second to confirm what lies between them. Whoever waits for a
/// topic asks more often; nobody asking is no proof.
const ABSENCE_GAP: Duration = Duration::from_secs(10);
/// The most topics remembered. Requests may name anything; half are forgotten when more come, those not asked about for longest.
const TOPICS: usize = 10_000;

/// Everything remembered.
#[derive(Default)]
pub(super) struct Memory {
    slots: HashMap<Topic, Slot>,
}

/// One topic.
struct Slot {
    said: Said,
    /// Why the last question got no answer.
    trouble: Option<Presence>,
    /// When the last question ended, answered or not.
    asked: Option<Instant>,
    used: Instant,
    /// Ends when the question under way does.
    asking: Option<watch::Receiver<()>>,
}

/// The last answer.
#[derive(Debug)]
enum Said {
    Nothing,
    Known { shape: TopicShape, at: Instant },
    Unknown(Absence),
}

/// For how long the brokers have gone on answering "unknown topic".
#[derive(Debug)]
struct Absence {
    last: Instant,
    answered_for: Duration,
    /// A question since the last answer got none.
    is_interrupted: bool,
}

/// What one question brought.
pub(super) enum Outcome {
    Known(TopicShape),
    Unknown,
    /// Denied or unanswered.
    Trouble(Presence),
}

/// What to do for someone who asks about a topic.
pub(super) enum Next {
    /// This is the answer.
    Answer(Presence),
    /// This is the answer, and it is time to ask again behind it.
    AnswerAndAsk(Presence),
    /// Wait for the question under way.
    Await(watch::Receiver<()>),
    /// Ask.
    Ask,
}

impl Memory {
    /// What to do for someone who has been asking about `topic` since `since`.
    pub(super) fn next(&mut self, topic: &Topic, since: Instant, now: Instant) -> Next {
        let Some(slot) = self.slots.get_mut(topic) else { return Next::Ask };
        slot.used = now;
        let was_asked_since = slot.asked.is_some_and(|asked| asked >= since);
        let was_just_asked = slot.asked.is_some_and(|asked| age(asked, now) < QUESTION_EVERY);
        match (&slot.said, slot.under_way()) {
            (Said::Known { shape, at }, None)
                if age(*at, now) >= SHAPE_GETS_OLD && !was_just_asked && !was_asked_since =>
            {
                match age(*at, now) < SHAPE_IS_TOO_OLD {
                    true => Next::AnswerAndAsk(Presence::Known(shape.clone())),
                    false => Next::Ask,
                }
            }
            (Said::Known { shape, at }, _) if age(*at, now) < SHAPE_IS_TOO_OLD => {
                Next::Answer(Presence::Known(shape.clone()))
            }
            (_, None) if was_asked_since || was_just_asked => Next::Answer(slot.presence()),
            (_, None) => Next::Ask,
            (_, Some(asking)) => Next::Await(asking),
        }
    }

    /// The question under way about a topic, if there is one.
    pub(super) fn under_way(&self, topic: &Topic) -> Option<watch::Receiver<()>> {
        self.slots.get(topic).and_then(Slot::under_way)
    }

    /// A question about a topic begins; it ends when the sender of `asking` is dropped.
    pub(super) fn begin(&mut self, topic: &Topic, asking: watch::Receiver<()>, now: Instant) {
        if self.slots.len() >= TOPICS && !self.slots.contains_key(topic) {
            self.forget_half();
        }
        self.slot(topic, now).asking = Some(asking);
    }

    /// A question about a topic has ended.
    pub(super) fn end(&mut self, topic: &Topic, outcome: Outcome, now: Instant) {
        let slot = self.slot(topic, now);
        slot.asked = Some(now);
        slot.asking = None;
        slot.trouble = None;
        match (outcome, &mut slot.said) {
            (Outcome::Known(shape), said) => *said = Said::Known { shape, at: now },
            (Outcome::Unknown, Said::Unknown(absence)) => absence.confirm(now),
            (Outcome::Unknown, said) => *said = Said::Unknown(Absence::since(now)),
            (Outcome::Trouble(presence), said) => {
                slot.trouble = Some(presence);
                if let Said::Unknown(absence) = said {
                    absence.is_interrupted = true;
                }
            }
        }
    }

    /// Forgets every shape; for how long topics have been unknown stays.
    pub(super) fn forget_shapes(&mut self) {
        for slot in self.slots.values_mut() {
            if matches!(slot.said, Said::Known { .. }) {
                (slot.said, slot.asked) = (Said::Nothing, None);
            }
        }
    }

    fn slot(&mut self, topic: &Topic, now: Instant) -> &mut Slot {
        self.slots.entry(topic.clone()).or_insert_with(|| Slot {
            said: Said::Nothing,
            trouble: None,
            asked: None,
            used: now,
            asking: None,
        })
    }

    fn forget_half(&mut self) {
        let mut uses: Vec<Instant> = self.slots.values().map(|slot| slot.used).collect();
        let middle = uses.len() / 2;
        let (_, median, _) = uses.select_nth_unstable(middle);
        let median = *median;
        self.slots.retain(|_, slot| slot.used > median || slot.under_way().is_some());
    }
}

impl Slot {
    /// The question under way. One whose asker is gone without an answer has ended too.
    fn under_way(&self) -> Option<watch::Receiver<()>> {
        self.asking.clone().filter(|asking| asking.has_changed().is_ok())
    }

    /// What may be said of the topic without asking, once its shape is not believed.
    fn presence(&self) -> Presence {
        match (&self.trouble, &self.said) {
            (Some(trouble), _) => trouble.clone(),
            (None, Said::Unknown(absence)) => Presence::Unknown { for_at_least: absence.answered_for },
            (None, Said::Known { shape, .. }) => Presence::Known(shape.clone()),
            (None, Said::Nothing) => Presence::Unanswered("the question was given up".to_owned()),
        }
    }
}

impl Absence {
    fn since(now: Instant) -> Absence {
        Absence { last: now, answered_for: Duration::ZERO, is_interrupted: false }
    }

    fn confirm(&mut self, now: Instant) {
        let gap = age(self.last, now);
        if !self.is_interrupted && gap <= ABSENCE_GAP {
            self.answered_for += gap;
        }
        (self.last, self.is_interrupted) = (now, false);
    }
}

fn age(then: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(then)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn topic() -> Topic {
        Topic::parse("orders").unwrap()
    }

    fn known(partitions: i32) -> Outcome {
        Outcome::Known(shape(partitions))
    }

    fn shape(partitions: i32) -> TopicShape {
        TopicShape { partitions, replication: 1, max_message_bytes: 1, configs: Arc::default() }
    }

    fn silence() -> Outcome {
        Outcome::Trouble(Presence::Unanswered("timed out".to_owned()))
    }

    /// The answers to questions that ended after so many milliseconds each.
    fn after(answers: Vec<(u64, Outcome)>) -> (Memory, Instant) {
        let start = Instant::now();
        let mut memory = Memory::default();
        let mut now = start;
        for (millis, outcome) in answers {
            now = start + Duration::from_millis(millis);
            memory.end(&topic(), outcome, now);
        }
        (memory, now)
    }

    fn presence(memory: &mut Memory, now: Instant) -> Option<Presence> {
        match memory.next(&topic(), now, now) {
            Next::Answer(presence) | Next::AnswerAndAsk(presence) => Some(presence),
            Next::Ask | Next::Await(_) => None,
        }
    }

    fn unknown_for(answers: Vec<(u64, Outcome)>) -> Duration {
        let (mut memory, now) = after(answers);
        match presence(&mut memory, now) {
            Some(Presence::Unknown { for_at_least }) => for_at_least,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn absence_grows_from_the_first_answer_to_the_last() {
        assert_eq!(unknown_for(vec![(7, Outcome::Unknown)]), Duration::ZERO);
        let answers = vec![(0, Outcome::Unknown), (600, Outcome::Unknown), (5_000, Outcome::Unknown)];
        assert_eq!(unknown_for(answers), Duration::from_secs(5));
    }

    #[test]
    fn silence_neither_extends_an_absence_nor_ends_it() {
        let answers =
            vec![(0, Outcome::Unknown), (1_000, Outcome::Unknown), (6_000, silence()), (7_000, Outcome::Unknown)];
        assert_eq!(unknown_for(answers), Duration::from_secs(1));
        let answers = vec![(0, Outcome::Unknown), (40_000, Outcome::Unknown), (41_000, Outcome::Unknown)];
        assert_eq!(unknown_for(answers), Duration::from_secs(1));
    }

    #[test]
    fn silence_is_said_to_be_silence() {
        let (mut memory, now) = after(vec![(0, Outcome::Unknown), (1_000, silence())]);
        assert!(matches!(presence(&mut memory, now), Some(Presence::Unanswered(_))));
    }

    #[test]
    fn a_topic_that_was_there_begins_its_absence_anew() {
        let answers =
            vec![(0, Outcome::Unknown), (9_000, Outcome::Unknown), (9_600, known(1)), (9_700, Outcome::Unknown)];
        assert_eq!(unknown_for(answers), Duration::ZERO);
    }

    #[test]
    fn an_unknown_topic_is_asked_for_again_after_half_a_second() {
        let (mut memory, now) = after(vec![(0, Outcome::Unknown)]);
        assert!(presence(&mut memory, now + Duration::from_millis(499)).is_some());
        assert!(presence(&mut memory, now + Duration::from_millis(500)).is_none());
    }

    #[test]
    fn a_shape_is_asked_for_behind_the_answer_and_given_up_when_nobody_says_a_word() {
        let (mut memory, now) = after(vec![(0, known(3))]);
        let mut next = |seconds| {
            let now = now + Duration::from_secs(seconds);
            memory.next(&topic(), now, now)
        };
        assert!(matches!(next(29), Next::Answer(Presence::Known(_))));
        assert!(matches!(next(31), Next::AnswerAndAsk(Presence::Known(_))));
        assert!(matches!(next(301), Next::Ask));
    }

    #[test]
    fn a_shape_outlives_questions_without_an_answer() {
        let (mut memory, now) = after(vec![(0, known(3)), (31_000, silence())]);
        assert_eq!(presence(&mut memory, now), Some(Presence::Known(shape(3))));
        let later = now + Duration::from_secs(600);
        memory.end(&topic(), silence(), later);
        assert!(matches!(presence(&mut memory, later), Some(Presence::Unanswered(_))));
    }

    #[test]
    fn shapes_are_forgotten_and_absences_are_not() {
        let (mut memory, now) = after(vec![(0, known(3))]);
        memory.forget_shapes();
        assert!(matches!(memory.next(&topic(), now, now), Next::Ask));
        let (mut memory, now) = after(vec![(0, Outcome::Unknown), (400, Outcome::Unknown)]);
        memory.forget_shapes();
        let answer = Some(Presence::Unknown { for_at_least: Duration::from_millis(400) });
        assert_eq!(presence(&mut memory, now), answer);
    }

    #[test]
    fn who_asks_meanwhile_waits_for_the_same_answer() {
        let now = Instant::now();
        let mut memory = Memory::default();
        let (asker, asking) = watch::channel(());
        memory.begin(&topic(), asking, now);
        assert!(matches!(memory.next(&topic(), now, now), Next::Await(_)));
        drop(asker);
        assert!(matches!(memory.next(&topic(), now, now), Next::Ask));
    }

    #[test]
    fn any_number_of_names_takes_a_bounded_memory() {
        let start = Instant::now();
        let mut memory = Memory::default();
        for number in 0..3 * TOPICS {
            let now = start + Duration::from_millis(number as u64);
            let topic = Topic::parse(&format!("t{number}")).unwrap();
            memory.begin(&topic, watch::channel(()).1, now);
            memory.end(&topic, Outcome::Unknown, now);
        }
        assert!(memory.slots.len() <= TOPICS);
        assert!(memory.slots.contains_key(&Topic::parse(&format!("t{}", 3 * TOPICS - 1)).unwrap()));
    }
}
