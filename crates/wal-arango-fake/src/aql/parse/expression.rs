//! Expressions. Precedence as in the server: `?:`, OR, AND, equality, IN, order, range, sum, product, sign.

use serde_json::{Map, Value};

use super::{Parser, invalid_bind};
use crate::aql::ast::{Expr, Operator};
use crate::aql::functions::Function;
use crate::aql::lex::Token;
use crate::aql::refuse;
use crate::error::Result;

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Result<Expr> {
        let condition = self.binary(0)?;
        if !self.take_symbol("?") {
            return Ok(condition);
        }
        if self.is_symbol(":") {
            return Err(self.unknown("the operator ?:"));
        }
        let yes = self.expression()?;
        self.expect_symbol(":")?;
        let no = self.expression()?;
        Ok(Expr::Choice(Box::new(condition), Box::new(yes), Box::new(no)))
    }

    /// Operators of this level and those that bind more tightly.
    fn binary(&mut self, level: u8) -> Result<Expr> {
        const SIGN: u8 = 8;
        if level == SIGN {
            return self.unary();
        }
        let mut left = self.binary(level + 1)?;
        while let Some((operator, tokens)) = self.operator(level) {
            self.at += tokens;
            let right = self.binary(level + 1)?;
            left = Expr::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    /// The operator here, if it is of this level, and of how many tokens it consists.
    fn operator(&self, level: u8) -> Option<(Operator, usize)> {
        let one = |operator| Some((operator, 1));
        match (level, self.peek()) {
            (0, Token::Symbol("||")) => one(Operator::Or),
            (0, Token::Word(word)) if word.eq_ignore_ascii_case("OR") => one(Operator::Or),
            (1, Token::Symbol("&&")) => one(Operator::And),
            (1, Token::Word(word)) if word.eq_ignore_ascii_case("AND") => one(Operator::And),
            (2, Token::Symbol("==")) => one(Operator::Equal),
            (2, Token::Symbol("!=")) => one(Operator::NotEqual),
            (3, Token::Word(word)) if word.eq_ignore_ascii_case("IN") && !self.is_in_taken => one(Operator::In),
            (3, Token::Word(word)) if word.eq_ignore_ascii_case("NOT") && !self.is_in_taken => {
                let is_in = matches!(self.peek_after(), Token::Word(word) if word.eq_ignore_ascii_case("IN"));
                is_in.then_some((Operator::NotIn, 2))
            }
            (4, Token::Symbol("<")) => one(Operator::Less),
            (4, Token::Symbol("<=")) => one(Operator::LessOrEqual),
            (4, Token::Symbol(">")) => one(Operator::Greater),
            (4, Token::Symbol(">=")) => one(Operator::GreaterOrEqual),
            (5, Token::Symbol("..")) => one(Operator::Range),
            (6, Token::Symbol("+")) => one(Operator::Add),
            (6, Token::Symbol("-")) => one(Operator::Subtract),
            (7, Token::Symbol("*")) => one(Operator::Multiply),
            (7, Token::Symbol("/")) => one(Operator::Divide),
            (7, Token::Symbol("%")) => one(Operator::Modulo),
            _ => None,
        }
    }

    fn unary(&mut self) -> Result<Expr> {
        if self.take_symbol("!") || self.take_keyword("NOT") {
            return Ok(Expr::Not(Box::new(self.unary()?)));
        }
        if self.take_symbol("-") {
            return Ok(Expr::Negate(Box::new(self.unary()?)));
        }
        if self.take_symbol("+") {
            return self.unary();
        }
        let first = self.primary()?;
        self.postfix(first)
    }

    fn postfix(&mut self, mut expression: Expr) -> Result<Expr> {
        loop {
            if self.take_symbol(".") {
                let name = match self.next() {
                    Token::Word(name) | Token::Quoted(name) => name,
                    Token::Bind(name) => match self.bind(&name)? {
                        Value::String(name) => name,
                        _ => return Err(invalid_bind(&name)),
                    },
                    _ => {
                        self.at -= 1;
                        return Err(self.unexpected());
                    }
                };
                expression = Expr::Attribute(Box::new(expression), name);
            } else if self.is_symbol("[") {
                self.next();
                if self.is_symbol("*") || self.is_symbol("?") {
                    return Err(self.unknown("the array operators [*] and [?]"));
                }
                let element = self.nested(Self::expression)?;
                self.expect_symbol("]")?;
                expression = match element {
                    Expr::Value(Value::String(name)) => Expr::Attribute(Box::new(expression), name),
                    element => Expr::Element(Box::new(expression), Box::new(element)),
                };
            } else {
                return Ok(expression);
            }
        }
    }

    /// Within brackets `IN` is an operator again.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let is_in_taken = std::mem::replace(&mut self.is_in_taken, false);
        let parsed = parse(self);
        self.is_in_taken = is_in_taken;
        parsed
    }

    fn primary(&mut self) -> Result<Expr> {
        match self.peek().clone() {
            Token::Number(number) => self.value(Value::Number(number)),
            Token::Text(text) => self.value(Value::String(text)),
            Token::Bind(name) => {
                let value = self.bind(&name)?;
                self.value(value)
            }
            Token::CollectionBind(name) => {
                let name = self.collection_bind(&name)?;
                self.next();
                Ok(Expr::Collection(name))
            }
            Token::Symbol("(") => {
                self.next();
                self.nested(Self::parenthesis)
            }
            Token::Symbol("[") => {
                self.next();
                self.nested(Self::array)
            }
            Token::Symbol("{") => {
                self.next();
                self.nested(Self::object)
            }
            Token::Word(word) if word.eq_ignore_ascii_case("null") => self.value(Value::Null),
            Token::Word(word) if word.eq_ignore_ascii_case("true") => self.value(true.into()),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => self.value(false.into()),
            Token::Word(word) if *self.peek_after() == Token::Symbol("(") => self.call(&word),
            Token::Word(_) | Token::Quoted(_) => self.reference(),
            _ => Err(self.unexpected()),
        }
    }

    fn value(&mut self, value: Value) -> Result<Expr> {
        self.next();
        Ok(Expr::Value(value))
    }

    /// A variable if there is one of this name, else a collection.
    fn reference(&mut self) -> Result<Expr> {
        let name = self.name()?;
        match self.scope.iter().find(|known| ***known == *name) {
            Some(known) => Ok(Expr::Variable(known.clone())),
            None => Ok(Expr::Collection(name)),
        }
    }

    fn parenthesis(&mut self) -> Result<Expr> {
        let starts_query = ["FOR", "LET", "RETURN", "INSERT", "UPDATE", "REPLACE", "REMOVE"];
        if starts_query.iter().any(|keyword| self.is_keyword(keyword)) {
            let query = self.query()?;
            self.expect_symbol(")")?;
            if !query.written().is_empty() {
                return Err(self.unknown("subqueries that modify"));
            }
            return Ok(Expr::Subquery(Box::new(query)));
        }
        let expression = self.expression()?;
        self.expect_symbol(")")?;
        Ok(expression)
    }

    fn array(&mut self) -> Result<Expr> {
        let elements = self.list("]", Self::expression)?;
        let values: Option<Vec<Value>> = elements.iter().map(constant).collect();
        Ok(values.map_or(Expr::Array(elements), |values| Expr::Value(values.into())))
    }

    fn object(&mut self) -> Result<Expr> {
        self.list("}", Self::member).map(Expr::Object)
    }

    fn list<T>(&mut self, end: &str, mut parse: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut elements = Vec::new();
        while !self.take_symbol(end) {
            elements.push(parse(self)?);
            if !self.take_symbol(",") {
                self.expect_symbol(end)?;
                break;
            }
        }
        Ok(elements)
    }

    fn member(&mut self) -> Result<(Expr, Expr)> {
        let name = match self.next() {
            // `{ a }` is short for `{ a: a }`.
            Token::Word(name) if !self.is_symbol(":") => {
                self.at -= 1;
                return Ok((Expr::Value(name.into()), self.reference()?));
            }
            Token::Word(name) | Token::Quoted(name) | Token::Text(name) => Expr::Value(name.into()),
            Token::Bind(name) => Expr::Value(self.bind(&name)?),
            Token::Symbol("[") => {
                let name = self.expression()?;
                self.expect_symbol("]")?;
                name
            }
            _ => {
                self.at -= 1;
                return Err(self.unexpected());
            }
        };
        self.expect_symbol(":")?;
        Ok((name, self.expression()?))
    }

    fn call(&mut self, name: &str) -> Result<Expr> {
        let Some(function) = Function::named(name) else {
            return Err(self.unknown(&format!("the function {}()", name.to_ascii_uppercase())));
        };
        self.next();
        self.next();
        let arguments = self.nested(|parser| parser.list(")", Self::expression))?;
        if !function.takes(arguments.len()) {
            let name = name.to_ascii_uppercase();
            return Err(refuse(1541, format!("invalid number of arguments for function '{name}()'")));
        }
        Ok(Expr::Call(function, arguments))
    }
}

/// The value of what depends on nothing.
pub(in crate::aql) fn constant(expression: &Expr) -> Option<Value> {
    match expression {
        Expr::Value(value) => Some(value.clone()),
        Expr::Array(elements) => elements.iter().map(constant).collect::<Option<Vec<_>>>().map(Value::from),
        Expr::Object(members) => {
            let member = |(name, value): &(Expr, Expr)| match constant(name)? {
                Value::String(name) => Some((name, constant(value)?)),
                _ => None,
            };
            members.iter().map(member).collect::<Option<Map<_, _>>>().map(Value::from)
        }
        _ => None,
    }
}
