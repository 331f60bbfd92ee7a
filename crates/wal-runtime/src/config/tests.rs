//! What people do to a configuration, and what they are told.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use wal_model::{Backoff, Lifecycle};

use super::*;

/// A file of settings that lives as long as its test.
struct File(tempfile::NamedTempFile);

impl File {
    fn with(text: &str) -> File {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        File(file)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn name(&self) -> String {
        self.path().display().to_string()
    }
}

fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let owned: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    owned.into_iter()
}

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Settings, Error> {
    Settings::load_from(Some(File::with(file).path()), variables(environment), &[])
}

fn from_environment(environment: &[(&str, &str)]) -> Result<Settings, Error> {
    Settings::load_from(None, variables(environment), &[])
}

/// What somebody is told who uses `file` as it is; every section is read as a service does.
fn told(file: &str) -> String {
    let read = |settings: Settings| {
        Kafka::read(&settings)?;
        TopicSettings::read(&settings)?;
        StoreSettings::read(&settings)?;
        Policy::read(&settings)?;
        Health::read(&settings)?;
        Traces::read(&settings)?;
        Log::read(&settings).map(|_| ())
    };
    load(file, &[]).and_then(read).unwrap_err().to_string()
}

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[test]
fn defaults_alone_are_enough_for_all_but_the_seal() {
    let settings = from_environment(&[]).unwrap();
    let kafka = Kafka::read(&settings).unwrap();
    assert_eq!(kafka.bootstrap_servers, "127.0.0.1:9092");
    assert_eq!(kafka.topics.prefix(), "wal.");
    assert_eq!(kafka.instance, None);
    assert_eq!(kafka.session_timeout, Duration::from_secs(10));
    assert_eq!(kafka.options, Options::default());
    let topics = TopicSettings::read(&settings).unwrap();
    assert_eq!((topics.partitions, topics.replication, topics.min_insync_replicas), (12, 3, 2));
    assert_eq!(topics.ingress_retention, Duration::from_secs(7 * 86_400));
    let folder = PathBuf::from("./.wal/store");
    assert_eq!(StoreSettings::read(&settings).unwrap(), StoreSettings::Embedded { folder });
    let policy = Policy::read(&settings).unwrap();
    assert_eq!((policy.target, policy.lifecycle), (None, Lifecycle::default()));
    assert_eq!(policy.correlation_fields, ["correlation_id", "saga_id"]);
    assert_eq!(Health::read(&settings).unwrap().listen, Some(SocketAddr::from(([127, 0, 0, 1], 9464))));
    assert_eq!(Log::read(&settings).unwrap().format, Format::Human);
}

#[test]
fn without_a_key_the_error_says_how_to_make_one() {
    let error = Seal::read(&from_environment(&[]).unwrap()).unwrap_err().to_string();
    assert!(error.contains("head -c 32 /dev/urandom | base64"), "{error}");
}

#[test]
fn later_layers_win_key_by_key() {
    let file = File::with("[topics]\npartitions = 4\nreplication = 4\nmin_insync_replicas = 4\n");
    let environment = variables(&[("WAL__TOPICS__REPLICATION", "5"), ("wal__topics__min_insync_replicas", "5")]);
    let given = [("topics.min_insync_replicas", "1".to_owned())];

    let settings = Settings::load_from(Some(file.path()), environment, &given).unwrap();

    let topics = TopicSettings::read(&settings).unwrap();
    assert_eq!((topics.partitions, topics.replication, topics.min_insync_replicas), (4, 5, 1));
    assert_eq!(topics.max_message_bytes, 1_048_588, "what no layer names stays");
    let origins = ["partitions", "replication", "min_insync_replicas", "max_message_bytes"]
        .map(|key| settings.origin(&format!("topics.{key}")));
    assert_eq!(origins, [&file.name(), "WAL__TOPICS__REPLICATION", "the command line", "the defaults"]);
}

#[test]
fn variables_take_the_type_of_their_key() {
    #[derive(Deserialize)]
    struct Writer {
        batch_records: u32,
        create_missing_targets: bool,
        reply_topics: Vec<String>,
    }
    let settings = from_environment(&[
        ("WAL__WRITER__BATCH_RECORDS", "7"),
        ("WAL__WRITER__CREATE_MISSING_TARGETS", "true"),
        ("WAL__WRITER__REPLY_TOPICS", "a, b"),
        ("WAL__KAFKA__INSTANCE", "0"),
        ("WAL__POLICY__DELAY", "0.25"),
        ("WAL__POLICY__BACKOFF", "fixed"),
        ("WAL__HEALTH__LISTEN", ""),
        ("WAL_GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    let writer: Writer = settings.section("writer").unwrap();
    assert_eq!((writer.batch_records, writer.create_missing_targets), (7, true));
    assert_eq!(writer.reply_topics, ["a", "b"]);
    assert_eq!(Kafka::read(&settings).unwrap().instance.as_deref(), Some("0"));
    let lifecycle = Policy::read(&settings).unwrap().lifecycle;
    assert_eq!((lifecycle.delay.to_string().as_str(), lifecycle.backoff), ("0.25", Backoff::Fixed));
    assert_eq!(Health::read(&settings).unwrap().listen, None);
}

#[test]
fn kafka_options_are_spelled_in_three_ways() {
    let file = "[kafka.options]\n\"security.protocol\" = \"SSL\"\nlinger.ms = 5\nlog_level = 3\n";
    let environment = [("WAL__KAFKA__OPTIONS__SASL_USERNAME", "me"), ("WAL__KAFKA__OPTIONS__LOG_LEVEL", "4")];
    let settings = load(file, &environment).unwrap();
    let options = Kafka::read(&settings).unwrap().options;
    let pairs: Vec<_> = options.iter().collect();
    assert_eq!(pairs, [("linger.ms", "5"), ("log_level", "4"), ("sasl.username", "me"), ("security.protocol", "SSL")]);
    assert_eq!(settings.origin("kafka.options.sasl.username"), "WAL__KAFKA__OPTIONS__SASL_USERNAME");
}

#[test]
fn secrets_come_from_files_and_do_not_print() {
    let (key, password) = (File::with(&format!("{KEY}\n")), File::with("hunter2"));
    let settings = from_environment(&[
        ("WAL__SEAL__SIGNING_KEY", "k1"),
        ("WAL__SEAL__KEYS__K1_FILE", &key.name()),
        ("WAL__KAFKA__OPTIONS__SASL_PASSWORD_FILE", &password.name()),
        ("WAL__KAFKA__OPTIONS__SASL_OAUTHBEARER_ASSERTION_FILE", "/not/read"),
    ])
    .unwrap();
    let (kafka, seal) = (Kafka::read(&settings).unwrap(), Seal::read(&settings).unwrap());
    assert_eq!(kafka.options.get("sasl.password"), Some("hunter2"));
    assert_eq!(kafka.options.get("sasl.oauthbearer.assertion.file"), Some("/not/read"));
    let printed = format!("{settings:?} {kafka:?} {seal:?}");
    assert!(!printed.contains("hunter2") && !printed.contains("AAEC"), "{printed}");
}

#[test]
fn keys_may_be_spelled_in_any_base64() {
    let url_safe = "__________________________________________8";
    let broken_lines = format!("{}\n{}\n", &KEY[..20], &KEY[20..]);
    for key in [KEY, KEY.trim_end_matches('='), url_safe, &broken_lines] {
        let settings = from_environment(&[("WAL__SEAL__SIGNING_KEY", "k1"), ("WAL__SEAL__KEYS__K1", key)]).unwrap();
        assert!(Seal::read(&settings).is_ok(), "{key}");
    }
}

#[test]
fn keys_that_prove_nothing_are_refused_without_being_printed() {
    let table = [
        ("k1", "c2hvcnQ=", "shorter than 32 bytes"),
        ("k1", "not base64!", "`seal.keys.k1` in WAL__SEAL__KEYS__K1: is no base64"),
        ("k2", KEY, "the signing key must be one of the keys: k1"),
        ("", KEY, "`seal.signing_key` (WAL__SEAL__SIGNING_KEY) and `seal.keys` (WAL__SEAL__KEYS__K1)"),
    ];
    for (signing, key, expected) in table {
        let environment = [("WAL__SEAL__SIGNING_KEY", signing), ("WAL__SEAL__KEYS__K1", key)];
        let error = Seal::read(&from_environment(&environment).unwrap()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains(key), "{error}");
    }
}

#[test]
fn all_unknown_keys_are_named_with_their_place() {
    let file = File::with("[kafka]\nbootstrap_server = \"a:1\"\n[extra]\n[topics.partitions]\nx = 1\n");
    let environment = variables(&[("WAL__TOPICS__PARTITION", "1"), ("WAL__LOG_LEVEL", "info")]);
    let given = [("seal.sining_key", "k".to_owned()), ("seal", "k".to_owned())];

    let error = Settings::load_from(Some(file.path()), environment, &given).unwrap_err();

    let name = file.name();
    let expected = [
        format!("`extra` in {name} is not known"),
        format!("`kafka.bootstrap_server` in {name} is not known, did you mean `kafka.bootstrap_servers`?"),
        format!("`topics.partitions.x` in {name} is not known, did you mean `topics.partitions`?"),
        "`WAL__LOG_LEVEL` in the environment is not known, did you mean `WAL__LOG__LEVEL`?".to_owned(),
        "`WAL__TOPICS__PARTITION` in the environment is not known, did you mean `WAL__TOPICS__PARTITIONS`?".to_owned(),
        "`seal.sining_key` in the command line is not known, did you mean `seal.signing_key`?".to_owned(),
        "`seal` in the command line is not known".to_owned(),
    ];
    let found: Vec<_> = error.problems().iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
    assert!(error.to_string().starts_with("use the configuration: 7 problems\n  - `extra`"), "{error}");
}

#[test]
fn variables_that_name_no_key_are_unknown() {
    for name in ["WAL__", "WAL__KAFKA", "WAL__KAFKA__OPTIONS", "WAL__KAFKA__OPTIONS__", "WAL__KAFKA__OPTIONS___FILE"] {
        let error = from_environment(&[(name, "x")]).unwrap_err();
        assert!(matches!(error.problems(), [Problem::Unknown { spelled, .. }] if spelled == name), "{name}: {error}");
    }
}

#[test]
fn wrong_types_say_what_was_expected() {
    let table = [
        ("[topics]\npartitions = \"4\"", "`topics.partitions`", "must be a number, such as 12"),
        ("[kafka]\nsession_timeout = 10", "`kafka.session_timeout`", "must be text, such as \"10s\""),
        ("[writer]\ncreate_missing_targets = 1", "`writer.create_missing_targets`", "must be true or false"),
        ("[writer]\nreply_topics = \"a\"", "`writer.reply_topics`", "must be a list of texts"),
        ("[kafka.options]\na = [1]", "`kafka.options.a`", "must be text"),
        ("kafka = 5", "`kafka`", "must be a section"),
        ("[topics]\npartitions = 1.5", "`topics.partitions`", "1.5"),
        ("[topics]\npartitions = -1", "`topics.partitions`", "must be at least 1"),
        ("[policy]\nretry_count = -1", "`policy.retry_count`", "-1"),
        ("[policy]\nbackoff = \"quadratic\"", "`policy.backoff`", "quadratic"),
        ("[policy]\nttl = nan", "`policy.ttl`", "must be a number"),
        ("[store]\nbackend = \"sqlite\"", "`store.backend`", "embedded"),
        ("[store.arangodb]\nauth = \"kerberos\"", "`store.arangodb.auth`", "token"),
        ("[store.arangodb]\nshards = -1", "`store.arangodb.shards`", "-1"),
        ("[store.arangodb]\nsync_wait = \"soon\"", "`store.arangodb.sync_wait`", "such as \"30s\""),
        ("[store]\narangodb = 1", "`store.arangodb`", "must be a section"),
        ("[kafka]\nsession_timeout = \"10\"", "`kafka.session_timeout`", "such as \"30s\""),
        ("[traces]\notlp_endpoint = \"localhost:4317\"", "`traces.otlp_endpoint`", "such as http://localhost:4318"),
        ("[traces]\nsample_ratio = 1.5", "`traces.sample_ratio`", "from 0 to 1"),
        ("[health]\nlisten = \"9464\"", "`health.listen`", "such as \"0.0.0.0:8080\""),
    ];
    for (file, key, expected) in table {
        let error = told(file);
        assert!(error.contains(key) && error.contains(expected), "{file}: {error}");
    }
    let error = from_environment(&[("WAL__TOPICS__PARTITIONS", "many")]).unwrap_err().to_string();
    assert!(error.ends_with("`topics.partitions` in WAL__TOPICS__PARTITIONS must be a number, such as 12"), "{error}");
}

#[test]
fn values_outside_their_limits_are_refused() {
    let table = [
        ("[kafka]\nbootstrap_servers = \"\"", "is not host:port"),
        ("[kafka]\nbootstrap_servers = \"a:1,b\"", "`b` is not host:port"),
        ("[kafka]\ntopic_prefix = \"a b\"", "`kafka.topic_prefix`"),
        ("[kafka]\ninstance = \"a b\"", "`kafka.instance`"),
        ("[kafka]\ntransaction_timeout = \"16m\"", "1s to 15m are allowed"),
        ("[kafka]\nsession_timeout = \"100ms\"", "1s to 5m are allowed"),
        ("[kafka]\nread_ahead_kib = 0", "`kafka.read_ahead_kib`"),
        ("[kafka]\nstart_timeout = \"0s\"", "longer than nothing"),
        ("[topics]\nreplication = 0", "`topics.replication`"),
        ("[topics]\nacks_retention = \"0s\"", "`topics.acks_retention`"),
        ("[topics]\nmax_message_bytes = 65536", "65537 to 2147418111 are allowed"),
        ("[policy]\nretry_count = 101", "100 at most"),
        ("[policy]\nttl = 0.5", "`policy.ttl`"),
        ("[policy]\ntarget = \"a/b\"", "`policy.target`"),
        ("[policy]\ncorrelation_fields = [\"\"]", "`policy.correlation_fields`"),
        ("[store]\nbackend = \"arangodb\"\narangodb.endpoints = [\"host:8529\"]", "endpoint 1 is no URL"),
        ("[store]\nbackend = \"arangodb\"\narangodb.concurrency = 0", "`store.arangodb.concurrency`"),
        ("[store]\nbackend = \"arangodb\"\narangodb.shards = 0", "must be at least 1"),
        ("[store]\nbackend = \"arangodb\"\narangodb.sync_wait = \"0s\"", "longer than nothing"),
        ("[log]\nlevel = \"inof\"", "`inof` is none of off, error"),
        ("[log]\nlevel = \"info,wal_writer=loud\"", "`log.level`"),
    ];
    for (file, expected) in table {
        let error = told(file);
        assert!(error.contains(expected), "{file}: {error}");
    }
}

#[test]
fn options_of_the_log_itself_are_refused() {
    let table = [
        ("group.id", "use `kafka.topic_prefix`"),
        ("bootstrap.servers", "use `kafka.bootstrap_servers`"),
        ("transactional.id", "use `kafka.instance`"),
        ("enable.auto.commit", "offsets are committed in transactions"),
        ("auto.offset.reset", "wal topics apply --adopt"),
        ("partitioner", "as Java clients do"),
    ];
    for (option, expected) in table {
        let error = told(&format!("[kafka.options]\n\"{option}\" = \"x\""));
        assert!(error.contains(&format!("`kafka.options.{option}`")) && error.contains(expected), "{error}");
    }
}

#[test]
fn contradictions_name_both_keys() {
    let table = [
        ("[topics]\nreplication = 1", ["topics.min_insync_replicas` (the defaults)", "topics.replication` ("]),
        ("[policy]\nttl = 60", ["policy.ttl", "policy.delay"]),
        ("[policy]\ntarget = \"wal.acks\"", ["policy.target", "kafka.topic_prefix"]),
        ("[store]\nfolder = \"\"", ["store.folder", "store.backend"]),
        ("[kafka.options]\nmessage.timeout.ms = 20000", ["message.timeout.ms", "kafka.transaction_timeout"]),
        ("[kafka.options]\nsocket.timeout.ms = 9901", ["socket.timeout.ms", "kafka.transaction_timeout"]),
    ];
    for (file, keys) in table {
        let error = told(file);
        assert!(error.contains("contradict each other"), "{file}: {error}");
        assert!(keys.iter().all(|key| error.contains(key)), "{file}: {error}");
    }
}

/// What somebody is told whose store is in ArangoDB, with settings of `[store.arangodb]`.
fn told_of_database(settings: &str) -> String {
    told(&format!("[store]\nbackend = \"arangodb\"\n[store.arangodb]\n{settings}\n"))
}

#[test]
fn contradictions_about_a_database_name_both_keys() {
    let known = "user = \"u\"\npassword = \"hunter2\"\n";
    let table = [
        ("endpoints = []".to_owned(), ["store.arangodb.endpoints", "store.backend"]),
        (String::new(), ["store.arangodb.auth` (the defaults)", "store.arangodb.user` (the defaults)"]),
        ("user = \"u\"".to_owned(), ["store.arangodb.auth", "store.arangodb.password"]),
        ("auth = \"none\"\nuser = \"u\"".to_owned(), ["store.arangodb.user", "store.arangodb.auth"]),
        ("auth = \"none\"\npassword = \"hunter2\"".to_owned(), ["store.arangodb.password", "store.arangodb.auth"]),
        (format!("{known}ca_file = \"ca.pem\""), ["store.arangodb.ca_file", "store.arangodb.endpoints"]),
        (format!("{known}write_concern = 4"), ["store.arangodb.write_concern", "store.arangodb.replication_factor"]),
        (
            format!("{known}connect_timeout = \"1m\""),
            ["store.arangodb.connect_timeout", "store.arangodb.request_timeout"],
        ),
    ];
    for (settings, keys) in table {
        let error = told_of_database(&settings);
        assert!(error.contains("contradict each other") && !error.contains("hunter2"), "{settings}: {error}");
        assert!(keys.iter().all(|key| error.contains(key)), "{settings}: {error}");
    }
}

#[test]
fn a_database_that_is_described_must_be_said_to_be_the_store_or_not_to_be() {
    let read = |environment: &[(&str, &str)]| StoreSettings::read(&from_environment(environment).unwrap());
    let database = ("WAL__STORE__ARANGODB__DATABASE", "d");
    let error = read(&[database]).unwrap_err().to_string();
    let keys = ["`store.backend` (the defaults)", "`store.arangodb` (WAL__STORE__ARANGODB__DATABASE)"];
    assert!(keys.iter().all(|key| error.contains(key)), "{error}");
    assert!(read(&[database, ("WAL__STORE__BACKEND", "embedded")]).is_ok());
}

#[test]
fn the_password_of_a_database_comes_from_a_file_and_is_in_no_text() {
    let password = File::with("hunter2\n");
    let settings = from_environment(&[
        ("WAL__STORE__BACKEND", "arangodb"),
        ("WAL__STORE__ARANGODB__USER", "u"),
        ("WAL__STORE__ARANGODB__PASSWORD_FILE", &password.name()),
        ("WAL__STORE__ARANGODB__ENDPOINTS", "https://a:1,https://b:2"),
        // The name of a key that ends as the variables of files do.
        ("WAL__STORE__ARANGODB__CA_FILE", "/ca.pem"),
    ])
    .unwrap();
    let store = StoreSettings::read(&settings).unwrap();
    let StoreSettings::ArangoDb(database) = &store else { panic!("{store:?}") };
    assert_eq!(database.login, Login::Basic { user: "u".into(), password: crate::secret::Secret::new("hunter2") });
    assert_eq!(database.ca_file.as_deref(), Some(Path::new("/ca.pem")));
    assert!(!format!("{store:?}").contains("hunter2"));

    let error = told_of_database("endpoints = [\"http://u:hunter2@a:1\"]");
    assert!(error.contains("`store.arangodb.endpoints`") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_variable_and_its_file_variant_contradict_each_other() {
    let table = [
        [("WAL__SEAL__KEYS__K1", "x"), ("WAL__SEAL__KEYS__K1_FILE", "/x")],
        [("WAL__LOG__LEVEL", "info"), ("WAL__LOG__LEVEL_FILE", "/x")],
        [("WAL__LOG__LEVEL", "info"), ("wal__log__level", "info")],
        [("WAL__KAFKA__OPTIONS__SASL_PASSWORD", "x"), ("WAL__KAFKA__OPTIONS__SASL_PASSWORD_FILE", "/x")],
    ];
    for pair in table {
        let error = from_environment(&pair).unwrap_err();
        assert!(matches!(error.problems(), [Problem::Twice { .. }]), "{error}");
        assert!(pair.iter().all(|(name, _)| error.to_string().contains(name)), "{error}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let error = Settings::load_from(Some(Path::new("/not/there.toml")), variables(&[]), &[]).unwrap_err();
    assert!(error.to_string().contains("/not/there.toml (the configuration file)"), "{error}");
    let error = from_environment(&[("WAL__SEAL__KEYS__K1_FILE", "/not/there")]).unwrap_err();
    assert!(error.to_string().contains("/not/there (WAL__SEAL__KEYS__K1_FILE)"), "{error}");
}

#[test]
fn text_that_is_not_toml_is_not_repeated() {
    for file in ["[seal.keys]\nk1 = \"hunter2\n", "[seal.keys]\nk1 = hunter2\n", "x = 1\n[seal.keys\nk1=\"hunter2\"\n"]
    {
        let error = load(file, &[]).unwrap_err().to_string();
        assert!(error.contains("is not TOML") && error.contains("line "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn sections_can_name_their_own_mistakes() {
    let settings = from_environment(&[("WAL__WRITER__HIGH_SHARE", "90")]).unwrap();
    let error = settings.contradiction("writer.high_share", "writer.normal_share", "nothing is left for low");
    assert_eq!(
        error.to_string(),
        "use the configuration: `writer.high_share` (WAL__WRITER__HIGH_SHARE) and `writer.normal_share` (the defaults) \
         contradict each other: nothing is left for low"
    );
}
