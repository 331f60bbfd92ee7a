//! What the database must have is planned, made, kept and checked: on the fake.

use std::time::Duration;

use serde_json::{Value, json};
use wal_arango_fake::Server;
use wal_store::arango::schema::{self, Difference};
use wal_store::arango::{ArangoStore, OpenError, Options};

fn options(server: &Server) -> Options {
    Options { replication_factor: 1, write_concern: 1, ..Options::new(vec![server.url()], "wal") }
}

/// Somebody else's hand on the database.
async fn meddle(server: &Server, method: http::Method, path: &str, body: Value) -> Value {
    let url = format!("{}/_db/wal/_api/{path}", server.url());
    let request = reqwest::Client::new().request(method, url).body(body.to_string());
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}");
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

async fn index_id(server: &Server, name: &str) -> String {
    let listed = meddle(server, http::Method::GET, "index?collection=wal_entries", Value::Null).await;
    let indexes = listed["indexes"].as_array().unwrap();
    let found = indexes.iter().find(|index| index["name"] == name).unwrap();
    found["id"].as_str().unwrap().to_owned()
}

async fn replace_index(server: &Server, name: &str, definition: Value) {
    let id = index_id(server, name).await;
    meddle(server, http::Method::DELETE, &format!("index/{id}"), Value::Null).await;
    meddle(server, http::Method::POST, "index?collection=wal_entries", definition).await;
}

#[tokio::test]
async fn what_is_made_is_told_and_not_made_again() {
    let server = Server::start().await;
    let options = options(&server);
    assert_eq!(schema::plan(&options).await.unwrap(), [Difference::NoDatabase { name: "wal".to_owned() }]);
    let made = schema::apply(&options).await.unwrap();
    let of = |is: fn(&Difference) -> bool| made.iter().filter(|difference| is(difference)).count();
    assert_eq!(of(|difference| matches!(difference, Difference::NoDatabase { .. })), 1);
    assert_eq!(of(|difference| matches!(difference, Difference::NoCollection { .. })), 2);
    assert_eq!(of(|difference| matches!(difference, Difference::NoIndex { .. })), 8);
    assert_eq!(made.len(), 11);
    assert_eq!(schema::plan(&options).await.unwrap(), []);
    assert_eq!(schema::apply(&options).await.unwrap(), []);
    schema::check(&options).await.unwrap();
}

#[tokio::test]
async fn nothing_opens_before_it_is_made_and_opening_makes_nothing() {
    let server = Server::start().await;
    let options = options(&server);
    let error = ArangoStore::open(&options).await.unwrap_err();
    assert!(error.to_string().contains("no database `wal`"), "{error}");
    schema::apply(&options).await.unwrap();
    ArangoStore::open(&options).await.unwrap();
    let id = index_id(&server, "by_deadline").await;
    meddle(&server, http::Method::DELETE, &format!("index/{id}"), Value::Null).await;
    let Err(OpenError::Schema(differences)) = ArangoStore::open(&options).await else { panic!("it opened") };
    assert_eq!(differences, [Difference::NoIndex { name: "by_deadline" }]);
    schema::apply(&options).await.unwrap();
    ArangoStore::open(&options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_may_make_it_at_once() {
    let server = Server::start().await;
    let options = options(&server);
    let making: Vec<_> = (0..4)
        .map(|_| {
            let options = options.clone();
            tokio::spawn(async move { schema::apply(&options).await.unwrap() })
        })
        .collect();
    for made in making {
        made.await.unwrap();
    }
    schema::check(&options).await.unwrap();
}

/// The database itself takes two indexes for one that differ in what it caches or stores beside the key.
#[tokio::test]
async fn an_index_that_differs_is_found_and_made_anew() {
    let server = Server::start().await;
    let options = options(&server);
    schema::apply(&options).await.unwrap();
    let fields = json!(["status", "timestamp", "_key"]);
    let (sparse, cached, stored) =
        (("sparse", json!(true)), ("cacheEnabled", json!(true)), ("storedValues", json!(["target"])));
    for (option, value) in [sparse, cached, stored] {
        for name in ["by_status_time", "somebodys"] {
            let mut definition = json!({ "type": "persistent", "fields": fields, "name": name, "estimates": false });
            definition[option] = value.clone();
            replace_index(&server, "by_status_time", definition).await;
            let differences = schema::plan(&options).await.unwrap();
            assert!(
                matches!(&differences[..], [Difference::Index { name: "by_status_time", found, .. }] if found.len() == 1),
                "{option} {name}: {differences:?}"
            );
            schema::apply(&options).await.unwrap();
            assert_eq!(schema::plan(&options).await.unwrap(), []);
        }
    }
}

#[tokio::test]
async fn another_retention_moves_the_safety_net() {
    let server = Server::start().await;
    schema::apply(&options(&server)).await.unwrap();
    let longer = Options { retention: Duration::from_secs(90 * 24 * 3600), ..options(&server) };
    let moved = schema::apply(&longer).await.unwrap();
    assert!(matches!(&moved[..], [Difference::Index { name: "ttl_finished", .. }]), "{moved:?}");
    schema::check(&longer).await.unwrap();
}

#[tokio::test]
async fn stores_with_other_prefixes_are_other_stores() {
    let server = Server::start().await;
    let (one, two) = (options(&server), Options { prefix: "other_".to_owned(), ..options(&server) });
    let mut ids = Vec::new();
    for options in [&one, &two, &one] {
        schema::apply(options).await.unwrap();
        ids.push(wal_store::EntryStore::id(&ArangoStore::open(options).await.unwrap()));
    }
    assert!(ids[0] == ids[2] && ids[0] != ids[1]);
}
