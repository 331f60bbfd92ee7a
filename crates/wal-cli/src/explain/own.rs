//! The codes with which `wal` itself ends; those of the log are wal-model's.

/// What is known of a code of our own.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// The code.
    pub code: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

const fn own(code: &'static str, meaning: &'static str, remedy: &'static str) -> Own {
    Own { code, meaning, remedy }
}

/// All of them, in the order of the alphabet. A test finds each that is missing here.
pub const ALL: &[Own] = &[
    own(
        "WAL_BENCH_OCCUPIED",
        "A benchmark of the store found collections in its place.",
        "Remove the collections the message names, if nobody measures at this moment.",
    ),
    own(
        "WAL_BROKER_UNREACHABLE",
        "Kafka did not answer, or refused us.",
        "Start it, or say where it is: --bootstrap, kafka.bootstrap_servers; for TLS and SASL see \
         [kafka.options].",
    ),
    own("WAL_CODE_UNKNOWN", "There is no such code.", "`wal explain` lists all codes."),
    own(
        "WAL_CONFIG_INVALID",
        "The configuration cannot be used: a key is unknown, a value makes no sense, or two contradict each \
         other.",
        "Correct what the message names; `wal config check` tells all of it, `wal config explain KEY` what a key \
         takes.",
    ),
    own("WAL_CONFIG_KEY_UNKNOWN", "There is no such key.", "`wal config print` lists all keys."),
    own(
        "WAL_DEMO_FAILED",
        "The demo did not come to its end.",
        "Run it again with -v, which shows the log; on a slow machine it runs out of time.",
    ),
    own("WAL_FAILED", "Something happened that has no code of its own.", "Read the causes; -v shows the log."),
    own("WAL_FILE_UNREADABLE", "A file that the command line names cannot be read.", "Check its name and its rights."),
    own(
        "WAL_FILE_UNWRITABLE",
        "A file cannot be written where the command line wants it.",
        "Check the folder's name, its rights and the room on its disk.",
    ),
    own("WAL_FOLDER_LOCKED", "Another process works in the folder.", "Stop that one, or give another folder: --data."),
    own(
        "WAL_FOLDER_NEWER",
        "A later version of the log has written the folder.",
        "Use that version, or another folder: --data.",
    ),
    own(
        "WAL_FOLDER_UNUSABLE",
        "The folder cannot be used.",
        "Check its rights and the room on its disk, or give another folder: --data.",
    ),
    own("WAL_GATEWAY", "The gateway of `wal dev` cannot listen.", "Give another --gateway-port."),
    own(
        "WAL_GATEWAY_UNREACHABLE",
        "The gateway did not answer, or something else than a gateway did.",
        "Start it, or say where it is: --gateway, gateway.listen.",
    ),
    own("WAL_LOGS", "The log of this process could not be started.", "Correct log.level."),
    own(
        "WAL_NOT_READY",
        "`wal dev` did not get its partitions in time.",
        "Look whether others of the same cluster's services run elsewhere; -v shows the log.",
    ),
    own("WAL_NOT_SENT", "A request did not reach the broker.", "Send it again: nothing is written twice."),
    own(
        "WAL_NO_EMBEDDED_BROKER",
        "This `wal` was built without the embedded broker.",
        "Give a cluster, --kafka host:port, or build with the default features.",
    ),
    own(
        "WAL_OFFSETS_MISSING",
        "The place of one of our groups in what it reads is gone.",
        "Find out why; then `wal topics apply --adopt` lets it begin at the start of what is there.",
    ),
    own("WAL_OUTPUT", "The results cannot be written.", "Check where standard output goes, such as a full disk."),
    own("WAL_OUTPUT_CLOSED", "Whoever read the results does not any more.", "Nothing: that is no failure."),
    own(
        "WAL_PORT_TAKEN",
        "Another process listens on the port.",
        "Give another --port, --gateway-port or --health-port; 0 takes a free one.",
    ),
    own(
        "WAL_READ",
        "A topic cannot be read on.",
        "Nothing where it goes on by itself; else the causes tell what the broker refuses.",
    ),
    own(
        "WAL_SERVICE_ENDED",
        "A service of `wal dev` ended though nobody asked it to.",
        "Read the causes; -v shows the log.",
    ),
    own(
        "WAL_STORE_EMBEDDED",
        "The command is for a database, and the store is a folder.",
        "Set store.backend to \"arangodb\", if that is meant.",
    ),
    own(
        "WAL_STORE_OTHER",
        "The committed offsets belong to another store than this one.",
        "Give back that store's folder or database, or use another kafka.topic_prefix.",
    ),
    own(
        "WAL_STORE_UNFIT",
        "Something is missing in the database, or differs from what it must be.",
        "`wal store plan` tells what, `wal store apply` does it.",
    ),
    own("WAL_STORE_UNUSABLE", "The store cannot be used.", "The causes tell why; see [store] in config/default.toml."),
    own(
        "WAL_STORE_WRONG",
        "The store gave an answer that cannot be right.",
        "Use no such store; report it with the message.",
    ),
    own(
        "WAL_TOPICS",
        "The topics cannot be looked after.",
        "Look whether Kafka runs there and this user may describe, create and alter topics.",
    ),
    own(
        "WAL_TOPICS_UNFIT",
        "Topics of the log are missing, or differ from what they must be.",
        "`wal topics plan` tells which, `wal topics apply` does it.",
    ),
    own(
        "WAL_TOPIC_MISSING",
        "A topic that is needed does not exist.",
        "`wal topics apply` makes the log's own; a target is made by whoever owns it.",
    ),
    own("WAL_USAGE", "The command line makes no sense.", "--help of the command tells what it takes."),
];
