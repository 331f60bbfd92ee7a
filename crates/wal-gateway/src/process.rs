//! The gateway as a process of its own: for a store that processes share.

use std::path::Path;
use std::sync::Arc;

use tracing::info;
use wal_model::{Clock as _, SystemClock};
use wal_runtime::config::Seal;
use wal_runtime::service::{self, Process};

use crate::{ConnectError, Gateway, Means, Options, oldest_unanswered};

/// Why a gateway process did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// What every service needs.
    #[error(transparent)]
    Process(#[from] service::Error),
    /// The cluster that the settings name.
    #[error(transparent)]
    Brokers(#[from] ConnectError),
    /// Its own address.
    #[error(transparent)]
    Gateway(#[from] crate::Error),
}

/// The gateway as a process of its own.
pub async fn main(file: Option<&Path>) -> Result<(), Failed> {
    let process = Process::without_group("wal-gateway", file).await?;
    let listens = process.condition("gateway", "the gateway does not listen yet");
    // Whoever asks is told when the store does not answer. A gateway that were not ready then would tell nobody anything.
    let Some((store, _)) = wal_open::of_process(&process).await? else { return Ok(()) };
    // Nothing of its own can be taken over while it runs; what would keep it from starting is told at once.
    process.reloads(Box::new(|settings| {
        Options::read(settings)?;
        Seal::read(settings)?;
        Ok(Box::new(|| {}))
    }));
    let asked = Arc::clone(&store);
    process.tells_unanswered(move || {
        let asked = Arc::clone(&asked);
        async move { oldest_unanswered(&*asked, SystemClock.now()).await }
    });
    let options = Options::read(&process.settings).map_err(service::Error::from)?;
    let gateway =
        Gateway::open(&options, store)?.writing(Means::read(&process.settings)?).counting(process.metrics.clone());
    info!(address = %gateway.address(), "the gateway listens");
    listens.met();
    let result = gateway.run(process.shutdown.triggered()).await;
    process.stopping();
    Ok(result?)
}
