//! `wal demo`: the log's story, live and in one process, checked while it is told.

mod script;
#[cfg(feature = "embedded-broker")]
mod play;
#[cfg(feature = "embedded-broker")]
mod scene;
#[cfg(feature = "embedded-broker")]
mod story;
mod teller;

use crate::args::{self, Global};
use crate::problem::{Exit, Problem};
use crate::screen::Screen;

/// Runs `wal demo`.
#[cfg(feature = "embedded-broker")]
pub async fn run(screen: &Screen, global: &Global, demo: &args::Demo) -> Result<Exit, Problem> {
    play::run(screen, global, demo).await
}

/// Says why there is no demo in this build.
#[cfg(not(feature = "embedded-broker"))]
pub async fn run(_: &Screen, _: &Global, _: &args::Demo) -> Result<Exit, Problem> {
    let what = "play the demo: it brings its own broker, and this wal was built without it";
    let hint = "build with the feature `embedded-broker`, which is on by default; or see `wal dev --kafka HOST:PORT`";
    Err(Problem::new(Exit::Usage, "WAL_NO_EMBEDDED_BROKER", what).hint(hint))
}
