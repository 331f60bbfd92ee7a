use tokio::net::TcpListener;

use super::*;
use crate::arango::Login;
use crate::arango::scripted::{Does, Scripted, answers};

fn options(endpoints: &[&str]) -> Options {
    Options {
        // Waited for to its end where a server is silent; else only a loaded machine comes near.
        request_timeout: Duration::from_secs(3),
        ..Options::new(endpoints.iter().map(|url| (*url).to_owned()).collect(), "wal")
    }
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn post(repeat: Repeat) -> Call {
    Call {
        method: Method::POST,
        path: "/_api/x".to_owned(),
        body: Bytes::from_static(b"{\"a\": 1}"),
        repeat,
        endpoint: None,
    }
}

async fn call(endpoints: &[&str], repeat: Repeat) -> Result<Answer, Fault> {
    Client::new(&options(endpoints)).unwrap().call(&post(repeat)).await
}

fn class(answer: Result<Answer, Fault>) -> Option<Class> {
    answer.err().map(|fault| fault.class)
}

const LEADERLESS: &str = "{\"error\": true, \"errorNum\": 1495, \"errorMessage\": \"leader changes\"}";

#[tokio::test]
async fn bodies_have_a_length_and_no_chunks() {
    let server = Scripted::in_turn(vec![answers(200, "{}")]).await;
    call(&[&server.url], Repeat::Harmless).await.unwrap();
    let heard = &server.heard()[0].head;
    assert!(heard.contains("content-length: 8") && !heard.contains("chunked"), "{heard}");
    assert!(heard.contains(&format!("{QUEUE_TIME}: 3")) && !heard.contains("authorization"), "{heard}");
}

#[tokio::test]
async fn what_has_not_left_goes_to_the_next_endpoint_and_later_calls_go_there_first() {
    let (down, server) = (nobody().await, Scripted::in_turn(vec![answers(200, "{}")]).await);
    let client = Client::new(&options(&[&down, &server.url])).unwrap();
    for _ in 0..2 {
        assert_eq!(client.call(&post(Repeat::Telling)).await.unwrap().endpoint, 1);
    }
    assert_eq!(server.heard().len(), 2);
}

#[tokio::test]
async fn what_a_server_says_it_has_not_done_goes_to_the_next() {
    let (leaderless, other) =
        (Scripted::in_turn(vec![answers(503, LEADERLESS)]).await, Scripted::in_turn(vec![answers(201, "{}")]).await);
    assert_eq!(class(call(&[&leaderless.url, &other.url], Repeat::Telling).await), None);
    assert_eq!((leaderless.heard().len(), other.heard().len()), (1, 1));
}

#[tokio::test]
async fn what_may_have_happened_is_repeated_only_where_that_is_harmless() {
    for does in [Does::HangsUp, Does::IsSilent, answers(503, "")] {
        for (repeat, expected) in [(Repeat::Harmless, None), (Repeat::Telling, Some(Class::Unavailable))] {
            let (odd, other) =
                (Scripted::in_turn(vec![does.clone()]).await, Scripted::in_turn(vec![answers(201, "{}")]).await);
            assert_eq!(class(call(&[&odd.url, &other.url], repeat).await), expected);
            assert_eq!(other.heard().len(), usize::from(expected.is_none()));
        }
    }
}

/// Or a writer would ask the one that hangs again and again.
#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_not_asked_next_time() {
    for does in [Does::HangsUp, Does::IsSilent, answers(503, ""), answers(502, "")] {
        let (odd, other) = (Scripted::in_turn(vec![does]).await, Scripted::in_turn(vec![answers(201, "{}")]).await);
        let client = Client::new(&options(&[&odd.url, &other.url])).unwrap();
        assert_eq!(class(client.call(&post(Repeat::Telling)).await), Some(Class::Unavailable));
        assert_eq!(class(client.call(&post(Repeat::Telling)).await), None);
        assert_eq!((odd.heard().len(), other.heard().len()), (1, 1));
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_names_the_endpoint() {
    let down = nobody().await;
    let Err(fault) = call(&[&down], Repeat::Harmless).await else { panic!("somebody answered") };
    assert_eq!(fault.class, Class::Unavailable);
    assert!(fault.said.contains(&down) && fault.said.contains("refused"), "{}", fault.said);
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_too_large() {
    let server = Scripted::in_turn(vec![answers(200, "x".repeat(10_000))]).await;
    let mut client = Client::new(&options(&[&server.url])).unwrap();
    Arc::get_mut(&mut client.inner).unwrap().answer_max = 9_999;
    assert_eq!(class(client.call(&post(Repeat::Harmless)).await), Some(Class::TooLarge));
}

fn with_token(url: &str) -> Client {
    let login = Login::Token { user: "root".to_owned(), password: "secret".to_owned() };
    Client::new(&Options { login, ..options(&[url]) }).unwrap()
}

#[tokio::test]
async fn a_token_is_fetched_used_and_renewed_once_where_it_is_refused() {
    let (token, refused) = (|jwt: &str| answers(200, format!("{{\"jwt\": \"{jwt}\"}}")), answers(401, ""));
    let ok = answers(200, "{}");
    let script = vec![token("first"), ok.clone(), ok.clone(), refused, token("second"), ok];
    let server = Scripted::in_turn(script).await;
    let client = with_token(&server.url);
    for _ in 0..3 {
        client.call(&post(Repeat::Telling)).await.unwrap();
    }
    let heard = server.heard();
    let shown: Vec<Option<&str>> =
        heard.iter().map(|heard| heard.head.lines().find_map(|line| line.strip_prefix("authorization: "))).collect();
    let (first, second) = (Some("bearer first"), Some("bearer second"));
    assert_eq!(shown, [None, first, first, first, None, second]);
    assert_eq!(heard[0].line, "POST /_open/auth");
    assert!(heard[0].body.contains("secret"));
}

#[tokio::test]
async fn credentials_that_are_refused_are_not_shown_again_and_again() {
    let server = Scripted::in_turn(vec![answers(401, "{\"error\": true, \"errorNum\": 401}")]).await;
    let client = with_token(&server.url);
    let Err(fault) = client.call(&post(Repeat::Harmless)).await else { panic!("let in") };
    assert_eq!((fault.class, server.heard().len()), (Class::Unauthorised, 1));
    assert!(!format!("{fault:?} {client:?}").contains("secret"));
}

#[tokio::test]
async fn only_a_certificate_of_a_trusted_authority_is_believed() {
    let (server, trusted) = Scripted::with_tls(answers(200, "{}")).await;
    let (_, other) = Scripted::with_tls(answers(200, "{}")).await;
    let asked = async |url: &str, trusted: Option<&str>| {
        let trusted = trusted.map(|pem| pem.as_bytes().to_vec());
        Client::new(&Options { trusted, ..options(&[url]) }).unwrap().call(&post(Repeat::Harmless)).await
    };
    assert_eq!(class(asked(&server.url, Some(&trusted)).await), None);
    let by_address = server.url.replace("localhost", "127.0.0.1");
    for (url, pem) in [(&server.url, None), (&server.url, Some(&*other)), (&by_address, Some(&*trusted))] {
        let Err(fault) = asked(url, pem).await else { panic!("{url} was believed") };
        assert!(fault.class == Class::Unavailable && fault.said.contains("certificate"), "{}", fault.said);
    }
    assert_eq!(server.heard().len(), 1);
}

#[test]
fn what_is_no_certificate_is_told() {
    for pem in ["", "secret", "-----BEGIN CERTIFICATE-----\nsecret\n-----END CERTIFICATE-----\n"] {
        let options = Options { trusted: Some(pem.as_bytes().to_vec()), ..options(&["https://localhost"]) };
        let Err(Unusable(why)) = Client::new(&options) else { panic!("{pem}") };
        assert!(!why.contains("secret"), "{why}");
    }
}
