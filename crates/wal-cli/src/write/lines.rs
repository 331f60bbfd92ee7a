//! Requests from a file or from standard input, one a line.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::problem::{Exit, Problem};

/// The lines of a file.
pub struct Lines {
    name: PathBuf,
    source: Box<dyn AsyncBufRead + Unpin + Send>,
    line: u64,
}

impl Lines {
    /// Opens a file; `-` is standard input.
    pub async fn open(name: &Path) -> Result<Lines, Problem> {
        let source: Box<dyn AsyncBufRead + Unpin + Send> = match name.to_str() {
            Some("-") => Box::new(BufReader::new(tokio::io::stdin())),
            _ => Box::new(BufReader::new(File::open(name).await.map_err(|error| unreadable(name, &error))?)),
        };
        Ok(Lines { name: name.to_owned(), source, line: 0 })
    }

    /// The next line that is not empty, with its number from 1. What is no JSON is sent too: the log answers why.
    pub async fn next(&mut self) -> Result<Option<(u64, Bytes)>, Problem> {
        loop {
            let mut text = Vec::new();
            let read = self.source.read_until(b'\n', &mut text).await;
            if read.map_err(|error| unreadable(&self.name, &error))? == 0 {
                return Ok(None);
            }
            self.line += 1;
            let text = text.trim_ascii();
            if !text.is_empty() {
                return Ok(Some((self.line, Bytes::copy_from_slice(text))));
            }
        }
    }
}

/// All of a file; `-` is standard input.
pub async fn read_all(name: &Path) -> Result<String, Problem> {
    let mut text = String::new();
    let mut lines = Lines::open(name).await?;
    lines.source.read_to_string(&mut text).await.map_err(|error| unreadable(name, &error))?;
    Ok(text)
}

fn unreadable(name: &Path, error: &std::io::Error) -> Problem {
    let name = if name == Path::new("-") { "standard input".to_owned() } else { name.display().to_string() };
    Problem::new(Exit::Usage, "WAL_FILE_UNREADABLE", format!("read {name}")).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_numbered_and_empty_ones_are_passed_over() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"a\":1}\r\n\n  \nno json\n{\"b\":2}").unwrap();
        let mut lines = Lines::open(file.path()).await.unwrap();
        let mut all = Vec::new();
        while let Some((line, value)) = lines.next().await.unwrap() {
            all.push((line, String::from_utf8(value.to_vec()).unwrap()));
        }
        assert_eq!(all, [(1, "{\"a\":1}".into()), (4, "no json".into()), (5, "{\"b\":2}".to_owned())]);
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let problem = Lines::open(Path::new("/no/such/file")).await.err().unwrap();
        assert_eq!(problem.exit(), Exit::Usage);
        assert!(problem.json().contains("/no/such/file"));
    }
}
