//! Child processes that cannot outlive the test process, however it ends.
//!
//! A test that is killed runs no destructor, so the kernel has to do it: `setpriv --pdeathsig KILL` (util-linux) asks
//! it to kill the child when the parent goes. "Parent" there means the *thread* that started the child, and the test
//! runner ends a thread with each test; so all children are started by one thread that lives as long as the process.
//! See <https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html>.

use std::ffi::OsStr;
use std::io;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread;

struct Order {
    command: Command,
    reply: SyncSender<io::Result<Child>>,
}

/// A command whose process dies with this one. Start it with [`spawn`]. The process id is that of `program` itself.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Starts a [`command`] on the thread that owns all children.
pub fn spawn(command: Command) -> io::Result<Child> {
    static OWNER: LazyLock<Sender<Order>> = LazyLock::new(start_owner);
    let (reply, child) = sync_channel(1);
    OWNER.send(Order { command, reply }).expect("the owner of the children never ends");
    child.recv().expect("the owner of the children answers every order")
}

fn start_owner() -> Sender<Order> {
    let (orders, received) = channel::<Order>();
    let serve = move || {
        for mut order in received {
            let child = order.command.spawn();
            order.reply.send(child).expect("who ordered a child waits for it");
        }
    };
    thread::Builder::new().name("children".into()).spawn(serve).expect("the system can start a thread");
    orders
}
