//! The page that tells of every family, made from their declarations.

use std::fmt::Write;

use super::{Kind, Places, descriptions};

/// Every family as a page in Markdown.
pub fn reference() -> String {
    let mut page = format!(
        "# Metrics\n\n\
         Every service tells them at `/metrics` on `health.listen`, as OpenMetrics or, if that is asked for, in Prometheus' text format. \
         A family appears once its service has to do with it. Namespaces and targets are told apart up to {} of them; all later ones are \
         `{}`. This page is made from the code.\n\n\
         | name | kind | labels | what it tells |\n| --- | --- | --- | --- |\n",
        Places::LIMIT,
        Places::OTHER
    );
    for family in descriptions() {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        let (name, labels, help) = (family.name, labels.join(", "), family.help);
        writeln!(page, "| `{name}` | {kind} | {labels} | {help} |").expect("a String takes everything");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `WAL_WRITE_REFERENCE` set the page is written instead.
    #[test]
    fn the_page_is_what_the_code_makes() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/reference/metrics.md");
        if std::env::var_os("WAL_WRITE_REFERENCE").is_some() {
            std::fs::write(file, reference()).unwrap();
        }
        let kept = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            kept == reference(),
            "{file} is out of date; `WAL_WRITE_REFERENCE=1 cargo test --workspace --lib the_page_is_what` writes it"
        );
    }
}
