//! Expressions over a row, with AQL's semantics: nothing fails for its type, it becomes null or a warning.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::ast::{Expr, Name, Operator};
use super::functions::float;
use super::refuse;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::collection::{Collection, Document};
use crate::value::{NULL, compare, is_equal, is_true, to_number, to_text};

/// What a variable holds: cheap to copy.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Value(Arc<Value>),
    Document(Arc<Document>),
}

impl Held {
    pub(super) fn of(value: Value) -> Self {
        Self::Value(Arc::new(value))
    }

    pub(super) fn value(&self) -> &Value {
        match self {
            Self::Value(value) => value,
            Self::Document(document) => &document.value,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Row(Vec<(Name, Held)>);

impl Row {
    pub(super) fn with(&self, name: &Name, held: Held) -> Self {
        let mut row = self.clone();
        row.0.push((name.clone(), held));
        row
    }

    fn get(&self, name: &str) -> &Value {
        self.0.iter().rev().find(|(known, _)| **known == *name).map_or(&NULL, |(_, held)| held.value())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) code: u32,
    pub(crate) message: String,
}

/// What evaluation counts and notes on its way, and where it reads.
pub(crate) struct Context<'a> {
    pub(crate) store: &'a Store,
    pub(crate) database: &'a str,
    pub(crate) notes: &'a Notes,
}

#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) warnings: RefCell<Vec<Warning>>,
    pub(crate) fails_on_warning: bool,
    pub(crate) scanned_full: Cell<u64>,
    pub(crate) scanned_index: Cell<u64>,
    pub(crate) filtered: Cell<u64>,
    /// How many rows there would be without the last LIMIT.
    pub(crate) full_count: Cell<Option<u64>>,
}

impl Notes {
    pub(crate) fn warn(&self, code: u32, message: impl Into<String>) -> Result<()> {
        const KEPT: usize = 10;
        let message = message.into();
        if self.fails_on_warning {
            return Err(refuse(code, message));
        }
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < KEPT {
            warnings.push(Warning { code, message });
        }
        Ok(())
    }
}

pub(super) fn add(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

impl<'a> Context<'a> {
    pub(super) fn collection(&self, name: &str) -> Result<&'a Collection> {
        self.store.collection(self.database, name)
    }

    pub(super) fn invalid_argument(&self) -> Result<Value> {
        self.notes.warn(1542, "invalid argument type in call to function").map(|()| Value::Null)
    }

    /// For functions of arrays.
    pub(super) fn array(&self, values: &[Value], apply: impl FnOnce(&[&[Value]]) -> Value) -> Result<Value> {
        let arrays: Option<Vec<&[Value]>> = values.iter().map(|value| value.as_array().map(Vec::as_slice)).collect();
        match arrays {
            Some(arrays) => Ok(apply(&arrays)),
            None => self.invalid_argument(),
        }
    }

    pub(super) fn object(&self, value: &Value, apply: impl FnOnce(&Map<String, Value>) -> Value) -> Result<Value> {
        match value {
            Value::Object(object) => Ok(apply(object)),
            _ => self.invalid_argument(),
        }
    }

    pub(super) fn eval<'r>(&self, expression: &'r Expr, row: &'r Row) -> Result<Cow<'r, Value>> {
        match expression {
            Expr::Value(value) => Ok(Cow::Borrowed(value)),
            Expr::Variable(name) => Ok(Cow::Borrowed(row.get(name))),
            // Not a collection at all, but a variable nobody has declared: the server says the same.
            Expr::Collection(name) => match self.collection(name) {
                Ok(_) => Err(Error::not_faked("collections as values")),
                Err(error) => Err(error),
            },
            Expr::Attribute(of, name) => Ok(member(self.eval(of, row)?, name)),
            Expr::Element(of, at) => {
                let at = self.eval(at, row)?;
                Ok(element(self.eval(of, row)?, &at))
            }
            Expr::Not(of) => Ok(owned(!is_true(&*self.eval(of, row)?))),
            Expr::Negate(of) => self.negate(of, row),
            Expr::Binary(Operator::And, left, right) => {
                let left = self.eval(left, row)?;
                if is_true(&left) { self.eval(right, row) } else { Ok(left) }
            }
            Expr::Binary(Operator::Or, left, right) => {
                let left = self.eval(left, row)?;
                if is_true(&left) { Ok(left) } else { self.eval(right, row) }
            }
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.eval(left, row)?, self.eval(right, row)?);
                self.binary(*operator, &left, &right).map(Cow::Owned)
            }
            Expr::Choice(condition, yes, no) => {
                let chosen = if is_true(&*self.eval(condition, row)?) { yes } else { no };
                self.eval(chosen, row)
            }
            Expr::Array(elements) => {
                let values = elements.iter().map(|element| Ok(self.eval(element, row)?.into_owned()));
                Ok(Cow::Owned(Value::Array(values.collect::<Result<_>>()?)))
            }
            Expr::Object(members) => self.members(members, row),
            Expr::Call(function, arguments) => function.call(self, row, arguments).map(Cow::Owned),
            Expr::Subquery(query) => Ok(Cow::Owned(Value::Array(super::run::subquery(self, query, row)?))),
        }
    }

    fn members<'r>(&self, members: &'r [(Expr, Expr)], row: &'r Row) -> Result<Cow<'r, Value>> {
        let mut object = Map::new();
        for (name, value) in members {
            let name = to_text(&*self.eval(name, row)?).into_owned();
            object.insert(name, self.eval(value, row)?.into_owned());
        }
        Ok(Cow::Owned(Value::Object(object)))
    }

    fn negate<'r>(&self, of: &'r Expr, row: &'r Row) -> Result<Cow<'r, Value>> {
        self.binary(Operator::Subtract, &Value::from(0), &*self.eval(of, row)?).map(Cow::Owned)
    }

    fn binary(&self, operator: Operator, left: &Value, right: &Value) -> Result<Value> {
        let order = || compare(left, right);
        Ok(match operator {
            Operator::Equal => is_equal(left, right).into(),
            Operator::NotEqual => (!is_equal(left, right)).into(),
            Operator::Less => order().is_lt().into(),
            Operator::LessOrEqual => order().is_le().into(),
            Operator::Greater => order().is_gt().into(),
            Operator::GreaterOrEqual => order().is_ge().into(),
            Operator::In => is_in(left, right).into(),
            Operator::NotIn => (!is_in(left, right)).into(),
            Operator::Range => range(left, right)?,
            Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Modulo => {
                return self.arithmetic(operator, left, right);
            }
            Operator::And | Operator::Or => unreachable!("evaluated lazily by the caller"),
        })
    }

    fn arithmetic(&self, operator: Operator, left: &Value, right: &Value) -> Result<Value> {
        let (left, right) = (to_number(left), to_number(right));
        let floats = (left.as_f64().unwrap_or_default(), right.as_f64().unwrap_or_default());
        if matches!(operator, Operator::Divide | Operator::Modulo) && floats.1 == 0.0 {
            return self.notes.warn(1562, "division by zero").map(|()| Value::Null);
        }
        let wholes = left.as_i64().zip(right.as_i64());
        let whole = wholes.and_then(|(left, right)| match operator {
            Operator::Add => left.checked_add(right),
            Operator::Subtract => left.checked_sub(right),
            Operator::Multiply => left.checked_mul(right),
            Operator::Modulo => left.checked_rem(right),
            _ => None,
        });
        Ok(whole.map_or_else(|| float(float_arithmetic(operator, floats)), Value::from))
    }
}

fn float_arithmetic(operator: Operator, (left, right): (f64, f64)) -> f64 {
    match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        _ => left % right,
    }
}

fn owned<'r>(value: impl Into<Value>) -> Cow<'r, Value> {
    Cow::Owned(value.into())
}

fn member<'r>(of: Cow<'r, Value>, name: &str) -> Cow<'r, Value> {
    match of {
        Cow::Borrowed(of) => Cow::Borrowed(of.get(name).unwrap_or(&NULL)),
        Cow::Owned(mut of) => Cow::Owned(of.get_mut(name).map(Value::take).unwrap_or_default()),
    }
}

/// Negative positions count from the end.
fn element<'r>(of: Cow<'r, Value>, at: &Value) -> Cow<'r, Value> {
    if let Value::String(name) = at {
        return member(of, name);
    }
    let found = of.as_array().and_then(|elements| {
        let at = to_number(at).as_i64()?;
        let length = i64::try_from(elements.len()).ok()?;
        let at = if at < 0 { at + length } else { at };
        elements.get(usize::try_from(at).ok()?).cloned()
    });
    Cow::Owned(found.unwrap_or_default())
}

fn is_in(value: &Value, list: &Value) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|element| is_equal(element, value)))
}

fn range(from: &Value, to: &Value) -> Result<Value> {
    const LIMIT: u64 = 10_000_000;
    let bound = |value: &Value| to_number(value).as_f64().unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "ranges are of whole numbers, as in the server")]
    let (from, to) = (bound(from) as i64, bound(to) as i64);
    if from.abs_diff(to) >= LIMIT {
        return Err(refuse(1504, "number out of range"));
    }
    let values: Vec<Value> =
        if from <= to { (from..=to).map(Value::from).collect() } else { (to..=from).rev().map(Value::from).collect() };
    Ok(values.into())
}
