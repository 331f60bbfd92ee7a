//! Where things are: the target folder, our binaries, and the folder of this run.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{env, fs, process};

/// Cargo's target folder, found from where this test executable lies: `<target>/<profile>/deps/`.
pub fn target_dir() -> PathBuf {
    let target = profile_dir().parent().map(Path::to_path_buf);
    target.expect("cargo puts a profile folder inside the target folder")
}

/// The executable of one of our packages.
///
/// # Panics
/// If it has not been built: `cargo test -p wal-tests` alone builds the tests and not the binaries they run.
#[track_caller]
pub fn binary(name: &str) -> PathBuf {
    let path = profile_dir().join(name);
    assert!(path.is_file(), "{} is missing: run `cargo test --workspace`, which builds it", path.display());
    path
}

/// The folder of this test process, `<target>/wal-tests/<pid>`: data of brokers, logs of processes.
///
/// Folders of processes that are gone are removed on the first call, so the last run can be looked at until the next.
pub fn run_dir() -> &'static Path {
    static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
        let all_runs = target_dir().join("wal-tests");
        sweep(&all_runs);
        let dir = all_runs.join(process::id().to_string());
        fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("failed to create {}: {error}", dir.display()));
        dir
    });
    &DIR
}

fn profile_dir() -> PathBuf {
    let executable = env::current_exe().expect("the system knows the path of a running executable");
    let dir = executable.parent().expect("an executable lies in a folder");
    if dir.ends_with("deps") { dir.parent().expect("deps lies in a profile folder").to_path_buf() } else { dir.into() }
}

fn sweep(all_runs: &Path) {
    let Ok(runs) = fs::read_dir(all_runs) else { return };
    for run in runs.flatten() {
        let is_running = Path::new("/proc").join(run.file_name()).exists();
        if !is_running {
            // Another test process may be sweeping the same folder: whoever comes second finds it gone.
            let _ = fs::remove_dir_all(run.path());
        }
    }
}
