//! Runs a query: what reads is pulled row by row, what writes takes all rows first and then is done as a whole or not at all.

mod modify;
mod stages;

use std::ops::Range;

use serde_json::Value;

use self::modify::{Modification, apply, modifications};
use super::ast::{Clause, Query, Source};
use super::eval::{Context, Held, Notes, Row, Warning};
use super::plan::{Place, choose};
use super::refuse;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::write::Writer;
use crate::value::compare;

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

    fn rows(&self, range: Range<usize>, rows: Vec<Row>) -> Result<Vec<Row>> {
        self.stages(range, rows)?.collect()
    }

    fn stages(&self, range: Range<usize>, rows: Vec<Row>) -> Result<Rows<'c>> {
        let (context, clauses) = (self.context, self.clauses);
        let is_limit = |at: &usize| matches!(clauses[*at], Clause::Limit { .. });
        let last_limit = range.clone().rev().find(is_limit).filter(|_| self.limits.counts_fully);
        let mut is_sorted = false;
        let is_inner = rows.len() != 1 || clauses[..range.start].iter().any(is_loop);
        let mut place = if is_inner { Place::Inner } else { Place::Outermost };
        let mut stream: Rows<'c> = Box::new(rows.into_iter().map(Ok));
        for at in range {
            stream = match &clauses[at] {
                Clause::For { variable, source: Source::Collection(name), hint } => {
                    let collection = context.collection(name)?;
                    let access = choose(collection, variable, hint.as_deref(), &clauses[at + 1..], place);
                    is_sorted = access.sorted.is_some();
                    stages::for_collection(context, collection, variable, access, stream)
                }
                Clause::For { variable, source: Source::List(list), .. } => {
                    stages::for_list(context, variable, list, stream)
                }
                Clause::Filter(condition) => stages::filter(context, condition, stream),
                Clause::Let { variable, value } => Box::new(stream.map(move |row| {
                    let row = row?;
                    let value = context.eval(value, &row)?.into_owned();
                    Ok(row.with(variable, Held::of(value)))
                })),
                Clause::Sort(_) if std::mem::take(&mut is_sorted) => stream,
                Clause::Sort(terms) => stages::sort(context, terms, stream, self.limits)?,
                Clause::Limit { offset, count } => {
                    let counter = (last_limit == Some(at)).then_some(&context.notes.full_count);
                    stages::limit(context, offset, count, stream, counter)?
                }
                Clause::Collect { groups, count } => stages::collect(context, groups, count.as_ref(), stream)?,
                Clause::Modify(_) | Clause::Return { .. } => unreachable!("not part of a pipeline"),
            };
            if is_loop(&clauses[at]) {
                place = Place::Inner;
            }
        }
        Ok(stream)
    }
}

fn is_loop(clause: &Clause) -> bool {
    matches!(clause, Clause::For { .. })
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
