//! JSON as text: laid out for people, or on one line for machines, and in either case not a character of a value changed.
//!
//! Reading JSON into values and writing it again loses numbers beyond a double, the order of names, and names that come twice.

use serde::de::IgnoredAny;

/// The text with a line for each member; `None` if it is not JSON.
pub fn pretty(text: &[u8]) -> Option<String> {
    laid_out(text, &mut Pretty { depth: 0 })
}

/// The text on one line, without spaces outside of strings; `None` if it is not JSON.
pub fn compact(text: &[u8]) -> Option<String> {
    laid_out(text, &mut Compact)
}

/// What stands around the tokens.
trait Layout {
    fn open(&mut self, is_empty: bool, out: &mut String);
    fn close(&mut self, is_empty: bool, out: &mut String);
    fn comma(&mut self, out: &mut String);
    fn colon(&mut self, out: &mut String);
}

struct Pretty {
    depth: usize,
}

impl Pretty {
    fn line(&self, out: &mut String) {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", self.depth));
    }
}

impl Layout for Pretty {
    fn open(&mut self, is_empty: bool, out: &mut String) {
        if !is_empty {
            self.depth += 1;
            self.line(out);
        }
    }

    fn close(&mut self, is_empty: bool, out: &mut String) {
        if !is_empty {
            self.depth = self.depth.saturating_sub(1);
            self.line(out);
        }
    }

    fn comma(&mut self, out: &mut String) {
        self.line(out);
    }

    fn colon(&mut self, out: &mut String) {
        out.push(' ');
    }
}

struct Compact;

impl Layout for Compact {
    fn open(&mut self, _: bool, _: &mut String) {}
    fn close(&mut self, _: bool, _: &mut String) {}
    fn comma(&mut self, _: &mut String) {}
    fn colon(&mut self, _: &mut String) {}
}

fn laid_out(text: &[u8], layout: &mut impl Layout) -> Option<String> {
    serde_json::from_slice::<IgnoredAny>(text).ok()?;
    let text = std::str::from_utf8(text).ok()?;
    let mut out = String::with_capacity(text.len());
    // From here on the text is known to be JSON, so that looking at single characters is enough.
    let mut tokens = text.chars().filter(Outside::new().keeps()).peekable();
    let mut string = InString::No;
    while let Some(token) = tokens.next() {
        if let Some(next) = string.after(token) {
            string = next;
            out.push(token);
            continue;
        }
        match token {
            '{' | '[' => {
                out.push(token);
                let is_empty = matches!(tokens.peek(), Some('}' | ']'));
                layout.open(is_empty, &mut out);
            }
            '}' | ']' => {
                let is_empty = out.ends_with(['{', '[']);
                layout.close(is_empty, &mut out);
                out.push(token);
            }
            ',' => {
                out.push(token);
                layout.comma(&mut out);
            }
            ':' => {
                out.push(token);
                layout.colon(&mut out);
            }
            other => out.push(other),
        }
    }
    Some(out)
}

/// Where in a string a character stands.
#[derive(Clone, Copy)]
enum InString {
    No,
    Yes,
    AfterBackslash,
}

impl InString {
    /// Where the next character stands; `None` if this one belongs to no string.
    fn after(self, character: char) -> Option<InString> {
        match (self, character) {
            (InString::No, '"') | (InString::AfterBackslash, _) => Some(InString::Yes),
            (InString::No, _) => None,
            (InString::Yes, '\\') => Some(InString::AfterBackslash),
            (InString::Yes, '"') => Some(InString::No),
            (InString::Yes, _) => Some(InString::Yes),
        }
    }
}

/// Leaves out the spaces between tokens.
struct Outside(InString);

impl Outside {
    fn new() -> Outside {
        Outside(InString::No)
    }

    fn keeps(mut self) -> impl FnMut(&char) -> bool {
        move |character| match self.0.after(*character) {
            Some(next) => {
                self.0 = next;
                true
            }
            None => !character.is_ascii_whitespace(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_value_is_changed() {
        let exact =
            r#"{"z":1e400,"a":12345678901234567890123,"a":1.10,"s":"a \" { , : b\\","e":"\u00e9","n":[],"o":{}}"#;
        assert_eq!(compact(exact.as_bytes()).as_deref(), Some(exact));
        let pretty = pretty(exact.as_bytes()).unwrap();
        assert_eq!(compact(pretty.as_bytes()).as_deref(), Some(exact));
    }

    #[test]
    fn people_get_lines_and_machines_get_one() {
        let text = b"{ \"a\" : [1,\n 2], \"b\":{ } }";
        assert_eq!(pretty(text).unwrap(), "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}");
        assert_eq!(compact(text).unwrap(), r#"{"a":[1,2],"b":{}}"#);
        assert_eq!(pretty(b" 7 ").unwrap(), "7");
    }

    #[test]
    fn what_is_no_json_is_left_alone() {
        for text in [&b"hello"[..], b"", b"{\"a\":", b"\xff", b"{} {}"] {
            assert_eq!(pretty(text), None);
        }
    }
}
