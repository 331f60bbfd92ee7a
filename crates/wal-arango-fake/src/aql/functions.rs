//! The few functions known here.

use std::cmp::Ordering;
use std::time::Duration;

use serde_json::{Map, Value};

use super::ast::Expr;
use super::eval::{Context, Row};
use crate::error::Result;
use crate::value::{NULL, compare, is_true, to_number, to_text};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Abs,
    Append,
    Attributes,
    Ceil,
    Concat,
    Contains,
    Count,
    CountDistinct,
    Document,
    First,
    Flatten,
    Floor,
    Has,
    IsArray,
    IsBool,
    IsNull,
    IsNumber,
    IsObject,
    IsString,
    Keep,
    Last,
    Length,
    Lower,
    Max,
    Merge,
    Min,
    NotNull,
    ParseIdentifier,
    Position,
    Push,
    Sleep,
    StartsWith,
    Substring,
    Sum,
    ToBool,
    ToNumber,
    ToString,
    Union,
    Unique,
    Unset,
    Upper,
    Values,
}

/// Name, function, how many arguments at least and at most.
const TABLE: [(&str, Function, usize, usize); 43] = [
    ("ABS", Function::Abs, 1, 1),
    ("APPEND", Function::Append, 2, 3),
    ("ATTRIBUTES", Function::Attributes, 1, 1),
    ("CEIL", Function::Ceil, 1, 1),
    ("CONCAT", Function::Concat, 1, MANY),
    ("CONTAINS", Function::Contains, 2, 2),
    ("COUNT", Function::Count, 1, 1),
    ("COUNT_DISTINCT", Function::CountDistinct, 1, 1),
    ("DOCUMENT", Function::Document, 1, 2),
    ("FIRST", Function::First, 1, 1),
    ("FLATTEN", Function::Flatten, 1, 1),
    ("FLOOR", Function::Floor, 1, 1),
    ("HAS", Function::Has, 2, 2),
    ("IS_ARRAY", Function::IsArray, 1, 1),
    ("IS_BOOL", Function::IsBool, 1, 1),
    ("IS_NULL", Function::IsNull, 1, 1),
    ("IS_NUMBER", Function::IsNumber, 1, 1),
    ("IS_OBJECT", Function::IsObject, 1, 1),
    ("IS_STRING", Function::IsString, 1, 1),
    ("KEEP", Function::Keep, 2, MANY),
    ("LAST", Function::Last, 1, 1),
    ("LENGTH", Function::Length, 1, 1),
    ("LOWER", Function::Lower, 1, 1),
    ("MAX", Function::Max, 1, 1),
    ("MERGE", Function::Merge, 1, MANY),
    ("MIN", Function::Min, 1, 1),
    ("NOT_NULL", Function::NotNull, 1, MANY),
    ("PARSE_IDENTIFIER", Function::ParseIdentifier, 1, 1),
    ("POSITION", Function::Position, 2, 2),
    ("PUSH", Function::Push, 2, 3),
    ("SLEEP", Function::Sleep, 1, 1),
    ("STARTS_WITH", Function::StartsWith, 2, 2),
    ("SUBSTRING", Function::Substring, 2, 3),
    ("SUM", Function::Sum, 1, 1),
    ("TO_BOOL", Function::ToBool, 1, 1),
    ("TO_NUMBER", Function::ToNumber, 1, 1),
    ("TO_STRING", Function::ToString, 1, 1),
    ("UNION", Function::Union, 2, MANY),
    ("UNIQUE", Function::Unique, 1, 1),
    ("UNSET", Function::Unset, 2, MANY),
    ("UPPER", Function::Upper, 1, 1),
    ("VALUES", Function::Values, 1, 1),
    ("CHAR_LENGTH", Function::Length, 1, 1),
];

const MANY: usize = usize::MAX;

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name)).map(|(_, function, ..)| *function)
    }

    pub(super) fn takes(self, count: usize) -> bool {
        TABLE.iter().any(|(_, function, least, most)| *function == self && (*least..=*most).contains(&count))
    }

    pub(super) fn call(self, context: &Context<'_>, row: &Row, arguments: &[Expr]) -> Result<Value> {
        if let (Self::Length | Self::Count, Expr::Collection(name)) = (self, &arguments[0]) {
            return Ok(context.collection(name)?.len().into());
        }
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(context.eval(argument, row)?.into_owned());
        }
        self.apply(context, &values)
    }

    fn apply(self, context: &Context<'_>, values: &[Value]) -> Result<Value> {
        let first = &values[0];
        let second = values.get(1).unwrap_or(&NULL);
        let number = || to_number(first).as_f64().unwrap_or_default();
        Ok(match self {
            Self::Abs => float(number().abs()),
            Self::Ceil => float(number().ceil()),
            Self::Floor => float(number().floor()),
            Self::Append => return context.array(values, |values| values.concat().into()),
            Self::Union => return context.array(values, |values| values.concat().into()),
            Self::Attributes => return context.object(first, |object| object.keys().cloned().collect()),
            Self::Values => return context.object(first, |object| object.values().cloned().collect()),
            Self::Concat => values.iter().map(to_text).collect::<String>().into(),
            Self::Contains => to_text(first).contains(&*to_text(second)).into(),
            Self::StartsWith => to_text(first).starts_with(&*to_text(second)).into(),
            Self::Count | Self::Length => length(first).into(),
            Self::CountDistinct => return context.array(&values[..1], |arrays| distinct(arrays[0]).len().into()),
            Self::Unique => return context.array(&values[..1], |arrays| distinct(arrays[0]).into()),
            Self::Document => return document(context, first, second),
            Self::First => return context.array(&values[..1], |arrays| arrays[0].first().cloned().into()),
            Self::Last => return context.array(&values[..1], |arrays| arrays[0].last().cloned().into()),
            Self::Flatten => return context.array(&values[..1], |arrays| flatten(arrays[0])),
            Self::Has => first.get(&*to_text(second)).is_some().into(),
            Self::IsArray => first.is_array().into(),
            Self::IsBool => first.is_boolean().into(),
            Self::IsNull => first.is_null().into(),
            Self::IsNumber => first.is_number().into(),
            Self::IsObject => first.is_object().into(),
            Self::IsString => first.is_string().into(),
            Self::Keep => return select(context, values, |is_named| is_named),
            Self::Unset => return select(context, values, |is_named| !is_named),
            Self::Lower => to_text(first).to_lowercase().into(),
            Self::Upper => to_text(first).to_uppercase().into(),
            Self::Max => return context.array(&values[..1], |arrays| counted(arrays[0]).max_by(order).cloned().into()),
            Self::Min => return context.array(&values[..1], |arrays| counted(arrays[0]).min_by(order).cloned().into()),
            Self::Merge => return merge(context, values),
            Self::NotNull => values.iter().find(|value| !value.is_null()).cloned().into(),
            Self::ParseIdentifier => return parse_identifier(context, first),
            Self::Position => {
                return context.array(&values[..1], |arrays| {
                    arrays[0].iter().any(|element| compare(element, second).is_eq()).into()
                });
            }
            Self::Push => return push(context, values),
            Self::Sleep => {
                // The real server sleeps as well, and holds up whoever needs its thread.
                std::thread::sleep(Duration::from_secs_f64(number().clamp(0.0, 5.0)));
                Value::Null
            }
            Self::Substring => substring(&to_text(first), second, values.get(2)),
            Self::Sum => return context.array(&values[..1], |arrays| sum(arrays[0])),
            Self::ToBool => is_true(first).into(),
            Self::ToNumber => Value::Number(to_number(first)),
            Self::ToString => to_text(first).into(),
        })
    }
}

/// Whole where nothing is lost.
pub(super) fn float(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "only taken if nothing was cut off")]
    let whole = number as i64;
    #[expect(clippy::cast_precision_loss, reason = "compared with what it came from")]
    let is_whole = whole as f64 == number && number.abs() < 9_007_199_254_740_992.0;
    if is_whole { whole.into() } else { serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number) }
}

fn length(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(false) => 0,
        Value::Bool(true) => 1,
        Value::Number(_) | Value::String(_) => to_text(value).chars().count(),
        Value::Array(elements) => elements.len(),
        Value::Object(members) => members.len(),
    }
}

fn distinct(elements: &[Value]) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for element in elements {
        if !kept.iter().any(|known| compare(known, element).is_eq()) {
            kept.push(element.clone());
        }
    }
    kept
}

fn flatten(elements: &[Value]) -> Value {
    let parts = elements.iter().map(|element| match element {
        Value::Array(inner) => inner.clone(),
        other => vec![other.clone()],
    });
    parts.collect::<Vec<_>>().concat().into()
}

/// Nulls do not count.
fn counted(elements: &[Value]) -> impl Iterator<Item = &Value> {
    elements.iter().filter(|element| !element.is_null())
}

fn order(left: &&Value, right: &&Value) -> Ordering {
    compare(left, right)
}

fn sum(elements: &[Value]) -> Value {
    float(counted(elements).map(|element| to_number(element).as_f64().unwrap_or_default()).sum())
}

/// The named attributes, or all others.
fn select(context: &Context<'_>, values: &[Value], keeps: impl Fn(bool) -> bool) -> Result<Value> {
    let names = values[1..].iter().flat_map(|value| match value {
        Value::Array(names) => names.clone(),
        name => vec![name.clone()],
    });
    let names: Vec<Value> = names.collect();
    context.object(&values[0], |object| {
        let kept = object.iter().filter(|(name, _)| keeps(names.iter().any(|named| named == *name)));
        Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    })
}

fn merge(context: &Context<'_>, values: &[Value]) -> Result<Value> {
    let parts = match values {
        [Value::Array(parts)] => parts.as_slice(),
        parts => parts,
    };
    let mut merged = Map::new();
    for part in parts {
        let Value::Object(part) = part else {
            return context.invalid_argument();
        };
        merged.extend(part.clone());
    }
    Ok(merged.into())
}

fn push(context: &Context<'_>, values: &[Value]) -> Result<Value> {
    let is_unique = values.get(2).is_some_and(is_true);
    match &values[0] {
        Value::Null => Ok(vec![values[1].clone()].into()),
        Value::Array(elements) if is_unique && elements.contains(&values[1]) => Ok(values[0].clone()),
        Value::Array(elements) => Ok([elements.as_slice(), &values[1..2]].concat().into()),
        _ => context.invalid_argument(),
    }
}

fn substring(text: &str, start: &Value, length: Option<&Value>) -> Value {
    let count = text.chars().count();
    let start = to_number(start).as_i64().unwrap_or_default();
    let from_end = usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX);
    let start = if start < 0 { count.saturating_sub(from_end) } else { from_end };
    let length = length.and_then(|length| usize::try_from(to_number(length).as_i64()?).ok());
    text.chars().skip(start).take(length.unwrap_or(count)).collect::<String>().into()
}

fn parse_identifier(context: &Context<'_>, value: &Value) -> Result<Value> {
    let id = value.get("_id").unwrap_or(value);
    match id.as_str().and_then(|id| id.split_once('/')) {
        Some((collection, key)) => Ok(serde_json::json!({ "collection": collection, "key": key })),
        None => context.invalid_argument(),
    }
}

/// `DOCUMENT("c/k")`, `DOCUMENT("c", "k")`, and both with arrays.
fn document(context: &Context<'_>, first: &Value, second: &Value) -> Result<Value> {
    let (collection, keys) = if second.is_null() { (None, first) } else { (first.as_str(), second) };
    let find = |key: &Value| -> Result<Value> {
        let text = key.as_str().unwrap_or_default();
        let (name, key) = match (text.split_once('/'), collection) {
            (Some(parts), _) => parts,
            (None, Some(name)) => (name, text),
            (None, None) => return Ok(Value::Null),
        };
        Ok(context.collection(name)?.get(key).map(|document| document.value.clone()).into())
    };
    match keys {
        Value::Array(keys) => {
            let found = keys.iter().map(find).collect::<Result<Vec<_>>>()?;
            Ok(found.into_iter().filter(|document| !document.is_null()).collect())
        }
        key => find(key),
    }
}
