//! Named points at which a test can have the process die, as `kill -9` would. Does nothing outside tests.

/// Dies here if `WAL_FAILPOINT` names this point: `name`, or `name:3` for the third time it is reached.
#[cfg(feature = "testing")]
pub fn hit(name: &str) {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex};

    static ARMED: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
        let text = std::env::var("WAL_FAILPOINT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), count.parse().expect("WAL_FAILPOINT is name or name:count")))
    });
    static HITS: LazyLock<Mutex<HashMap<String, u32>>> = LazyLock::new(Mutex::default);

    let Some((armed, count)) = &*ARMED else { return };
    if armed != name {
        return;
    }
    let mut hits = HITS.lock().expect("nothing panics while it is held");
    let hit = hits.entry(name.to_owned()).or_default();
    *hit += 1;
    if *hit == *count {
        eprintln!("failpoint {name} reached, dying");
        std::process::abort();
    }
}

/// Does nothing outside tests.
#[cfg(not(feature = "testing"))]
#[inline]
pub fn hit(_name: &str) {}
