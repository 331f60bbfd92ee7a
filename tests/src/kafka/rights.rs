//! Users of a node and what they may do, as an administrator sets them.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::{Distribution, START_LIMIT};
use crate::{Process, tools, unique, workspace};

/// Sets users and rights, in the words of `Rights.java`: `user|name|password`, `allow|name|topic|literal|orders|read`, and the same with
/// `withdraw`. Needs a listener on which whoever comes may do everything.
#[track_caller]
pub(super) fn set(bootstrap: &str, words: &[String]) {
    let class_path = format!("{}:{}", classes().display(), Distribution::fetched().class_path());
    let mut args = vec!["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", &class_path, "Rights", bootstrap];
    args.extend(words.iter().map(String::as_str));
    let process = Process::run("rights", Path::new("java"), &args, &[]);
    let status = process.wait(START_LIMIT);
    assert!(status.success(), "rights were not set, {status}: {process:?}");
}

fn classes() -> &'static Path {
    static CLASSES: LazyLock<PathBuf> = LazyLock::new(|| {
        let classes = workspace::run_dir().join(unique("rights"));
        std::fs::create_dir_all(&classes).unwrap_or_else(|error| panic!("{}: {error}", classes.display()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/Rights.java");
        tools::javac(&source, &Distribution::fetched().class_path(), &classes);
        classes
    });
    &CLASSES
}
