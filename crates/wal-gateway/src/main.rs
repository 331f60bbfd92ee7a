//! The gateway as a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;

/// Options: `--config FILE`; everything else is in the configuration.
#[tokio::main]
async fn main() -> ExitCode {
    let file = std::env::args_os().skip_while(|arg| arg != "--config").nth(1).map(PathBuf::from);
    match wal_gateway::main(file.as_deref()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wal-gateway: {:#}", anyhow::Error::from(error));
            ExitCode::FAILURE
        }
    }
}
