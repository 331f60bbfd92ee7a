//! Tokens to a query, clause by clause.

mod expression;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

pub(super) use self::expression::constant;
use super::ast::{Clause, Direction, Expr, Modify, Name, Query, Source, Verb};
use super::lex::{Lexed, Token, lex, syntax};
use super::refuse;
use crate::error::{Error, Result};

/// What a statement's text alone says.
pub(crate) struct Parsed {
    pub(crate) query: Query,
    /// The names of the bind parameters, those of collections with one `@`.
    pub(crate) binds: BTreeSet<String>,
}

/// `binds` without a value: only the text is looked at.
pub(crate) fn parse(text: &str, binds: Option<&Map<String, Value>>) -> Result<Parsed> {
    if text.trim().is_empty() {
        return Err(refuse(1502, "query is empty"));
    }
    let mut parser =
        Parser { text, tokens: lex(text)?, at: 0, binds, used: BTreeSet::new(), scope: Vec::new(), is_in_taken: false };
    let query = parser.query()?;
    if *parser.peek() != Token::End {
        return Err(parser.unexpected());
    }
    let undeclared = binds.into_iter().flat_map(Map::keys).find(|name| !parser.used.contains(*name));
    if let Some(name) = undeclared {
        return Err(refuse(1552, format!("bind parameter '{name}' was not declared in the query")));
    }
    Ok(Parsed { query, binds: parser.used })
}

/// Words that cannot be names; those that are not understood here are refused by name.
const UNKNOWN: [&str; 20] = [
    "UPSERT",
    "WINDOW",
    "SEARCH",
    "PRUNE",
    "GRAPH",
    "SHORTEST_PATH",
    "K_SHORTEST_PATHS",
    "K_PATHS",
    "ALL_SHORTEST_PATHS",
    "OUTBOUND",
    "INBOUND",
    "ANY",
    "ALL",
    "NONE",
    "LIKE",
    "AGGREGATE",
    "KEEP",
    "WITH",
    "AT",
    "CURRENT",
];

const KEYWORDS: [&str; 24] = [
    "FOR", "IN", "FILTER", "LET", "SORT", "LIMIT", "COLLECT", "INTO", "RETURN", "DISTINCT", "INSERT", "UPDATE",
    "REPLACE", "REMOVE", "ASC", "DESC", "AND", "OR", "NOT", "NULL", "TRUE", "FALSE", "WITH", "OPTIONS",
];

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Lexed>,
    at: usize,
    binds: Option<&'a Map<String, Value>>,
    used: BTreeSet<String>,
    /// The variables that are known here.
    scope: Vec<Name>,
    /// In a modification `IN` comes before the collection and is no operator.
    is_in_taken: bool,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }

    fn peek_after(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |lexed| &lexed.token)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if *found == symbol)
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let is_there = self.is_keyword(keyword);
        self.at += usize::from(is_there);
        is_there
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let is_there = self.is_symbol(symbol);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect_keyword(&mut self, keyword: &str) -> Result<()> {
        if self.take_keyword(keyword) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<()> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> Error {
        let what = match self.peek() {
            Token::End => "end of query string".to_owned(),
            Token::Symbol("=") => "assignment".to_owned(),
            Token::Symbol(symbol) => format!("'{symbol}'"),
            Token::Word(word) if self.is_unknown(word) => {
                return self.unknown(&format!("the keyword {}", word.to_ascii_uppercase()));
            }
            Token::Word(word) if is_reserved(word) => format!("{} keyword", word.to_ascii_uppercase()),
            Token::Word(_) | Token::Quoted(_) => "identifier".to_owned(),
            Token::Text(_) => "quoted string".to_owned(),
            Token::Number(_) => "number".to_owned(),
            Token::Bind(_) | Token::CollectionBind(_) => "bind parameter".to_owned(),
        };
        syntax(self.text, self.tokens[self.at].start, &what)
    }

    fn is_unknown(&self, word: &str) -> bool {
        UNKNOWN.iter().any(|unknown| unknown.eq_ignore_ascii_case(word))
    }

    /// Legal AQL, perhaps, but nothing this interpreter knows.
    fn unknown(&self, what: &str) -> Error {
        let start = self.tokens[self.at].start;
        let error = syntax(self.text, start, what);
        refuse(1501, format!("wal-arango-fake does not know {what}: {}", error.message))
    }

    fn query(&mut self) -> Result<Query> {
        let known = self.scope.len();
        let mut clauses = Vec::new();
        loop {
            let clause = self.clause()?;
            let is_last = matches!(clause, Clause::Return { .. });
            clauses.push(clause);
            let ends = *self.peek() == Token::End || self.is_symbol(")");
            if is_last || (ends && clauses.iter().any(|clause| matches!(clause, Clause::Modify(_)))) {
                self.scope.truncate(known);
                return Ok(Query { clauses });
            }
        }
    }

    fn clause(&mut self) -> Result<Clause> {
        let Token::Word(word) = self.peek() else {
            return Err(self.unexpected());
        };
        match word.to_ascii_uppercase().as_str() {
            "FOR" => self.for_in(),
            "FILTER" => {
                self.next();
                self.expression().map(Clause::Filter)
            }
            "LET" => self.let_be(),
            "SORT" => self.sort(),
            "LIMIT" => self.limit(),
            "COLLECT" => self.collect(),
            "INSERT" => self.modify(Verb::Insert),
            "UPDATE" => self.modify(Verb::Update),
            "REPLACE" => self.modify(Verb::Replace),
            "REMOVE" => self.modify(Verb::Remove),
            "RETURN" => {
                self.next();
                let is_distinct = self.take_keyword("DISTINCT");
                Ok(Clause::Return { value: self.expression()?, is_distinct })
            }
            _ => Err(self.unexpected()),
        }
    }

    fn declare(&mut self, name: &str) -> Result<Name> {
        if self.scope.iter().any(|known| &**known == name) {
            return Err(refuse(1511, format!("variable '{name}' is assigned multiple times")));
        }
        let name: Name = name.into();
        self.scope.push(name.clone());
        Ok(name)
    }

    fn name(&mut self) -> Result<String> {
        match self.peek().clone() {
            Token::Word(word) if !is_reserved(&word) => {
                self.next();
                Ok(word)
            }
            Token::Quoted(name) => {
                self.next();
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn for_in(&mut self) -> Result<Clause> {
        self.next();
        let name = self.name()?;
        if self.is_symbol(",") {
            return Err(self.unknown("traversals (FOR with several variables)"));
        }
        self.expect_keyword("IN")?;
        let source = match self.expression()? {
            Expr::Collection(name) => Source::Collection(name),
            list => Source::List(list),
        };
        let hint = match self.options()? {
            Value::Null => None,
            options => super::options::index_hint(&options)?,
        };
        Ok(Clause::For { variable: self.declare(&name)?, source, hint })
    }

    fn let_be(&mut self) -> Result<Clause> {
        self.next();
        let name = self.name()?;
        self.expect_symbol("=")?;
        let value = self.expression()?;
        if self.is_symbol(",") {
            return Err(self.unknown("LET with several variables"));
        }
        Ok(Clause::Let { variable: self.declare(&name)?, value })
    }

    fn sort(&mut self) -> Result<Clause> {
        self.next();
        let mut terms = Vec::new();
        loop {
            let term = self.expression()?;
            let direction = if self.take_keyword("DESC") {
                Direction::Descending
            } else {
                self.take_keyword("ASC");
                Direction::Ascending
            };
            terms.push((term, direction));
            if !self.take_symbol(",") {
                return Ok(Clause::Sort(terms));
            }
        }
    }

    fn limit(&mut self) -> Result<Clause> {
        self.next();
        let first = self.expression()?;
        if !self.take_symbol(",") {
            return Ok(Clause::Limit { offset: Expr::Value(0.into()), count: first });
        }
        Ok(Clause::Limit { offset: first, count: self.expression()? })
    }

    fn collect(&mut self) -> Result<Clause> {
        self.next();
        let mut groups = Vec::new();
        while !self.is_keyword("WITH") {
            let name = self.name()?;
            self.expect_symbol("=")?;
            groups.push((name, self.expression()?));
            if !self.take_symbol(",") {
                break;
            }
        }
        if self.is_keyword("INTO") {
            return Err(self.unknown("COLLECT ... INTO"));
        }
        let mut count = None;
        if self.take_keyword("WITH") {
            let is_count = matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case("COUNT"));
            if !is_count {
                return Err(self.unexpected());
            }
            self.next();
            self.expect_keyword("INTO")?;
            count = Some(self.name()?);
        }
        // What was known before the groups is not known after them.
        self.scope.clear();
        let groups =
            groups.into_iter().map(|(name, value)| Ok((self.declare(&name)?, value))).collect::<Result<_>>()?;
        let count = count.map(|name| self.declare(&name)).transpose()?;
        Ok(Clause::Collect { groups, count })
    }

    fn modify(&mut self, verb: Verb) -> Result<Clause> {
        self.next();
        self.is_in_taken = true;
        let subject = self.expression()?;
        let can_have_change = matches!(verb, Verb::Update | Verb::Replace);
        let change = if can_have_change && self.take_keyword("WITH") { Some(self.expression()?) } else { None };
        self.is_in_taken = false;
        if !self.take_keyword("INTO") {
            self.expect_keyword("IN")?;
        }
        let collection = match self.next() {
            Token::Word(name) | Token::Quoted(name) => name,
            Token::CollectionBind(name) => self.collection_bind(&name)?,
            _ => {
                self.at -= 1;
                return Err(self.unexpected());
            }
        };
        let options = self.options()?;
        for name in ["OLD", "NEW"] {
            if !self.scope.iter().any(|known| &**known == name) {
                self.scope.push(name.into());
            }
        }
        Ok(Clause::Modify(Modify { verb, subject, change, collection, options }))
    }

    /// What follows `OPTIONS`; it must not depend on anything.
    fn options(&mut self) -> Result<Value> {
        if !self.take_keyword("OPTIONS") {
            return Ok(Value::Null);
        }
        match constant(&self.expression()?) {
            Some(options @ Value::Object(_)) => Ok(options),
            _ => Err(self.unknown("OPTIONS that are no constant object")),
        }
    }

    fn bind(&mut self, name: &str) -> Result<Value> {
        self.used.insert(name.to_owned());
        match self.binds {
            None => Ok(Value::Null),
            Some(binds) => binds.get(name).cloned().ok_or_else(|| missing_bind(name)),
        }
    }

    fn collection_bind(&mut self, name: &str) -> Result<String> {
        let name = format!("@{name}");
        self.used.insert(name.clone());
        match self.binds.map(|binds| binds.get(&name)) {
            None => Ok(name),
            Some(None) => Err(missing_bind(&name)),
            Some(Some(Value::String(collection))) => Ok(collection.clone()),
            Some(Some(_)) => Err(invalid_bind(&name)),
        }
    }
}

fn missing_bind(name: &str) -> Error {
    refuse(1551, format!("no value specified for declared bind parameter '{name}'"))
}

fn invalid_bind(name: &str) -> Error {
    refuse(1553, format!("bind parameter '{name}' has an invalid value or type"))
}

fn is_reserved(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}
