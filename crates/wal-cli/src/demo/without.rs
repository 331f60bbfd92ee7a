//! `wal demo` in a build without the embedded broker: it can only say so.

use crate::args::{self, Global};
use crate::problem::{Exit, Problem};
use crate::screen::Screen;

/// Says why there is no demo in this build.
pub async fn run(_: &Screen, _: &Global, _: &args::Demo) -> Result<Exit, Problem> {
    let what = "play the demo: it brings its own broker, and this wal was built without it";
    let hint = "build with the feature `embedded-broker`, which is on by default; or see `wal dev --kafka HOST:PORT`";
    Err(Problem::new(Exit::Usage, "WAL_NO_EMBEDDED_BROKER", what).hint(hint))
}
