//! What reads: each stage takes rows and gives rows, as late as it can.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Limits, Memory, Rows};
use crate::aql::ast::{Direction, Expr, Name};
use crate::aql::eval::{Context, Held, Row, add};
use crate::aql::plan::{Access, Bound, By, Match};
use crate::aql::refuse;
use crate::error::Result;
use crate::store::collection::{Collection, Document};
use crate::store::index::Span;
use crate::value::{Sorted, collate, compare, is_true, to_number};

pub(super) fn for_collection<'c>(
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
            keys.sort_by(|left, right| collate(left, right));
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

pub(super) fn for_list<'c>(context: &'c Context<'c>, variable: &'c Name, list: &'c Expr, rows: Rows<'c>) -> Rows<'c> {
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

pub(super) fn filter<'c>(context: &'c Context<'c>, condition: &'c Expr, rows: Rows<'c>) -> Rows<'c> {
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

pub(super) fn sort<'c>(
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
        orders.fold(Ordering::Equal, Ordering::then)
    });
    Ok(Box::new(keyed.into_iter().map(|(_, row)| Ok(row))))
}

pub(super) fn limit<'c>(
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
pub(super) fn collect<'c>(
    context: &'c Context<'c>,
    groups: &'c [(Name, Expr)],
    count: Option<&'c Name>,
    rows: Rows<'c>,
) -> Result<Rows<'c>> {
    let mut found: BTreeMap<Vec<Sorted>, u64> = BTreeMap::new();
    for row in rows {
        let row = row?;
        let value = |(_, value): &(Name, Expr)| Ok(Sorted::Value(context.eval(value, &row)?.into_owned()));
        let values = groups.iter().map(value).collect::<Result<Vec<_>>>()?;
        *found.entry(values).or_default() += 1;
    }
    if groups.is_empty() {
        found.entry(Vec::new()).or_default();
    }
    Ok(Box::new(found.into_iter().map(move |(values, number)| {
        let mut row = Row::default();
        for ((name, _), value) in groups.iter().zip(values) {
            if let Sorted::Value(value) = value {
                row = row.with(name, Held::of(value));
            }
        }
        Ok(count.map_or(row.clone(), |name| row.with(name, Held::of(number.into()))))
    })))
}
