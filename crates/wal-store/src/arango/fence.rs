//! Making sure that what was seen is on disk.
//!
//! The database shows a commit before it has synced it. Who reads something, and is about to tell others that it is safe, must know that the
//! write behind it has reached the disk; a read waits for nothing, and neither does a write that finds nothing to do.
//!
//! On one server, any write that is synced later syncs everything before it: there is one log. In a cluster each server has its own, and
//! whose log it was is not told, so there it is the interval at which each of them syncs that is waited for.

use serde_json::json;

use super::backend::Inner;
use super::client::Repeat;
use super::fault::{Class, Fault};
use super::wait;

/// Documents that are written for the sync alone. Few enough to leave no rubbish, many enough that two processes seldom share one.
pub(super) const FENCES: u32 = 64;

/// How often a fence is tried that another process is writing at that moment.
const TRIES: u32 = 6;

/// Whether this call has written with a sync after it saw what has to be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// It has.
    Done,
    /// It has written nothing since.
    Wanting,
}

impl Inner {
    /// Returns when everything that was visible when it was called is on disk.
    pub(super) async fn fence(&self, sync: Sync) -> Result<(), Fault> {
        if self.is_cluster {
            tokio::time::sleep(self.sync_wait).await;
            return Ok(());
        }
        match sync {
            Sync::Done => Ok(()),
            Sync::Wanting => self.write_fence().await,
        }
    }

    async fn write_fence(&self) -> Result<(), Fault> {
        let path = format!("_api/document/{}?overwriteMode=replace&waitForSync=true", self.store);
        for tries in 0..TRIES {
            // Another content each time: a write that changes nothing need not be one.
            let body = json!({ "_key": format!("fence-{}", self.fence), "mark": fastrand::u64(..1 << 53) });
            match self.connection.post(&path, body.to_string(), Repeat::Harmless).await {
                Err(Fault { class: Class::Conflict, .. }) => wait::after(tries).await,
                answer => return answer.map(|_| ()),
            }
        }
        Err(Fault::new(Class::Conflict, "others write the same fence"))
    }
}
