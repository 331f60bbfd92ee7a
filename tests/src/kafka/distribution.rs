//! Kafka's jars, fetched once with Maven into the target folder.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::{env, fs};

use anyhow::{Context, Result, ensure};

use super::Jvm;
use crate::tools::require;
use crate::workspace;

/// The version is in the pom; this name only has to change with it.
const FOLDER: &str = "kafka-4.1.1";
const FETCH: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

pub(super) struct Distribution {
    jars: PathBuf,
}

impl Distribution {
    /// The jars, from an earlier run if its pom was the same. Panics when they cannot be had.
    pub(super) fn fetched() -> &'static Distribution {
        static FETCHED: LazyLock<Distribution> = LazyLock::new(|| {
            let jars = fetch().unwrap_or_else(|error| panic!("failed to get Kafka for the tests: {error:#}"));
            Distribution { jars }
        });
        &FETCHED
    }

    /// What java and javac take as a class path: all of them.
    pub(super) fn class_path(&self) -> String {
        format!("{}/*", self.jars.display())
    }

    /// What comes before the main class.
    pub(super) fn java_args(&self, jvm: Jvm, log: &Path) -> Vec<String> {
        let options: &[&str] = match jvm {
            Jvm::StartsFast => &["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
            Jvm::RunsLong => &["-Xmx1g", "-XX:+UseSerialGC"],
            Jvm::RunsFast => &[
                "-Xms1g",
                "-Xmx1g",
                "-server",
                "-XX:+UseG1GC",
                "-XX:MaxGCPauseMillis=20",
                "-XX:InitiatingHeapOccupancyPercent=35",
            ],
        };
        let mut args: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        args.extend([
            format!("-XX:ErrorFile={}", log.with_extension("crash").display()),
            format!("-Dlog4j2.configurationFile={}", source_folder().join("log4j2.properties").display()),
            format!("-Dkafka.log.file={}", log.display()),
            "-cp".into(),
            self.class_path(),
        ]);
        args
    }
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka")
}

/// The copy of the pom beside the jars is the mark of a complete fetch; it is written last.
fn fetch() -> Result<PathBuf> {
    require("java", "-version", "a Java of 17 or later, like Debian's openjdk-17-jre-headless")?;
    let pom = source_folder().join("pom.xml");
    let wanted = fs::read(&pom).with_context(|| format!("failed to read {}", pom.display()))?;
    let jars = workspace::target_dir().join(FOLDER);
    let mark = jars.join("pom.xml");

    // Two test processes may come here at once: the second waits and then finds the jars.
    let lock = File::create(jars.with_extension("lock")).context("failed to create the lock file")?;
    lock.lock().context("failed to lock the lock file")?;
    if fs::read(&mark).is_ok_and(|fetched| fetched == wanted) {
        return Ok(jars);
    }

    require("mvn", "-v", "Maven, like Debian's maven")?;
    if jars.exists() {
        fs::remove_dir_all(&jars).context("failed to remove the jars of another pom")?;
    }
    let output = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "--file"])
        .arg(&pom)
        .arg(FETCH)
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .output()
        .context("failed to run mvn")?;
    let message = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "mvn could not fetch {} ({}):\n{message}", pom.display(), output.status);
    fs::write(&mark, wanted).context("failed to mark the jars as complete")?;
    Ok(jars)
}
