//! The official drivers for Python and JavaScript, unmodified, against the fake as a process of its own. They are fetched once from their
//! registries into the target folder.

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use support::Client;

/// A new version is a new folder.
const PYTHON_DRIVER: &str = "python-arango==8.3.7";
const PYTHON_FOLDER: &str = "python-arango-8.3.7";
const JAVASCRIPT_DRIVER: &str = "arangojs@10.4.0";
const JAVASCRIPT_FOLDER: &str = "arangojs-10.4.0";

/// The fake as a process; killed when dropped.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wal-arango-fake"));
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().expect("the fake starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("it says where it listens");
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("it said {line:?}")).to_owned();
        Self { child, url }
    }

    fn client(&self) -> Client {
        let address: SocketAddr = self.url.trim_start_matches("http://").parse().expect("an address");
        Client::new(address)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_process_is_what_its_arguments_say() {
    let process = Process::start(&["--version", "3.11", "--user", "wal:secret", "--require-auth"]);
    let client = process.client();
    assert_eq!(client.get("/_api/version").status, 401);
    let token = client.post("/_open/auth", serde_json::json!({ "username": "wal", "password": "secret" }));
    assert_eq!(token.status, 200);
    assert_eq!(client.get("/fake/faults").status, 200, "the switches ask for no password");

    let unknown = Command::new(env!("CARGO_BIN_EXE_wal-arango-fake")).arg("--prot").output().expect("it starts");
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn pythons_driver_takes_it_for_the_real_one() {
    let python = python().unwrap_or_else(|error| panic!("failed to get ArangoDB's driver for Python: {error:#}"));
    drive(|url| {
        let mut command = Command::new(&python);
        command.arg(source("python.py")).arg(url);
        command
    });
}

#[test]
fn javascripts_driver_takes_it_for_the_real_one() {
    let folder =
        javascript().unwrap_or_else(|error| panic!("failed to get ArangoDB's driver for JavaScript: {error:#}"));
    // Node looks for a module beside the file that asks for it.
    let script = folder.join("javascript.mjs");
    fs::copy(source("javascript.mjs"), &script).expect("the folder can be written");
    drive(|url| {
        let mut command = Command::new("node");
        command.arg(&script).arg(url);
        command
    });
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers").join(name)
}

/// Against both lines.
fn drive(command: impl Fn(&str) -> Command) {
    for version in ["3.11", "3.12"] {
        let process = Process::start(&["--version", version, "--user", "wal:secret", "--require-auth"]);
        run(&mut command(&process.url)).unwrap_or_else(|error| panic!("{version}: {error:#}"));
    }
}

fn python() -> Result<PathBuf> {
    let folder = install(PYTHON_FOLDER, |folder| {
        let what = "a Python of 3.9 or later with venv and pip, like Debian's python3, python3-venv and python3-pip";
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder)).context(what)?;
        run(Command::new(folder.join("bin/python3")).args(["-m", "pip", "install", "--quiet", PYTHON_DRIVER]))
    })?;
    Ok(folder.join("bin/python3"))
}

fn javascript() -> Result<PathBuf> {
    install(JAVASCRIPT_FOLDER, |folder| {
        let what = "Node.js of 20 or later with npm, like Debian's nodejs and npm";
        fs::create_dir_all(folder)?;
        // Without one of its own npm would install into the nearest folder above that has one.
        fs::write(folder.join("package.json"), "{}")?;
        let mut npm = Command::new("npm");
        npm.current_dir(folder).args(["install", "--silent", "--no-audit", "--no-fund", JAVASCRIPT_DRIVER]);
        run(&mut npm).context(what)
    })
}

/// A folder below the target folder that `fetch` has filled, now or in an earlier run. The mark of completeness is written last.
fn install(name: &str, fetch: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mark = folder.join("complete");
    // Two test processes may come here at once: the second waits and then finds it.
    let lock = File::create(folder.with_extension("lock")).context("failed to create the lock file")?;
    lock.lock().context("failed to lock the lock file")?;
    if !mark.exists() {
        fetch(&folder)?;
        fs::write(&mark, name).context("failed to mark the installation as complete")?;
    }
    Ok(folder)
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("failed to run {program}"))?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{program} failed ({}):\n{}", output.status, String::from_utf8_lossy(&said));
    Ok(())
}
