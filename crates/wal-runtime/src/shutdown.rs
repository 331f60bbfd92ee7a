//! The end of a service: asked for once, heard everywhere, with a limit.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// What a shell reports after an interrupt; the second signal exits with it.
const EXIT_INTERRUPTED: i32 = 130;

/// A wish to stop, shared by all who must hear of it. Cloning is cheap, and a wish is never taken back.
#[derive(Clone, Debug)]
pub struct Shutdown {
    is_triggered: Arc<watch::Sender<bool>>,
}

/// The work was not finished in time and was abandoned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("finish work in hand within {}", humantime::format_duration(*limit))]
pub struct OutOfTime {
    /// The time it had.
    pub limit: Duration,
}

impl Shutdown {
    /// A token that only code triggers.
    #[expect(clippy::new_without_default, reason = "a token by default would be one that nobody else holds")]
    pub fn new() -> Shutdown {
        Shutdown { is_triggered: Arc::new(watch::Sender::new(false)) }
    }

    /// A token that the first SIGINT or SIGTERM of this process triggers, as code may too. The next signal exits at once with code
    /// 130: nothing acknowledged is lost by that, and who signals twice does not want to wait.
    ///
    /// Call it once, within the runtime.
    pub fn on_signals() -> std::io::Result<Shutdown> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let shutdown = Shutdown::new();
        let token = shutdown.clone();
        // Nobody joins this task: it must listen for as long as the process lives.
        tokio::spawn(async move {
            loop {
                // Both arms only wait for the next signal; a cancelled wait forgets none.
                let name = tokio::select! {
                    Some(()) = interrupt.recv() => "SIGINT",
                    Some(()) = terminate.recv() => "SIGTERM",
                    else => return,
                };
                if token.is_triggered() {
                    tracing::warn!(signal = name, "stopping at once");
                    std::process::exit(EXIT_INTERRUPTED);
                }
                tracing::info!(signal = name, "stopping, a second signal stops at once");
                token.trigger();
            }
        });
        Ok(shutdown)
    }

    /// Asks everybody to stop. Twice is once.
    pub fn trigger(&self) {
        self.is_triggered.send_replace(true);
    }

    /// Whether everybody is asked to stop.
    pub fn is_triggered(&self) -> bool {
        *self.is_triggered.borrow()
    }

    /// Waits until everybody is asked to stop. May be cancelled and called again.
    pub async fn triggered(&self) {
        // An error would mean that the sender is gone, and we hold it.
        let _ = self.is_triggered.subscribe().wait_for(|is_triggered| *is_triggered).await;
    }

    /// Runs `work` to its end. Once everybody is asked to stop it has `limit` left; then it is dropped where it stands.
    pub async fn finish<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Result<T, OutOfTime> {
        let out_of_time = async {
            self.triggered().await;
            tokio::time::sleep(limit).await;
        };
        tokio::select! {
            // Work that has finished counts, even in the last moment.
            biased;
            output = work => Ok(output),
            () = out_of_time => Err(OutOfTime { limit }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn everybody_hears_of_it_before_and_after() {
        let shutdown = Shutdown::new();
        let early = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.triggered().await }
        });
        assert!(!shutdown.is_triggered());

        shutdown.trigger();
        shutdown.trigger();

        early.await.unwrap();
        shutdown.triggered().await;
        assert!(shutdown.is_triggered());
    }

    #[tokio::test]
    async fn work_has_its_time_to_finish() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.finish(Duration::ZERO, async { 1 }).await, Ok(1));

        shutdown.trigger();
        let last_steps = async {
            tokio::task::yield_now().await;
            2
        };
        assert_eq!(shutdown.finish(LONG, last_steps).await, Ok(2));
    }

    #[tokio::test]
    async fn work_that_does_not_end_is_abandoned() {
        let shutdown = Shutdown::new();
        shutdown.trigger();
        let error = shutdown.finish(Duration::ZERO, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(error.to_string(), "finish work in hand within 0s");
    }

    /// Tells the child below that it is one.
    const CHILD: &str = "WAL_SHUTDOWN_TEST_CHILD";

    #[tokio::test]
    #[ignore = "the process that the next test signals; alone it ends at once"]
    async fn child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let shutdown = Shutdown::on_signals().unwrap();
        println!("\nlistening");
        shutdown.triggered().await;
        println!("\nstopping");
        std::future::pending::<()>().await;
    }

    fn wait_for(line: &str, child: &mut BufReader<std::process::ChildStdout>) {
        let found = child.lines().map(Result::unwrap).find(|found| found == line);
        assert_eq!(found.as_deref(), Some(line));
    }

    fn signal_child(child: &Child, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    #[test]
    fn the_first_signal_asks_and_the_second_ends() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "shutdown::tests::child"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());

        wait_for("listening", &mut output);
        signal_child(&child, "TERM");
        wait_for("stopping", &mut output);
        signal_child(&child, "INT");

        assert_eq!(child.wait().unwrap().code(), Some(EXIT_INTERRUPTED));
    }
}
