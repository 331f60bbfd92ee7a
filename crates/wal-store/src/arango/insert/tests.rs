use proptest::prelude::*;

use super::*;

fn element(json: &str) -> Result<Outcome, Fault> {
    outcome(EntryKey::from(uuid::Uuid::nil()), serde_json::from_str(json).unwrap())
}

#[test]
fn each_document_has_its_own_outcome() {
    let nil = uuid::Uuid::nil();
    let stored = format!("{{\"_id\": \"wal_entries/{nil}\", \"_key\": \"{nil}\", \"_rev\": \"_l6\"}}");
    assert!(matches!(element(&stored), Ok(Outcome::Stored)));
    let failed = |number: u32| element(&format!("{{\"error\": true, \"errorNum\": {number}}}"));
    assert!(matches!(failed(1210), Ok(Outcome::Duplicate(_))));
    assert!(matches!(failed(1200), Ok(Outcome::Conflict)));
    assert!(matches!(failed(32), Ok(Outcome::TooLarge(_))));
    for number in [1221, 1216, 1222, 1226, 1227, 1620, 600] {
        assert!(matches!(failed(number), Ok(Outcome::Refused(_))), "{number}");
    }
    // Refusing for ever what may pass would lose an entry.
    assert!(matches!(failed(1004), Err(Fault { class: Class::ReadOnly, .. })));
    assert!(matches!(failed(999_999), Err(Fault { class: Class::Unavailable, .. })));
    assert!(matches!(element("{}"), Err(Fault { class: Class::Unavailable, .. })));
    assert!(matches!(element("{\"_key\": \"other\"}"), Err(Fault { class: Class::Unavailable, .. })));
}

proptest! {
    #[test]
    fn arrays_hold_everything_once_in_order_and_within_bounds(lengths in prop::collection::vec(0..3_000_000usize, 0..60)) {
        let arrays = cut((0..lengths.len()).collect(), |at| lengths[at]);
        let places: Vec<usize> = arrays.iter().flat_map(|array| array.places.clone()).collect();
        prop_assert_eq!(places, (0..lengths.len()).collect::<Vec<_>>());
        for array in arrays {
            let bytes: usize = array.places.iter().map(|at| lengths[*at] + 1).sum();
            prop_assert!(!array.places.is_empty() && (bytes <= BYTES || array.places.len() == 1));
        }
    }
}

#[test]
fn a_key_is_in_each_layer_once() {
    let names = ["a", "b", "a", "c", "a", "b"].map(crate::samples::entry);
    assert_eq!(layers(&names), [vec![0, 1, 3], vec![2, 5], vec![4]]);
    assert!(layers(&[]).is_empty());
}

#[test]
fn an_array_has_no_more_documents_than_a_thousand() {
    let arrays = cut((0..2001).collect(), |_| 1);
    assert_eq!(arrays.iter().map(|array| array.places.len()).collect::<Vec<_>>(), [1000, 1000, 1]);
}
