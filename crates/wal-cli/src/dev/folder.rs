//! The folder of `wal dev`: who may use it, in which version it is, and what is where.
//!
//! ```text
//!   .wal/
//!     lock       held by the process that uses the folder
//!     format     the version of this layout                  stored, keep stable
//!     cluster    the id of the embedded cluster              stored, keep stable
//!     seal.key   the key that signs deliveries, in base64    stored, keep stable
//!     broker/    the embedded broker's
//!     store/     the embedded store's
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::problem::{Exit, Problem};

/// The version of the layout. Stored, keep stable.
const FORMAT: u32 = 1;
/// As long as the hash that the key keys.
const KEY_LEN: usize = 32;

/// A folder that is ours for as long as this lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The key that signs deliveries, in base64.
    pub seal_key: String,
    /// The id of the embedded cluster.
    pub cluster_id: String,
    _lock: File,
}

impl Folder {
    /// Opens a folder, which is made if it is missing.
    pub fn open(path: &Path) -> Result<Folder, Problem> {
        make(path).map_err(|error| unusable(path, &error))?;
        let path = path.canonicalize().map_err(|error| unusable(path, &error))?;
        let lock = lock(&path)?;
        check_format(&path)?;
        let seal_key = kept(&path.join("seal.key"), || Ok(STANDARD.encode(random::<KEY_LEN>()?)));
        // Topics carry their cluster's name, so two folders must not have the same.
        let cluster_id = kept(&path.join("cluster"), || Ok(format!("wal-dev-{}", hex(&random::<8>()?))));
        let unusable = |error| unusable(&path, &error);
        let (seal_key, cluster_id) = (seal_key.map_err(unusable)?, cluster_id.map_err(unusable)?);
        Ok(Folder { path, seal_key, cluster_id, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the embedded broker keeps its files.
    pub fn broker(&self) -> PathBuf {
        self.path.join("broker")
    }

    /// Where the embedded store keeps its files.
    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }
}

fn make(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    // Entries are nobody else's business.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn lock(path: &Path) -> Result<File, Problem> {
    let name = path.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(name);
    let file = file.map_err(|error| unusable(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let what = format!("use the folder {}: another wal process has it", path.display());
            let hint = "stop that one, or take another folder: --data FOLDER";
            Err(Problem::new(Exit::Failed, "WAL_FOLDER_LOCKED", what).hint(hint))
        }
        Err(TryLockError::Error(error)) => Err(unusable(path, &error)),
    }
}

fn check_format(path: &Path) -> Result<(), Problem> {
    let text = kept(&path.join("format"), || Ok(FORMAT.to_string())).map_err(|error| unusable(path, &error))?;
    match text.parse::<u32>() {
        Ok(FORMAT) => Ok(()),
        Ok(other) => {
            let folder = path.display();
            let what = format!("use the folder {folder}: it has format {other}, and this wal knows format {FORMAT}");
            let hint = "use the wal that made it, or take another folder: --data FOLDER";
            Err(Problem::new(Exit::Failed, "WAL_FOLDER_NEWER", what).hint(hint))
        }
        Err(_) => {
            let what = format!("use the folder {}: its file `format` holds no version", path.display());
            Err(Problem::new(Exit::Failed, "WAL_FOLDER_UNUSABLE", what).hint("is it a folder of `wal dev`? See --data"))
        }
    }
}

/// The text of a small file, which is made if it is missing: whole or not at all, and only for our eyes.
fn kept(path: &Path, make: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let text = make()?;
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(format!("{text}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(text)
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unusable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(Exit::Failed, "WAL_FOLDER_UNUSABLE", format!("use the folder {}", path.display()))
        .because(error)
        .hint("take another folder: --data FOLDER")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_keeps_its_key_and_its_cluster() {
        let made = tempfile::tempdir().unwrap();
        let path = made.path().join("new/wal");
        let first = Folder::open(&path).unwrap();
        let (key, cluster) = (first.seal_key.clone(), first.cluster_id.clone());
        drop(first);

        let again = Folder::open(&path).unwrap();

        assert_eq!((&again.seal_key, &again.cluster_id), (&key, &cluster));
        assert_eq!(STANDARD.decode(&key).unwrap().len(), KEY_LEN);
        let mode = fs::metadata(path.join("seal.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn two_folders_have_two_keys() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, two) = (Folder::open(one.path()).unwrap(), Folder::open(two.path()).unwrap());
        assert_ne!((&one.seal_key, &one.cluster_id), (&two.seal_key, &two.cluster_id));
    }

    #[test]
    fn a_folder_in_use_is_refused_by_name() {
        let made = tempfile::tempdir().unwrap();
        let _first = Folder::open(made.path()).unwrap();
        let problem = Folder::open(made.path()).unwrap_err();
        assert!(problem.json().contains("WAL_FOLDER_LOCKED"), "{}", problem.json());
    }

    #[test]
    fn a_newer_folder_is_refused_and_not_touched() {
        let made = tempfile::tempdir().unwrap();
        fs::write(made.path().join("format"), "2\n").unwrap();
        let problem = Folder::open(made.path()).unwrap_err();
        assert!(problem.json().contains("WAL_FOLDER_NEWER"), "{}", problem.json());
        assert!(!made.path().join("seal.key").exists());
    }

    #[test]
    fn a_file_is_no_folder() {
        let made = tempfile::NamedTempFile::new().unwrap();
        let problem = Folder::open(made.path()).unwrap_err();
        assert!(problem.json().contains("WAL_FOLDER_UNUSABLE"), "{}", problem.json());
    }
}
