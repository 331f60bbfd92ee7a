//! The fake against what real servers answered (`recorded/`): each exchange again, in the state that its example implies. Status, fields,
//! types, error numbers, messages and headers must be the same; ids, keys nobody chose, revisions and times may differ.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Answer, Client};
use wal_arango_fake::{Server, Version};

/// What the fake does not claim, and why.
const OUT_OF_SCOPE: [(&str, &str); 15] = [
    ("RestAdminStatus", "recorded on a coordinator; the fake is a single server"),
    ("RestCollectionGetKeyGenerators", "only the two generators that the fake has are named"),
    ("RestCursorProfileQuery", "profiles are not modelled"),
    ("RestExplainOptimizerRules", "rules of the optimiser beside the choice of an index are not modelled"),
    ("RestExplainOptions", "rules of the optimiser beside the choice of an index are not modelled"),
    ("RestIndexCreateNewZkd", "multi-dimensional indexes are refused"),
    ("RestQueryValid", "the syntax tree is not shown"),
    ("RestTransactionAbortInternal", "no transactions over several requests, no JavaScript"),
    ("RestTransactionBeginCommit", "no transactions over several requests"),
    ("RestTransactionBeginNonExisting", "no transactions over several requests"),
    ("RestTransactionBeginSingle", "no transactions over several requests"),
    ("RestTransactionGet", "no transactions over several requests"),
    ("RestTransactionMulti", "no JavaScript"),
    ("RestTransactionSingle", "no JavaScript"),
    ("RestTransactionsGet", "no transactions over several requests"),
];

/// Whose body shows less than the real one's: what a build was made of is left out.
const SHORTER: &str = "RestVersionDetails";

/// Whose values are the server's own.
const VARYING: [&str; 23] = [
    "id",
    "_id",
    "_key",
    "_rev",
    "_oldRev",
    "name",
    "objectId",
    "globallyUniqueId",
    "lastValue",
    "revision",
    "version",
    "license",
    "executionTime",
    "peakMemoryUsage",
    "cursorsCreated",
    "documentLookups",
    // A full scan is a scan of the primary index where keys are enough.
    "scannedFull",
    "scannedIndex",
    "estimatedCost",
    "estimatedNrItems",
    "rulesExecuted",
    "selectivityEstimate",
    "asyncPrefetchNodes",
];

/// Messages that tell more than the fake knows, beginning alike.
const LONGER_MESSAGES: [&str; 2] = ["RestCursorDeleteQueryFail", "RestCursorMemoryLimit"];

struct Example {
    name: String,
    value: Value,
}

impl Example {
    fn text(&self, field: &str) -> &str {
        self.value[field].as_str().unwrap_or_default()
    }

    /// The steps of one example share a server.
    fn group(&self) -> &str {
        self.name.split('#').next().unwrap_or_default()
    }

    fn body(&self) -> String {
        match &self.value["body"] {
            Value::Null => String::new(),
            body => body["__text"].as_str().map_or_else(|| body.to_string(), str::to_owned),
        }
    }
}

fn examples(version: &str) -> Vec<Example> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded").join(format!("{version}.jsonl"));
    let text = fs::read_to_string(path).expect("the recorded exchanges are there");
    let example = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("a recorded exchange is JSON");
        Example { name: value["name"].as_str().expect("it has a name").to_owned(), value }
    };
    text.lines().map(example).collect()
}

#[tokio::test]
async fn answers_like_a_real_3_11() {
    replay(Version::V3_11, "3.11").await;
}

#[tokio::test]
async fn answers_like_a_real_3_12() {
    replay(Version::V3_12, "3.12").await;
}

async fn replay(version: Version, recorded: &str) {
    let examples = examples(recorded);
    let mut differences = Vec::new();
    let mut replayed = 0;
    for group in examples.chunk_by(|left, right| left.group() == right.group()) {
        if OUT_OF_SCOPE.iter().any(|(name, _)| *name == group[0].group()) {
            continue;
        }
        let server = Server::builder().version(version).start().await.expect("a free port");
        let mut names = given(&Client::new(server.address()), &group[0]);
        for example in group {
            let answer = ask(&server, example, &names);
            if let (Some(real), Some(fake)) = (example.value["reply"]["id"].as_str(), answer.body["id"].as_str()) {
                names.push((real.to_owned(), fake.to_owned()));
            }
            let found = compare(example, &answer);
            differences.extend(found.into_iter().map(|difference| format!("{}: {difference}", example.name)));
            replayed += 1;
        }
    }
    assert!(differences.is_empty(), "{recorded}:\n{}", differences.join("\n"));
    assert!(replayed >= 75, "only {replayed} exchanges were replayed");
}

/// Nothing that is out of scope is answered as if it were not.
#[tokio::test]
async fn what_is_out_of_scope_is_refused_or_named() {
    let all: Vec<Example> = examples("3.11").into_iter().chain(examples("3.12")).collect();
    let server = Server::start().await;
    for (name, reason) in OUT_OF_SCOPE {
        let example = all.iter().find(|example| example.name == name);
        let example = example.unwrap_or_else(|| panic!("{name} ({reason}) was never recorded"));
        let is_transaction = name.starts_with("RestTransaction");
        if is_transaction || name == "RestIndexCreateNewZkd" {
            assert_eq!(ask(&server, example, &[]).status, 501, "{name}");
        }
    }
}

fn ask(server: &Server, example: &Example, names: &[(String, String)]) -> Answer {
    let translate = |text: &str| names.iter().fold(text.to_owned(), |text, (real, fake)| text.replace(real, fake));
    let mut client = Client::new(server.address());
    for (name, value) in example.value["headers"].as_object().into_iter().flatten() {
        client.headers.push((name.clone(), translate(value.as_str().unwrap_or_default())));
    }
    client.send(example.text("method"), &translate(example.text("path")), &translate(&example.body()))
}

/// Makes the state an example starts from. Returns what the real server called by names that the fake could not choose.
fn given(client: &Client, example: &Example) -> Vec<(String, String)> {
    let group = example.group();
    let path = example.text("path");
    let last = path.split(['/', '?']).rfind(|part| !part.contains('=')).unwrap_or_default().to_owned();
    let create = |body: Value| client.post("/_api/collection", body).body["id"].as_str().unwrap_or_default().to_owned();
    let document = |body: Value| client.post("/_api/document/products", body).body;
    match group {
        "RestCollectionDeleteCollectionSystem" => {
            create(json!({ "name": "_example", "isSystem": true }));
        }
        "RestCollectionDeleteCollectionIdentifier" => return vec![(last, create(json!({ "name": "products1" })))],
        "RestCollectionDeleteCollectionName" | "RestCollectionIdentifierRename" => {
            create(json!({ "name": "products1" }));
        }
        "RestCollectionGetCollectionCount" => {
            create(json!({ "name": "products", "waitForSync": true }));
            document(vec![json!({}); 100].into());
        }
        "RestDatabaseDrop" => drop(client.post("/_api/database", json!({ "name": "example" }))),
        "RestCursorModifyArray" => {
            create(json!({ "name": "documents" }));
            client.post("/_api/document/documents", json!({ "_key": "test", "arr": [1, 2, 3] }));
        }
        "RestCursorCreateCursorUnknownCollection" | "RestImportJsonInvalidCollection" | "RestDatabaseCreate" => {}
        "RestIndexCreateNewTtlIndex" => drop(create(json!({ "name": "sessions" }))),
        _ if group.starts_with("RestCollectionCreate") => {}
        _ => {
            // Deletions are answered 200 only where the collection waits for the sync.
            create(json!({ "name": "products", "waitForSync": group.contains("Delete") && group.ends_with("Multi") }));
        }
    }
    let rows = ["hello1", "hello2", "hello3", "hello4", "hello5"].map(|name| json!({ name: "world1" }));
    match group {
        "RestCursorCreateCursorForLimitReturnSingle" | "RestCursorCreateCursorForLimitReturn" | "RestCursorDelete" => {
            document(json!(rows));
        }
        "RestCursorDeleteQuery" => drop(document(json!(rows[..2]))),
        "RestCursorDeleteIgnore" => drop(document(json!({ "_key": "foo" }))),
        "RestDocumentHandlerDeleteDocumentUnknownMulti"
        | "RestDocumentHandlerReadDocumentUnknownHandle"
        | "RestDocumentHandlerDeleteDocumentUnknownHandle"
        | "RestDocumentHandlerUpdateDocumentUnknownHandle" => {}
        "RestDocumentHandlerReadMultiDocument" => {
            document(json!([{ "_key": "doc1", "hello": "world" }, { "_key": "doc2", "say": "hi to mom" }]));
        }
        "RestDocumentHandlerDeleteDocumentRevMulti" => {
            let made = document(json!([{ "_key": "1" }, { "_key": "2" }]));
            let real = |at: usize| example.value["body"][at]["_rev"].as_str().unwrap_or_default().to_owned();
            let fake = |at: usize| made[at]["_rev"].as_str().unwrap_or_default().to_owned();
            return vec![(real(0), fake(0)), (real(1), fake(1))];
        }
        "RestDocumentHandlerReadDocumentIfNoneMatch" => {
            let made = document(json!({ "_key": last, "hello": "world" }));
            let real = example.value["headers"]["If-None-Match"].as_str().unwrap_or_default().replace('"', "");
            return vec![(real, made["_rev"].as_str().unwrap_or_default().to_owned())];
        }
        "RestDocumentHandlerPatchDocument" => drop(document(json!({ "_key": last, "one": "world" }))),
        _ if group.starts_with("RestDocumentHandlerDelete") => {
            drop(document(json!([{ "_key": "1" }, { "_key": "2" }])))
        }
        _ if path.starts_with("/_api/document/products/") => drop(document(json!({ "_key": last, "hello": "world" }))),
        "RestIndexAllIndexes" => {
            client.post("/_api/index?collection=products", json!({ "type": "persistent", "fields": ["name"] }));
            let sparse = json!({ "type": "persistent", "fields": ["price"], "sparse": true });
            client.post("/_api/index?collection=products", sparse);
        }
        "RestIndexDeleteUniquePersistent" => {
            let unique = json!({ "type": "persistent", "fields": ["a"], "unique": true });
            let made = client.post("/_api/index?collection=products", unique).body;
            let id = made["id"].as_str().unwrap_or_default().replace("products/", "");
            return vec![(last, id)];
        }
        "RestExplainAllPlans" => {
            client.post("/_api/index?collection=products", json!({ "type": "persistent", "fields": ["id"] }));
        }
        _ => {}
    }
    Vec::new()
}

fn compare(example: &Example, answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    if example.value["status"] != answer.status {
        found.push(format!("status {} is {}: {}", example.value["status"], answer.status, answer.body));
    }
    for (name, value) in example.value["reply_headers"].as_object().into_iter().flatten() {
        let is_exact = matches!(&**name, "content-type" | "x-arango-error-codes" | "location");
        match answer.header(name) {
            None => found.push(format!("no header {name}")),
            // A generated key is part of a document's location.
            Some(_) if name == "location" && example.text("method") == "POST" => {}
            Some(fake) if is_exact && value != fake => found.push(format!("header {name}: {value} is {fake}")),
            Some(_) => {}
        }
    }
    if example.name != SHORTER {
        same(&example.name, "", &example.value["reply"], &answer.body, &mut found);
    }
    found
}

fn same(name: &str, path: &str, real: &Value, fake: &Value, found: &mut Vec<String>) {
    let field = path.rsplit('.').next().unwrap_or_default();
    match (real, fake) {
        (Value::Array(real), Value::Array(fake)) if name.starts_with("RestExplain") && field == "nodes" => {
            let (real, fake) = (types(real), types(fake));
            if real != fake {
                found.push(format!("{path}: {real:?} is {fake:?}"));
            }
        }
        (Value::Array(_), Value::Array(_)) if matches!(field, "rules" | "variables") => {}
        // Which system collections there are differs by what a server has been used for.
        (Value::Array(real), Value::Array(fake)) if name == "RestCollectionGetAllCollections" => {
            for (at, element) in fake.iter().enumerate() {
                keys(&format!("{path}[{at}]"), &real[0], element, found);
            }
        }
        (Value::Array(real), Value::Array(fake)) => {
            if real.len() != fake.len() {
                found.push(format!("{path}: {} elements are {}", real.len(), fake.len()));
            }
            for (at, (real, fake)) in real.iter().zip(fake).enumerate() {
                same(name, &format!("{path}[{at}]"), real, fake, found);
            }
        }
        (Value::Object(real), Value::Object(fake)) if field == "identifiers" => {
            let values = |object: &serde_json::Map<String, Value>| Value::from_iter(object.values().cloned());
            same(name, path, &values(real), &values(fake), found);
        }
        (Value::Object(members), Value::Object(_)) => {
            keys(path, real, fake, found);
            for (member, value) in members {
                same(name, &format!("{path}.{member}"), value, &fake[member], found);
            }
        }
        (Value::String(real), Value::String(fake)) if field == "errorMessage" && LONGER_MESSAGES.contains(&name) => {
            let start = fake.trim_end_matches("(while executing)");
            if !real.starts_with(start) {
                found.push(format!("{path}: {real} is {fake}"));
            }
        }
        _ if std::mem::discriminant(real) != std::mem::discriminant(fake) => {
            found.push(format!("{path}: {real} is {fake}"));
        }
        _ if VARYING.contains(&field) || path.starts_with(".stats.") => {}
        _ if real != fake => found.push(format!("{path}: {real} is {fake}")),
        _ => {}
    }
}

fn keys(path: &str, real: &Value, fake: &Value, found: &mut Vec<String>) {
    let names = |value: &Value| -> BTreeSet<String> {
        value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    let (real, fake) = (names(real), names(fake));
    if real != fake {
        let missing: Vec<_> = real.difference(&fake).collect();
        let surplus: Vec<_> = fake.difference(&real).collect();
        found.push(format!("{path}: without {missing:?}, with {surplus:?}"));
    }
}

/// Nodes are compared by these only: expression trees and projections are not modelled, and where a calculation stands is the optimiser's
/// choice.
fn types(nodes: &[Value]) -> Vec<&str> {
    let mut types: Vec<&str> = nodes.iter().filter_map(|node| node["type"].as_str()).collect();
    types.sort_unstable();
    types
}
