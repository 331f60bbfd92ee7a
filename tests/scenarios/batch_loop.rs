//! The batch loop by itself: mirrors that copy one topic to another, hurt in every way a process and a group can be hurt. Readers of
//! committed records must see every record once, per key in order.

use std::collections::HashMap;
use std::time::Duration;

use wal_tests::clients::{self, add_partitions, commit, create_topic, delete_records, read_all, read_until};
use wal_tests::{Isolation, Kafka, Message, Process, Producer, Record, seed, unique, wait_until};

use crate::support::log::{variable, wait_until_read};
use crate::support::turns::{self, Turn};
use crate::support::{LATER, SOON};

const PARTITIONS: i32 = 4;
const KEYS: usize = 40;
/// What a member that stands still loses its partitions after, and a transaction its life.
const SETTINGS: [(&str, &str); 3] = [
    ("kafka.session_timeout", "2s"),
    ("kafka.transaction_timeout", "4s"),
    ("kafka.options.topic.metadata.refresh.interval.ms", "500"),
];
/// What a stop may take.
const STOP: Duration = Duration::from_secs(20);

#[test]
fn members_that_come_and_go_under_load_lose_nothing_and_double_nothing() {
    let mut random = seed::random("come and go");
    let mut road = Road::new("storm");
    let mut members: Vec<Process> = vec![road.start("0", &[]), road.start("1", &[])];
    for instance in 2..10 {
        road.send(400);
        // Somewhere in the middle of it: a random part of what was sent has arrived.
        road.wait_for(random.usize(road.sent / 2..road.sent));
        let leaving = members.swap_remove(random.usize(..members.len()));
        match random.u8(..3) {
            0 => {
                leaving.terminate();
                assert_eq!(leaving.wait(STOP).code(), Some(0), "{leaving:?}");
            }
            1 => drop(leaving),
            // One more comes before the other goes.
            _ => {
                members.push(road.start(&format!("{instance}-early"), &[]));
                road.send(100);
                leaving.terminate();
                assert_eq!(leaving.wait(STOP).code(), Some(0), "{leaving:?}");
            }
        }
        if members.len() < 3 {
            members.push(road.start(&instance.to_string(), &[]));
        }
    }

    road.expect_exactly_once();
    assert!(members.iter().all(Process::is_running), "{members:?}");
}

#[test]
fn a_stop_in_the_middle_of_work_keeps_what_is_done_and_gives_back_the_rest() {
    let mut road = Road::new("stop");
    road.send(4000);

    for _ in 0..3 {
        let mirror = road.start("0", &[("MIRROR_BATCH", "20")]);
        mirror.wait_for_line("committed", SOON);
        mirror.terminate();
        assert_eq!(mirror.wait(STOP).code(), Some(0), "{mirror:?}");
        assert!(mirror.lines().iter().any(|line| line.text.contains("left the consumer group")), "{mirror:?}");
    }
    assert!(road.arrived().len() < road.sent, "it was stopped in the middle of its work");

    let _mirror = road.start("0", &[]);
    road.expect_exactly_once();
}

/// While one batch is published the next is handled: if the one fails, the other must not be published, or the records of the first
/// would be passed over.
#[test]
fn a_batch_that_fails_takes_those_behind_it_along() {
    let mut road = Road::new("fails");
    road.send(2000);

    let mirror = road.start("0", &[("MIRROR_BATCH", "50"), ("MIRROR_FAIL_EVERY", "5")]);
    road.expect_exactly_once();

    let failed = mirror.lines().iter().filter(|line| line.text.contains("rewound")).count();
    assert!(failed >= 5, "{failed} batches failed: {mirror:?}");
}

/// It stands still with a batch in hand, before its transaction begins, for longer than its session; then it goes on as if nothing
/// had happened, and wants to commit what another has done meanwhile.
#[test]
fn a_zombie_does_not_commit() {
    let mut road = Road::new("zombie");
    road.send(500);
    let mut zombie = road.start("zombie", &[("MIRROR_BATCH", "50"), ("MIRROR_STOP_AT", "3")]);
    zombie.wait_for_line("stopping with", SOON);
    let heir = road.start_heir();
    road.send(500);
    road.wait_for(road.sent);

    let committed_before = committed(&zombie);
    zombie.resume();
    // One or the other tells that it is done with what it had in hand; which of them it may be is seen on the topic.
    let is_rewound = || zombie.lines().iter().any(|line| line.text.contains("rewound"));
    wait_until("the zombie has noticed or done it", SOON, || is_rewound() || committed(&zombie) > committed_before);

    road.expect_of_use_again(&zombie, &heir);
    zombie.kill();
}

/// The same from outside and anywhere, an open transaction included.
#[test]
fn members_that_stand_still_for_longer_than_their_session_do_no_harm() {
    let mut random = seed::random("stand still");
    let mut road = Road::new("still");
    let members = [road.start("0", &[("MIRROR_BATCH", "50")]), road.start("1", &[("MIRROR_BATCH", "50")])];
    for round in 0..3 {
        road.send(1000);
        road.wait_for(road.sent - random.usize(100..900));
        let still = &members[round % 2];
        still.pause();
        road.send(200);
        // The other takes over and does it all; what the still one has open is aborted when its time is over.
        road.wait_for(road.sent);
        still.resume();
    }

    road.expect_exactly_once();
    assert!(members.iter().all(Process::is_running), "{members:?}");
}

/// What it had still to read was done by its heir, and deleted behind that one.
#[test]
fn a_zombie_that_finds_its_place_deleted_goes_on_where_its_heir_stands() {
    let mut road = Road::new("deleted");
    let mut zombie = road.start("zombie", &[]);
    road.send(500);
    wait_until_read(&road.bootstrap, &road.group, &road.from, LATER);
    zombie.pause();
    let heir = road.start_heir();
    road.send(500);
    wait_until_read(&road.bootstrap, &road.group, &road.from, LATER);
    road.delete_before(0);
    zombie.resume();

    road.expect_of_use_again(&zombie, &heir);
    zombie.kill();
}

/// What was in there nobody knows: only a person can say that it may be passed over.
#[test]
fn a_member_stops_where_records_are_deleted_that_nobody_has_read() {
    let mut road = Road::new("unread");
    let mirror = road.start("0", &[(&variable("kafka.session_timeout"), "60s")]);
    road.send(500);
    wait_until_read(&road.bootstrap, &road.group, &road.from, LATER);
    mirror.pause();
    road.send(500);
    road.delete_before(1);
    mirror.resume();

    assert!(!mirror.wait(SOON).success());
    let said = |words: &str| mirror.lines().iter().any(|line| line.text.contains(words));
    assert!(said("has lost its place") && said("wal topics apply --adopt"), "{mirror:?}");
}

#[test]
fn partitions_that_are_added_are_read_from_their_start() {
    let mut road = Road::new("grow");
    let members = [road.start("0", &[]), road.start("1", &[])];
    road.send(500);
    road.wait_for(250);

    add_partitions(&road.bootstrap, &road.from, 7);
    // By number, since a key moves to another partition when there are more: its order ends here.
    let to = |number: usize| Message::to(&road.from).partition(4 + i32::try_from(number % 3).unwrap());
    let more: Vec<Message> = (0..300).map(|number| to(number).value((road.sent + number).to_string())).collect();
    Producer::new(&road.bootstrap).send_all(&more);
    road.sent += more.len();

    road.expect_exactly_once();
    assert!(members.iter().all(Process::is_running), "{members:?}");
}

/// Behind the last record of a transaction stands its mark. A place before it would be lost as soon as retention takes the mark, and
/// the next start refused.
#[test]
fn a_place_moves_past_the_marks_of_transactions() {
    let road = Road::new("marks");
    let producer = Producer::transactional(&road.bootstrap, &road.group);
    producer.begin();
    let message = |partition| Message::to(&road.from).partition(partition).value(partition.to_string());
    producer.send_all(&(0..PARTITIONS).map(message).collect::<Vec<_>>());
    producer.commit();
    let _mirror = road.start("0", &[]);

    // A record and a mark in each partition.
    let is_past = || {
        let places = clients::committed(&road.bootstrap, &road.group, &road.from);
        let is_past = places.iter().all(|place| place.offset == Some(2));
        if !is_past {
            // Asking costs two clients each time; what is waited for takes seconds.
            std::thread::sleep(Duration::from_millis(100));
        }
        is_past
    };
    wait_until("every place is past its mark", LATER, is_past);
}

#[test]
fn of_two_with_one_transactional_id_one_gives_way_and_says_why() {
    let mut road = Road::new("twins");
    let twins = [road.start("same", &[("MIRROR_BATCH", "20")]), road.start("same", &[("MIRROR_BATCH", "20")])];

    wait_until("one of the twins gives way", LATER, || {
        road.send(100);
        twins.iter().any(|twin| !twin.is_running())
    });

    let gone = twins.iter().find(|twin| !twin.is_running()).unwrap();
    assert!(!gone.wait(SOON).success());
    let says_why = |text: &str| text.contains("transactional id") && text.contains("kafka.instance");
    assert!(gone.lines().iter().any(|line| says_why(&line.text)), "{gone:?}");
    assert!(gone.lines().iter().any(|line| line.text == "fenced"), "whoever counts is told: {gone:?}");
    // Both may have given way at once; the work goes on with whoever is there.
    let _other = road.start("other", &[]);
    road.expect_exactly_once();
}

/// How many batches a mirror says it has committed.
fn committed(mirror: &Process) -> usize {
    mirror.lines().iter().filter(|line| line.text.starts_with("committed")).count()
}

/// Two topics and a group that is to carry everything from the one to the other.
struct Road {
    bootstrap: String,
    from: String,
    to: String,
    group: String,
    producer: Producer,
    /// How many records were sent: the numbers below, once each.
    sent: usize,
    _turn: Turn,
}

impl Road {
    #[track_caller]
    fn new(name: &str) -> Road {
        let turn = turns::take();
        let bootstrap = Kafka::shared().bootstrap();
        let (from, to, group) = (unique(&format!("{name}-from")), unique(&format!("{name}-to")), unique(name));
        for topic in [&from, &to] {
            create_topic(&bootstrap, topic, usize::try_from(PARTITIONS).unwrap(), &[]);
        }
        let starts: Vec<(i32, i64)> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
        commit(&bootstrap, &group, &from, &starts, "");
        let producer = Producer::new(&bootstrap);
        Road { bootstrap, from, to, group, producer, sent: 0, _turn: turn }
    }

    #[track_caller]
    fn start(&self, instance: &str, env: &[(&str, &str)]) -> Process {
        let settings = SETTINGS.map(|(key, value)| (variable(key), value));
        let mut all: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (&**name, *value)).collect();
        all.extend(env);
        Process::start("wal-mirror", &[&self.bootstrap, &self.group, instance, &self.from, &self.to], &all)
    }

    /// Sends the next numbers, each under the key that is its remainder.
    #[track_caller]
    fn send(&mut self, count: usize) {
        let numbers = self.sent..self.sent + count;
        let message =
            |number: usize| Message::to(&self.from).key((number % KEYS).to_string()).value(number.to_string());
        let messages: Vec<Message> = numbers.map(message).collect();
        self.producer.send_all(&messages);
        self.sent += count;
    }

    /// Waits until that many have arrived.
    #[track_caller]
    fn wait_for(&self, count: usize) {
        read_until(&self.bootstrap, &self.to, Isolation::ReadCommitted, LATER, |seen| seen.len() >= count);
    }

    /// One that takes over from a member that stands still.
    #[track_caller]
    fn start_heir(&self) -> Process {
        let heir = self.start("heir", &[]);
        heir.wait_for_line_where("that it has all partitions", SOON, |line| line.contains("now=4"));
        heir
    }

    /// Alone, the zombie does all the work.
    #[track_caller]
    fn expect_of_use_again(&mut self, zombie: &Process, heir: &Process) {
        heir.terminate();
        assert_eq!(heir.wait(STOP).code(), Some(0), "{heir:?}");
        self.send(500);
        self.expect_exactly_once();
        assert!(zombie.is_running(), "{zombie:?}");
    }

    /// Deletes what was read, and so many offsets more.
    #[track_caller]
    fn delete_before(&self, more: i64) {
        for place in clients::committed(&self.bootstrap, &self.group, &self.from) {
            let read = place.offset.expect("a group that has read");
            delete_records(&self.bootstrap, &self.from, place.partition, read + more);
        }
    }

    fn arrived(&self) -> Vec<Record> {
        read_all(&self.bootstrap, &self.to, Isolation::ReadCommitted)
    }

    /// Waits until the group has read everything, and looks.
    #[track_caller]
    fn expect_exactly_once(&self) {
        wait_until_read(&self.bootstrap, &self.group, &self.from, LATER);
        let arrived: Vec<(Option<Vec<u8>>, usize)> = self
            .arrived()
            .into_iter()
            .map(|record| (record.key.clone(), record.text().parse().expect("a number")))
            .collect();
        let mut times = vec![0; self.sent];
        arrived.iter().for_each(|(_, number)| times[*number] += 1);
        let wrong: Vec<(usize, i32)> = times.into_iter().enumerate().filter(|(_, times)| *times != 1).collect();
        assert!(wrong.is_empty(), "{} numbers did not come once: (number, times) {wrong:?}", wrong.len());
        let mut last: HashMap<Vec<u8>, usize> = HashMap::new();
        for (key, number) in arrived {
            let before = key.and_then(|key| last.insert(key, number));
            assert!(before.is_none_or(|before| before < number), "{before:?} came before {number} on {}", self.to);
        }
    }
}
