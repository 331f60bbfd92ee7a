use super::*;
use crate::arango::Options;
use crate::arango::scripted::{Scripted, answers};

async fn session(server: &Scripted) -> Session {
    let client = Client::new(&Options::new(vec![server.url.clone()], "wal")).unwrap();
    lend(&client, async { Session::new(None).unwrap() }).await
}

#[tokio::test]
async fn arangors_gets_a_failure_it_can_read() {
    let server = Scripted::in_turn(vec![answers(502, "<html>")]).await;
    let session = session(&server).await;
    let request = Request::get("http://anywhere/_api/x").body(String::new()).unwrap();
    let response = session.request(request).await.unwrap();
    let told: serde_json::Value = serde_json::from_str(response.body()).unwrap();
    assert_eq!((response.status().as_u16(), &told["error"], &told["code"]), (502, &true.into(), &502.into()));
}

#[tokio::test]
async fn a_server_is_known_by_what_it_says_and_not_by_a_header() {
    let version = answers(200, "{\"server\": \"arango\", \"license\": \"community\", \"version\": \"3.12.4\"}");
    let unknown = answers(404, "{\"error\": true, \"errorNum\": 1228, \"errorMessage\": \"database not found\"}");
    for (does, is_arango) in [(version, true), (unknown, true), (answers(200, "{}"), false), (answers(502, ""), false)]
    {
        let server = Scripted::in_turn(vec![does]).await;
        let session = session(&server).await;
        let request = Request::get(format!("{}/", server.url)).body(String::new()).unwrap();
        assert_eq!(session.request(request).await.is_ok(), is_arango);
        assert_eq!(server.heard()[0].line, "GET /_db/wal/_api/version");
    }
}

#[test]
fn a_client_without_settings_is_not_made() {
    assert!(Session::new(None).is_err());
}
