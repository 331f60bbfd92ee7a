//! What may be handled now: of each key one at a time, in the order they came, and so many in all. Pure.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use wal_model::Topic;

/// What keeps its order. Items without a key keep none.
pub(super) type Key = Option<(Topic, Bytes)>;

/// Items that wait for their turn.
pub(super) struct Keys<T> {
    at_once: usize,
    running: usize,
    ready: VecDeque<(Key, T)>,
    /// The keys of which one is ready or running, with those that wait behind it.
    taken: HashMap<(Topic, Bytes), VecDeque<T>>,
}

impl<T> Keys<T> {
    /// At most `at_once` run at a time.
    pub(super) fn new(at_once: usize) -> Keys<T> {
        Keys { at_once, running: 0, ready: VecDeque::new(), taken: HashMap::new() }
    }

    pub(super) fn add(&mut self, key: Key, item: T) {
        if let Some(key) = &key {
            if let Some(behind) = self.taken.get_mut(key) {
                behind.push_back(item);
                return;
            }
            self.taken.insert(key.clone(), VecDeque::new());
        }
        self.ready.push_back((key, item));
    }

    /// The next that may run; it runs until [`Keys::end`] is called with its key.
    pub(super) fn start(&mut self) -> Option<(Key, T)> {
        if self.running == self.at_once {
            return None;
        }
        let next = self.ready.pop_front()?;
        self.running += 1;
        Some(next)
    }

    pub(super) fn end(&mut self, key: Key) {
        self.running -= 1;
        let Some(key) = key else { return };
        match self.taken.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(next) => self.ready.push_back((Some(key), next)),
            None => drop(self.taken.remove(&key)),
        }
    }

    /// Takes out everything that does not run.
    pub(super) fn clear(&mut self) -> Vec<T> {
        let mut waiting: Vec<T> = self.ready.drain(..).map(|(_, item)| item).collect();
        waiting.extend(self.taken.drain().flat_map(|(_, behind)| behind));
        waiting
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Steps = Vec<(bool, u8, usize)>;

    fn steps() -> impl Strategy<Value = Steps> {
        prop::collection::vec((any::<bool>(), 0_u8..6, any::<usize>()), 0..200)
    }

    fn key(number: u8) -> Key {
        // Every fourth item has no key.
        (!number.is_multiple_of(4)).then(|| (Topic::parse("t").unwrap(), Bytes::from(vec![number])))
    }

    proptest! {
        /// `true` starts one or, where none may start, ends one.
        #[test]
        fn a_key_runs_one_at_a_time_in_order_and_nothing_is_forgotten(
            steps in steps(),
            at_once in 1_usize..5,
        ) {
            let mut keys = Keys::new(at_once);
            let mut running: Vec<(Key, usize)> = Vec::new();
            let mut last: BTreeMap<Bytes, usize> = BTreeMap::new();
            let mut added = 0;
            let mut ended = 0;
            let mut turn = |keys: &mut Keys<usize>, ended: &mut usize, choice: usize| {
                if let Some((key, item)) = keys.start() {
                    if let Some((_, key)) = &key {
                        assert!(running.iter().all(|(other, _)| other.as_ref().is_none_or(|(_, other)| other != key)));
                        assert!(last.insert(key.clone(), item).is_none_or(|before| before < item));
                    }
                    running.push((key, item));
                    assert!(running.len() <= at_once);
                } else if !running.is_empty() {
                    assert!(running.len() == at_once || keys.ready.is_empty());
                    let (key, _) = running.swap_remove(choice % running.len());
                    keys.end(key);
                    *ended += 1;
                }
            };
            for (is_turn, number, choice) in steps {
                if is_turn {
                    turn(&mut keys, &mut ended, choice);
                } else {
                    keys.add(key(number), added);
                    added += 1;
                }
            }
            while ended < added {
                turn(&mut keys, &mut ended, 0);
            }
            prop_assert!(keys.taken.is_empty() && keys.ready.is_empty());
        }
    }

    #[test]
    fn a_slow_key_does_not_hold_up_the_others() {
        let mut keys = Keys::new(2);
        for (item, number) in [1, 1, 1, 2, 3].into_iter().enumerate() {
            keys.add(key(number), item);
        }
        let (slow, first) = keys.start().unwrap();
        let (other, second) = keys.start().unwrap();
        assert_eq!((first, second), (0, 3));
        assert!(keys.start().is_none());
        keys.end(other);
        assert_eq!(keys.start().unwrap().1, 4);
        keys.end(slow);
        assert_eq!(keys.start().unwrap().1, 1);
        assert_eq!(keys.clear(), [2]);
    }
}
