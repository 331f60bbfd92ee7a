//! Inserting: arrays of documents, each with a key, in the mode where a key that is there is an error of that one document.
//!
//! ```text
//!   entries ─▶ documents, one for each key ─▶ arrays ─▶ POST ─▶ an answer for each
//!                                               ▲                 │ stored
//!                      halves, others' writes   │                 │ duplicate ─▶ read ─▶ fence ─▶ present
//!                                               └─────────────────┤ conflict, too large, unreadable
//!                                                                 │ refused
//! ```
//!
//! A status of success says nothing of the documents: an array succeeds where all of them failed.

use std::collections::{HashMap, VecDeque};

use futures_util::future::join_all;
use serde::Deserialize;
use wal_model::{Code, Entry, EntryKey, Refusal};

use super::backend::Inner;
use super::client::Repeat;
use super::connection::read;
use super::fault::{self, Class, Fault};
use super::fence::Sync;
use super::wait;
use crate::document::ReadableCopy;
use crate::{Inserted, document};

/// The most documents and bytes of an array. The database syncs once for each request, and takes a few MiB at a time best.
const DOCUMENTS: usize = 1000;
const BYTES: usize = 4 * 1024 * 1024;

/// How often an array is sent while others write the same keys; halved each third time, so that one key does not hold up all.
const TRIES: u32 = 12;

/// How often a duplicate is looked for that is not there: removed at that moment, or a duplicate by something that is not its key.
const DUPLICATES_SOUGHT: u32 = 3;

/// Some documents that are sent together, by their place among the entries.
struct Array {
    places: Vec<usize>,
    tries: u32,
}

/// What became of one document.
enum Outcome {
    Stored,
    Duplicate(String),
    Conflict,
    TooLarge(String),
    Refused(String),
}

/// The answer to one document of an array.
#[derive(Deserialize)]
pub(super) struct Element {
    #[serde(default)]
    pub(super) error: bool,
    #[serde(rename = "errorNum", default)]
    pub(super) number: u32,
    #[serde(rename = "errorMessage", default)]
    message: String,
    #[serde(rename = "_key", default)]
    key: String,
}

/// An insert under way.
struct Insert<'a> {
    inner: &'a Inner,
    entries: &'a [Entry],
    answers: Vec<Option<Inserted>>,
    /// Places whose key was there, and what the database said.
    duplicates: Vec<(usize, String)>,
}

/// What is being sent.
struct Sending {
    documents: HashMap<usize, String>,
    arrays: VecDeque<Array>,
}

pub(super) async fn insert(inner: &Inner, entries: &[Entry]) -> Result<Vec<Inserted>, Fault> {
    let mut insert = Insert { inner, entries, answers: vec![None; entries.len()], duplicates: Vec::new() };
    for layer in layers(entries) {
        insert.settle(layer).await?;
    }
    let answers: Option<Vec<Inserted>> = insert.answers.into_iter().collect();
    answers.ok_or_else(|| Fault::strange("an entry was left without an answer"))
}

impl Insert<'_> {
    /// Inserts entries of different keys, until each of them has its answer.
    async fn settle(&mut self, mut places: Vec<usize>) -> Result<(), Fault> {
        for tries in 0.. {
            self.send(places).await?;
            let duplicates = std::mem::take(&mut self.duplicates);
            if duplicates.is_empty() {
                return Ok(());
            }
            let absent = self.answer_present(duplicates).await?;
            if absent.is_empty() {
                break;
            }
            if tries == DUPLICATES_SOUGHT {
                for (at, said) in absent {
                    self.refuse(at, &format!("a duplicate that is not there by its key: {said}"));
                }
                break;
            }
            wait::after(tries).await;
            places = absent.into_iter().map(|(at, _)| at).collect();
        }
        Ok(())
    }

    /// Sends documents until each is stored, refused, or known to be a duplicate.
    async fn send(&mut self, places: Vec<usize>) -> Result<(), Fault> {
        let encode = |at: &usize| (*at, document::encode(&self.entries[*at], self.inner.readable_copy));
        let documents: HashMap<usize, String> = places.iter().map(encode).collect();
        let arrays = cut(places, |at| documents[&at].len());
        let mut sending = Sending { documents, arrays };
        while !sending.arrays.is_empty() {
            // All at once: each takes as long as the database's disk, and the connection knows how many it bears.
            let round = std::mem::take(&mut sending.arrays);
            let answers = join_all(round.iter().map(|array| self.post(array, &sending.documents))).await;
            for (array, answer) in round.into_iter().zip(answers) {
                match answer {
                    Ok(outcomes) => self.sort_out(array, outcomes, &mut sending).await?,
                    // The array as a whole. One document is at fault, and where there is one, it is that.
                    Err(fault) if matches!(fault.class, Class::TooLarge | Class::Refused) => match array.places[..] {
                        [at] => self.send_bare_or_refuse(at, &fault.said, &mut sending),
                        _ => sending.halve(array),
                    },
                    Err(fault) if fault.class == Class::Conflict => sending.again(array).await?,
                    Err(fault) => return Err(fault),
                }
            }
        }
        Ok(())
    }

    /// Sends one array: an outcome for each document, in order.
    async fn post(&self, array: &Array, documents: &HashMap<usize, String>) -> Result<Vec<Outcome>, Fault> {
        let texts: Vec<&str> = array.places.iter().map(|at| documents[at].as_str()).collect();
        let body = format!("[{}]", texts.join(","));
        let path = format!("_api/document/{}?waitForSync=true", self.inner.entries);
        // Done twice unseen, the second would find what the first has stored, and nobody would have stored it.
        let answer = self.inner.connection.post(&path, body, Repeat::Telling).await?;
        let elements: Vec<Element> = read(&answer)?;
        if elements.len() != array.places.len() {
            let (sent, answered) = (array.places.len(), elements.len());
            return Err(Fault::strange(format_args!("{answered} answers to {sent} documents")));
        }
        let keys = array.places.iter().map(|at| self.entries[*at].key());
        keys.zip(elements).map(|(key, element)| outcome(key, element)).collect()
    }

    /// Takes what is settled and sends the rest again.
    async fn sort_out(&mut self, array: Array, outcomes: Vec<Outcome>, sending: &mut Sending) -> Result<(), Fault> {
        let is_alone = array.places.len() == 1;
        let (mut conflicts, mut large) = (Vec::new(), Vec::new());
        for (at, outcome) in array.places.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Stored => self.answers[at] = Some(Inserted::Stored),
                Outcome::Duplicate(said) => self.duplicates.push((at, said)),
                Outcome::Refused(said) => self.send_bare_or_refuse(at, &said, sending),
                Outcome::Conflict => conflicts.push(at),
                Outcome::TooLarge(said) if is_alone => self.send_bare_or_refuse(at, &said, sending),
                // Once one of an array is too large, all that follow are said to be.
                Outcome::TooLarge(_) => large.push(at),
            }
        }
        match large.len() {
            0 => {}
            1 => sending.arrays.push_back(Array { places: large, tries: 0 }),
            _ => sending.halve(Array { places: large, tries: 0 }),
        }
        if conflicts.is_empty() {
            return Ok(());
        }
        sending.again(Array { places: conflicts, tries: array.tries }).await
    }

    /// Sends a document that is not taken once more without its readable copy: nothing that matters may be lost to a convenience.
    fn send_bare_or_refuse(&mut self, at: usize, said: &str, sending: &mut Sending) {
        let bare = document::encode(&self.entries[at], ReadableCopy::Omitted);
        if sending.documents.get(&at) == Some(&bare) {
            return self.refuse(at, said);
        }
        sending.documents.insert(at, bare);
        sending.arrays.push_back(Array { places: vec![at], tries: 0 });
    }

    /// Answers duplicates with what is there; gives back those of which nothing is there.
    async fn answer_present(&mut self, duplicates: Vec<(usize, String)>) -> Result<Vec<(usize, String)>, Fault> {
        if duplicates.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<EntryKey> = duplicates.iter().map(|(at, _)| self.entries[*at].key()).collect();
        let mut present = self.inner.get(&keys).await?;
        // What is seen may still be on its way to the disk, and being told of a duplicate does not wait for it.
        self.inner.fence(Sync::Wanting).await?;
        let mut absent = Vec::new();
        for (at, said) in duplicates {
            match present.remove(&self.entries[at].key()) {
                Some(entry) => self.answers[at] = Some(Inserted::Present(Box::new(entry))),
                None => absent.push((at, said)),
            }
        }
        Ok(absent)
    }

    fn refuse(&mut self, at: usize, said: &str) {
        let refusal = Refusal::new(Code::WriteError, format!("the database cannot keep it: {said}"));
        self.answers[at] = Some(Inserted::Refused(refusal));
    }
}

impl Sending {
    /// Puts an array back that others were in the way of.
    async fn again(&mut self, array: Array) -> Result<(), Fault> {
        let array = Array { tries: array.tries + 1, ..array };
        if array.tries >= TRIES {
            return Err(Fault::new(Class::Conflict, format!("others write the same entries, {TRIES} times in a row")));
        }
        wait::after(array.tries).await;
        if array.tries.is_multiple_of(3) && array.places.len() > 1 {
            self.halve(array);
        } else {
            self.arrays.push_back(array);
        }
        Ok(())
    }

    fn halve(&mut self, array: Array) {
        let Array { mut places, tries } = array;
        let second = places.split_off(places.len() / 2);
        self.arrays.push_back(Array { places, tries });
        self.arrays.push_back(Array { places: second, tries });
    }
}

fn outcome(key: EntryKey, element: Element) -> Result<Outcome, Fault> {
    if !element.error {
        let is_ours = element.key == key.to_string();
        return if is_ours { Ok(Outcome::Stored) } else { Err(Fault::strange("a key of another document")) };
    }
    let said = format!("{} (error {})", fault::brief(&element.message), element.number);
    match fault::of_number(element.number) {
        Some(Class::Duplicate) => Ok(Outcome::Duplicate(said)),
        Some(Class::Conflict) => Ok(Outcome::Conflict),
        Some(Class::TooLarge) => Ok(Outcome::TooLarge(said)),
        Some(Class::Refused) => Ok(Outcome::Refused(said)),
        Some(class) => Err(Fault::new(class, said)),
        None => Err(Fault::new(Class::Unavailable, said)),
    }
}

/// Places of entries such that each layer has every key once at most: which one of a key is first is not left to the database.
fn layers(entries: &[Entry]) -> Vec<Vec<usize>> {
    let mut depths: HashMap<EntryKey, usize> = HashMap::with_capacity(entries.len());
    let mut layers: Vec<Vec<usize>> = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let depth = depths.entry(entry.key()).or_insert(0);
        if layers.len() <= *depth {
            layers.push(Vec::new());
        }
        layers[*depth].push(at);
        *depth += 1;
    }
    layers
}

/// Cuts documents into arrays; one that is larger than an array may be is alone in its own.
fn cut(places: Vec<usize>, length: impl Fn(usize) -> usize) -> VecDeque<Array> {
    let mut arrays: VecDeque<Array> = VecDeque::new();
    let mut bytes = 0;
    for at in places {
        let added = length(at) + 1;
        match arrays.back_mut() {
            Some(array) if array.places.len() < DOCUMENTS && bytes + added <= BYTES => {
                array.places.push(at);
                bytes += added;
            }
            Some(_) | None => {
                arrays.push_back(Array { places: vec![at], tries: 0 });
                bytes = added;
            }
        }
    }
    arrays
}

#[cfg(test)]
mod tests;
