//! Owns the rules of command line and environment, tried on the parser itself.

use std::ffi::OsString;
use std::path::PathBuf;

use chronik::config::{Config, Fsync, MetadataStore, Port, TimestampType};
use chronik::options::{self, exit, Outcome, UsageError, COMMANDS, OPTIONS};

fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Outcome, UsageError> {
    let args: Vec<OsString> = args.iter().map(OsString::from).collect();
    let env: Vec<(String, String)> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    options::parse(args.into_iter(), &|name| env.iter().find(|(k, _)| k == name).map(|(_, v)| OsString::from(v)))
}

fn config_with(args: &[&str], env: &[(&str, &str)]) -> Config {
    match parse(args, env) {
        Ok(Outcome::Run(config)) => *config,
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

fn config(args: &[&str]) -> Config {
    config_with(args, &[])
}

fn error_with(args: &[&str], env: &[(&str, &str)]) -> UsageError {
    match parse(args, env) {
        Err(error) => error,
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

fn error(args: &[&str]) -> UsageError {
    error_with(args, &[])
}

fn printed(args: &[&str], env: &[(&str, &str)]) -> String {
    match parse(args, env) {
        Ok(Outcome::Print(text)) => text,
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

/// One sentence: ends in a full stop (or asks), and has no line break.
fn is_one_sentence(text: &str) -> bool {
    text.ends_with(['.', '?']) && !text.contains('\n') && !text.contains(". ")
}

#[test]
fn nothing_at_all_is_the_default() {
    assert_eq!(config(&[]), Config::default());
    assert_eq!(config(&["standalone"]), Config::default());
    let c = Config::default();
    assert_eq!((c.kafka_port, c.admin_port, c.metrics_port), (Port::Fixed(9092), Port::Fixed(3000), Port::Fixed(9090)));
    assert_eq!(c.data_dir, PathBuf::from("./data"));
    assert_eq!(c.bind_host, "0.0.0.0");
    assert_eq!((c.advertised_host, c.advertised_port), (None, None));
    assert_eq!(c.metadata_store, MetadataStore::Log);
    assert_eq!(c.fsync, Fsync::Always);
}

#[test]
fn the_admin_and_metrics_ports_stay_on_loopback_unless_told_otherwise() {
    let c = config(&["-b", "0.0.0.0"]);
    assert_eq!((c.admin_bind_host.as_str(), c.metrics_bind_host.as_str()), ("127.0.0.1", "127.0.0.1"));
    let c = config(&["--admin-bind-addr", "::", "--metrics-bind-addr=10.0.0.1"]);
    assert_eq!((c.admin_bind_host.as_str(), c.metrics_bind_host.as_str()), ("::", "10.0.0.1"));
}

#[test]
fn short_and_long_names_do_the_same() {
    for (short, long) in [("-p", "--kafka-port"), ("-a", "--admin-port"), ("-d", "--data-dir"), ("-b", "--bind-addr")] {
        assert_eq!(config(&[short, "1234"]), config(&[long, "1234"]), "{short}");
        assert_ne!(config(&[short, "1234"]), Config::default(), "{short}");
    }
    assert_eq!(config(&["-p1234"]), config(&["--kafka-port=1234"]));
}

#[test]
fn the_documented_variables_are_read() {
    let c = config_with(
        &[],
        &[
            ("CHRONIK_KAFKA_PORT", "1"),
            ("CHRONIK_DATA_DIR", "/d"),
            ("CHRONIK_BIND_ADDR", "::1"),
            ("CHRONIK_ADVERTISED_ADDR", "h"),
            ("CHRONIK_ADVERTISED_PORT", "2"),
            ("CHRONIK_FILE_METADATA", "true"),
            ("RUST_LOG", "debug"),
        ],
    );
    let expected = Config {
        kafka_port: Port::Fixed(1),
        data_dir: "/d".into(),
        bind_host: "::1".into(),
        advertised_host: Some("h".into()),
        advertised_port: Some(2),
        metadata_store: MetadataStore::File,
        log_level: log::LevelFilter::Debug,
        ..Config::default()
    };
    assert_eq!(c, expected);
}

#[test]
fn the_command_line_wins_over_the_environment() {
    let env = [("CHRONIK_KAFKA_PORT", "1111"), ("CHRONIK_FILE_METADATA", "true"), ("RUST_LOG", "trace")];
    assert_eq!(config_with(&[], &env).kafka_port, Port::Fixed(1111));
    let c = config_with(&["-p", "2222", "--file-metadata=false", "--log-level", "warn"], &env);
    assert_eq!(c.kafka_port, Port::Fixed(2222));
    assert_eq!(c.metadata_store, MetadataStore::Log);
    assert_eq!(c.log_level, log::LevelFilter::Warn);
}

#[test]
fn an_empty_variable_counts_as_unset() {
    for opt in OPTIONS {
        if let Some(env) = opt.env() {
            assert_eq!(config_with(&[], &[(&env, "")]), Config::default(), "{env}");
        }
    }
}

#[test]
fn a_variable_that_the_command_line_overrides_is_not_judged() {
    let c = config_with(&["-p", "1"], &[("CHRONIK_KAFKA_PORT", "nonsense")]);
    assert_eq!(c.kafka_port, Port::Fixed(1));
}

#[test]
fn bind_option_never_ignored() {
    assert_eq!(config(&["-b", "10.1.2.3"]).bind_host, "10.1.2.3");
    assert_eq!(config(&["--bind-addr", "localhost"]).bind_host, "localhost");
    let c = config(&["-b", "10.1.2.3:19092"]);
    assert_eq!((c.bind_host.as_str(), c.kafka_port), ("10.1.2.3", Port::Fixed(19092)));
    for (text, host, port) in
        [("::1", "::1", 9092), ("[::1]", "::1", 9092), ("[::1]:5", "::1", 5), ("::", "::", 9092), ("h:7", "h", 7)]
    {
        let c = config(&["-b", text]);
        assert_eq!((c.bind_host.as_str(), c.kafka_port), (host, Port::Fixed(port)), "{text}");
    }
    for text in
        ["a b", ":9092", "h:", "h:0", "h:65536", "h:x", "[::1", "[::1]9092", "[h]:1", "http://h", "a/b", "h:1:2"]
    {
        let error = error(&["-b", text]);
        assert!(error.sentence.starts_with(&format!("--bind-addr: '{text}' is not valid")), "{error}");
    }
}

#[test]
fn a_port_in_the_bind_address_yields_to_the_ports_own_option() {
    assert_eq!(config(&["-b", "h:1", "-p", "2"]).kafka_port, Port::Fixed(2));
    assert_eq!(config_with(&["-b", "h:1"], &[("CHRONIK_KAFKA_PORT", "2")]).kafka_port, Port::Fixed(1));
    assert_eq!(config_with(&["-p", "2"], &[("CHRONIK_BIND_ADDR", "h:1")]).kafka_port, Port::Fixed(2));
    let both = [("CHRONIK_BIND_ADDR", "h:1"), ("CHRONIK_KAFKA_PORT", "2")];
    assert_eq!(config_with(&[], &both).kafka_port, Port::Fixed(2));
}

/// Clients that were told 0.0.0.0, or host:port:port, could never connect.
#[test]
fn what_is_advertised_can_be_connected_to() {
    let c = config(&["--advertised-addr", "broker.example:19092"]);
    assert_eq!((c.advertised_host.as_deref(), c.advertised_port), (Some("broker.example"), Some(19092)));
    let c = config(&["--advertised-addr", "h:1", "--advertised-port", "2"]);
    assert_eq!((c.advertised_host.as_deref(), c.advertised_port), (Some("h"), Some(2)));
    for wildcard in ["0.0.0.0", "::", "[::]:9092", "0.0.0.0:9092"] {
        let error = error(&["--advertised-addr", wildcard]);
        assert!(error.sentence.contains("--advertised-addr") && error.sentence.contains("clients"), "{error}");
    }
    assert_eq!(error(&["--advertised-port", "0"]).exit_code, exit::USAGE);
}

#[test]
fn port_zero_is_any_and_off_is_none() {
    let c = config(&["-p", "0", "-a", "0", "--metrics-port", "off"]);
    assert_eq!((c.kafka_port, c.admin_port, c.metrics_port), (Port::Any, Port::Any, Port::Off));
    assert!(error(&["-p", "off"]).sentence.contains("--kafka-port: 'off' is not valid"));
    assert!(error(&["-a", "65536"]).sentence.contains("or off for none"));
}

#[test]
fn two_listeners_on_one_port_are_refused() {
    let error = error(&["-p", "3000"]);
    assert_eq!(error.sentence, "--kafka-port and --admin-port are both 3000; give each its own.");
    assert_eq!(error.exit_code, exit::CONFIG);
    config(&["-b", "10.0.0.1", "-p", "3000"]);
    config(&["-p", "0", "-a", "0", "--metrics-port", "0"]);
    config(&["-a", "off", "--metrics-port", "off"]);
}

#[test]
fn unbuilt_features_are_refused_in_one_sentence() {
    let cases: &[&[&str]] = &[
        &["all"],
        &["ingest"],
        &["ingest", "--controller-url", "http://x"],
        &["search", "--storage-url", "s3://x"],
        &["--controller-url", "http://x"],
        &["--storage-url=s3://x"],
        &["--enable-search"],
        &["--enable-search=true"],
    ];
    for args in cases {
        let error = error(args);
        assert!(error.sentence.contains("not available in this version"), "{args:?}: {error}");
        assert!(is_one_sentence(&error.sentence), "{error}");
        assert_eq!(error.exit_code, exit::USAGE, "{args:?}");
    }
    for (name, value) in [("CHRONIK_ENABLE_SEARCH", "true"), ("CHRONIK_CONTROLLER_URL", "http://x")] {
        let error = error_with(&[], &[(name, value)]);
        assert!(error.sentence.starts_with(name), "{error}");
        assert!(error.sentence.contains("not available in this version"), "{error}");
        assert!(is_one_sentence(&error.sentence), "{error}");
    }
}

#[test]
fn what_is_for_object_storage_needs_a_store() {
    let given = ["--storage", "s3", "--s3-bucket", "b", "--upload-interval", "30s", "--storage-free-bytes", "2GiB"];
    let storage = config(&given).storage;
    assert!(storage.keeps_objects() && storage.upload_interval_ms == 30_000 && storage.local_free_bytes == 2 << 30);
    assert!(config(&["--local-storage-path", "/srv/objects"]).storage.keeps_objects());
    assert!(!config(&[]).storage.keeps_objects());
    for (args, part) in [
        (&["--upload-interval", "30s"][..], "without a store"),
        (&["--storage-take-over"], "without a store"),
        (&["--storage", "s3"], "needs --s3-bucket"),
        (&["--storage", "gcs"], "needs --gcs-bucket"),
        (&["--storage", "s3", "--s3-bucket", "b", "--local-storage-path", "/x"], "does not name"),
        (&["--storage", "s3", "--s3-bucket", "b", "--file-metadata"], "don't go together"),
    ] {
        let error = error(args);
        assert!(error.sentence.contains(part) && is_one_sentence(&error.sentence), "{args:?}: {error}");
    }
}

#[test]
fn backups_need_a_place_and_metadata_in_the_log() {
    let given = ["--enable-backup", "--backup-url", "file:///srv/backups", "--backup-interval", "6h"];
    let backup = config(&given).backup;
    assert!(backup.enabled && backup.interval_ms == 6 * 3_600_000 && backup.keep == 0);
    assert_eq!(backup.url.as_deref(), Some("file:///srv/backups"));
    for (args, part) in [
        (&["--enable-backup"][..], "needs --backup-url"),
        (&["--backup-url", "s3://b/p"], "without --enable-backup"),
        (&["--enable-backup", "--backup-url", "s3://b", "--file-metadata"], "--file-metadata don't go together"),
        (&["--enable-backup", "--backup-url", "http://b"], "give s3://BUCKET/PREFIX"),
        (&["--enable-backup", "--backup-url", "s3://key:secret@b"], "without keys"),
    ] {
        let error = error(args);
        assert!(error.sentence.contains(part), "{args:?}: {error}");
        assert!(is_one_sentence(&error.sentence), "{error}");
    }
}

#[test]
fn declining_what_is_not_built_is_accepted() {
    config(&["--enable-search=false", "--enable-backup=false", "--storage", "local"]);
    config_with(&[], &[("CHRONIK_ENABLE_BACKUP", "false"), ("STORAGE_BACKEND", "local")]);
}

#[test]
fn every_command_is_accepted_or_refused() {
    for command in COMMANDS {
        assert_eq!(parse(&[command.name], &[]).is_ok(), command.missing.is_none(), "{}", command.name);
    }
    assert_eq!(COMMANDS[0].name, "standalone");
    assert!(error(&["standalon"]).sentence.contains("did you mean standalone?"));
    assert!(error(&["/data"]).sentence.starts_with("There is no command '/data'"));
    assert!(error(&["standalone", "9092"]).sentence.contains("'9092'"));
}

/// For each option a value that cannot be right; the sentence names who, what, and what is allowed.
#[test]
fn every_wrong_value_is_named_with_its_option_or_variable() {
    for opt in OPTIONS.iter().filter(|o| o.env().is_some() && o.missing.is_none()) {
        if opt.hint == "PATH" || opt.hint == "FILE" || opt.long.ends_with("-file") {
            continue; // Every text is a path; whether it can be opened is found out later.
        }
        let wrong = "no such/value";
        let env = opt.env().unwrap_or_default();
        let flag = format!("--{}", opt.long);
        let by_flag = error(&[&format!("{flag}={wrong}")]);
        match opt.on_command_line {
            true => {
                assert!(by_flag.sentence.starts_with(&format!("{flag}: '{wrong}' is not valid; give ")), "{by_flag}")
            }
            false => assert!(by_flag.sentence.ends_with(&format!("set by the variable {env} alone.")), "{by_flag}"),
        }
        assert_eq!(by_flag.exit_code, exit::USAGE);
        let by_env = error_with(&[], &[(&env, wrong)]);
        let shown = if opt.secret { "the value given".to_string() } else { format!("'{wrong}'") };
        assert!(by_env.sentence.starts_with(&format!("{env}: {shown} is not valid; give ")), "{by_env}");
        assert_eq!(by_env.exit_code, exit::CONFIG);
        assert!(is_one_sentence(&by_flag.sentence) && is_one_sentence(&by_env.sentence), "{by_flag}");
    }
}

#[test]
fn bounds_hold_on_both_sides() {
    config(&["--log-segment-bytes", "16MiB"]);
    config(&["--log-segment-bytes", "2147483647"]);
    for wrong in ["16777215", "2147483648", "2GiB", "-1", "", "1e9", "99999999999999999999", "9223372036854775807GiB"] {
        assert!(parse(&["--log-segment-bytes", wrong], &[]).is_err(), "{wrong}");
    }
    for wrong in ["0", "-1", "10001", "1.5", "0x10"] {
        let error = error(&["--num-partitions", wrong]);
        assert!(error.sentence.contains("a number from 1 to 10000"), "{error}");
    }
    assert_eq!(config(&["--num-partitions", "10000"]).num_partitions, 10_000);
}

#[test]
fn locks_of_a_share_partition_are_bounded_whatever_the_options_say() {
    let option = "--group-share-max-partition-max-record-locks";
    let most = chronik::limits::SHARE_PARTITION_LOCKS_MAX;
    assert_eq!(config(&[option, &most.to_string()]).share.max_partition_max_record_locks, most);
    assert!(parse(&[option, &(most + 1).to_string()], &[]).is_err());
}

#[test]
fn sizes_and_times_take_units() {
    assert_eq!(config(&["--log-segment-bytes", "64mib"]).log_segment_bytes, 64 << 20);
    assert_eq!(config(&["--log-retention-bytes", "3GiB"]).log_retention_bytes, 3 << 30);
    for (text, ms) in [("1500", 1500), ("1500ms", 1500), ("2s", 2000), ("3m", 180_000), ("1h", 3_600_000)] {
        assert_eq!(config(&["--log-roll-ms", text]).log_roll_ms, ms, "{text}");
    }
    assert!(error(&["--log-segment-bytes", "64MB"]).sentence.contains("KiB, MiB and GiB may follow"));
}

#[test]
fn minus_one_is_no_limit_only_where_kafka_says_so() {
    assert_eq!(config(&["--log-retention-bytes", "-1"]).log_retention_bytes, -1);
    assert_eq!(config(&["--log-retention-ms=-1"]).log_retention_ms, -1);
    assert_eq!(config(&["--log-retention-hours", "-1"]).log_retention_ms, -1);
    assert!(parse(&["--log-retention-ms", "-2"], &[]).is_err());
    assert!(parse(&["--log-retention-ms", "-1s"], &[]).is_err());
    assert!(parse(&["--log-roll-ms", "-1"], &[]).is_err());
}

#[test]
fn retention_in_milliseconds_wins_over_hours_as_in_kafka() {
    assert_eq!(config(&["--log-retention-hours", "2"]).log_retention_ms, 7_200_000);
    assert_eq!(config(&["--log-retention-hours", "2", "--log-retention-ms", "5"]).log_retention_ms, 5);
}

#[test]
fn fsync_modes() {
    for (text, mode) in [
        ("always", Fsync::Always),
        ("never", Fsync::Never),
        ("interval=1", Fsync::IntervalMs(1)),
        ("interval=60000", Fsync::IntervalMs(60_000)),
        ("interval=50ms", Fsync::IntervalMs(50)),
    ] {
        assert_eq!(config(&["--fsync", text]).fsync, mode, "{text}");
    }
    for wrong in ["interval", "interval=", "interval=0", "interval=60001", "interval=-1", "Always", "no", "always=1"] {
        assert!(error(&["--fsync", wrong]).sentence.contains("interval=MS"), "{wrong}");
    }
}

#[test]
fn booleans_and_flags() {
    assert!(!config(&["--auto-create-topics-enable", "false"]).auto_create_topics_enable);
    assert!(!config(&["--delete-topic-enable=off"]).delete_topic_enable);
    assert_eq!(config(&["--file-metadata"]).metadata_store, MetadataStore::File);
    assert_eq!(config(&["--file-metadata", "standalone"]).metadata_store, MetadataStore::File);
    assert!(error(&["--file-metadata=maybe"]).sentence.contains("true or false"));
    let c = config(&["--log-message-timestamp-type", "LogAppendTime"]);
    assert_eq!(c.log_message_timestamp_type, TimestampType::LogAppendTime);
    assert!(config(&["--convert-metadata", "--file-metadata"]).convert_metadata);
}

#[test]
fn rust_log_is_read_as_other_rust_programs_read_it() {
    use log::LevelFilter::*;
    for (text, level) in [
        ("warn", Warn),
        ("WARN", Warn),
        ("off", Off),
        ("mio=trace,debug", Debug),
        ("debug,chronik=error", Error),
        ("chronik=trace,info", Trace),
        ("mio=trace", Info),
    ] {
        assert_eq!(config_with(&[], &[("RUST_LOG", text)]).log_level, level, "{text}");
    }
    assert!(error_with(&[], &[("RUST_LOG", "loud")]).sentence.starts_with("RUST_LOG: 'loud' is not valid"));
    assert_eq!(error(&["--log-level", ","]).exit_code, exit::USAGE);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let cases: &[&[&str]] = &[
        &["--message-max-bytes", "65MiB"],
        &["--log-segment-bytes", "16MiB", "--message-max-bytes", "9MiB"],
        &["--socket-request-max-bytes", "1MiB"],
        &["--queued-max-request-bytes", "64MiB"],
        &["--group-min-session-timeout-ms", "31m"],
    ];
    for args in cases {
        let error = error(args);
        assert_eq!(error.exit_code, exit::CONFIG, "{args:?}");
        assert!(error.sentence.contains("must not exceed") && is_one_sentence(&error.sentence), "{error}");
    }
}

#[test]
fn the_memory_limit_is_shared_out_and_what_does_not_fit_is_refused() {
    let mib = |n: usize| n << 20;
    let c = config(&["--memory-limit", "512MiB"]);
    assert_eq!((c.queued_max_request_bytes, c.response_bytes_max), (mib(64), mib(64)));
    assert_eq!((c.socket_request_max_bytes, c.log_cleaner_dedupe_buffer_size), (mib(64), mib(64)));
    let c = config(&["--memory-limit", "8GiB"]);
    assert_eq!((c.queued_max_request_bytes, c.response_bytes_max), (mib(1024), mib(1024)));
    assert_eq!((c.socket_request_max_bytes, c.log_cleaner_dedupe_buffer_size), (mib(100), mib(128)));
    // What is given holds, if it fits.
    let c = config(&["--memory-limit", "768MiB", "--queued-max-request-bytes", "200MiB"]);
    assert_eq!((c.queued_max_request_bytes, c.socket_request_max_bytes), (mib(200), mib(96)));
    let error = error(&["--queued-max-request-bytes", "600MiB"]);
    assert_eq!(error.exit_code, exit::CONFIG);
    assert!(
        error.sentence.starts_with("--memory-limit is 1073741824, but") && is_one_sentence(&error.sentence),
        "{error}"
    );
    let store = ["--memory-limit", "512MiB", "--local-storage-path", "/tmp/a-store"];
    assert!(error_with(&store, &[]).sentence.contains("--memory-limit is 536870912, but"));
}

#[test]
fn unknown_options_are_refused_with_the_nearest_name() {
    for (wrong, near) in [
        ("--kafka-prot", "--kafka-port"),
        ("--kafka_port", "--kafka-port"),
        ("--num.partitions", "--num-partitions"),
        ("--DATA-DIR", "--data-dir"),
        ("--metric-port", "--metrics-port"),
    ] {
        let error = error(&[wrong]);
        assert!(error.sentence.contains(&format!("'{wrong}'; did you mean {near}?")), "{error}");
        assert_eq!(error.exit_code, exit::USAGE);
    }
    assert_eq!(error(&["--frobnicate"]).sentence, "There is no option '--frobnicate'; --help lists every option.");
    assert_eq!(error(&["-x"]).sentence, "There is no option '-x'; --help lists every option.");
    // A configuration file is not offered in this version, so it must not be swallowed either.
    assert_eq!(error(&["--config", "x.toml"]).exit_code, exit::USAGE);
}

#[test]
fn misuse_of_an_option_is_refused() {
    assert_eq!(error(&["-p"]).sentence, "--kafka-port needs a value.");
    assert_eq!(error(&["--data-dir="]).sentence, "--data-dir needs a value.");
    assert!(error(&["-p", "1", "--kafka-port", "2"]).sentence.contains("--kafka-port is given more than once"));
    assert!(error(&["--version=1"]).sentence.contains("--version takes no value"));
}

#[test]
fn quoted_input_is_short_and_has_no_control_characters() {
    let long = format!("--num-partitions=\u{1b}[31m{}", "9".repeat(100_000));
    let error = error(&[&long]);
    assert!(error.sentence.len() < 300, "{}", error.sentence.len());
    assert!(!error.sentence.chars().any(char::is_control));
}

#[cfg(unix)]
#[test]
fn bytes_that_are_not_text_are_refused_and_do_not_panic() {
    use std::os::unix::ffi::OsStringExt;
    let odd = || OsString::from_vec(vec![b'-', b'-', 0xff]);
    let by_flag = options::parse([odd()].into_iter(), &|_| None).unwrap_err();
    assert_eq!(by_flag.exit_code, exit::USAGE);
    let by_env = options::parse(std::iter::empty(), &|name| (name == "CHRONIK_DATA_DIR").then(odd)).unwrap_err();
    assert!(by_env.sentence.contains("CHRONIK_DATA_DIR"), "{by_env}");
    assert_eq!(by_env.exit_code, exit::CONFIG);
}

/// Kubernetes sets CHRONIK_KAFKA_PORT=tcp://… for a service named chronik-kafka.
#[test]
fn a_kubernetes_service_variable_is_explained() {
    let error = error_with(&[], &[("CHRONIK_KAFKA_PORT", "tcp://10.0.0.1:9092")]);
    assert!(error.sentence.contains("enableServiceLinks: false"), "{error}");
    assert!(is_one_sentence(&error.sentence));
}

#[test]
fn help_and_version_win_and_go_to_stdout() {
    assert!(printed(&["--help"], &[]).contains("--kafka-port PORT"));
    assert!(printed(&["-h", "all", "-p", "nonsense"], &[]).starts_with("chronik-server"));
    let version = format!("chronik-server {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(printed(&["-V"], &[("CHRONIK_KAFKA_PORT", "nonsense")]), version);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(options::report(parse(&["--version"], &[]), &mut out, &mut err), Err(exit::OK));
    assert_eq!((String::from_utf8(out).unwrap(), err.len()), (version, 0));
    for line in printed(&["--help"], &[]).lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn errors_go_to_stderr_with_the_programs_name() {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(options::report(parse(&["all"], &[]), &mut out, &mut err), Err(exit::USAGE));
    let said = String::from_utf8(err).unwrap();
    assert!(said.starts_with("chronik-server: The command all is not available in this version"), "{said}");
    assert_eq!((said.lines().count(), out.len()), (1, 0));
}

/// `chronik-server --help | head` is no failure.
#[test]
fn a_reader_that_goes_away_is_success() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    assert_eq!(options::report(parse(&["--help"], &[]), &mut Closed, &mut Vec::new()), Err(exit::OK));
}

#[test]
fn check_config_says_one_thing_to_a_supervisor() {
    assert_eq!(printed(&["--check-config"], &[]), "The configuration is valid.\n");
    for args in [&["--check-config", "-p", "x"][..], &["--check-config", "--enable-search"], &["--check-config", "all"]]
    {
        assert_eq!(error(args).exit_code, exit::CONFIG, "{args:?}");
    }
}

#[test]
fn print_config_says_what_holds_and_why() {
    let text = printed(&["--print-config", "-b", "h:1234"], &[("CHRONIK_NUM_PARTITIONS", "3")]);
    for line in [
        "kafka-port=1234  # --bind-addr",
        "bind-addr=h:1234  # --bind-addr",
        "num-partitions=3  # CHRONIK_NUM_PARTITIONS",
        "fsync=always  # default",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    assert!(parse(&["--print-config", "-p", "x"], &[]).is_err());
}

#[test]
fn kafkas_settings_have_kafkas_keys() {
    let key = |long: &str| OPTIONS.iter().find(|o| o.long == long).map(|o| (o.key(), o.is_kafkas()));
    assert_eq!(key("num-partitions"), Some(("num.partitions".into(), true)));
    assert_eq!(key("log-retention-check-interval-ms"), Some(("log.retention.check.interval.ms".into(), true)));
    assert_eq!(key("data-dir"), Some(("data-dir".into(), false)));
}

#[test]
fn names_are_unique() {
    for (i, a) in OPTIONS.iter().enumerate() {
        for b in &OPTIONS[..i] {
            assert!(a.long != b.long && (a.short.is_none() || a.short != b.short), "--{} --{}", a.long, b.long);
            assert!(a.env().is_none() || a.env() != b.env(), "--{} --{}", a.long, b.long);
        }
    }
}
