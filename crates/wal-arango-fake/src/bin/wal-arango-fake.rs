//! The fake as a process of its own: says where it listens, and serves until it is killed.

use std::process::ExitCode;

use wal_arango_fake::{Builder, Server, Version};

const USAGE: &str =
    "usage: wal-arango-fake [--port PORT] [--version 3.11|3.12] [--user NAME:PASSWORD]... [--require-auth]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = std::env::args().skip(1);
    let Some(builder) = builder(arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match builder.start().await {
        Ok(server) => {
            println!("listening on {}", server.url());
            std::future::pending().await
        }
        Err(error) => {
            eprintln!("failed to listen: {error}");
            ExitCode::FAILURE
        }
    }
}

/// None if an argument is not understood.
fn builder(mut arguments: impl Iterator<Item = String>) -> Option<Builder> {
    let mut builder = Server::builder();
    while let Some(argument) = arguments.next() {
        builder = match argument.as_str() {
            "--require-auth" => builder.require_auth(),
            "--port" => builder.port(arguments.next()?.parse().ok()?),
            "--version" => match arguments.next()?.as_str() {
                "3.11" => builder.version(Version::V3_11),
                "3.12" => builder.version(Version::V3_12),
                _ => return None,
            },
            "--user" => {
                let user = arguments.next()?;
                let (name, password) = user.split_once(':')?;
                builder.user(name, password)
            }
            _ => return None,
        };
    }
    Some(builder)
}
