//! The page of the error codes: those of the log, then those of `wal` itself.

use std::fmt::Write as _;

use super::cell;
use crate::explain::Explained;

const ABOUT: &str = "\
# Error codes

Stable words for what can go wrong. `wal explain CODE` tells the same of one.

## Codes of the log

\"Again\" is whether the same request may succeed later; receipts and the gateway say it as `retryable`.
";

const OWN: &str = "
## Codes of `wal`

With these the command itself ends; they stand in brackets on standard error, with `-o json` as `error_code`. Its exit codes are in
[cli.md](cli.md).

| code | means | do |
| --- | --- | --- |
";

/// The page.
pub fn page() -> String {
    let mut text = ABOUT.to_owned();
    for code in Explained::of_the_log() {
        let again = if code.retryable == Some(true) { "yes" } else { "no" };
        let status = code.http_status.map_or_else(String::new, |status| format!(" · HTTP {status}"));
        let _ = write!(text, "\n### `{}`\n\n{}\n\n", code.code, code.meaning);
        let _ = writeln!(text, "- **Who**: {}\n- **Do**: {}", code.who, code.remedy);
        let _ = writeln!(text, "- **Again**: {again}{status}\n- **Seen** in {}", code.places.join("; "));
    }
    text.push_str(OWN);
    for code in Explained::of_our_own() {
        let _ = writeln!(text, "| `{}` | {} | {} |", code.code, cell(code.meaning), cell(code.remedy));
    }
    text
}
