//! Whether the database means to use the indexes as we mean it to.

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Repeat;
use super::connection::{Connection, read};
use super::fault::Fault;
use super::schema::Difference;
use super::statements::{self, ServedBy, Statement};

/// With fewer documents than this all plans cost nothing, and which one the optimiser takes means nothing.
const TELLING: u64 = 1000;

#[derive(Deserialize)]
pub(super) struct Explained {
    plan: Plan,
}

#[derive(Deserialize)]
struct Plan {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    indexes: Vec<Used>,
}

#[derive(Deserialize)]
struct Used {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    fields: Vec<Value>,
}

/// The statements that are not served by their index.
pub(super) async fn unserved(connection: &Connection, collection: &str) -> Result<Vec<Difference>, Fault> {
    let mut unserved = Vec::new();
    for question in statements::samples() {
        let mut bound = question.bound;
        bound.insert("@entries".to_owned(), Value::from(collection));
        let body = json!({ "query": question.statement.text, "bindVars": bound });
        let answer = connection.post("_api/explain", body.to_string(), Repeat::Harmless).await?;
        let Explained { plan } = read(&answer)?;
        let Some(why) = verdict(question.statement, &plan) else { continue };
        unserved.push(Difference::Unserved { statement: question.statement.name, why });
    }
    if unserved.is_empty() || count(connection, collection).await? < TELLING {
        return Ok(Vec::new());
    }
    Ok(unserved)
}

async fn count(connection: &Connection, collection: &str) -> Result<u64, Fault> {
    #[derive(Deserialize)]
    struct Count {
        count: u64,
    }
    let answer = connection.get(&format!("_api/collection/{collection}/count")).await?;
    Ok(read::<Count>(&answer)?.count)
}

/// What is wrong with a plan.
fn verdict(statement: &Statement, plan: &Plan) -> Option<String> {
    let has = |kind: &str| plan.nodes.iter().any(|node| node.kind == kind);
    if has("EnumerateCollectionNode") {
        return Some("reads the whole collection".to_owned());
    }
    if has("SortNode") {
        return Some("sorts what it finds".to_owned());
    }
    let is_served = |used: &Used| match statement.served_by {
        ServedBy::Primary => used.kind == "primary",
        ServedBy::Index(index) => {
            used.kind == "persistent"
                && used.fields.len() == index.fields.len()
                && used.fields.iter().zip(index.fields).all(|(used, wanted)| used == wanted)
        }
    };
    let used: Vec<&Used> = plan.nodes.iter().flat_map(|node| &node.indexes).collect();
    if used.iter().any(|used| is_served(used)) {
        return None;
    }
    let used: Vec<String> = used.iter().map(|used| Value::from(used.fields.clone()).to_string()).collect();
    Some(format!("is served by {}", if used.is_empty() { "no index".to_owned() } else { used.join(", ") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(nodes: Value) -> Plan {
        serde_json::from_value(json!({ "nodes": nodes })).unwrap()
    }

    #[test]
    fn a_plan_is_right_only_with_the_index_and_without_a_sort() {
        let samples = statements::samples();
        let namespace = samples[0].statement;
        let ours = json!({ "type": "IndexNode", "indexes": [
            { "type": "persistent", "name": "idx_1", "fields": ["namespace", "timestamp", "_key"] } ] });
        let other = json!({ "type": "IndexNode", "indexes": [{ "type": "persistent", "fields": ["namespace"] }] });
        let (start, limit) = (json!({ "type": "SingletonNode" }), json!({ "type": "LimitNode" }));
        let verdict = |nodes: &[&Value]| verdict(namespace, &plan(json!(nodes)));
        assert_eq!(verdict(&[&start, &ours, &limit]), None);
        assert!(verdict(&[&start, &other]).unwrap().contains("[\"namespace\"]"));
        assert!(verdict(&[&start]).unwrap().contains("no index"));
        assert!(verdict(&[&start, &ours, &json!({ "type": "SortNode" })]).unwrap().contains("sorts"));
        let all = json!({ "type": "EnumerateCollectionNode" });
        assert!(verdict(&[&start, &all]).unwrap().contains("whole"));
    }
}
