//! Which index a query uses: by a table of filters, and for the statements of the log's own backend.

mod support;

use serde_json::{Value, json};
use support::Client;
use wal_arango_fake::Server;

async fn server(indexes: &[Value]) -> (Server, Client) {
    let server = Server::start().await;
    let client = Client::new(server.address());
    client.post("/_api/collection", json!({ "name": "c" }));
    for index in indexes {
        let made = client.post("/_api/index?collection=c", index.clone());
        assert_eq!(made.status, 201, "{}", made.body);
    }
    (server, client)
}

fn persistent(name: &str, fields: &[&str], sparse: bool) -> Value {
    json!({ "type": "persistent", "name": name, "fields": fields, "sparse": sparse, "estimates": false })
}

/// The index that a statement uses, and whether it is sorted afterwards.
fn plan(client: &Client, text: &str, binds: Value) -> (Option<String>, bool) {
    let nodes = client.plan(text, binds);
    let index = nodes.iter().find(|node| node["type"] == "IndexNode");
    let name = index.map(|node| node["indexes"][0]["name"].as_str().unwrap_or_default().to_owned());
    assert_eq!(name.is_none(), nodes.iter().any(|node| node["type"] == "EnumerateCollectionNode"));
    (name, nodes.iter().any(|node| node["type"] == "SortNode"))
}

#[tokio::test]
async fn an_index_serves_values_then_one_range_then_the_order() {
    let index = persistent("abk", &["a", "b.x", "_key"], false);
    let (_server, client) = server(&[index]).await;
    let table = [
        ("FILTER d.a == 1", Some("abk"), false),
        ("FILTER d.a == 1 && d.b.x > 1 && d.b.x <= 5 SORT d.a, d.b.x, d._key", Some("abk"), false),
        ("FILTER d.a == 1 && d.b.x > 1 SORT d.b.x, d._key", Some("abk"), false),
        ("FILTER d.a == 1 SORT d._key", Some("abk"), true),
        ("FILTER d.a > 1 SORT d.a", Some("abk"), false),
        ("FILTER d.a > 1 SORT d.b.x", Some("abk"), true),
        ("FILTER d.a IN [1, 2] SORT d.a, d.b.x", Some("abk"), true),
        ("FILTER d.a == 1 SORT d.b.x DESC", Some("abk"), false),
        ("FILTER d.a == 1 SORT d.b.x DESC, d._key ASC", Some("abk"), true),
        ("FILTER 5 < d.a", Some("abk"), false),
        ("SORT d.a, d.b.x", Some("abk"), false),
        ("SORT d.b.x", None, true),
        ("FILTER d.b.x == 1", None, false),
        ("FILTER d.a == d.b.x", None, false),
        ("FILTER d.a == 1 || d.b.x == 2", None, false),
        ("FILTER d._key == 'k' && d.a == 1", Some("primary"), false),
        ("FILTER d._key IN ['k'] SORT d.a", Some("primary"), true),
        ("SORT d._key", Some("primary"), false),
        ("LET z = d.a FILTER z == 4 SORT z", Some("abk"), false),
        ("FILTER [d.a, d._key] > [1, 'k'] SORT d.a, d.b.x, d._key", Some("abk"), false),
    ];
    for (clauses, index, is_sorted) in table {
        let found = plan(&client, &format!("FOR d IN c {clauses} RETURN d"), json!({}));
        assert_eq!(found, (index.map(str::to_owned), is_sorted), "{clauses}");
    }
}

/// Not if the condition covers a part of the fields only, and not if it holds for null: a document that the index does not have could be
/// missed.
#[tokio::test]
async fn a_sparse_index_serves_only_what_it_surely_holds() {
    let sparse = [persistent("one", &["a"], true), persistent("two", &["b", "c"], true)];
    let (_server, client) = server(&sparse).await;
    let table = [
        ("FILTER d.a == 1", Some("one"), false),
        ("FILTER d.a == null", None, false),
        ("FILTER d.a > null", Some("one"), false),
        ("FILTER d.a >= '' && d.a < 'x' SORT d.a", Some("one"), false),
        ("FILTER d.a < 'x'", None, false),
        ("FILTER d.a IN [1, null]", None, false),
        ("SORT d.a", None, true),
        ("FILTER d.a != null SORT d.a", Some("one"), false),
        ("FILTER d.b == 1", None, false),
        ("FILTER d.b >= ''", None, false),
        ("FILTER d.b == 1 && d.c > 2", Some("two"), false),
        ("FILTER d.b >= '' && d.c >= ''", None, false),
    ];
    for (clauses, index, is_sorted) in table {
        let found = plan(&client, &format!("FOR d IN c {clauses} RETURN d"), json!({}));
        assert_eq!(found, (index.map(str::to_owned), is_sorted), "{clauses}");
    }
    // What is only known row by row may be null.
    let joined = plan(&client, "FOR w IN [1, null] FOR d IN c FILTER d.a == w RETURN d", json!({}));
    assert_eq!(joined, (None, false));
}

#[tokio::test]
async fn the_narrowest_index_is_taken() {
    let indexes = [persistent("ns", &["ns", "at"], false), persistent("tenant", &["t", "ns", "at"], false)];
    let (_server, client) = server(&indexes).await;
    let of = |clauses: &str| plan(&client, &format!("FOR d IN c {clauses} RETURN d"), json!({}));
    let name = |name: &str| (Some(name.to_owned()), false);
    assert_eq!(of("FILTER d.ns == 'n' && d.at > 1 SORT d.ns, d.at"), name("ns"));
    assert_eq!(of("FILTER d.t == 't' && d.ns == 'n' && d.at > 1 SORT d.t, d.ns, d.at"), name("tenant"));
}

#[tokio::test]
async fn a_join_looks_up_and_a_removal_is_a_modification() {
    let (_server, client) = server(&[persistent("fin", &["finished_at", "_key"], false)]).await;
    let update = "FOR row IN @rows FOR d IN @@c FILTER d._key == row.key && d._rev == row.rev UPDATE d WITH row.standing IN @@c RETURN NEW._key";
    let nodes = client.plan(update, json!({ "@c": "c", "rows": [] }));
    let types: Vec<&str> = nodes.iter().filter_map(|node| node["type"].as_str()).collect();
    assert!(types.contains(&"IndexNode") && types.contains(&"UpdateNode"), "{types:?}");
    let page = "FOR d IN @@c FILTER d.finished_at >= '' && d.finished_at < @before SORT d.finished_at, d._key LIMIT @limit RETURN d";
    assert_eq!(plan(&client, page, json!({ "@c": "c", "before": "x", "limit": 5 })), (Some("fin".to_owned()), false));
}

/// Nothing is said of a key behind a range, so the condition does not cover all fields: the index may be as sparse as it likes, the pages
/// of the log are scans. Without `sparse` the same index serves.
#[tokio::test]
async fn a_sparse_index_that_ends_in_the_key_serves_no_page() {
    let pages = [
        "FILTER d.deadline >= '' && d.deadline < @to SORT d.deadline, d._key",
        "FILTER d.correlation_id == 'c' && d.timestamp >= '' && d.timestamp < @to SORT d.correlation_id, d.timestamp, d._key",
    ];
    for (sparse, index) in [(true, [None, None]), (false, [Some("by_deadline"), Some("by_correlation")])] {
        let by_deadline = persistent("by_deadline", &["deadline", "_key"], sparse);
        let by_correlation = persistent("by_correlation", &["correlation_id", "timestamp", "_key"], sparse);
        let (_server, client) = server(&[by_deadline, by_correlation]).await;
        for (page, index) in pages.into_iter().zip(index) {
            let text = format!("FOR d IN c {page} LIMIT 10 RETURN d");
            let found = plan(&client, &text, json!({ "to": "x" }));
            assert_eq!(found, (index.map(str::to_owned), index.is_none()), "{page} {sparse}");
        }
    }
}
