//! Whether a loop has its partitions.

use std::sync::Arc;

use tokio::sync::watch;

/// Set once, when the group has given the loop its partitions.
#[derive(Clone, Debug)]
pub struct Ready(Arc<watch::Sender<bool>>);

impl Default for Ready {
    fn default() -> Ready {
        Ready(Arc::new(watch::Sender::new(false)))
    }
}

impl Ready {
    /// Waits for it.
    pub async fn wait(&self) {
        // An error would mean that the sender is gone, and we hold it.
        let _ = self.0.subscribe().wait_for(|is_ready| *is_ready).await;
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Sets it.
    pub fn set(&self) {
        self.0.send_replace(true);
    }
}
