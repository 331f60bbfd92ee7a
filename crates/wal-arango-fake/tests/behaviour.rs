//! What the recorded exchanges do not show: rules, failures on demand, and what a loss of power takes.

mod support;

use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value, json};
use support::{Answer, Client};
use wal_arango_fake::{Action, Elements, Fault, Refusal, Server, Version};

/// A server with an empty collection `c`.
async fn server() -> (Server, Client) {
    let server = Server::start().await;
    let client = Client::new(server.address());
    assert_eq!(client.post("/_api/collection", json!({ "name": "c" })).status, 200);
    (server, client)
}

fn insert(client: &Client, query: &str, documents: Value) -> Answer {
    client.post(&format!("/_api/document/c?{query}"), documents)
}

fn keys(server: &Server) -> Vec<String> {
    server.documents("_system", "c").into_keys().collect()
}

#[tokio::test]
async fn an_array_keeps_what_is_good_and_tells_what_is_not() {
    let (server, client) = server().await;
    let answer =
        insert(&client, "waitForSync=true", json!([{ "_key": "a" }, { "_key": "a" }, { "_key": "b/c" }, 5, {}]));
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("x-arango-error-codes"), Some(r#"{"1210":1,"1221":1,"1227":1}"#));
    let errors: Vec<Option<u64>> =
        answer.body.as_array().unwrap().iter().map(|element| element["errorNum"].as_u64()).collect();
    assert_eq!(errors, [None, Some(1210), Some(1221), Some(1227), None]);
    assert_eq!(keys(&server).len(), 2);

    // 201 also if everything failed.
    assert_eq!(insert(&client, "waitForSync=true", json!([{ "_key": "a" }])).status, 201);
    assert_eq!(insert(&client, "", json!([{ "_key": "a" }])).status, 202);
    // Alone it is an error of its own.
    let alone = insert(&client, "", json!({ "_key": "a" }));
    assert_eq!((alone.status, alone.num()), (409, 1210));
}

#[tokio::test]
async fn an_ignored_duplicate_shows_what_is_stored() {
    let (_server, client) = server().await;
    let stored = insert(&client, "", json!({ "_key": "a", "x": 1 })).body;
    let again =
        insert(&client, "overwriteMode=ignore&returnNew=true", json!([{ "_key": "a", "x": 2 }, { "_key": "b" }]));
    assert_eq!(again.body[0], stored);
    assert_eq!(again.body[1]["new"]["_key"], "b");
    let replaced = insert(&client, "overwriteMode=replace&returnOld=true", json!({ "_key": "a", "y": 1 })).body;
    assert_eq!((&replaced["_oldRev"], &replaced["old"]["x"]), (&stored["_rev"], &json!(1)));
    let updated = insert(&client, "overwriteMode=update&returnNew=true", json!({ "_key": "a", "z": 1 })).body;
    assert_eq!((&updated["new"]["y"], &updated["new"]["z"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn a_silent_array_tells_only_what_failed() {
    let (_server, client) = server().await;
    let answer = insert(&client, "silent=true", json!([{ "_key": "a" }, { "_key": "a" }]));
    assert_eq!(answer.body.as_array().map(Vec::len), Some(1));
    assert_eq!(answer.header("x-arango-error-codes"), Some(r#"{"1210":1}"#));
    assert_eq!(insert(&client, "silent=true", json!({})).body, json!({}));
}

#[tokio::test]
async fn a_patch_of_nothing_writes_nothing() {
    let (server, client) = server().await;
    let made = insert(&client, "waitForSync=true", json!({ "_key": "a", "x": { "y": 1 } })).body;
    let touched = client.send("PATCH", "/_api/document/c/a", "{}").body;
    assert_eq!(touched["_rev"], made["_rev"]);
    assert_eq!(server.unsynced(), 0);
    let changed = client.send("PATCH", "/_api/document/c/a?mergeObjects=false&returnNew=true", r#"{"x":{"z":1}}"#).body;
    assert_ne!(changed["_rev"], made["_rev"]);
    assert_eq!(changed["new"]["x"], json!({ "z": 1 }));
}

#[tokio::test]
async fn only_3_12_knows_the_version_attribute() {
    for (version, x) in [(Version::V3_11, 2), (Version::V3_12, 1)] {
        let server = Server::builder().version(version).start().await.unwrap();
        let client = Client::new(server.address());
        client.post("/_api/collection", json!({ "name": "c" }));
        insert(&client, "", json!({ "_key": "a", "seq": 5, "x": 1 }));
        client.send("PATCH", "/_api/document/c?versionAttribute=seq", r#"[{"_key":"a","seq":4,"x":2}]"#);
        assert_eq!(server.documents("_system", "c")["a"]["x"], x, "{version:?}");
    }
}

#[tokio::test]
async fn a_revision_guards_one_document_with_412_and_an_element_with_1200() {
    let (_server, client) = server().await;
    let rev = insert(&client, "", json!({ "_key": "a" })).body["_rev"].clone();
    let guarded = Client::with_header(client.address, "if-match", "\"_zzz\"");
    let refused = guarded.send("DELETE", "/_api/document/c/a", "");
    assert_eq!((refused.status, refused.num(), &refused.body["_rev"]), (412, 1200, &rev));
    let stale = json!([{ "_key": "a", "_rev": "_zzz", "x": 1 }]).to_string();
    let element = client.send("PATCH", "/_api/document/c?ignoreRevs=false", &stale);
    assert_eq!((element.status, &element.body[0]["errorNum"]), (202, &json!(1200)));
    let fresh = json!([{ "_key": "a", "_rev": rev, "x": 1 }]).to_string();
    assert!(client.send("PATCH", "/_api/document/c?ignoreRevs=false", &fresh).body[0].get("_oldRev").is_some());
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let (_server, client) = server().await;
    let answers = [
        (client.get("/_api/document/c/x"), 404, 1202),
        (client.get("/_api/document/none/x"), 404, 1203),
        (client.get("/_db/none/_api/version"), 404, 1228),
        (client.post("/_api/document/c", json!("x")), 400, 1227),
        (client.send("POST", "/_api/document/c", "[{]"), 400, 600),
        (client.post("/_api/collection", json!({ "name": "c" })), 409, 1207),
        (client.get("/_api/index/c/77"), 404, 1212),
        (client.get("/_api/gharial"), 501, 9),
    ];
    for (answer, status, num) in answers {
        assert_eq!((answer.status, answer.num()), (status, num), "{}", answer.body);
    }
    let many = client.send("PUT", "/_api/document/c?onlyget=true", r#"["x"]"#);
    assert_eq!((many.status, many.header("x-arango-error-codes")), (200, Some(r#"{"1202":1}"#)));
}

#[tokio::test]
async fn a_location_can_be_followed() {
    let (_server, client) = server().await;
    let made = insert(&client, "", json!({ "_key": "a%:b" }));
    assert_eq!(client.get(made.header("location").unwrap()).body["_key"], "a%:b");
}

#[tokio::test]
async fn a_server_says_what_it_is() {
    let (_server, client) = server().await;
    assert_eq!(client.get("/_admin/server/role").body["role"], "SINGLE");
    assert_eq!(client.get("/_admin/server/availability").body["mode"], "default");
    assert_eq!(client.get("/_admin/status").body["serverInfo"]["readOnly"], false);
    assert_eq!(client.get("/_admin/license").body["diskUsage"]["status"], "good");
    assert_eq!(client.get("/_api/version?details=true").body["details"]["role"], "SINGLE");
}

#[tokio::test]
async fn a_database_is_a_world_of_its_own() {
    let (server, client) = server().await;
    assert_eq!(client.post("/_api/database", json!({ "name": "other" })).status, 201);
    assert_eq!(client.post("/_api/database", json!({ "name": "other" })).num(), 1207);
    assert_eq!(client.get("/_db/other/_api/collection/c").num(), 1203);
    assert_eq!(client.get("/_db/other/_api/database/current").body["result"]["name"], "other");
    assert_eq!(client.get("/_db/other/_api/database").status, 403);
    assert_eq!(client.get("/_api/database").body["result"], json!(["_system", "other"]));
    assert_eq!(client.get("/_api/user/root/database").body["result"], json!({ "_system": "rw", "other": "rw" }));
    assert!(server.documents("other", "c").is_empty());
}

#[tokio::test]
async fn an_index_with_other_stored_values_is_the_old_one() {
    let (_server, client) = server().await;
    let ensure = |body: Value| client.post("/_api/index?collection=c", body);
    let index = json!({ "type": "persistent", "fields": ["a", "b.c"], "name": "by_a", "estimates": false });
    let made = ensure(index);
    assert_eq!((made.status, &made.body["isNewlyCreated"]), (201, &json!(true)));
    assert!(made.body.get("selectivityEstimate").is_none());
    let other = json!({ "type": "persistent", "fields": ["a", "b.c"], "storedValues": ["d"], "cacheEnabled": true });
    let same = ensure(other);
    assert_eq!((same.status, &same.body["id"], &same.body["name"]), (200, &made.body["id"], &json!("by_a")));
    assert!(same.body.get("storedValues").is_none());
    let sparse = ensure(json!({ "type": "persistent", "fields": ["a", "b.c"], "sparse": true }));
    assert_eq!(sparse.status, 201);

    assert_eq!(ensure(json!({ "type": "persistent", "fields": ["x"], "name": "by_a" })).status, 409);
    assert_eq!(ensure(json!({ "type": "persistent", "fields": ["_id"] })).status, 400);
    assert_eq!(ensure(json!({ "type": "ttl", "fields": ["t"], "expireAfter": 60 })).status, 201);
    assert_eq!(ensure(json!({ "type": "ttl", "fields": ["u"], "expireAfter": 60 })).status, 400);
    assert_eq!(ensure(json!({ "type": "inverted", "fields": ["t"] })).status, 501);
}

#[tokio::test]
async fn a_unique_index_refuses_the_second() {
    let (_server, client) = server().await;
    let unique = json!({ "type": "persistent", "fields": ["a"], "unique": true, "name": "one_a" });
    client.post("/_api/index?collection=c", unique.clone());
    insert(&client, "", json!({ "_key": "x", "a": 1 }));
    let second = insert(&client, "", json!({ "_key": "y", "a": 1 }));
    assert_eq!((second.status, second.num()), (409, 1210));
    let message = second.body["errorMessage"].as_str().unwrap_or_default();
    assert!(message.contains("in index one_a of type persistent over 'a'; conflicting key: x"), "{message}");
    // Itself is no rival.
    assert_eq!(client.send("PATCH", "/_api/document/c/x", r#"{"a":1,"b":2}"#).status, 202);
    // A unique index over what is not unique is not made.
    client.send("DELETE", "/_api/index/c/one_a", "");
    insert(&client, "", json!({ "_key": "y", "a": 1 }));
    assert_eq!(client.post("/_api/index?collection=c", unique).num(), 1210);
}

#[tokio::test]
async fn what_is_expired_goes_when_asked_and_never_early() {
    let (server, client) = server().await;
    client.post("/_api/index?collection=c", json!({ "type": "ttl", "fields": ["t"], "expireAfter": 10 }));
    let date = json!({ "_key": "date", "t": "1970-01-01T00:01:40Z" });
    insert(
        &client,
        "",
        json!([{ "_key": "number", "t": 100 }, date, { "_key": "text", "t": "soon" }, { "_key": "none" }]),
    );
    assert_eq!(server.run_ttl(UNIX_EPOCH + Duration::from_millis(109_999)), 0);
    assert_eq!(server.run_ttl(UNIX_EPOCH + Duration::from_secs(110)), 2);
    assert_eq!(keys(&server), ["none", "text"]);
}

#[tokio::test]
async fn batches_can_be_fetched_again_only_with_allow_retry() {
    let (server, client) = server().await;
    let query = |options: Value| {
        let body = json!({ "query": "FOR i IN 1..5 RETURN i", "batchSize": 2, "options": options });
        client.post("/_api/cursor", body).body
    };
    let cursor = |body: &Value| format!("/_api/cursor/{}", body["id"].as_str().unwrap_or_default());
    let post = |path: &str| client.send("POST", path, "");

    let plain = cursor(&query(json!({})));
    assert_eq!(post(&format!("{plain}/2")).body["result"], json!([3, 4]));
    assert_eq!(post(&format!("{plain}/2")).num(), 1600);
    assert_eq!(client.send("PUT", &plain, "").body["result"], json!([5]));
    assert_eq!(client.send("DELETE", &plain, "").num(), 1600, "the last batch ends it");

    let retried = cursor(&query(json!({ "allowRetry": true })));
    post(&retried);
    let last = post(&format!("{retried}/3")).body;
    assert_eq!((&last["result"], &last["hasMore"]), (&json!([5]), &json!(false)));
    assert_eq!(post(&format!("{retried}/3")).body, last, "a lost reply loses nothing");
    assert_eq!(client.send("DELETE", &retried, "").status, 202);

    let expired = cursor(&query(json!({})));
    server.expire_cursors();
    assert_eq!(post(&expired).num(), 1600);
}

#[tokio::test]
async fn a_stream_tells_its_numbers_at_its_end() {
    let (_server, client) = server().await;
    let query = "FOR i IN 1..3 RETURN i / 0";
    let body = json!({ "query": query, "batchSize": 2, "count": true, "options": { "stream": true } });
    let first = client.post("/_api/cursor", body).body;
    assert!(first.get("extra").is_none() && first.get("count").is_none());
    let next = format!("/_api/cursor/{}", first["id"].as_str().unwrap_or_default());
    let last = client.send("POST", &next, "").body;
    assert_eq!(last["extra"]["warnings"][0]["code"], 1562);
}

#[tokio::test]
async fn a_query_that_fails_changes_nothing() {
    let (server, client) = server().await;
    insert(&client, "waitForSync=true", json!({ "_key": "b" }));
    let failed = client.try_query("FOR k IN ['a', 'b'] INSERT { _key: k } INTO c", json!({}));
    assert_eq!((failed.status, failed.num()), (409, 1210));
    assert_eq!(keys(&server), ["b"]);
    assert_eq!(server.unsynced(), 0);
}

#[tokio::test]
async fn an_option_with_a_typo_is_a_warning_or_an_error() {
    let (_server, client) = server().await;
    let query = "INSERT { _key: @key } INTO c OPTIONS { waitForSink: true }";
    let ask = |key: &str, fails: bool| {
        let options = json!({ "failOnWarning": fails });
        client.post("/_api/cursor", json!({ "query": query, "bindVars": { "key": key }, "options": options }))
    };
    assert_eq!(ask("a", false).body["extra"]["warnings"][0]["code"], 1539);
    assert_eq!((ask("b", true).status, ask("b", true).num()), (400, 1539));
}

#[tokio::test]
async fn what_was_not_synced_is_lost_with_the_power() {
    let (server, client) = server().await;
    insert(&client, "waitForSync=true", json!({ "_key": "synced" }));
    insert(&client, "", json!([{ "_key": "a" }, { "_key": "b" }]));
    client.send("PATCH", "/_api/document/c/synced", r#"{"x":1}"#);
    assert_eq!(server.unsynced(), 3);
    assert_eq!(server.power_loss(), 3);
    assert_eq!(keys(&server), ["synced"]);
    assert!(server.documents("_system", "c")["synced"].get("x").is_none());
}

/// The hole that a client's fence closes.
#[tokio::test]
async fn a_duplicate_syncs_nothing_and_a_real_write_syncs_everything() {
    for (mode, fence, kept) in [
        ("conflict", false, vec![]),
        ("ignore", false, vec![]),
        ("conflict", true, vec!["a", "fence"]),
        ("ignore", true, vec!["a", "fence"]),
    ] {
        let (server, client) = server().await;
        server.fail(Fault::on("POST", "/_api/document/c", Action::DropUnsynced));
        let query = format!("waitForSync=true&overwriteMode={mode}");
        let path = format!("/_api/document/c?{query}");
        assert!(client.try_send("POST", &path, r#"[{"_key":"a"}]"#).is_err());
        // The retry meets the commit of the first attempt.
        assert_eq!(insert(&client, &query, json!([{ "_key": "a" }])).status, 201);
        if fence {
            insert(&client, "waitForSync=true", json!({ "_key": "fence" }));
        }
        server.power_loss();
        assert_eq!(keys(&server), kept, "{mode} {fence}");
    }
}

#[tokio::test]
async fn a_collection_that_waits_makes_every_write_wait() {
    let (server, client) = server().await;
    client.send("PUT", "/_api/collection/c/properties", r#"{"waitForSync":true}"#);
    assert_eq!(insert(&client, "waitForSync=false", json!({ "_key": "a" })).status, 201);
    assert_eq!(server.power_loss(), 0);
    assert_eq!(insert(&client, "", json!([{ "_key": "a" }])).status, 202, "nothing was written, so nothing waited");
}

#[tokio::test]
async fn a_query_waits_if_its_options_say_so() {
    let (server, client) = server().await;
    client.query("INSERT { _key: 'a' } INTO c", json!({}));
    assert_eq!(server.unsynced(), 1);
    client.query("INSERT { _key: 'b' } INTO c OPTIONS { waitForSync: true }", json!({}));
    assert_eq!(server.unsynced(), 0);
}

#[tokio::test]
async fn a_connection_can_be_dropped_before_or_after() {
    let (server, client) = server().await;
    let post = |key: &str| client.try_send("POST", "/_api/document/c", &format!(r#"{{"_key":"{key}"}}"#));
    server.fail(Fault::on("POST", "/_api/document", Action::DropBefore).after(1));
    server.fail(Fault::on("POST", "/_api/document", Action::DropAfter).after(2));
    assert!(post("a").is_ok());
    assert!(post("before").is_err());
    assert!(post("after").is_err());
    assert!(post("b").is_ok());
    assert_eq!(keys(&server), ["a", "after", "b"]);
    assert!(server.pending_faults().is_empty());
}

#[tokio::test]
async fn an_answer_can_end_in_the_middle() {
    let (server, client) = server().await;
    server.fail(Fault::next(Action::HalfAnswer));
    let answer = insert(&client, "", json!({ "_key": "a" }));
    assert!(!answer.is_whole);
    assert_eq!(keys(&server), ["a"]);
}

#[tokio::test]
async fn an_answer_can_be_late() {
    let (server, client) = server().await;
    server.fail(Fault::on("GET", "/_api/version", Action::Delay { millis: 60 }));
    let started = Instant::now();
    assert_eq!(client.get("/_api/version").status, 200);
    assert!(started.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn refusals_have_their_numbers_and_headers() {
    let (server, client) = server().await;
    let cases = [
        (Action::connection_lost(), 503, 1465, None),
        (Action::locked(), 500, 28, None),
        (Action::conflict(), 409, 1200, None),
        (Action::read_only(), 403, 1004, None),
        (Action::unauthorized(), 401, 11, None),
        (Action::leadership_changes(), 503, 1495, None),
        (Action::not_leader("http://other"), 503, 1496, Some(("x-arango-endpoint", "http://other"))),
        (Action::queue_time(7.5), 412, 21004, Some(("x-arango-queue-time-seconds", "7.500000"))),
        (Action::queue_full(), 503, 21003, None),
        (Action::resource_limit(), 500, 32, None),
        (Action::unavailable(), 503, 0, None),
    ];
    for (action, status, num, header) in cases {
        server.fail(Fault::on("POST", "/_api/document", action.clone()));
        let answer = insert(&client, "", json!({}));
        assert_eq!((answer.status, answer.num()), (status, num), "{action:?}");
        if let Some((name, value)) = header {
            assert_eq!(answer.header(name), Some(value));
        }
    }
    assert!(keys(&server).is_empty());
    server.fail(Fault::next(Action::queue_time(7.5)));
    let names = insert(&client, "", json!({})).headers;
    assert_eq!(names.iter().filter(|(name, _)| name == "x-arango-queue-time-seconds").count(), 1);
    server.fail(Fault::next(Action::RefuseAfter(Refusal::error(503, 1465))));
    assert_eq!(insert(&client, "", json!({})).num(), 1465);
    assert_eq!(keys(&server).len(), 1);
}

#[tokio::test]
async fn elements_can_fail_one_by_one() {
    let (server, client) = server().await;
    let fail = |error_num, positions: &[usize]| {
        server.fail(Fault::next(Action::Elements(Elements { error_num, positions: positions.to_vec() })));
    };
    fail(1200, &[1]);
    let answer = insert(&client, "", json!([{ "_key": "a" }, { "_key": "b" }, { "_key": "c" }]));
    assert_eq!(answer.header("x-arango-error-codes"), Some(r#"{"1200":1}"#));
    assert_eq!(keys(&server), ["a", "c"]);
    // A resource that has run out does not come back within the array.
    fail(32, &[1]);
    let answer = insert(&client, "", json!([{ "_key": "x" }, { "_key": "y" }, { "_key": "z" }]));
    assert_eq!(answer.header("x-arango-error-codes"), Some(r#"{"32":2}"#));
    assert_eq!(keys(&server), ["a", "c", "x"]);
}

#[tokio::test]
async fn a_fault_can_be_meant_for_one_statement() {
    let (server, client) = server().await;
    server.fail(Fault::on("POST", "/_api/cursor", Action::conflict()).with_body("INSERT").times(2));
    assert_eq!(client.query("RETURN 1", json!({})), [1]);
    assert_eq!(client.try_query("INSERT {} INTO c", json!({})).num(), 1200);
    assert_eq!(client.try_query("INSERT {} INTO c", json!({})).num(), 1200);
    assert_eq!(client.try_query("INSERT {} INTO c", json!({})).status, 201);
    server.fail(Fault::next(Action::DropBefore));
    server.heal();
    assert_eq!(client.get("/_api/version").status, 200);
}

#[tokio::test]
async fn requests_are_counted() {
    let (server, client) = server().await;
    server.forget_requests();
    insert(&client, "waitForSync=true", json!({}));
    insert(&client, "waitForSync=true", json!({}));
    client.get("/_api/version");
    assert_eq!(server.count("POST", "/_api/document/c"), 2);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn who_has_no_password_and_no_good_token_is_refused() {
    let builder = Server::builder().user("wal", "secret").require_auth();
    let server = builder.token_lifetime(Duration::from_secs(3600)).start().await.unwrap();
    let asked = |authorization: &str| {
        let client = Client::with_header(server.address(), "authorization", authorization);
        client.get("/_api/version")
    };
    let refused = asked("none");
    assert_eq!((refused.status, refused.num()), (401, 11));
    assert!(refused.header("www-authenticate").is_some());
    // "wal:secret", with padding and without.
    assert_eq!(asked("Basic d2FsOnNlY3JldA==").status, 200);
    assert_eq!(asked("Basic d2FsOnNlY3JldA").status, 200);
    assert_eq!(asked("Basic d2FsOndyb25n").status, 401);

    let open = Client::new(server.address());
    let login = |password: &str| open.post("/_open/auth", json!({ "username": "wal", "password": password }));
    assert_eq!(login("wrong").status, 401);
    let token = format!("bearer {}", login("secret").body["jwt"].as_str().unwrap());
    assert_eq!(asked(&token).status, 200);
    server.expire_tokens();
    assert_eq!(asked(&token).status, 401);
    let token = format!("Bearer {}", login("secret").body["jwt"].as_str().unwrap());
    assert_eq!(asked(&token).status, 200);
}

#[tokio::test]
async fn a_token_of_no_time_is_expired() {
    let server = Server::builder().require_auth().token_lifetime(Duration::ZERO).start().await.unwrap();
    let login = Client::new(server.address()).post("/_open/auth", json!({ "username": "root", "password": "" }));
    let token = format!("bearer {}", login.body["jwt"].as_str().unwrap());
    assert_eq!(Client::with_header(server.address(), "authorization", &token).get("/_api/version").status, 401);
}

#[tokio::test]
async fn a_restart_keeps_the_data_and_the_address_but_no_cursor() {
    let (server, client) = server().await;
    insert(&client, "", json!({ "_key": "a" }));
    let body = json!({ "query": "FOR i IN 1..5 RETURN i", "batchSize": 2 });
    let cursor = client.post("/_api/cursor", body).body["id"].as_str().unwrap().to_owned();
    server.stop();
    assert!(client.try_send("GET", "/_api/version", "").is_err());
    server.restart().unwrap();
    assert_eq!(client.get("/_api/document/c/a").status, 200);
    assert_eq!(client.send("POST", &format!("/_api/cursor/{cursor}"), "").num(), 1600);
}

#[tokio::test]
async fn an_outage_ends() {
    let (server, client) = server().await;
    insert(&client, "", json!({ "_key": "a" }));
    client.post("/fake/restart", json!({ "millis": 500 }));
    let started = Instant::now();
    assert!(client.try_send("GET", "/_api/version", "").is_err());
    while client.try_send("GET", "/_api/document/c/a", "").is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(started.elapsed() >= Duration::from_millis(400));
    server.outage(Duration::from_secs(60));
    assert!(client.try_send("GET", "/_api/version", "").is_err());
}

#[tokio::test]
async fn work_takes_its_time_and_whoever_waits_says_how_long() {
    const TIME: Duration = Duration::from_millis(400);
    let server = Server::builder().service_time(TIME, 1).start().await.unwrap();
    let address = server.address();
    let started = Instant::now();
    let busy = std::thread::spawn(move || Client::new(address).get("/_api/version"));
    // Once it is logged it has its place.
    while server.count("GET", "/_api/version") == 0 {
        std::thread::yield_now();
    }
    let impatient = Client::with_header(address, "x-arango-queue-time-seconds", "0.001").get("/_api/version");
    assert_eq!((impatient.status, impatient.num()), (412, 21004));
    let patient = Client::new(address).get("/_api/version");
    assert!(started.elapsed() >= TIME * 2, "one after the other");
    let queued: f64 = patient.header("x-arango-queue-time-seconds").unwrap().parse().unwrap();
    assert!(queued > 0.001, "{queued}");
    assert_eq!(busy.join().unwrap().status, 200);
}

#[tokio::test]
async fn the_root_shows_that_an_arangodb_is_there() {
    let server = Server::builder().require_auth().start().await.unwrap();
    let client = Client::new(server.address());
    let root = client.get("/");
    assert_eq!((root.status, root.header("server")), (301, Some("ArangoDB")));
    assert_eq!(client.get(root.header("location").unwrap()).status, 200);
}

#[tokio::test]
async fn chunked_bodies_are_refused() {
    use std::io::{Read, Write};
    let (server, _) = server().await;
    let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
    let request = "POST /_api/document/c HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 411"), "{answer}");
}

#[tokio::test]
async fn the_switches_are_there_over_http_too() {
    let (server, client) = server().await;
    let fault = json!({ "method": "POST", "path": "/_api/document", "skip": 1, "times": 1, "action": "drop_unsynced" });
    assert_eq!(client.post("/fake/faults", fault).status, 200);
    insert(&client, "", json!({ "_key": "a" }));
    assert!(client.try_send("POST", "/_api/document/c?waitForSync=true", r#"{"_key":"b"}"#).is_err());
    assert_eq!(client.get("/fake/faults").body, json!([]));
    assert_eq!(client.post("/fake/power-loss", json!({})).body["lost"], 2);

    let typo = json!({ "action": "drop_befor" });
    assert_eq!(client.post("/fake/faults", typo).status, 400);
    let refuse = json!({ "action": { "refuse": { "status": 503, "error_num": 1465 } } });
    client.post("/fake/faults", refuse);
    assert_eq!(client.get("/_api/version").num(), 1465);
    let elements = json!({ "action": { "elements": { "error_num": 1200, "positions": [0] } } });
    client.post("/fake/faults", elements);
    assert_eq!(insert(&client, "", json!([{}])).body[0]["errorNum"], 1200);
    client.post("/fake/faults", json!({ "action": { "delay": { "millis": 1 } } }));
    assert_eq!(client.send("DELETE", "/fake/faults", "").body, json!([]));

    client.post("/_api/index?collection=c", json!({ "type": "ttl", "fields": ["t"], "expireAfter": 0 }));
    insert(&client, "", json!({ "_key": "old", "t": 5 }));
    assert_eq!(client.post("/fake/ttl", json!({ "now": "1970-01-01T00:00:05Z" })).body["removed"], 1);
    let counted = client.get("/fake/requests").body;
    assert!(counted.as_array().unwrap().iter().all(|request| request["path"] != "/fake/faults"));
    client.send("DELETE", "/fake/requests", "");
    assert!(server.requests().is_empty());
}
