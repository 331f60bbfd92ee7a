//! The language by tables: a statement, and what it makes.

use serde_json::{Map, Value, json};

use super::parse::parse;
use super::run::{Answer, Limits, check, run};
use crate::Version;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::collection::{Collection, Kind};
use crate::store::index::Definition;
use crate::value::compare;

fn store() -> Store {
    let mut store = Store::new(Version::V3_12);
    let mut collection = Collection::new(1, "c", Kind::Document);
    let documents = json!([
        { "_key": "a", "ns": "x", "at": 3, "deep": { "tenant": "t" }, "who": "p" },
        { "_key": "b", "ns": "x", "at": 1, "deep": { "tenant": "u" } },
        { "_key": "c", "ns": "y", "at": 2, "deep": 5, "who": "q" },
        { "_key": "d", "ns": "x", "at": 1, "who": null },
    ]);
    for document in documents.as_array().unwrap() {
        let attributes = document.as_object().unwrap().clone();
        let key = attributes["_key"].as_str().unwrap().to_owned();
        let revision = store.next_revision();
        collection.put(collection.document(&key, revision, attributes)).unwrap();
    }
    store.databases.get_mut("_system").unwrap().collections.insert("c".to_owned(), collection);
    store.create_database("other");
    store
}

fn index(store: &mut Store, fields: &[&str], sparse: bool) {
    let body = json!({ "type": "persistent", "fields": fields, "sparse": sparse });
    let id = store.next_tick();
    store.collection_mut("_system", "c").unwrap().ensure_index(id, None, Definition::parse(&body).unwrap()).unwrap();
}

fn execute(store: &mut Store, text: &str, binds: &Value, limits: Limits) -> Result<Answer> {
    let binds: Map<String, Value> = binds.as_object().cloned().unwrap_or_default();
    let parsed = parse(text, Some(&binds))?;
    check(store, "_system", &parsed.query)?;
    run(store, "_system", &parsed.query, limits)
}

fn rows(store: &mut Store, text: &str) -> Vec<Value> {
    execute(store, text, &json!({}), Limits::default()).unwrap_or_else(|error| panic!("{text}: {error:?}")).rows
}

fn error(text: &str, binds: Value) -> Error {
    execute(&mut store(), text, &binds, Limits::default()).expect_err(text)
}

#[test]
fn expressions_have_values() {
    let table = [
        ("1 + 2 * 3", json!(7)),
        ("(1 + 2) * 3", json!(9)),
        ("7 / 2", json!(3.5)),
        ("6 / 2", json!(3)),
        ("7 % 4", json!(3)),
        ("-2 + 1", json!(-1)),
        ("'3' + 1", json!(4)),
        ("'x' + 1", json!(1)),
        ("null + [5]", json!(5)),
        ("1 == 1.0", json!(true)),
        ("null < false && false < 0 && 0 < '' && '' < [] && [] < {}", json!(true)),
        ("[1, 'b'] > [1, 'a']", json!(true)),
        ("[1, 2] > [1, 2, 3]", json!(false)),
        ("['t', 'k2'] > ['t', 'k10']", json!(true)),
        ("'a' < 'B'", json!(true)),
        ("'A' < 'a'", json!(true)),
        ("{ a: 1, b: 2 } == { b: 2, a: 1 }", json!(true)),
        ("2 IN [1, 2]", json!(true)),
        ("2 NOT IN [1, 2]", json!(false)),
        ("2 IN 5", json!(false)),
        ("!'' && NOT 0", json!(true)),
        ("null || 'x'", json!("x")),
        ("1 AND 0", json!(0)),
        ("true ? 'y' : 'n'", json!("y")),
        ("1..3", json!([1, 2, 3])),
        ("3..1", json!([3, 2, 1])),
        ("{ a: { b: [10, 20] } }.a.b[-1]", json!(20)),
        ("{ a: 1 }.a.b.c", json!(null)),
        ("{ a: 1 }['a']", json!(1)),
        ("'text'.x", json!(null)),
        ("{ ['k' + 1]: 2, `q r`: 3 }", json!({ "1": 2, "q r": 3 })),
        ("\"a\\n\\u0041\\\"\"", json!("a\nA\"")),
        ("0.5e1 /* five */", json!(5)),
        ("(FOR i IN 1..2 RETURN i * 10)", json!([10, 20])),
        ("DOCUMENT('c/a').at", json!(3)),
        ("DOCUMENT('c', ['a', 'zz'])[0].at", json!(3)),
        ("LENGTH(c)", json!(4)),
        ("LENGTH('äb') + LENGTH([1]) + LENGTH({ a: 1, b: 2 })", json!(5)),
        ("MERGE({ a: 1, b: 1 }, { b: 2 })", json!({ "a": 1, "b": 2 })),
        ("KEEP({ a: 1, b: 2 }, 'a')", json!({ "a": 1 })),
        ("UNSET({ a: 1, b: 2 }, ['a'])", json!({ "b": 2 })),
        ("PUSH([1], 2)", json!([1, 2])),
        ("UNION([1], [1])", json!([1, 1])),
        ("UNIQUE([1, 1.0, 2])", json!([1, 2])),
        ("MAX([1, null, 3])", json!(3)),
        ("CONCAT('a', 1, null, 'b')", json!("a1b")),
        ("SUBSTRING('hello', 1, 3)", json!("ell")),
        ("NOT_NULL(null, 2)", json!(2)),
        ("HAS({ a: null }, 'a')", json!(true)),
        ("MERGE(1)", json!(null)),
        ("1 / 0", json!(null)),
    ];
    for (expression, value) in table {
        let found = rows(&mut store(), &format!("RETURN {expression}"));
        assert!(found.len() == 1 && compare(&found[0], &value).is_eq(), "{expression}: {found:?}");
    }
}

#[test]
fn statements_have_rows() {
    let table = [
        ("FOR d IN c RETURN d._key", json!(["a", "b", "c", "d"])),
        ("FOR d IN c FILTER d.ns == 'x' SORT d.at, d._key DESC RETURN d._key", json!(["d", "b", "a"])),
        ("FOR d IN c SORT d.at DESC LIMIT 1, 2 RETURN d.at", json!([2, 1])),
        ("FOR d IN c FILTER d.deep.tenant == 't' RETURN d._key", json!(["a"])),
        ("FOR d IN c FILTER d.who == null RETURN d._key", json!(["b", "d"])),
        ("FOR d IN c FILTER d.who >= '' RETURN d._key", json!(["a", "c"])),
        ("FOR d IN c FILTER d.who < 'q' RETURN d._key", json!(["a", "b", "d"])),
        ("FOR d IN c FILTER d._key IN ['d', 'a', 'a', 'zz'] RETURN d._key", json!(["a", "d"])),
        ("FOR d IN c FILTER [d.at, d._key] > [1, 'b'] SORT d.at, d._key RETURN d._key", json!(["d", "c", "a"])),
        ("FOR r IN [{ k: 'b' }, { k: 'zz' }] FOR d IN c FILTER d._key == r.k RETURN d.at", json!([1])),
        ("FOR d IN c COLLECT WITH COUNT INTO n RETURN n", json!([4])),
        ("FOR d IN c COLLECT ns = d.ns WITH COUNT INTO n RETURN [ns, n]", json!([["x", 3], ["y", 1]])),
        ("FOR d IN c RETURN DISTINCT d.at == 1", json!([false, true])),
        (
            "FOR x IN [3, 1, 2] LET y = x * 2 FILTER y > 2 SORT y RETURN { x, y }",
            json!([{ "x": 2, "y": 4 }, { "x": 3, "y": 6 }]),
        ),
        ("FOR d IN c FILTER LENGTH((FOR e IN c FILTER e.ns == d.ns RETURN 1)) == 1 RETURN d._key", json!(["c"])),
        ("for d in c filter d._key == 'a' return d.ns // as you like", json!(["x"])),
    ];
    for (text, expected) in table {
        assert_eq!(Value::from(rows(&mut store(), text)), expected, "{text}");
    }
}

/// The same rows come out whatever index there is; only where no SORT asks for it may the order differ.
#[test]
fn an_index_changes_no_result() {
    let statements = [
        "FOR d IN c FILTER d.ns == 'x' && d.at >= 1 && d.at < 3 SORT d.ns, d.at, d._key RETURN d._key",
        "FOR d IN c FILTER d.ns == 'x' && d.at > 1 SORT d.at RETURN d._key",
        "FOR d IN c FILTER d.ns IN ['y', 'x', 'x'] && d.at <= 2 SORT d._key RETURN d._key",
        "FOR d IN c FILTER 2 >= d.at SORT d.at DESC, d._key DESC RETURN d._key",
        "FOR d IN c SORT d.ns DESC, d.at DESC, d._key DESC LIMIT 2 RETURN d._key",
        "FOR d IN c FILTER d.who == 'p' && d.at >= 0 SORT d._key RETURN d._key",
        "FOR d IN c FILTER d.who < 'z' SORT d._key RETURN d._key",
        "FOR d IN c FILTER d.who == null SORT d._key RETURN d._key",
        "FOR d IN c FILTER d.ns > 'y' && d.ns < 'a' SORT d._key RETURN d._key",
        "FOR w IN ['p', null] FOR d IN c FILTER d.who == w SORT d._key RETURN d._key",
        "FOR d IN c FILTER d.deep.tenant > 's' SORT d.deep.tenant RETURN d._key",
    ];
    let definitions: [&[(&[&str], bool)]; 4] = [
        &[(&["ns", "at", "_key"], false), (&["at", "_key"], false)],
        &[(&["ns", "at", "_key"], true), (&["who"], true), (&["who", "at"], true)],
        &[(&["deep.tenant"], false), (&["deep.tenant", "ns"], true)],
        &[(&["who"], false), (&["at"], false), (&["ns"], false)],
    ];
    for statement in statements {
        let expected = rows(&mut store(), statement);
        for indexes in definitions {
            let mut store = store();
            indexes.iter().for_each(|(fields, sparse)| index(&mut store, fields, *sparse));
            assert_eq!(rows(&mut store, statement), expected, "{statement} with {indexes:?}");
        }
    }
}

#[test]
fn an_index_saves_the_scan() {
    let mut store = store();
    index(&mut store, &["ns", "at", "_key"], false);
    let text = "FOR d IN c FILTER d.ns == 'x' && d.at > 0 SORT d.ns, d.at, d._key LIMIT 1 RETURN d._key";
    let answer = execute(&mut store, text, &json!({}), Limits::default()).unwrap();
    assert_eq!((answer.rows, answer.scanned_index, answer.scanned_full), (vec![json!("b")], 1, 0));
}

#[test]
fn modifications_return_old_and_new() {
    let mut store = store();
    let updated =
        rows(&mut store, "FOR d IN c FILTER d.ns == 'y' UPDATE d WITH { at: d.at + 1 } IN c RETURN [OLD.at, NEW.at]");
    assert_eq!(updated, [json!([2, 3])]);
    assert_eq!(rows(&mut store, "UPDATE 'c' WITH { deep: { x: 1 } } IN c RETURN NEW.deep"), [json!({ "x": 1 })]);
    assert_eq!(
        rows(&mut store, "UPDATE { _key: 'c', deep: { y: 2 } } IN c RETURN NEW.deep"),
        [json!({ "x": 1, "y": 2 })]
    );
    let apart = "UPDATE 'c' WITH { deep: { z: 3, n: null } } IN c OPTIONS { mergeObjects: false, keepNull: false } RETURN NEW.deep";
    assert_eq!(rows(&mut store, apart), [json!({ "z": 3 })]);
    assert_eq!(
        rows(&mut store, "REPLACE 'c' WITH { only: 1 } IN c RETURN KEEP(NEW, '_key', 'only', 'at')"),
        [json!({ "_key": "c", "only": 1 })]
    );
    assert_eq!(
        rows(&mut store, "FOR d IN c FILTER d.ns == 'x' REMOVE d IN c RETURN OLD._key"),
        [json!("a"), json!("b"), json!("d")]
    );
    assert_eq!(
        rows(&mut store, "INSERT { _key: 'c' } INTO c OPTIONS { overwriteMode: 'ignore' } RETURN NEW"),
        [json!(null)]
    );
    assert_eq!(
        rows(
            &mut store,
            "FOR k IN ['c', 'n'] INSERT { _key: k } INTO c OPTIONS { ignoreErrors: true } RETURN NEW._key"
        ),
        [json!("n")]
    );
    assert_eq!(rows(&mut store, "RETURN LENGTH(c)"), [json!(2)]);
}

/// A row whose revision is not the stored one any more is missing from the answer.
#[test]
fn a_revision_in_the_filter_guards_an_update() {
    let mut store = store();
    let rev = rows(&mut store, "RETURN DOCUMENT('c/a')._rev").remove(0);
    let text = "FOR row IN @rows FOR d IN @@c FILTER d._key == row.key && d._rev == row.rev \
                UPDATE d WITH row.standing IN @@c OPTIONS { mergeObjects: false, keepNull: false, waitForSync: true } RETURN NEW._key";
    let guarded = [
        json!({ "key": "a", "rev": rev, "standing": { "at": 9 } }),
        json!({ "key": "b", "rev": "_zzz", "standing": {} }),
    ];
    let binds = json!({ "@c": "c", "rows": guarded });
    let mut again = || execute(&mut store, text, &binds, Limits::default()).unwrap().rows;
    assert_eq!(again(), [json!("a")]);
    assert_eq!(again(), [] as [Value; 0]);
    assert_eq!(rows(&mut store, "RETURN DOCUMENT('c/a').at"), [json!(9)]);
}

#[test]
fn a_stated_revision_counts_only_if_asked_for() {
    let text = |ignore: bool| {
        format!("UPDATE {{ _key: 'a', _rev: '_zzz' }} WITH {{ at: 0 }} IN c OPTIONS {{ ignoreRevs: {ignore} }}")
    };
    assert!(execute(&mut store(), &text(true), &json!({}), Limits::default()).is_ok());
    let refused = error(&text(false), json!({}));
    assert_eq!((refused.status, refused.num), (409, 1200));
}

#[test]
fn what_is_wrong_has_a_number() {
    let table = [
        ("", json!({}), 1502),
        ("RETURN", json!({}), 1501),
        ("FOR d IN c FILTER d.a = 1 RETURN d", json!({}), 1501),
        ("FOR d IN c", json!({}), 1501),
        ("RETURN 1 RETURN 2", json!({}), 1501),
        ("RETURN 'open", json!({}), 1501),
        ("FOR d IN c FOR d IN c RETURN d", json!({}), 1511),
        ("RETURN LENGTH()", json!({}), 1541),
        ("RETURN @x", json!({}), 1551),
        ("FOR d IN @@c RETURN d", json!({ "c": "c" }), 1551),
        ("RETURN 1", json!({ "x": 1 }), 1552),
        ("FOR d IN @@c RETURN d", json!({ "@c": 5 }), 1553),
        ("FOR d IN none RETURN d", json!({}), 1203),
        ("RETURN unknown", json!({}), 1203),
        ("REMOVE 'zz' IN c", json!({}), 1202),
        ("INSERT { _key: 'a' } INTO c", json!({}), 1210),
        ("INSERT { _key: 'a b' } INTO c", json!({}), 1221),
        ("INSERT 5 INTO c", json!({}), 1227),
        ("INSERT {} INTO c FOR d IN c RETURN d", json!({}), 1579),
        ("INSERT {} INTO c RETURN LENGTH(c)", json!({}), 1579),
        ("INSERT {} INTO c REMOVE 'a' IN c", json!({}), 1579),
        ("FOR i IN 1..2 LIMIT -1 RETURN i", json!({}), 1504),
    ];
    for (text, binds, num) in table {
        assert_eq!(error(text, binds).num, num, "{text}");
    }
}

#[test]
fn what_is_not_known_is_named() {
    let table = [
        ("FOR d IN c FILTER d.a LIKE 'x' RETURN d", "LIKE"),
        ("UPSERT { a: 1 } INSERT { a: 1 } UPDATE {} IN c", "UPSERT"),
        ("RETURN GEO_DISTANCE(1, 2)", "GEO_DISTANCE()"),
        ("FOR d IN c COLLECT x = d.a INTO g RETURN g", "COLLECT ... INTO"),
        ("FOR v, e IN 1..2 OUTBOUND 'c/a' GRAPH 'g' RETURN v", "traversals"),
        ("FOR d IN c RETURN d.list[*].x", "[*]"),
        ("LET x = (INSERT {} INTO c) RETURN x", "subqueries that modify"),
    ];
    for (text, named) in table {
        let refused = error(text, json!({}));
        assert!(refused.num == 1501 && refused.message.contains("does not know"), "{text}: {}", refused.message);
        assert!(refused.message.contains(named), "{text}: {}", refused.message);
    }
}

#[test]
fn a_failed_modification_takes_everything_back() {
    let mut store = store();
    index(&mut store, &["at"], false);
    let before = rows(&mut store, "FOR d IN c SORT d._key RETURN d");
    let text = "FOR k IN ['a', 'b', 'zz'] UPDATE k WITH { at: 100 } IN c";
    assert_eq!(execute(&mut store, text, &json!({}), Limits::default()).unwrap_err().num, 1202);
    assert_eq!(rows(&mut store, "FOR d IN c SORT d._key RETURN d"), before);
    assert_eq!(rows(&mut store, "FOR d IN c FILTER d.at == 100 RETURN d"), [] as [Value; 0]);
}

#[test]
fn limits_hold() {
    let limits = Limits { counts_fully: true, ..Limits::default() };
    let answer =
        execute(&mut store(), "FOR i IN 1..1000 FILTER i > 500 LIMIT 10 RETURN i", &json!({}), limits).unwrap();
    assert_eq!((answer.rows.len(), answer.full_count, answer.filtered), (10, Some(500), 500));
    let limits = Limits { memory: Some(1000), ..Limits::default() };
    assert_eq!(execute(&mut store(), "FOR i IN 1..1000 RETURN i", &json!({}), limits).unwrap_err().num, 32);
    let limits = Limits { fails_on_warning: true, ..Limits::default() };
    assert_eq!(execute(&mut store(), "RETURN 1 / 0", &json!({}), limits).unwrap_err().num, 1562);
}
