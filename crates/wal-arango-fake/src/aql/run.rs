//! Runs a query: what reads is pulled row by row, what writes takes all rows first and then is done as a whole or not at all.

use std::cell::Cell;
use std::sync::Arc;

use serde_json::Value;

use super::ast::{Clause, Direction, Expr, Modify, Name, Query, Source, Verb};
use super::eval::{Context, Held, Notes, Row, Warning, add};
use super::options::{self, ModifyOptions};
use super::plan::{Access, Bound, By, Match, choose};
use super::refuse;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::collection::{Collection, Document};
use crate::store::index::Span;
use crate::store::write::{How, Outcome, Writer};
use crate::value::{compare, is_true, to_number};

/// What a caller may ask for beside the rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) counts_fully: bool,
    pub(crate) fails_on_warning: bool,
    /// In bytes, roughly.
    pub(crate) memory: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<Value>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) writes_executed: u64,
    pub(crate) writes_ignored: u64,
    pub(crate) scanned_full: u64,
    pub(crate) scanned_index: u64,
    pub(crate) filtered: u64,
    pub(crate) full_count: Option<u64>,
}

/// What can be said before anything runs.
pub(crate) fn check(store: &Store, database: &str, query: &Query) -> Result<()> {
    for name in query.read().into_iter().chain(query.written()) {
        store.collection(database, name)?;
    }
    let mut written: Vec<&str> = Vec::new();
    for clause in &query.clauses {
        let mut touched = Vec::new();
        clause.collections(&mut touched);
        if let Clause::Modify(modify) = clause {
            touched.push(&modify.collection);
        }
        if let Some(name) = touched.into_iter().find(|name| written.contains(name)) {
            return Err(refuse(1579, format!("access after data-modification by AQL: '{name}'")));
        }
        if let Clause::Modify(modify) = clause {
            written.push(&modify.collection);
        }
    }
    Ok(())
}

pub(crate) fn run(store: &mut Store, database: &str, query: &Query, limits: Limits) -> Result<Answer> {
    let notes = Notes { fails_on_warning: limits.fails_on_warning, ..Notes::default() };
    let modifications = modifications(store, query, &notes)?;
    let waits_for_sync = modifications.iter().any(|(_, _, options)| options.write.waits_for_sync);
    let mut writer = Writer::new(store, database, waits_for_sync);
    let mut answer = Answer::default();
    match run_in(&mut writer, database, query, &modifications, limits, &notes, &mut answer) {
        Ok(()) => drop(writer.commit()),
        Err(error) => {
            writer.abort();
            return Err(error);
        }
    }
    answer.warnings = notes.warnings.take();
    answer.scanned_full = notes.scanned_full.get();
    answer.scanned_index = notes.scanned_index.get();
    answer.filtered = notes.filtered.get();
    answer.full_count = notes.full_count.get();
    Ok(answer)
}

type Modification<'q> = (usize, &'q Modify, ModifyOptions);

fn modifications<'q>(store: &Store, query: &'q Query, notes: &Notes) -> Result<Vec<Modification<'q>>> {
    let mut found = Vec::new();
    for (at, clause) in query.clauses.iter().enumerate() {
        let Clause::Modify(modify) = clause else {
            continue;
        };
        let options = options::modify(&modify.options, modify.verb, store.version)?;
        for name in &options.unknown {
            notes.warn(1539, format!("unknown attribute '{name}' in OPTIONS"))?;
        }
        found.push((at, modify, options));
    }
    Ok(found)
}

fn run_in(
    writer: &mut Writer<'_>,
    database: &str,
    query: &Query,
    modifications: &[Modification<'_>],
    limits: Limits,
    notes: &Notes,
    answer: &mut Answer,
) -> Result<()> {
    let mut rows = vec![Row::default()];
    let mut start = 0;
    for (at, modify, options) in modifications {
        let context = Context { store: writer.store, database, notes };
        let pipeline = Pipeline { context: &context, clauses: &query.clauses, limits };
        rows = pipeline.rows(start..*at, rows)?;
        rows = apply(writer, database, notes, modify, options, rows, answer)?;
        start = at + 1;
    }
    let context = Context { store: writer.store, database, notes };
    let pipeline = Pipeline { context: &context, clauses: &query.clauses, limits };
    answer.rows = pipeline.values(start, rows)?;
    Ok(())
}

pub(super) fn subquery(context: &Context<'_>, query: &Query, row: &Row) -> Result<Vec<Value>> {
    Pipeline { context, clauses: &query.clauses, limits: Limits::default() }.values(0, vec![row.clone()])
}

type Rows<'c> = Box<dyn Iterator<Item = Result<Row>> + 'c>;

struct Pipeline<'c> {
    context: &'c Context<'c>,
    clauses: &'c [Clause],
    limits: Limits,
}

impl<'c> Pipeline<'c> {
    /// What the statement returns; nothing if it ends in a modification.
    fn values(&self, start: usize, rows: Vec<Row>) -> Result<Vec<Value>> {
        let Some((Clause::Return { value, is_distinct }, _)) = self.clauses.split_last() else {
            self.rows(start..self.clauses.len(), rows)?;
            return Ok(Vec::new());
        };
        let mut values: Vec<Value> = Vec::new();
        let mut memory = Memory::new(self.limits);
        for row in self.stages(start..self.clauses.len() - 1, rows)? {
            let value = self.context.eval(value, &row?)?.into_owned();
            if *is_distinct && values.iter().any(|known| compare(known, &value).is_eq()) {
                continue;
            }
            memory.take(&value)?;
            values.push(value);
        }
        Ok(values)
    }

    fn rows(&self, range: std::ops::Range<usize>, rows: Vec<Row>) -> Result<Vec<Row>> {
        self.stages(range, rows)?.collect()
    }

    fn stages(&self, range: std::ops::Range<usize>, rows: Vec<Row>) -> Result<Rows<'c>> {
        let (context, clauses) = (self.context, self.clauses);
        let is_limit = |at: &usize| matches!(clauses[*at], Clause::Limit { .. });
        let last_limit = range.clone().rev().find(is_limit).filter(|_| self.limits.counts_fully);
        let mut is_sorted = false;
        let mut is_first = rows.len() == 1 && !clauses[..range.start].iter().any(is_loop);
        let mut stream: Rows<'c> = Box::new(rows.into_iter().map(Ok));
        for at in range {
            stream = match &clauses[at] {
                Clause::For { variable, source: Source::Collection(name), hint } => {
                    let collection = context.collection(name)?;
                    let access = choose(collection, variable, hint.as_deref(), &clauses[at + 1..], is_first);
                    is_sorted = access.sorted.is_some();
                    for_collection(context, collection, variable, access, stream)
                }
                Clause::For { variable, source: Source::List(list), .. } => for_list(context, variable, list, stream),
                Clause::Filter(condition) => filter(context, condition, stream),
                Clause::Let { variable, value } => Box::new(stream.map(move |row| {
                    let row = row?;
                    let value = context.eval(value, &row)?.into_owned();
                    Ok(row.with(variable, Held::of(value)))
                })),
                Clause::Sort(_) if std::mem::take(&mut is_sorted) => stream,
                Clause::Sort(terms) => sort(context, terms, stream, self.limits)?,
                Clause::Limit { offset, count } => {
                    let counter = (last_limit == Some(at)).then_some(&context.notes.full_count);
                    limit(context, offset, count, stream, counter)?
                }
                Clause::Collect { groups, count } => collect(context, groups, count.as_ref(), stream)?,
                Clause::Modify(_) | Clause::Return { .. } => unreachable!("not part of a pipeline"),
            };
            is_first &= !is_loop(&clauses[at]);
        }
        Ok(stream)
    }
}

fn is_loop(clause: &Clause) -> bool {
    matches!(clause, Clause::For { .. })
}

fn for_collection<'c>(
    context: &'c Context<'c>,
    collection: &'c Collection,
    variable: &'c Name,
    access: Access<'c>,
    rows: Rows<'c>,
) -> Rows<'c> {
    let is_scan = matches!(access.by, By::Scan | By::KeyOrder);
    let counter = if is_scan { &context.notes.scanned_full } else { &context.notes.scanned_index };
    Box::new(rows.flat_map(move |row| -> Rows<'c> {
        let found = row.and_then(|row| Ok((documents(context, collection, &access, &row)?, row)));
        match found {
            Err(error) => Box::new(std::iter::once(Err(error))),
            Ok((found, row)) => Box::new(found.map(move |document| {
                add(counter);
                Ok(row.with(variable, Held::Document(document)))
            })),
        }
    }))
}

type Documents<'c> = Box<dyn Iterator<Item = Arc<Document>> + 'c>;

fn documents<'c>(
    context: &Context<'c>,
    collection: &'c Collection,
    access: &Access<'c>,
    row: &Row,
) -> Result<Documents<'c>> {
    let is_reversed = access.sorted == Some(Direction::Descending);
    let find = move |key: &String| collection.get(key).cloned();
    match &access.by {
        By::Scan => Ok(Box::new(collection.scan().cloned())),
        By::Key(key) => {
            let keys = values(context, *key, row)?;
            Ok(Box::new(keys.into_iter().filter_map(move |key| collection.get(key.as_str()?).cloned())))
        }
        By::KeyOrder => {
            let mut keys: Vec<&String> = collection.keys().collect();
            keys.sort_by(|left, right| crate::value::collate(left, right));
            if is_reversed {
                keys.reverse();
            }
            Ok(Box::new(keys.into_iter().filter_map(find)))
        }
        By::Index { position, equal, above, below } => {
            let index = &collection.indexes[*position];
            let spans = spans(context, equal, *above, *below, row)?;
            if is_reversed {
                return Ok(Box::new(
                    spans
                        .into_iter()
                        .rev()
                        .flat_map(move |span| index.keys(&span).rev().filter_map(find).collect::<Vec<_>>()),
                ));
            }
            Ok(Box::new(spans.into_iter().flat_map(move |span| index.keys(&span).filter_map(find))))
        }
    }
}

/// Sorted and each only once.
fn values(context: &Context<'_>, wanted: Match<'_>, row: &Row) -> Result<Vec<Value>> {
    match wanted {
        Match::One(value) => Ok(vec![context.eval(value, row)?.into_owned()]),
        Match::Any(list) => {
            let Value::Array(mut list) = context.eval(list, row)?.into_owned() else {
                return Ok(Vec::new());
            };
            list.sort_by(compare);
            list.dedup_by(|left, right| compare(left, right).is_eq());
            Ok(list)
        }
    }
}

fn spans(
    context: &Context<'_>,
    equal: &[Match<'_>],
    above: Option<Bound<'_>>,
    below: Option<Bound<'_>>,
    row: &Row,
) -> Result<Vec<Span>> {
    let bound = |bound: Option<Bound<'_>>| -> Result<Option<(Value, bool)>> {
        bound.map(|bound| Ok((context.eval(bound.value, row)?.into_owned(), bound.is_included))).transpose()
    };
    let mut spans = vec![Span { equal: Vec::new(), above: bound(above)?, below: bound(below)? }];
    for wanted in equal {
        let values = values(context, *wanted, row)?;
        let extended = spans.iter().flat_map(|span| {
            values.iter().map(|value| {
                let mut span = span.clone();
                span.equal.push(value.clone());
                span
            })
        });
        spans = extended.collect();
    }
    Ok(spans)
}

fn for_list<'c>(context: &'c Context<'c>, variable: &'c Name, list: &'c Expr, rows: Rows<'c>) -> Rows<'c> {
    Box::new(rows.flat_map(move |row| -> Rows<'c> {
        let found = row.and_then(|row| match context.eval(list, &row)?.into_owned() {
            Value::Array(elements) => Ok((elements, row)),
            _ => context.notes.warn(1563, "array expected").map(|()| (Vec::new(), row)),
        });
        match found {
            Err(error) => Box::new(std::iter::once(Err(error))),
            Ok((elements, row)) => {
                Box::new(elements.into_iter().map(move |element| Ok(row.with(variable, Held::of(element)))))
            }
        }
    }))
}

fn filter<'c>(context: &'c Context<'c>, condition: &'c Expr, rows: Rows<'c>) -> Rows<'c> {
    Box::new(rows.filter_map(move |row| {
        let row = match row {
            Ok(row) => row,
            Err(error) => return Some(Err(error)),
        };
        let kept = context.eval(condition, &row).map(|value| is_true(&value));
        match kept {
            Ok(true) => Some(Ok(row)),
            Ok(false) => {
                add(&context.notes.filtered);
                None
            }
            Err(error) => Some(Err(error)),
        }
    }))
}

fn sort<'c>(
    context: &'c Context<'c>,
    terms: &'c [(Expr, Direction)],
    rows: Rows<'c>,
    limits: Limits,
) -> Result<Rows<'c>> {
    let mut memory = Memory::new(limits);
    let mut keyed: Vec<(Vec<Value>, Row)> = Vec::new();
    for row in rows {
        let row = row?;
        let mut key = Vec::with_capacity(terms.len());
        for (term, _) in terms {
            let value = context.eval(term, &row)?.into_owned();
            memory.take(&value)?;
            key.push(value);
        }
        keyed.push((key, row));
    }
    keyed.sort_by(|(left, _), (right, _)| {
        let orders = terms.iter().zip(left.iter().zip(right)).map(|((_, direction), (left, right))| match direction {
            Direction::Ascending => compare(left, right),
            Direction::Descending => compare(right, left),
        });
        orders.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    });
    Ok(Box::new(keyed.into_iter().map(|(_, row)| Ok(row))))
}

fn limit<'c>(
    context: &'c Context<'c>,
    offset: &'c Expr,
    count: &'c Expr,
    rows: Rows<'c>,
    full_count: Option<&Cell<Option<u64>>>,
) -> Result<Rows<'c>> {
    let row = Row::default();
    let number = |expression| {
        let value = to_number(&*context.eval(expression, &row)?);
        let number = value.as_f64().filter(|number| *number >= 0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked; more rows than that there are not"
        )]
        number.map(|number| number as usize).ok_or_else(|| refuse(1504, "number out of range"))
    };
    let (offset, count) = (number(offset)?, number(count)?);
    let Some(full_count) = full_count else {
        return Ok(Box::new(rows.skip(offset).take(count)));
    };
    let all: Vec<Row> = rows.collect::<Result<_>>()?;
    full_count.set(u64::try_from(all.len()).ok());
    Ok(Box::new(all.into_iter().skip(offset).take(count).map(Ok)))
}

/// Groups come out in the order of their values.
fn collect<'c>(
    context: &'c Context<'c>,
    groups: &'c [(Name, Expr)],
    count: Option<&'c Name>,
    rows: Rows<'c>,
) -> Result<Rows<'c>> {
    let mut found: std::collections::BTreeMap<Vec<crate::value::Sorted>, u64> = std::collections::BTreeMap::new();
    for row in rows {
        let row = row?;
        let value =
            |(_, value): &(Name, Expr)| Ok(crate::value::Sorted::Value(context.eval(value, &row)?.into_owned()));
        let values = groups.iter().map(value).collect::<Result<Vec<_>>>()?;
        *found.entry(values).or_default() += 1;
    }
    if groups.is_empty() {
        found.entry(Vec::new()).or_default();
    }
    Ok(Box::new(found.into_iter().map(move |(values, number)| {
        let mut row = Row::default();
        for ((name, _), value) in groups.iter().zip(values) {
            if let crate::value::Sorted::Value(value) = value {
                row = row.with(name, Held::of(value));
            }
        }
        Ok(count.map_or(row.clone(), |name| row.with(name, Held::of(number.into()))))
    })))
}

/// Evaluates everything before it writes anything: the rows are those of one snapshot.
fn apply(
    writer: &mut Writer<'_>,
    database: &str,
    notes: &Notes,
    modify: &Modify,
    options: &ModifyOptions,
    rows: Vec<Row>,
    answer: &mut Answer,
) -> Result<Vec<Row>> {
    let context = Context { store: writer.store, database, notes };
    let mut writes = Vec::with_capacity(rows.len());
    for row in rows {
        let subject = context.eval(&modify.subject, &row)?.into_owned();
        let change = modify.change.as_ref().map(|change| Ok(context.eval(change, &row)?.into_owned())).transpose()?;
        writes.push((row, subject, change));
    }
    let (old, new): (Name, Name) = ("OLD".into(), "NEW".into());
    let mut written = Vec::with_capacity(writes.len());
    for (row, subject, change) in writes {
        match write(writer, modify, options, &subject, change.as_ref()) {
            Ok(outcome) => {
                answer.writes_executed += u64::from(outcome.new.is_some() || modify.verb == Verb::Remove);
                let held = |document: Option<Arc<Document>>| document.map_or(Held::of(Value::Null), Held::Document);
                written.push(row.with(&old, held(outcome.old)).with(&new, held(outcome.new)));
            }
            Err(error) if options.ignores_errors && matches!(error.num, 1202 | 1210) => answer.writes_ignored += 1,
            // Whatever stands before the collection's name, here nobody named a revision in a header.
            Err(error) if error.num == 1200 => return Err(Error { status: 409, ..error }),
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

fn write(
    writer: &mut Writer<'_>,
    modify: &Modify,
    options: &ModifyOptions,
    subject: &Value,
    change: Option<&Value>,
) -> Result<Outcome> {
    let collection = &*modify.collection;
    if modify.verb == Verb::Insert {
        return writer.insert(collection, subject, &options.write);
    }
    let key = key_of(subject)?;
    let expected = subject["_rev"].as_str().filter(|_| !options.write.ignores_revisions);
    let body = || change.unwrap_or(subject).as_object().ok_or_else(Error::not_an_object);
    match modify.verb {
        Verb::Update => writer.change(collection, key, expected, body()?, How::Update, &options.write),
        Verb::Replace => writer.change(collection, key, expected, body()?, How::Replace, &options.write),
        Verb::Remove | Verb::Insert => writer.remove(collection, key, expected),
    }
}

fn key_of(subject: &Value) -> Result<&str> {
    let key = match subject {
        Value::String(key) => Some(key.as_str()),
        _ => subject["_key"].as_str().or_else(|| subject["_id"].as_str()),
    };
    let key = key.ok_or_else(|| refuse(1221, "illegal document key"))?;
    Ok(key.split_once('/').map_or(key, |(_, key)| key))
}

/// A rough count of what a query holds, for `memoryLimit`.
struct Memory {
    used: u64,
    limit: Option<u64>,
}

impl Memory {
    fn new(limits: Limits) -> Self {
        Self { used: 0, limit: limits.memory }
    }

    fn take(&mut self, value: &Value) -> Result<()> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        const SLOT: u64 = 16;
        self.used += SLOT + u64::try_from(value.to_string().len()).unwrap_or(u64::MAX);
        if self.used > limit { Err(Error::resource_limit()) } else { Ok(()) }
    }
}

/// The value of a statement that depends on no variable and no collection, and what it warns of.
pub(crate) fn constant(store: &Store, database: &str, query: &Query) -> Option<(Value, Vec<Warning>)> {
    let depends = query.clauses.iter().flat_map(Clause::expressions).any(|expression| expression.uses(|_| true));
    if depends || !query.read().is_empty() {
        return None;
    }
    let notes = Notes::default();
    let context = Context { store, database, notes: &notes };
    let value = subquery(&context, query, &Row::default()).ok()?.pop()?;
    Some((value, notes.warnings.take()))
}
