//! Which index a loop over a collection uses, by the server's rules for sorted indexes:
//!
//! - Values for the first fields, then at most one range; what comes after a range only filters.
//! - A sparse index serves a condition only if the condition covers *all* its fields and cannot be true of null: `<` alone can.
//! - An index serves SORT if the terms are its fields in order, all in one direction; terms with a value are skipped. A sparse index
//!   only if no field can be null.
//! - A TTL index serves numbers that stand in the statement, nothing else.

use super::ast::{Clause, Direction, Expr, Name, Operator};
use super::parse::constant;
use crate::store::collection::Collection;
use crate::store::index::{Index, Kind};

/// How a loop finds its documents.
#[derive(Clone, Debug)]
pub(crate) struct Access<'q> {
    pub(crate) by: By<'q>,
    /// The order is that of the SORT that follows, which then does nothing.
    pub(crate) sorted: Option<Direction>,
}

#[derive(Clone, Debug)]
pub(crate) enum By<'q> {
    Scan,
    /// One key or a list of keys.
    Key(Match<'q>),
    /// All of them, in the order of their keys.
    KeyOrder,
    /// The index at this position of the collection's list.
    Index {
        position: usize,
        equal: Vec<Match<'q>>,
        above: Option<Bound<'q>>,
        below: Option<Bound<'q>>,
    },
}

/// A value, or a list of values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Match<'q> {
    One(&'q Expr),
    Any(&'q Expr),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound<'q> {
    pub(crate) value: &'q Expr,
    pub(crate) is_included: bool,
}

/// One part of the filters that compares an attribute of the document with something that does not depend on it.
struct Condition<'q> {
    path: Vec<String>,
    operator: Operator,
    other: &'q Expr,
}

/// What follows the loop and may use its order or its values.
struct Demand<'q> {
    conditions: Vec<Condition<'q>>,
    /// The paths of SORT's terms, if they are paths and all go one way.
    sort: Option<(Vec<Vec<String>>, Direction)>,
}

/// Whether loops surround this one: only the outermost's order survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Outermost,
    Inner,
}

pub(crate) fn choose<'q>(
    collection: &Collection,
    variable: &Name,
    hint: Option<&str>,
    rest: &'q [Clause],
    place: Place,
) -> Access<'q> {
    let mut demand = Demand::of(variable, rest);
    demand.sort = demand.sort.filter(|_| place == Place::Outermost);
    let primary = demand.key().map(|key| (Access { by: By::Key(key), sorted: None }, 1000));
    let others = collection.indexes.iter().enumerate().filter_map(|(position, index)| {
        let (access, score) = demand.try_index(position, index)?;
        Some((access, if hint == Some(&index.name) { score + 500 } else { score }))
    });
    let mut best: Option<(Access<'q>, u32)> = None;
    for (access, score) in primary.into_iter().chain(others) {
        if best.as_ref().is_none_or(|(_, known)| score > *known) {
            best = Some((access, score));
        }
    }
    best.map(|(access, _)| access).unwrap_or_else(|| demand.without_index())
}

impl<'q> Demand<'q> {
    fn of(variable: &Name, rest: &'q [Clause]) -> Self {
        let mut found = Search { variable, aliases: Vec::new(), later: vec![variable.clone()], conditions: Vec::new() };
        for clause in rest {
            match clause {
                Clause::Filter(condition) => found.conjunction(condition),
                Clause::Let { variable, value } => {
                    found.aliases.push((variable.clone(), value));
                    found.later.push(variable.clone());
                }
                Clause::Sort(terms) => {
                    let sort = found.sort(terms);
                    return Self { conditions: found.conditions, sort };
                }
                _ => break,
            }
        }
        Self { conditions: found.conditions, sort: None }
    }

    fn matching<'s>(&'s self, path: &'s [String]) -> impl Iterator<Item = &'s Condition<'q>> {
        self.conditions.iter().filter(move |condition| condition.path == path)
    }

    fn key(&self) -> Option<Match<'q>> {
        let path = ["_key".to_owned()];
        self.matching(&path).find_map(Condition::equality)
    }

    /// Without a condition that serves: SORT by key is the primary index's own order.
    fn without_index(&self) -> Access<'q> {
        match &self.sort {
            Some((paths, direction)) if paths.as_slice() == [["_key".to_owned()]] => {
                Access { by: By::KeyOrder, sorted: Some(*direction) }
            }
            _ => Access { by: By::Scan, sorted: None },
        }
    }

    fn try_index(&self, position: usize, index: &Index) -> Option<(Access<'q>, u32)> {
        let definition = &index.definition;
        let is_usable = |condition: &&Condition<'q>| {
            let suits_ttl = match definition.kind {
                Kind::Persistent => true,
                Kind::Ttl { .. } => constant(condition.other).is_some_and(|value| value.is_number()),
            };
            suits_ttl && (!definition.sparse || self.excludes_null(condition))
        };
        let (mut equal, mut above, mut below) = (Vec::new(), None, None);
        let mut covered = 0;
        for path in &definition.fields {
            let usable: Vec<&Condition<'q>> = self.matching(path).filter(is_usable).collect();
            if let Some(value) = usable.iter().find_map(|condition| condition.equality()) {
                equal.push(value);
                covered += 1;
                continue;
            }
            above = usable.iter().find_map(|condition| condition.lower());
            below = usable.iter().find_map(|condition| condition.upper());
            covered += usize::from(above.is_some() || below.is_some());
            break;
        }
        let serves_filter = covered > 0 && (!definition.sparse || covered == definition.fields.len());
        let sorted = self.sorted_by(index, if serves_filter { &equal } else { &[] });
        if !serves_filter {
            let direction = sorted?;
            let by = By::Index { position, equal: Vec::new(), above: None, below: None };
            return Some((Access { by, sorted: Some(direction) }, 1));
        }
        let values = u32::try_from(equal.len()).unwrap_or(u32::MAX);
        let ends = u32::from(above.is_some()) + u32::from(below.is_some());
        let score = values * 10 + ends * 2 + u32::from(sorted.is_some()) * 5;
        Some((Access { by: By::Index { position, equal, above, below }, sorted }, score))
    }

    /// Whether the index yields the order that SORT asks for, and in which direction.
    fn sorted_by(&self, index: &Index, equal: &[Match<'q>]) -> Option<Direction> {
        let (paths, direction) = self.sort.as_ref()?;
        let definition = &index.definition;
        if definition.sparse && !definition.fields.iter().all(|path| self.is_never_null(path)) {
            return None;
        }
        // Several values for a field are several ranges, one after the other.
        let has_one_value = |path: &[String]| {
            let at = definition.fields.iter().position(|field| field == path);
            at.and_then(|at| equal.get(at)).is_some_and(|value| matches!(value, Match::One(_)))
        };
        let prefix_is_single = equal.iter().all(|value| matches!(value, Match::One(_)));
        let mut fields = definition.fields.iter().peekable();
        for path in paths {
            while fields.peek().is_some_and(|field| *field != path && has_one_value(field)) {
                fields.next();
            }
            if fields.peek().is_some_and(|field| *field == path) {
                fields.next();
            } else if !has_one_value(path) {
                return None;
            }
        }
        prefix_is_single.then_some(*direction)
    }

    /// Whether the condition is false where the attribute is null, as a sparse index needs it.
    fn excludes_null(&self, condition: &Condition<'q>) -> bool {
        let value = constant(condition.other);
        match condition.operator {
            Operator::Equal | Operator::GreaterOrEqual => value.is_some_and(|value| !value.is_null()),
            Operator::Greater => value.is_some(),
            Operator::In => {
                let list = value.and_then(|value| value.as_array().cloned());
                list.is_some_and(|list| list.iter().all(|value| !value.is_null()))
            }
            Operator::Less | Operator::LessOrEqual => self.is_never_null(&condition.path),
            _ => false,
        }
    }

    fn is_never_null(&self, path: &[String]) -> bool {
        let excludes = |condition: &Condition<'q>| match condition.operator {
            Operator::Less | Operator::LessOrEqual => false,
            Operator::NotEqual => constant(condition.other).is_some_and(|value| value.is_null()),
            _ => self.excludes_null(condition),
        };
        self.matching(path).any(excludes)
    }
}

impl<'q> Condition<'q> {
    fn equality(&self) -> Option<Match<'q>> {
        match self.operator {
            Operator::Equal => Some(Match::One(self.other)),
            Operator::In => Some(Match::Any(self.other)),
            _ => None,
        }
    }

    fn lower(&self) -> Option<Bound<'q>> {
        match self.operator {
            Operator::Greater => Some(Bound { value: self.other, is_included: false }),
            Operator::GreaterOrEqual => Some(Bound { value: self.other, is_included: true }),
            _ => None,
        }
    }

    fn upper(&self) -> Option<Bound<'q>> {
        match self.operator {
            Operator::Less => Some(Bound { value: self.other, is_included: false }),
            Operator::LessOrEqual => Some(Bound { value: self.other, is_included: true }),
            _ => None,
        }
    }
}

struct Search<'q, 'v> {
    variable: &'v Name,
    /// What LET calls an expression.
    aliases: Vec<(Name, &'q Expr)>,
    /// What is only known once the document is.
    later: Vec<Name>,
    conditions: Vec<Condition<'q>>,
}

impl<'q> Search<'q, '_> {
    fn conjunction(&mut self, condition: &'q Expr) {
        if let Expr::Binary(Operator::And, left, right) = condition {
            self.conjunction(left);
            self.conjunction(right);
            return;
        }
        let Expr::Binary(operator, left, right) = condition else {
            return;
        };
        self.comparison(left, *operator, right);
        if let Some(operator) = reversed(*operator) {
            self.comparison(right, operator, left);
        }
    }

    fn comparison(&mut self, side: &'q Expr, operator: Operator, other: &'q Expr) {
        let is_later = |name: &str| self.later.iter().any(|later| **later == *name);
        if other.uses(is_later) {
            return;
        }
        if let Some(path) = self.path(side) {
            self.conditions.push(Condition { path, operator, other });
        }
    }

    /// The attribute of the document that an expression is, directly or by another name.
    fn path(&self, expression: &Expr) -> Option<Vec<String>> {
        match expression {
            Expr::Attribute(of, name) => {
                let mut path = self.path(of)?;
                path.push(name.clone());
                Some(path)
            }
            Expr::Variable(name) if name == self.variable => Some(Vec::new()),
            Expr::Variable(name) => {
                let (_, value) = self.aliases.iter().find(|(alias, _)| alias == name)?;
                self.path(value)
            }
            _ => None,
        }
    }

    fn sort(&self, terms: &[(Expr, Direction)]) -> Option<(Vec<Vec<String>>, Direction)> {
        let (_, direction) = terms.first()?;
        let is_one_way = terms.iter().all(|(_, other)| other == direction);
        let paths: Option<Vec<Vec<String>>> = terms.iter().map(|(term, _)| self.path(term)).collect();
        paths.filter(|_| is_one_way).map(|paths| (paths, *direction))
    }
}

/// With its sides exchanged.
fn reversed(operator: Operator) -> Option<Operator> {
    match operator {
        Operator::Equal | Operator::NotEqual => Some(operator),
        Operator::Less => Some(Operator::Greater),
        Operator::LessOrEqual => Some(Operator::GreaterOrEqual),
        Operator::Greater => Some(Operator::Less),
        Operator::GreaterOrEqual => Some(Operator::LessOrEqual),
        _ => None,
    }
}
