//! A statement, parsed; bind values are in their places.

use std::sync::Arc;

use serde_json::Value;

use super::functions::Function;

pub(crate) type Name = Arc<str>;

#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) clauses: Vec<Clause>,
}

#[derive(Clone, Debug)]
pub(crate) enum Clause {
    For { variable: Name, source: Source, hint: Option<String> },
    Filter(Expr),
    Let { variable: Name, value: Expr },
    Sort(Vec<(Expr, Direction)>),
    Limit { offset: Expr, count: Expr },
    Collect { groups: Vec<(Name, Expr)>, count: Option<Name> },
    Modify(Modify),
    Return { value: Expr, is_distinct: bool },
}

#[derive(Clone, Debug)]
pub(crate) enum Source {
    Collection(String),
    List(Expr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ascending,
    Descending,
}

#[derive(Clone, Debug)]
pub(crate) struct Modify {
    pub(crate) verb: Verb,
    /// What is inserted or removed, or which document is changed.
    pub(crate) subject: Expr,
    /// What follows `WITH`. Without it the subject says both.
    pub(crate) change: Option<Expr>,
    pub(crate) collection: String,
    pub(crate) options: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Insert,
    Update,
    Replace,
    Remove,
}

#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Value(Value),
    Variable(Name),
    /// A collection as a value: an argument of `LENGTH`.
    Collection(String),
    Attribute(Box<Expr>, String),
    Element(Box<Expr>, Box<Expr>),
    Array(Vec<Expr>),
    Object(Vec<(Expr, Expr)>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
    Call(Function, Vec<Expr>),
    Subquery(Box<Query>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    In,
    NotIn,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Range,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Query {
    /// The collections it writes, then those it reads.
    pub(crate) fn written(&self) -> Vec<&str> {
        let modified = self.clauses.iter().filter_map(|clause| match clause {
            Clause::Modify(modify) => Some(modify.collection.as_str()),
            _ => None,
        });
        let mut names: Vec<&str> = modified.collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(crate) fn read(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.clauses.iter().for_each(|clause| clause.collections(&mut names));
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Clause {
    pub(crate) fn expressions(&self) -> Vec<&Expr> {
        match self {
            Self::For { source: Source::Collection(_), .. } => Vec::new(),
            Self::For { source: Source::List(list), .. } => vec![list],
            Self::Filter(condition) => vec![condition],
            Self::Let { value, .. } | Self::Return { value, .. } => vec![value],
            Self::Sort(terms) => terms.iter().map(|(term, _)| term).collect(),
            Self::Limit { offset, count } => vec![offset, count],
            Self::Collect { groups, .. } => groups.iter().map(|(_, value)| value).collect(),
            Self::Modify(modify) => std::iter::once(&modify.subject).chain(&modify.change).collect(),
        }
    }

    /// Those it reads.
    pub(crate) fn collections<'a>(&'a self, names: &mut Vec<&'a str>) {
        if let Self::For { source: Source::Collection(name), .. } = self {
            names.push(name);
        }
        for expression in self.expressions() {
            expression.visit(&mut |part| match part {
                Expr::Collection(name) => names.push(name),
                Expr::Subquery(query) => query.clauses.iter().for_each(|clause| clause.collections(names)),
                _ => {}
            });
        }
    }
}

impl Expr {
    /// Itself and all its parts, without what stands in subqueries.
    pub(crate) fn visit<'a>(&'a self, visitor: &mut impl FnMut(&'a Expr)) {
        visitor(self);
        let parts: Vec<&Expr> = match self {
            Self::Value(_) | Self::Variable(_) | Self::Collection(_) | Self::Subquery(_) => Vec::new(),
            Self::Attribute(of, _) | Self::Not(of) | Self::Negate(of) => vec![of],
            Self::Element(of, at) => vec![of, at],
            Self::Binary(_, left, right) => vec![left, right],
            Self::Choice(condition, yes, no) => vec![condition, yes, no],
            Self::Array(elements) | Self::Call(_, elements) => elements.iter().collect(),
            Self::Object(members) => members.iter().flat_map(|(name, value)| [name, value]).collect(),
        };
        // The closure is passed on by reference: a generic recursion would never end for the compiler.
        let visitor: &mut dyn FnMut(&'a Expr) = visitor;
        parts.into_iter().for_each(|part| part.visit_part(visitor));
    }

    fn visit_part<'a>(&'a self, mut visitor: &mut dyn FnMut(&'a Expr)) {
        self.visit(&mut visitor);
    }

    /// The variables it depends on; a subquery depends on everything.
    pub(crate) fn uses(&self, is_used: impl Fn(&str) -> bool) -> bool {
        let mut found = false;
        self.visit(&mut |part| match part {
            Self::Variable(name) => found |= is_used(name),
            Self::Subquery(_) => found = true,
            _ => {}
        });
        found
    }
}
