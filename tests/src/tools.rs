//! Tools of other languages that the scenarios need, taken from the system or fetched once into the target folder.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// What is installed from the Python registry, and the folder it goes to: a new version is a new folder.
const PYTHON_CLIENT: &str = "confluent-kafka==2.14.2";
const PYTHON_FOLDER: &str = "python-confluent-kafka-2.14.2";

/// A Python that has Kafka's client, from an earlier run or made now. Panics when it cannot be had.
pub fn python() -> &'static Path {
    static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
        fetch_python().unwrap_or_else(|error| panic!("failed to get Kafka's client for Python: {error:#}"))
    });
    &PYTHON
}

/// Compiles a Java source file against the jars of `class_path`, with every warning an error, to class files in the folder `classes`.
/// Panics with what the compiler says.
#[track_caller]
pub fn javac(source: &Path, class_path: &str, classes: &Path) {
    let present = require("javac", "-version", "a Java compiler of 17 or later, like Debian's openjdk-17-jdk-headless");
    present.unwrap_or_else(|error| panic!("{error:#}"));
    let mut command = Command::new("javac");
    command.args(["-Xlint:all,-serial", "-Werror", "-cp", class_path, "-d"]).arg(classes).arg(source);
    run(&mut command).unwrap_or_else(|error| panic!("{error:#}"));
}

/// Has Prometheus' own tool look at the metrics page of `service`. Panics with what it finds.
#[track_caller]
pub fn promtool_check(service: &str, page: &str) {
    let present = require("promtool", "--version", "Prometheus' promtool, like the one of Debian's prometheus");
    present.unwrap_or_else(|error| panic!("{error:#}"));
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it was there a moment ago");
    // It reads all before it says anything, so nobody waits for the other; its end of the pipe closes with the statement.
    child.stdin.take().expect("it is piped above").write_all(page.as_bytes()).expect("it takes a page");
    let output = child.wait_with_output().expect("a child of ours can be waited for");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "promtool finds fault with {service}:\n{said}\n{page}");
}

/// Compiles a C source file to a library for `LD_PRELOAD`. Panics with what the compiler says.
#[track_caller]
pub fn shared_library(source: &Path, library: &Path) {
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(library).arg(source).arg("-ldl");
    run(&mut command).unwrap_or_else(|error| panic!("{error:#}"));
}

/// Whether `program` is there and works; else the error says what to install.
pub(crate) fn require(program: &str, version_arg: &str, what_to_install: &str) -> Result<()> {
    let is_present = Command::new(program).arg(version_arg).output().is_ok_and(|output| output.status.success());
    ensure!(is_present, "{program} is missing: the scenarios need {what_to_install}");
    Ok(())
}

/// The mark of a complete installation is written last.
fn fetch_python() -> Result<PathBuf> {
    const DEBIAN: &str =
        "a Python of 3.8 or later with venv and pip, like Debian's python3, python3-venv and python3-pip";
    require("python3", "--version", DEBIAN)?;
    let folder = workspace::target_dir().join(PYTHON_FOLDER);
    let (python, mark) = (folder.join("bin/python3"), folder.join("complete"));

    // Two test processes may come here at once: the second waits and then finds it.
    let lock = File::create(folder.with_extension("lock")).context("failed to create the lock file")?;
    lock.lock().context("failed to lock the lock file")?;
    if mark.exists() && require_path(&python).is_ok() {
        return Ok(python);
    }

    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .with_context(|| format!("the scenarios need {DEBIAN}"))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", PYTHON_CLIENT]))?;
    fs::write(&mark, PYTHON_CLIENT).context("failed to mark the installation as complete")?;
    Ok(python)
}

/// The interpreter it links to may have been removed since.
fn require_path(python: &Path) -> Result<()> {
    run(Command::new(python).args(["-c", "import confluent_kafka"]))
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("failed to run {program}"))?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{program} failed ({}):\n{}", output.status, String::from_utf8_lossy(&said));
    Ok(())
}
