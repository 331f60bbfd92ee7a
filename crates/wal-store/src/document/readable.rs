//! Which payloads a database can hold as JSON without changing them: what goes in comes out as the same value.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting a database is trusted with: ArangoDB's limit is near 200, and the document adds a level of its own.
const DEPTH_MAX: usize = 100;

/// The payload as the JSON it is; `None` if it is none, or none that a database can hold.
pub(super) fn copy_of(payload: &[u8]) -> Option<&RawValue> {
    let json: &RawValue = serde_json::from_slice(payload).ok()?;
    let mut reader = serde_json::Deserializer::from_str(json.get());
    Shape { depth_left: DEPTH_MAX }.deserialize(&mut reader).ok()?;
    numbers(json.get()).all(survives).then_some(json)
}

/// Walks a value and fails where it is too deep, names a field twice, or holds a text that is no Unicode.
#[derive(Clone, Copy)]
struct Shape {
    depth_left: usize,
}

impl Shape {
    fn deeper<E: serde::de::Error>(self) -> Result<Shape, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Shape { depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut names = HashSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            if !names.insert(name) {
                return Err(serde::de::Error::custom("a field twice"));
            }
            fields.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// The numbers of a valid JSON text, as they are spelled.
fn numbers(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    std::iter::from_fn(move || {
        loop {
            let at = rest.find(|c: char| matches!(c, '"' | '-' | '0'..='9'))?;
            rest = &rest[at..];
            if rest.starts_with('"') {
                rest = after_string(rest);
                continue;
            }
            let end = rest.find(|c| !matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9')).unwrap_or(rest.len());
            let (number, after) = rest.split_at(end);
            rest = after;
            return Some(number);
        }
    })
}

/// What follows the string that `json` begins with.
fn after_string(json: &str) -> &str {
    let mut is_escaped = true;
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return &json[at + 1..],
            _ => {}
        }
    }
    ""
}

/// Whether a number is the same after it was held as an `i64` or an `f64`.
fn survives(number: &str) -> bool {
    let is_integer = !number.contains(['.', 'e', 'E']);
    if is_integer && number.parse::<i64>().is_ok() {
        return number != "-0";
    }
    match number.parse::<f64>() {
        Ok(held) if held.is_finite() && !is_integer => decimal(number) == decimal(&format!("{held:e}")),
        Ok(_) | Err(_) => false,
    }
}

/// A number as its significant digits and the power of ten of the last of them: one value, one spelling.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_negative = whole.starts_with('-');
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let significant = digits.trim_end_matches('0');
    if significant.trim_start_matches('0').is_empty() {
        return Some((is_negative, String::new(), 0));
    }
    let exponent: i64 = exponent.parse().ok()?;
    let shifted = i64::try_from(fraction.len()).ok()?;
    let dropped = i64::try_from(digits.len() - significant.len()).ok()?;
    let power = exponent.checked_sub(shifted)?.checked_add(dropped)?;
    Some((is_negative, significant.trim_start_matches('0').to_owned(), power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_a_database_keeps_are_told_from_those_it_changes() {
        for good in
            ["0", "-1", "9223372036854775807", "-9223372036854775808", "0.1", "0.10", "1e3", "1E+2", "-0.0", "0e9"]
        {
            assert!(survives(good), "{good}");
        }
        let bad =
            ["9223372036854775808", "18446744073709551615", "1e400", "0.12345678901234567890", "-0", "1e99999999999"];
        for bad in bad {
            assert!(!survives(bad), "{bad}");
        }
    }

    #[test]
    fn a_copy_is_made_of_json_that_stays_the_same() {
        for good in ["{}", " [1, 2] ", "null", r#"{"a": "9223372036854775808 \" 1e400", "b": [1.5]}"#, "\"größe\""] {
            assert_eq!(copy_of(good.as_bytes()).map(RawValue::get), Some(good.trim()), "{good}");
        }
        for bad in ["", "{", "[1e400]", r#"{"a": 1, "a": 2}"#, r#"["\ud800"]"#, "1 2"] {
            assert!(copy_of(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(copy_of(b"\"\xff\"").is_none());
    }

    #[test]
    fn a_hundred_levels_are_copied_and_no_more() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(copy_of(nested(100).as_bytes()).is_some());
        assert!(copy_of(nested(101).as_bytes()).is_none());
        assert!(copy_of(nested(100_000).as_bytes()).is_none());
    }
}
