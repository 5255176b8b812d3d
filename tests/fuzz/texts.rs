//! Owns the fuzzing of what people and other programs write: command lines, configurations, answers of object stores, manifests
//! of backups, regular expressions, times.
//!
//! The first byte chooses which of them the rest is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, OnceLock};

use chronik::backup::{when, Manifest, Object, Role, TopicTotal};
use chronik::broker::configs::{
    broker_table, check_together, client_metrics_table, group_table, topic_table, GroupConfigs, TopicSettings,
};
use chronik::broker::groups::{match_topics, MatchJob};
use chronik::cli::parse;
use chronik::config::storage::{AzureConfig, GcsConfig, S3Config, Secret};
use chronik::config::Config;
use chronik::options::{self, Outcome, OPTIONS};
use chronik::store::{check_key, check_prefix, CloudStore, Machine, ObjectStore, Tuning};
use chronik::wal::marker::Marker;
use chronik::wal::settings::MetadataStore;
use chronik::wire::Uuid;

pub fn run(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    match kind % 8 {
        0 => server_options(bytes),
        1 => tool_words(&text),
        2 => configurations(&text),
        3..=5 => answers(usize::from(kind % 8) - 3, &text),
        6 => manifest(bytes),
        _ => pattern(&text),
    }
}

/// Arguments on lines of their own; behind an empty line, variables of the environment.
fn server_options(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let args: Vec<OsString> = lines.by_ref().take_while(|line| !line.is_empty()).map(os).collect();
    let variables: BTreeMap<String, OsString> = lines.filter_map(variable).collect();
    let parsed = options::parse(args.into_iter(), &|name| variables.get(name).cloned());
    match parsed {
        Ok(Outcome::Run(_)) => {}
        Ok(Outcome::Print(text)) => assert!(!text.is_empty()),
        Err(error) => {
            assert!(error.sentence.len() > 5 && !error.sentence.contains('\n'), "{:?}", error.sentence);
            assert!(error.exit_code == options::exit::USAGE || error.exit_code == options::exit::CONFIG);
        }
    }
}

fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn variable(line: &[u8]) -> Option<(String, OsString)> {
    let at = line.iter().position(|byte| *byte == b'=')?;
    Some((String::from_utf8_lossy(&line[..at]).into_owned(), os(&line[at + 1..])))
}

fn tool_words(text: &str) {
    let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let _ = parse::parse(&words, &|_| None);
    let _ = when::parse(text);
}

/// Lines of `name=value`. A value that is taken is taken again as it was written down, and means the same.
fn configurations(text: &str) {
    let config = Config::default();
    let mut topic = BTreeMap::new();
    let mut group = BTreeMap::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        if let Some(row) = topic_table::find(name) {
            if let Ok(taken) = row.check(&config, value) {
                assert_eq!(row.check(&config, &taken).as_ref(), Ok(&taken), "{name}");
                topic.insert(name.to_owned(), taken);
            }
        }
        if let Some(row) = broker_table::find(name) {
            if let Ok(taken) = row.check(&config, value) {
                assert_eq!(row.check(&config, &taken).as_ref(), Ok(&taken), "{name}");
                row.set(&mut config.clone(), &taken);
            }
        }
        if let Some(row) = group_table::find(name) {
            if let Ok(taken) = row.check(value) {
                assert_eq!(row.check(&taken).as_ref(), Ok(&taken), "{name}");
                let _ = row.check_bounds(&config, &taken);
                group.insert(name.to_owned(), taken);
            }
        }
        if let Some(row) = client_metrics_table::find(name) {
            let _ = row.check(value);
        }
    }
    let _ = check_together(&config, &topic);
    let settings = TopicSettings::resolve(&config, &topic);
    assert!(settings.segment_bytes > 0);
    GroupConfigs::resolve(&config, &group);
}

/// One store of each cloud, which is asked nothing.
fn stores() -> &'static [CloudStore; 3] {
    static STORES: OnceLock<[CloudStore; 3]> = OnceLock::new();
    STORES.get_or_init(|| {
        let endpoint = Some("http://127.0.0.1:1".to_owned());
        let (bucket, prefix) = (Some("bucket".to_owned()), Some("folder".to_owned()));
        let secret = |text: &str| Some(Secret::new(text));
        let s3 = S3Config {
            bucket: bucket.clone(),
            prefix: prefix.clone(),
            endpoint: endpoint.clone(),
            access_key_id: Some("key".into()),
            secret_access_key: secret("secret"),
            ..S3Config::default()
        };
        let gcs = GcsConfig {
            bucket: bucket.clone(),
            prefix: prefix.clone(),
            endpoint: endpoint.clone(),
            ..GcsConfig::default()
        };
        let azure = AzureConfig {
            account: Some("account".into()),
            key: secret("c2VjcmV0"),
            container: bucket,
            prefix,
            endpoint,
            ..AzureConfig::default()
        };
        let around = || Arc::new(Machine::start());
        [
            CloudStore::s3(&s3, None, Tuning::default(), around()).unwrap(),
            CloudStore::gcs(&gcs, None, Tuning::default(), around()).unwrap(),
            CloudStore::azure(&azure, None, Tuning::default(), around()).unwrap(),
        ]
    })
}

/// A page of a listing: every key that is told lies in the folder.
fn answers(which: usize, text: &str) {
    let store = &stores()[which];
    match store.read_page(text) {
        Ok(page) => {
            assert!(page.objects.len() <= text.len() && page.next.is_none_or(|next| next.len() <= text.len()));
            assert!(page.objects.iter().all(|listed| text.len() > listed.key.len()));
        }
        Err(error) => assert!(error.to_string().contains(&store.describe()), "{error}"),
    }
    let _ = (check_key(text), check_prefix(text));
}

fn a_manifest() -> Manifest {
    let object = |role, path: &str, key: &str| Object {
        role,
        start: 0,
        path: path.into(),
        bytes: 9,
        crc: 7,
        incarnation: 3,
        key: key.into(),
    };
    let marker =
        Marker { directory: Uuid([7; 16]), cluster: "cluster".into(), metadata: MetadataStore::Log, metadata_since: 0 };
    let directory = chronik::backup::directory_name(marker.directory);
    let (backup, path) = ("20260101T000000000Z", "wal/00000000000000000001.log");
    let segment = format!("{directory}/segments/{path}-0000000000000003-9");
    let tail = "wal/00000000000000000002.log";
    let piece = |start: u64| {
        let key = format!("{directory}/segments/{tail}-0000000000000003-{start}_9");
        Object { start, ..object(Role::Tail, tail, &key) }
    };
    Manifest {
        backup: backup.into(),
        time_ms: 1_700_000_000_000,
        version: "0.1.0".into(),
        marker,
        last_group: 5,
        new_bytes: 18,
        topics: vec![TopicTotal { name: "orders".into(), id: Uuid([1; 16]), partitions: 2, offsets: 10, bytes: 99 }],
        objects: vec![
            object(Role::Segment, path, &segment),
            piece(0),
            piece(9),
            object(
                Role::Checkpoint,
                "checkpoints/00000000000000000005.ckpt",
                &format!("{directory}/backups/{backup}/000003"),
            ),
        ],
    }
}

/// As it is, and with the checksum made right.
fn manifest(bytes: &[u8]) {
    let wanted = a_manifest();
    let read = |bytes: &[u8]| Manifest::parse(bytes, &wanted.directory(), &wanted.backup);
    let _ = read(bytes);
    let text = String::from_utf8_lossy(bytes);
    let body = text.rfind("end ").map_or(&*text, |at| &text[..at]);
    let whole = format!("{body}end {:08x}\n", crc32c::crc32c(body.as_bytes()));
    if let Ok(manifest) = read(whole.as_bytes()) {
        let again = read(manifest.encode().as_bytes()).expect("what was written is read");
        assert_eq!((again.encode(), again.bytes()), (manifest.encode(), manifest.bytes()));
        let leaves = |object: &Object| object.path.split('/').any(|part| part == "..") || object.path.starts_with('/');
        assert!(!manifest.objects.iter().any(leaves), "a path leaves the data directory");
    }
}

fn pattern(text: &str) {
    let topics: Arc<[Arc<str>]> = ["orders", "other", "", "ünïcode"].map(Arc::from).into();
    let done = match_topics(&MatchJob { pattern: text.into(), topics, version: 1 });
    assert!(done.result.is_err() || done.result.is_ok_and(|topics| topics.len() <= 4));
}

fn listings() -> [String; 3] {
    let s3 = "<?xml version=\"1.0\"?><ListBucketResult><Contents><Key>folder/a&amp;b</Key><Size>12</Size><ETag>&quot;x&quot;</ETag>\
              <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents><Contents><Key>folder/c</Key><Size>0</Size></Contents>\
              <IsTruncated>true</IsTruncated><NextContinuationToken>t&#x6f;k</NextContinuationToken></ListBucketResult>";
    let gcs = r#"{"items": [{"name": "folder/a\u00e9\ud83d\ude00", "size": "12", "generation": "3", "updated": "2026-01-01T00:00:00Z"},
              {"name": "folder/b", "size": "1", "generation": "9"}], "nextPageToken": "tok"}"#;
    let azure = "<?xml version=\"1.0\"?><EnumerationResults><Blobs><Blob><Name>folder/a</Name><Properties><Content-Length>3</Content-Length>\
                 <Etag>0x8</Etag><Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified></Properties></Blob></Blobs>\
                 <NextMarker>m</NextMarker></EnumerationResults>";
    [s3, gcs, azure].map(str::to_owned)
}

pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |kind: u8, text: &str| [&[kind][..], text.as_bytes()].concat();
    let mut seeds = Vec::new();
    for opt in OPTIONS {
        for value in ["1", "true", "1MB", "10s", "localhost:9092", "-1", "s3"] {
            seeds.push(seed(0, &format!("--{}={value}\n\n{}={value}", opt.long, opt.env().unwrap_or_default())));
        }
    }
    seeds.push(seed(0, "--help"));
    for words in [
        "topic\ncreate\norders\n-p\n3\n-c\nretention.ms=5",
        "wal\nverify\n-d\n/x\n-o\njson",
        "backup\nlist",
        "2026-01-01T00:00:00Z",
    ] {
        seeds.push(seed(1, words));
    }
    let config = Config::default();
    for row in topic_table::TOPIC_CONFIGS {
        seeds.push(seed(2, &format!("{}={}", row.name, row.default(&config))));
    }
    for row in broker_table::BROKER_CONFIGS {
        seeds.push(seed(2, &format!("{}={}", row.name, row.value(&config))));
    }
    for row in group_table::rows() {
        seeds.push(seed(2, &format!("{}={}\nsegment.bytes=1048576\nsegment.ms=5", row.name, row.default(&config))));
    }
    for (which, text) in listings().iter().enumerate() {
        seeds.push(seed(3 + which as u8, text));
    }
    seeds.push(seed(6, &a_manifest().encode()));
    for pattern in ["ord.*", "(a|b)+[^c]{1,5}\\d", "(?i)x{2}", "\\pL{3}(((a)))*$"] {
        seeds.push(seed(7, pattern));
    }
    seeds
}

#[test]
fn the_listings_are_read_as_the_clouds_mean_them() {
    for (which, text) in listings().iter().enumerate() {
        let page = stores()[which].read_page(text).unwrap();
        assert!(!page.objects.is_empty() && page.next.is_some(), "{page:?}");
    }
    assert_eq!(stores()[0].read_page(&listings()[0]).unwrap().objects[0].key, "a&b");
}
