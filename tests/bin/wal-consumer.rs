//! A consumer of the sdk as a process: each delivery's payload says what its handler is to do.
//!
//! `wal-consumer BOOTSTRAP PREFIX GROUP INSTANCE TARGET`. The payload is a word and a number, and anything after them: `complete 7`, `fail 7`, `never 7` (a
//! failure that retrying cannot help), `later 7` (a retry wished for in 2.5 s), `panic 7`, `stick 7` (the handler never ends), `hold 7`
//! (the handler says its number to `CONSUMER_GATE`, a TCP address, and goes on when a byte comes back). What is handled is told on
//! standard output: `begin 7`, `end 7`. `CONSUMER_CONCURRENCY`, `CONSUMER_BOUND` (records in hand per partition), `CONSUMER_SESSION_MS`
//! and `CONSUMER_STOP_MS` set what their names say.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wal_model::Topic;
use wal_model::topics::Topics;
use wal_runtime::config::{Log, Settings};
use wal_runtime::shutdown::Shutdown;
use wal_sdk::{Arrival, Bounds, Connection, Consumer, ConsumerOptions, Done, HandlerError, RunOptions};

async fn handle(arrival: Arc<Arrival>) -> Result<Done, HandlerError> {
    let payload = std::str::from_utf8(&arrival.delivery.payload)?.to_owned();
    let mut parts = payload.split(' ');
    let (Some(word), Some(number)) = (parts.next(), parts.next()) else {
        return Err(HandlerError::new("PAYLOAD", "no word and number"));
    };
    println!("begin {number}");
    let result = match word {
        "complete" => Ok(Done::with(&number)?),
        "fail" => Err(HandlerError::new("NOT_TODAY", number)),
        "never" => Err(HandlerError::new("NOT_EVER", number).permanently()),
        "later" => Err(HandlerError::new("LATER", number).retry_after(Duration::from_millis(2500))),
        "panic" => panic!("the handler was told to panic"),
        "stick" => std::future::pending().await,
        "hold" => hold(number).await.map(|()| Done::silent()).map_err(HandlerError::from),
        _ => Err(HandlerError::new("WORD", "it is not known")),
    };
    println!("end {number}");
    result
}

async fn hold(number: &str) -> std::io::Result<()> {
    let address = std::env::var("CONSUMER_GATE").map_err(std::io::Error::other)?;
    let mut gate = TcpStream::connect(address).await?;
    gate.write_all(format!("{number}\n").as_bytes()).await?;
    gate.read_u8().await.map(drop)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, prefix, group, instance, target] = &args[..] else {
        anyhow::bail!("usage: wal-consumer BOOTSTRAP PREFIX GROUP INSTANCE TARGET");
    };
    wal_runtime::logs::start(&Log::read(&Settings::load_with(None, &[])?)?)?;
    let number = |name: &str, default: u64| std::env::var(name).map_or(Ok(default), |text| text.parse());
    let millis = |name, default| number(name, default).map(Duration::from_millis);
    let mut options =
        ConsumerOptions::new(Connection::to(bootstrap), Topics::new(prefix)?, group, vec![Topic::parse(target)?]);
    options.instance = Some(instance.clone());
    options.session_timeout = millis("CONSUMER_SESSION_MS", 2000)?;
    options.transaction_timeout = Duration::from_secs(4);
    options.bounds = Bounds { per_partition: usize::try_from(number("CONSUMER_BOUND", 500)?)?, ..Bounds::default() };
    let run = RunOptions {
        concurrency: usize::try_from(number("CONSUMER_CONCURRENCY", 16)?)?,
        time_limit: None,
        stop_timeout: millis("CONSUMER_STOP_MS", 10_000)?,
    };
    let shutdown = Shutdown::on_signals()?;
    let consumer = Consumer::join(options).await?;
    println!("joined");
    let report = consumer.run(handle, run, shutdown.triggered()).await?;
    println!("{report:?}");
    Ok(())
}
