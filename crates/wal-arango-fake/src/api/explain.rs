//! What a query would do: its plan, with the index that each loop uses. The nodes carry what tells them apart; expression trees and
//! the optimiser's other rules are not modelled.

use serde_json::{Map, Value, json};

use crate::Version;
use crate::aql::ast::{Clause, Direction, Expr, Query, Source, Verb};
use crate::aql::parse::parse as parse_text;
use crate::aql::plan::{Access, Bound, By, Match, Place, choose};
use crate::aql::run;
use crate::error::{Error, Result};
use crate::http::{Reply, Request};
use crate::store::Store;
use crate::store::collection::Collection;

use super::cursor::bind_values;

pub(super) fn parse(_: &mut Store, request: &Request) -> Result<Reply> {
    let body = request.object()?;
    let parsed = parse_text(query_text(&body)?, None)?;
    let mut collections = parsed.query.read();
    collections.extend(parsed.query.written());
    let binds: Vec<&String> = parsed.binds.iter().collect();
    let shown = json!({ "parsed": true, "collections": collections, "bindVars": binds, "ast": [], "warnings": [] });
    match shown {
        Value::Object(shown) => Ok(Reply::object(200, shown)),
        _ => unreachable!("an object literal"),
    }
}

fn query_text(body: &Map<String, Value>) -> Result<&str> {
    body.get("query").and_then(Value::as_str).ok_or_else(|| Error::new(400, 1502, "query is empty"))
}

pub(super) fn explain(store: &mut Store, request: &Request) -> Result<Reply> {
    let body = request.object()?;
    let while_parsing = |error: Error| Error { message: format!("{} (while parsing)", error.message).into(), ..error };
    let parsed = parse_text(query_text(&body)?, Some(&bind_values(&body)?)).map_err(while_parsing)?;
    run::check(store, &request.database, &parsed.query)?;
    let (warnings, plan) = {
        let mut planner = Planner::new(store, &request.database);
        planner.plan(&parsed.query)?;
        (std::mem::take(&mut planner.warnings), planner.show(&parsed.query))
    };
    let mut shown = Map::new();
    if body.get("options").is_some_and(|options| options["allPlans"] == true) {
        shown.insert("plans".into(), json!([plan]));
    } else {
        shown.insert("plan".into(), plan);
        shown.insert("cacheable".into(), warnings.is_empty().into());
    }
    shown.insert("warnings".into(), warnings.into());
    let mut stats = json!({
        "rulesExecuted": 0,
        "rulesSkipped": 0,
        "plansCreated": 1,
        "peakMemoryUsage": 0,
        "executionTime": 0.0,
    });
    match store.version {
        Version::V3_11 => {}
        Version::V3_12 => stats["rules"] = json!({}),
    }
    shown.insert("stats".into(), stats);
    Ok(Reply::object(200, shown))
}

struct Planner<'a> {
    store: &'a Store,
    database: &'a str,
    nodes: Vec<Value>,
    rules: Vec<&'static str>,
    variables: Vec<Value>,
    warnings: Vec<Value>,
}

impl<'a> Planner<'a> {
    fn new(store: &'a Store, database: &'a str) -> Self {
        let mut planner =
            Self { store, database, nodes: Vec::new(), rules: Vec::new(), variables: Vec::new(), warnings: Vec::new() };
        planner.node("SingletonNode", json!({}));
        planner
    }

    /// One after the other: each depends on the one before.
    fn node(&mut self, kind: &str, more: Value) {
        let id = self.nodes.len() + 1;
        let dependencies: Vec<usize> = (1..id).next_back().into_iter().collect();
        let mut node = json!({
            "type": kind,
            "dependencies": dependencies,
            "id": id,
            "estimatedCost": id,
            "estimatedNrItems": 1,
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            node[name] = value.clone();
        }
        self.nodes.push(node);
    }

    fn variable(&mut self, name: &str) -> Value {
        let variable = json!({ "id": self.variables.len(), "name": name, "isFullDocumentFromCollection": false });
        self.variables.push(variable.clone());
        variable
    }

    fn calculation(&mut self, name: &str) {
        let variable = self.variable(name);
        self.node("CalculationNode", json!({ "outVariable": variable, "canThrow": false }));
    }

    fn plan(&mut self, query: &Query) -> Result<()> {
        let mut covered: Vec<*const Expr> = Vec::new();
        let mut is_sorted = false;
        let mut place = Place::Outermost;
        for (at, clause) in query.clauses.iter().enumerate() {
            match clause {
                Clause::For { variable, source: Source::Collection(name), hint } => {
                    let collection = self.store.collection(self.database, name)?;
                    let access = choose(collection, variable, hint.as_deref(), &query.clauses[at + 1..], place);
                    covered.extend(used(&access));
                    is_sorted = access.sorted.is_some();
                    self.loop_over(collection, variable, &access);
                    place = Place::Inner;
                }
                Clause::For { variable, .. } => {
                    self.calculation("list");
                    let variable = self.variable(variable);
                    self.node("EnumerateListNode", json!({ "outVariable": variable }));
                    place = Place::Inner;
                }
                Clause::Filter(condition) => self.filter(condition, &covered),
                Clause::Let { variable, .. } => self.calculation(variable),
                Clause::Sort(_) if std::mem::take(&mut is_sorted) => self.rules.push("use-index-for-sort"),
                Clause::Sort(terms) => self.node("SortNode", json!({ "elements": vec![json!({}); terms.len()] })),
                Clause::Limit { offset, count } => {
                    let number =
                        |value: &Expr| if let Expr::Value(value) = value { value.clone() } else { Value::Null };
                    let limit = json!({ "offset": number(offset), "limit": number(count), "fullCount": false });
                    self.node("LimitNode", limit);
                }
                Clause::Collect { .. } => self.node("CollectNode", json!({})),
                Clause::Modify(modify) => {
                    let kind = match modify.verb {
                        Verb::Insert => "InsertNode",
                        Verb::Update => "UpdateNode",
                        Verb::Replace => "ReplaceNode",
                        Verb::Remove => "RemoveNode",
                    };
                    self.node(kind, json!({ "collection": modify.collection }));
                }
                Clause::Return { value, .. } => {
                    if !matches!(value, Expr::Variable(_)) {
                        self.constant(value);
                        self.calculation("result");
                    }
                    self.node("ReturnNode", json!({ "count": true }));
                }
            }
        }
        Ok(())
    }

    /// A filter that the index has done already is gone; one that is never true leaves nothing.
    fn filter(&mut self, condition: &Expr, covered: &[*const Expr]) {
        let mut parts = Vec::new();
        conjunction(condition, &mut parts);
        let is_covered = |part: &&Expr| match part {
            Expr::Binary(_, left, right) => {
                [left, right].into_iter().any(|side| covered.contains(&std::ptr::from_ref(&**side)))
            }
            _ => false,
        };
        if parts.iter().all(is_covered) {
            self.rules.push("remove-filter-covered-by-index");
            return;
        }
        match self.constant(condition) {
            Some(true) => {}
            Some(false) => self.node("NoResultsNode", json!({})),
            None => {
                self.calculation("condition");
                self.node("FilterNode", json!({}));
            }
        }
    }

    /// What depends on nothing is computed at once, with its warnings.
    fn constant(&mut self, expression: &Expr) -> Option<bool> {
        let query = Query { clauses: vec![Clause::Return { value: expression.clone(), is_distinct: false }] };
        let (value, warnings) = run::constant(self.store, self.database, &query)?;
        self.warnings
            .extend(warnings.into_iter().map(|warning| json!({ "code": warning.code, "message": warning.message })));
        Some(crate::value::is_true(&value))
    }

    fn loop_over(&mut self, collection: &Collection, variable: &str, access: &Access<'_>) {
        let variable = self.variable(variable);
        let index = match &access.by {
            By::Scan => {
                let node = json!({ "outVariable": variable, "collection": collection.name, "random": false });
                self.node("EnumerateCollectionNode", node);
                return;
            }
            By::Key(_) | By::KeyOrder => primary(),
            By::Index { position, .. } => {
                let index = &collection.indexes[*position];
                let mut shown = index.show(&collection.name);
                shown.insert("id".into(), index.id.to_string().into());
                shown.into()
            }
        };
        self.rules.push("use-indexes");
        let node = json!({
            "outVariable": variable,
            "collection": collection.name,
            "indexes": [index],
            "strategy": "document",
            "condition": {},
            "sorted": true,
            "ascending": access.sorted != Some(Direction::Descending),
            "evalFCalls": true,
            "limit": 0,
            "isLateMaterialized": false,
        });
        self.node("IndexNode", node);
    }

    fn show(mut self, query: &Query) -> Value {
        self.rules.dedup();
        let collection = |kind: &'static str| move |name: &&str| json!({ "name": name, "type": kind });
        let written = query.written();
        let read = query.read();
        let only_read = read.iter().filter(|name| !written.contains(name));
        let collections: Vec<Value> =
            written.iter().map(collection("write")).chain(only_read.map(collection("read"))).collect();
        let mut plan = json!({
            "estimatedCost": self.nodes.len(),
            "nodes": self.nodes,
            "rules": self.rules,
            "estimatedNrItems": 1,
            "collections": collections,
            "variables": self.variables,
            "isModificationQuery": !written.is_empty(),
        });
        match self.store.version {
            Version::V3_11 => {}
            Version::V3_12 => plan["asyncPrefetchNodes"] = 0.into(),
        }
        plan
    }
}

fn conjunction<'q>(condition: &'q Expr, parts: &mut Vec<&'q Expr>) {
    match condition {
        Expr::Binary(crate::aql::ast::Operator::And, left, right) => {
            conjunction(left, parts);
            conjunction(right, parts);
        }
        other => parts.push(other),
    }
}

/// The values that the access looks up, told apart by where they stand.
fn used(access: &Access<'_>) -> Vec<*const Expr> {
    let value = |wanted: &Match<'_>| match wanted {
        Match::One(value) | Match::Any(value) => std::ptr::from_ref::<Expr>(value),
    };
    let bound = |bound: &Option<Bound<'_>>| bound.map(|bound| std::ptr::from_ref::<Expr>(bound.value));
    match &access.by {
        By::Scan | By::KeyOrder => Vec::new(),
        By::Key(key) => vec![value(key)],
        By::Index { equal, above, below, .. } => {
            equal.iter().map(value).chain(bound(above)).chain(bound(below)).collect()
        }
    }
}

fn primary() -> Value {
    json!({
        "id": "0",
        "type": "primary",
        "name": "primary",
        "fields": ["_key"],
        "selectivityEstimate": 1,
        "unique": true,
        "sparse": false,
    })
}
