//! One of our programs as a process: its lines, its exit, and the signals that hurt it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fmt, fs, thread};

use rustix::process::{Pid, Signal, kill_process};

use crate::{children, wait_until, workspace};

/// How many last lines a panic shows.
const TAIL: usize = 40;

/// A started process. Killed on drop, and by the kernel when the test process goes.
pub struct Process {
    name: String,
    // The mutex lets a signal be sent through `&self` only while the process id is certainly still ours.
    child: Mutex<Child>,
    output: Arc<Output>,
}

/// A line the process wrote, without its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it was written.
    pub stream: Stream,
    /// What was written; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// The two streams of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

struct Output {
    written: Mutex<Written>,
    changed: Condvar,
}

struct Written {
    lines: Vec<Line>,
    open_streams: u8,
    log: File,
}

impl Process {
    /// Starts one of our binaries, which lies beside the test executable. `WAL_*` variables of whoever runs the tests
    /// are not passed on; `env` is.
    #[track_caller]
    pub fn start(name: &str, args: &[&str], env: &[(&str, &str)]) -> Process {
        Process::run(name, &workspace::binary(name), args, env)
    }

    /// Starts any program, called `name` in messages and in the name of its log file.
    #[track_caller]
    pub fn run(name: &str, program: &Path, args: &[&str], env: &[(&str, &str)]) -> Process {
        let mut command = children::command(program);
        let inherited = env::vars_os().map(|(key, _)| key);
        for key in inherited.filter(|key| key.to_string_lossy().starts_with("WAL_")) {
            command.env_remove(key);
        }
        // A backtrace of an error that is returned, not panicked with, would leave no room for its words among the last lines.
        command.env("RUST_LIB_BACKTRACE", "0").args(args).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());

        let mut child = children::spawn(command)
            .unwrap_or_else(|error| panic!("failed to start {name} through setpriv (package util-linux): {error}"));
        let output = Arc::new(Output {
            written: Mutex::new(Written { lines: Vec::new(), open_streams: 2, log: log_file(name) }),
            changed: Condvar::new(),
        });
        collect(Stream::Out, child.stdout.take().expect("stdout is piped above"), output.clone());
        collect(Stream::Err, child.stderr.take().expect("stderr is piped above"), output.clone());
        Process { name: name.into(), child: Mutex::new(child), output }
    }

    /// Waits for a line that contains `text`; lines written before the call count. Panics when the process ends
    /// without it, and after `timeout`.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str, timeout: Duration) -> String {
        self.wait_for_line_where(&format!("a line with {text:?}"), timeout, |line| line.contains(text))
    }

    /// As [`Process::wait_for_line`], for a line that fulfils `is_wanted`; `what` names it in the panic.
    #[track_caller]
    pub fn wait_for_line_where(&self, what: &str, timeout: Duration, is_wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + timeout;
        let mut seen = 0;
        let mut written = self.output.lock();
        loop {
            if let Some(line) = written.lines[seen..].iter().find(|line| is_wanted(&line.text)) {
                return line.text.clone();
            }
            seen = written.lines.len();
            let remaining = deadline.saturating_duration_since(Instant::now());
            let tail = || tail(&written.lines);
            assert!(written.open_streams > 0, "{} ended without {what}; its last lines:\n{}", self.name, tail());
            assert!(!remaining.is_zero(), "{} wrote for {timeout:?}, but not {what}:\n{}", self.name, tail());
            written = self.output.changed.wait_timeout(written, remaining).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Its number in the system.
    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    /// What it has taken of the machine's processors since it began.
    #[track_caller]
    pub fn processor_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.id());
        let told = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        // Behind the name, which stands in parentheses: by itself, and by the kernel for it.
        let (_, numbers) = told.rsplit_once(')').expect("a name in parentheses");
        let ticks: u64 =
            numbers.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// All lines so far, in the order they were read; the order between the two streams is not certain.
    pub fn lines(&self) -> Vec<Line> {
        self.output.lock().lines.clone()
    }

    /// The text of standard output so far.
    pub fn stdout(&self) -> String {
        let written = self.output.lock();
        let lines = written.lines.iter().filter(|line| line.stream == Stream::Out);
        lines.map(|line| format!("{}\n", line.text)).collect()
    }

    /// SIGKILL, and waits until the process is gone. Harmless when it already is.
    pub fn kill(&mut self) {
        let mut child = lock(&self.child);
        child.kill().expect("a child of ours may be killed");
        child.wait().expect("a child of ours can be waited for");
    }

    /// SIGTERM; [`Process::wait`] tells what comes of it.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGINT: Ctrl-C.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// SIGHUP: read your configuration again.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// SIGSTOP: the process stands still with its connections open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: a paused process goes on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until the process has ended and all it wrote has been read. Panics after `timeout`.
    #[track_caller]
    pub fn wait(&self, timeout: Duration) -> ExitStatus {
        let deadline = Instant::now() + timeout;
        wait_until(&format!("{} ends", self.name), timeout, || !self.is_running());
        let remaining = deadline.saturating_duration_since(Instant::now());
        wait_until(&format!("{} closes its output", self.name), remaining, || self.output.lock().open_streams == 0);
        lock(&self.child).wait().expect("the exit of an ended child is known")
    }

    /// Whether it has not ended. A paused process is running.
    pub fn is_running(&self) -> bool {
        is_running(&mut lock(&self.child))
    }

    fn signal(&self, signal: Signal) {
        let mut child = lock(&self.child);
        assert!(is_running(&mut child), "{} has ended and takes no signal", self.name);
        kill_process(Pid::from_child(&child), signal).expect("a child of ours takes signals");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is = if self.is_running() { "runs" } else { "has ended" };
        write!(f, "process {} {is}, last lines:\n{}", self.name, tail(&self.output.lock().lines))
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Written> {
        lock(&self.written)
    }

    fn add(&self, line: Line) {
        let mut written = self.lock();
        // The log is for people; a full disk must not end the reading that the scenario waits on.
        let _ = writeln!(written.log, "{}", line.text);
        written.lines.push(line);
        self.changed.notify_all();
    }

    fn close_stream(&self) {
        self.lock().open_streams -= 1;
        self.changed.notify_all();
    }
}

/// A scenario may well panic while it holds one of these locks (a failed expectation); what they guard stays whole, and
/// the drop that follows must still be able to kill.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_running(child: &mut Child) -> bool {
    child.try_wait().expect("a child of ours can be asked").is_none()
}

/// Reads a stream until the process closes it. The thread ends with the process, so nobody needs to join it.
fn collect(stream: Stream, source: impl Read + Send + 'static, output: Arc<Output>) {
    let read = move || {
        let mut source = BufReader::new(source);
        let mut bytes = Vec::new();
        while source.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
            output.add(Line { stream, text });
            bytes.clear();
        }
        output.close_stream();
    };
    thread::Builder::new().name("process output".into()).spawn(read).expect("the system can start a thread");
}

fn log_file(name: &str) -> File {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let logs = workspace::run_dir().join("logs");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = logs.join(format!("{name}-{number}.log"));
    let file = fs::create_dir_all(&logs).and_then(|()| File::create(&path));
    file.unwrap_or_else(|error| panic!("failed to create {}: {error}", path.display()))
}

fn tail(lines: &[Line]) -> String {
    let last = &lines[lines.len().saturating_sub(TAIL)..];
    last.iter().map(|line| format!("  {}\n", line.text)).collect()
}
