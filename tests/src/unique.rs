//! Names and ports that no other scenario uses, so that scenarios can share a broker and run at the same time.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

/// Below the range from which Linux takes the ports of outgoing connections (32768 and up): otherwise a client could
/// be given the port of a broker that is down for the length of a restart.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// `orders` becomes `orders-3f9a1c07`.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", token())
}

/// A topic prefix of the scenario's own, like `t3f9a1c07.`, for services that take a topic prefix.
pub fn prefix() -> String {
    format!("t{}.", token())
}

/// A loopback port that nothing listens on and that this process has not been given before.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().expect("nothing panics while holding this lock");
    let given = given.get_or_insert_default();
    loop {
        let port = fastrand::u16(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && given.insert(port) {
            return port;
        }
    }
}

fn token() -> String {
    format!("{:08x}", fastrand::u32(..))
}
