//! The total order of AQL over JSON: null < bool < number < string < array < object, strings by the server's collation.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

pub(crate) static NULL: Value = Value::Null;

/// A value with AQL's order, as an index keeps it. `Max` stands above everything: the upper end of an open range.
#[derive(Clone, Debug)]
pub(crate) enum Sorted {
    Value(Value),
    Max,
}

impl Ord for Sorted {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Value(left), Self::Value(right)) => compare(left, right),
            (Self::Value(_), Self::Max) => Ordering::Less,
            (Self::Max, Self::Value(_)) => Ordering::Greater,
            (Self::Max, Self::Max) => Ordering::Equal,
        }
    }
}

impl PartialOrd for Sorted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Sorted {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Sorted {}

pub(crate) fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => compare_numbers(left, right),
        (Value::String(left), Value::String(right)) => collate(left, right),
        (Value::Array(left), Value::Array(right)) => compare_arrays(left, right),
        (Value::Object(left), Value::Object(right)) => compare_objects(left, right),
        _ => rank(left).cmp(&rank(right)),
    }
}

/// The same answer as [`compare`] gives, sooner: texts are equal only if their bytes are.
pub(crate) fn is_equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::String(left), Value::String(right)) => left == right,
        _ => compare(left, right).is_eq(),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

fn compare_numbers(left: &Number, right: &Number) -> Ordering {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => float(left).total_cmp(&float(right)),
    }
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn float(number: &Number) -> f64 {
    // Minus zero is zero.
    number.as_f64().unwrap_or(f64::NAN) + 0.0
}

/// The shorter array is filled up with null: `[] == [null]`.
fn compare_arrays(left: &[Value], right: &[Value]) -> Ordering {
    (0..left.len().max(right.len()))
        .map(|at| compare(left.get(at).unwrap_or(&NULL), right.get(at).unwrap_or(&NULL)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// By the sorted names of both; what one does not have is null.
fn compare_objects(left: &Map<String, Value>, right: &Map<String, Value>) -> Ordering {
    let mut names: Vec<&String> = left.keys().chain(right.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|name| compare(left.get(name).unwrap_or(&NULL), right.get(name).unwrap_or(&NULL)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// What ICU's root collation makes of ASCII, in its order; a letter stands for both cases. Bytes would put "B" before "a" and "-" before
/// "_"; the real server does not, and nobody should come to rely on it.
const COLLATION: &str = "_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789abcdefghijklmnopqrstuvwxyz";

/// How the real server orders strings: ICU's collation of English, capitals first, at last by code points. True for ASCII; whatever lies
/// beyond sorts by code point after "z", which is only nearly what ICU does.
pub(crate) fn collate(left: &str, right: &str) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    let differ = differ_at(left, right);
    let (left, right) = (&left[differ..], &right[differ..]);
    let weights = left.chars().filter_map(weight).cmp(right.chars().filter_map(weight));
    // Capitals first is what bytes do, so the case and the last resort are one comparison.
    weights.then_with(|| left.cmp(right))
}

/// Where the first character begins that is not the same. What is the same before it weighs the same.
fn differ_at(left: &str, right: &str) -> usize {
    let mut at = 0;
    let (bytes, others) = (left.as_bytes(), right.as_bytes());
    let shorter = bytes.len().min(others.len());
    while at < shorter && bytes[at] == others[at] {
        at += 1;
    }
    while !left.is_char_boundary(at) || !right.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Control characters weigh nothing; blank space weighs least.
fn weight(character: char) -> Option<u32> {
    match character {
        '\t' => Some(1),
        '\n' => Some(2),
        '\r' => Some(3),
        ' ' => Some(4),
        _ if character.is_ascii_control() => None,
        _ if character.is_ascii() => Some(ascii_weight(character)),
        _ => Some(u32::from(character) + 1000),
    }
}

fn ascii_weight(character: char) -> u32 {
    static WEIGHTS: std::sync::LazyLock<[u8; 128]> = std::sync::LazyLock::new(|| {
        let mut weights = [0; 128];
        for (at, character) in COLLATION.bytes().enumerate() {
            let weight = u8::try_from(at + 5).expect("fewer than 128 characters");
            weights[usize::from(character)] = weight;
            weights[usize::from(character.to_ascii_uppercase())] = weight;
        }
        weights
    });
    u32::from(WEIGHTS[character as usize])
}

pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => float(number) != 0.0,
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// What arithmetic makes of a value: text that is no number counts 0, and so does an array that has not exactly one element.
pub(crate) fn to_number(value: &Value) -> Number {
    let zero = Number::from(0);
    match value {
        Value::Null | Value::Object(_) => zero,
        Value::Bool(value) => Number::from(u8::from(*value)),
        Value::Number(number) => number.clone(),
        Value::String(text) => text_to_number(text).unwrap_or(zero),
        Value::Array(elements) if elements.len() == 1 => to_number(&elements[0]),
        Value::Array(_) => zero,
    }
}

fn text_to_number(text: &str) -> Option<Number> {
    let text = text.trim();
    text.parse::<i64>().ok().map(Number::from).or_else(|| text.parse().ok().and_then(Number::from_f64))
}

pub(crate) fn to_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        _ => Cow::Owned(value.to_string()),
    }
}

/// A nested attribute; on anything that is no object it is null.
pub(crate) fn at<'a>(value: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(value, |value, name| value.get(name).unwrap_or(&NULL))
}

/// What `UPDATE` and PATCH do with attributes that both sides have, and with nulls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patch {
    pub(crate) keep_null: bool,
    pub(crate) merge_objects: bool,
}

impl Patch {
    pub(crate) fn apply(self, document: &mut Map<String, Value>, change: &Map<String, Value>) {
        for (name, value) in change {
            match (document.get_mut(name), value) {
                (_, Value::Null) if !self.keep_null => drop(document.remove(name)),
                (Some(Value::Object(old)), Value::Object(new)) if self.merge_objects => self.apply(old, new),
                _ => drop(document.insert(name.clone(), self.fresh(value))),
            }
        }
    }

    /// Nulls are removed from what is new as well, but not within arrays.
    fn fresh(self, value: &Value) -> Value {
        match value {
            Value::Object(object) if !self.keep_null => {
                let kept = object.iter().filter(|(_, value)| !value.is_null());
                Value::Object(kept.map(|(name, value)| (name.clone(), self.fresh(value))).collect())
            }
            _ => value.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_has_its_place() {
        let rising = [
            json!(null),
            json!(false),
            json!(true),
            json!(-1),
            json!(0.5),
            json!(1),
            json!(9_007_199_254_740_993_u64),
            json!(""),
            json!("A"),
            json!("a"),
            json!("B"),
            json!([]),
            json!([false]),
            json!(["a", 1]),
            json!(["a", "b"]),
            json!({}),
            json!({ "b": 1 }),
            json!({ "a": 1 }),
        ];
        for (at, left) in rising.iter().enumerate() {
            for (beyond, right) in rising.iter().enumerate() {
                assert_eq!(compare(left, right), at.cmp(&beyond), "{left} and {right}");
            }
        }
    }

    #[test]
    fn what_is_missing_is_null() {
        assert!(compare(&json!([]), &json!([null])).is_eq());
        assert!(compare(&json!({}), &json!({ "a": null })).is_eq());
        assert!(compare(&json!(1), &json!(1.0)).is_eq());
    }

    #[test]
    fn strings_are_collated_not_compared_by_bytes() {
        let rising = ["", " ", "_", "-", ":", ".", "0", "9", "a", "a_", "a-b", "A0", "ab", "AB", "b", "ä"];
        // "AB" and "ab" differ in case only, and capitals go first.
        let order = |left: &&str, right: &&str| collate(left, right);
        let mut sorted = rising;
        sorted.sort_by(order);
        let expected = ["", " ", "_", "-", ":", ".", "0", "9", "a", "a_", "a-b", "A0", "AB", "ab", "b", "ä"];
        assert_eq!(sorted, expected);
        assert!(collate("wal_ns", "wal-ns").is_lt(), "bytes say otherwise");
        // Their first bytes are the same.
        assert!(collate("xà", "xé").is_lt() && collate("xé", "xà").is_gt() && collate("x", "xà").is_lt());
    }

    #[test]
    fn a_patch_merges_and_removes() {
        let patched = |patch: Patch| {
            let mut document = json!({ "a": { "x": 1 }, "b": 2 });
            let change = json!({ "a": { "y": null, "z": 3 }, "b": null });
            patch.apply(document.as_object_mut().unwrap(), change.as_object().unwrap());
            document
        };
        let all = Patch { keep_null: true, merge_objects: true };
        assert_eq!(patched(all), json!({ "a": { "x": 1, "y": null, "z": 3 }, "b": null }));
        assert_eq!(patched(Patch { keep_null: false, ..all }), json!({ "a": { "x": 1, "z": 3 } }));
        assert_eq!(patched(Patch { keep_null: false, merge_objects: false }), json!({ "a": { "z": 3 } }));
    }
}
