use super::*;

fn options() -> Options {
    Options { replication_factor: 3, write_concern: 2, ..Options::new(vec!["http://localhost:8529".to_owned()], "wal") }
}

fn properties(json: Value) -> Properties {
    serde_json::from_value(json).unwrap()
}

/// As a single 3.12 server describes a collection.
fn alone() -> Properties {
    properties(json!({
        "error": false, "code": 200, "writeConcern": 1, "waitForSync": false, "syncByRevision": true, "id": "70137",
        "schema": null, "name": "wal_entries", "type": 2, "status": 3, "cacheEnabled": false,
        "keyOptions": { "allowUserKeys": true, "type": "traditional", "lastValue": 0 }, "objectId": "70138"
    }))
}

fn in_cluster() -> Properties {
    Properties { shard_keys: Some(json!(["_key"])), replication_factor: json!(3), write_concern: json!(2), ..alone() }
}

#[test]
fn a_single_server_has_no_copies_to_compare() {
    assert_eq!(of_properties(&options(), "wal_entries", &alone()), []);
    assert_eq!(of_properties(&options(), "wal_entries", &in_cluster()), []);
}

#[test]
fn copies_can_be_changed_and_shard_keys_cannot() {
    let fewer = Properties { replication_factor: json!(1), write_concern: json!(1), ..in_cluster() };
    let found = of_properties(&options(), "wal_entries", &fewer);
    assert!(matches!(found[..], [Difference::Property { .. }, Difference::Property { .. }]), "{found:?}");
    let by_tenant = Properties { shard_keys: Some(json!(["tenant"])), ..in_cluster() };
    let generated = Properties { key_options: json!({ "allowUserKeys": false }), ..in_cluster() };
    let edges = Properties { kind: 3, ..in_cluster() };
    for fixed in [by_tenant, generated, edges] {
        let found = of_properties(&options(), "wal_entries", &fixed);
        assert!(matches!(found[..], [Difference::Fixed { .. }]), "{found:?}");
    }
}

fn found_index(wanted: &Wanted, id: &str) -> FoundIndex {
    let mut definition = wanted.definition();
    definition["id"] = json!(id);
    serde_json::from_value(definition).unwrap()
}

#[test]
fn the_index_of_its_name_counts_before_one_of_its_fields() {
    let wanted = wanted_indexes(&options()).next().unwrap();
    let right = found_index(&wanted, "right");
    let mut wrong = wanted.definition();
    wrong["cacheEnabled"] = json!(true);
    wrong["id"] = json!("wrong");
    let named: FoundIndex = serde_json::from_value(wrong.clone()).unwrap();
    wrong["name"] = json!("somebodys");
    let unnamed: FoundIndex = serde_json::from_value(wrong).unwrap();
    assert_eq!(of_index(&wanted, &[unnamed.clone(), right]), None);
    let differs = |found: &[FoundIndex]| match of_index(&wanted, found) {
        Some(Difference::Index { id, found, .. }) => (id, found),
        other => panic!("{other:?}"),
    };
    assert_eq!(differs(&[named]), ("wrong".to_owned(), vec!["cacheEnabled true".to_owned()]));
    assert_eq!(differs(&[unnamed]).0, "wrong");
    assert_eq!(of_index(&wanted, &[]), Some(Difference::NoIndex { name: wanted.index.name }));
}

#[test]
fn another_retention_is_another_safety_net() {
    let later = Options { retention: Duration::from_secs(1), ..options() };
    let found: Vec<FoundIndex> = wanted_indexes(&options()).map(|wanted| found_index(&wanted, "x")).collect();
    let differences: Vec<Difference> = wanted_indexes(&later).filter_map(|wanted| of_index(&wanted, &found)).collect();
    assert!(matches!(&differences[..], [Difference::Index { name: "ttl_finished", .. }]), "{differences:?}");
}
