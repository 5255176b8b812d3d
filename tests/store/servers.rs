//! Owns the contract against a server that runs outside, which the environment names.
//!
//! `CHRONIK_CONTRACT_URL` is the URL of an empty bucket; the clouds' own variables say the rest.
//! `CHRONIK_CONTRACT_CHECKS` names what the server looks at, of `signature`, `clock` and `region`. scripts/stores sets them.

use std::sync::Arc;
use std::time::Duration;

use chronik::config::storage::{Secret, StorageConfig};
use chronik::options::storage_from_env;
use chronik::store::{get_bytes, open_url, Kind, Machine, ObjectStore, PutMode, StoreError, Surroundings, Tuning};

use super::{clouds, contract, s3};

/// Real servers want parts of 5 MiB at least.
fn tuning() -> Tuning {
    Tuning { single_bytes: 1 << 20, part_bytes: 5 << 20, ..Tuning::default() }
}

fn config() -> Option<(String, StorageConfig)> {
    let Ok(url) = std::env::var("CHRONIK_CONTRACT_URL") else {
        println!("CHRONIK_CONTRACT_URL is not set: no server outside is tested.");
        return None;
    };
    Some((url, storage_from_env(&|name| std::env::var_os(name)).expect("settings of storage in the environment")))
}

fn open(url: &str, config: &StorageConfig) -> Box<dyn ObjectStore> {
    open_url(url, config, tuning(), Arc::new(Machine::start())).unwrap_or_else(|e| panic!("{e}"))
}

fn looks_at(what: &str) -> bool {
    std::env::var("CHRONIK_CONTRACT_CHECKS").is_ok_and(|checks| checks.split(',').any(|check| check == what))
}

/// What each kind of request fails with.
fn errors_of(store: &dyn ObjectStore) -> [StoreError; 5] {
    [
        store.put("a", b"x", PutMode::Overwrite).unwrap_err(),
        store.head("a").unwrap_err(),
        store.list("", None).unwrap_err(),
        store.get("a", None, &mut std::io::sink()).unwrap_err(),
        store.delete("a").unwrap_err(),
    ]
}

/// An object goes there and back.
fn serves(store: &dyn ObjectStore) {
    let etag = store.put("there/and-back", b"hello", PutMode::Overwrite).unwrap_or_else(|e| panic!("{e}"));
    let (bytes, info) = get_bytes(store, "there/and-back", None, 100).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((bytes.as_slice(), info.etag), (&b"hello"[..], etag));
    store.delete("there/and-back").unwrap();
}

/// The machine's surroundings, but for its clock.
#[derive(Debug)]
struct Skewed(Machine, i64);

impl Surroundings for Skewed {
    fn wall_ms(&self) -> i64 {
        self.0.wall_ms() + self.1
    }

    fn mono_ms(&self) -> u64 {
        self.0.mono_ms()
    }

    fn random(&self) -> u64 {
        self.0.random()
    }

    fn wait(&self, time: Duration) -> bool {
        self.0.wait(time)
    }
}

#[test]
fn a_server_outside_keeps_the_contract() {
    let Some((url, config)) = config() else { return };
    let store = open(&format!("{url}/contract{}", std::process::id()), &config);
    contract::holds(&*store, (12 << 20) + 12_345, 1003);
}

#[test]
fn a_server_outside_refuses_what_is_not_signed_well() {
    let Some((url, config)) = config() else { return };
    if !looks_at("signature") {
        return;
    }
    let mut wrong = config.clone();
    wrong.s3.secret_access_key = Some(Secret::new("wrongwrongwrong"));
    wrong.azure.key = Some(Secret::new("d3Jvbmc="));
    wrong.azure.sas_token = config.azure.sas_token.map(|sas| Secret::new(sas.reveal().replace("sig=", "sig=AAAA")));
    for error in errors_of(&*open(&url, &wrong)) {
        assert_eq!(error.kind, Kind::Denied, "{error}");
        assert!(error.sentence.contains("is denied") && !error.sentence.contains("wrongwrong"), "{error}");
    }
}

#[test]
fn a_server_outside_refuses_a_clock_that_is_wrong() {
    let Some((url, config)) = config() else { return };
    if !looks_at("clock") {
        return;
    }
    for (hours, told) in [(2, "It is 7"), (-2, "It is 7")] {
        let around = Arc::new(Skewed(Machine::start(), hours * 3_600_000));
        let store = open_url(&url, &config, tuning(), around).unwrap();
        // Days are not told by the clock's difference, but by the day that the key is good for.
        for error in errors_of(&*store) {
            assert_eq!(error.kind, Kind::ClockSkew, "{error}");
            let direction = if hours > 0 { "s ahead." } else { "s behind." };
            assert!(error.sentence.contains(told) && error.sentence.ends_with(direction), "{error}");
        }
    }
}

#[test]
fn a_server_outside_tells_its_region() {
    let Some((url, config)) = config() else { return };
    if !looks_at("region") {
        return;
    }
    let mut wrong = config.clone();
    wrong.s3.region = Some("eu-nowhere-1".into());
    for error in errors_of(&*open(&url, &wrong)) {
        assert_eq!(error.kind, Kind::WrongRegion(Some("us-east-1".into())), "{error}");
        assert!(error.sentence.contains("S3_REGION=us-east-1"), "{error}");
    }
}

#[test]
fn a_server_outside_is_not_spoken_to_without_its_authority() {
    let Some((url, config)) = config() else { return };
    // The environment may name certificates for other programs.
    let is_safe = config.s3.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("https:"));
    if config.ca_file.is_none() || !is_safe {
        return;
    }
    let error = open(&url, &StorageConfig { ca_file: None, ..config }).head("a").unwrap_err();
    assert_eq!(error.kind, Kind::Other, "{error}");
    assert!(error.sentence.contains("can't be spoken to safely"), "{error}");
}

#[test]
fn keys_lent_to_an_instance_open_a_server_outside() {
    let Some((url, mut config)) = config() else { return };
    let (Some(id), Some(secret)) = (config.s3.access_key_id.take(), config.s3.secret_access_key.take()) else { return };
    let token = config.s3.session_token.take().map_or(String::new(), |token| token.reveal().to_owned());
    let keys = format!(r#"{{"AccessKeyId":"{id}","SecretAccessKey":"{}","Token":"{token}"}}"#, secret.reveal());
    let instance = s3::instance(keys);
    config.s3.metadata_endpoint = Some(instance.url());
    let store = open(&url, &config);
    serves(&*store);
    serves(&*store);
    assert_eq!(instance.seen().len(), 3, "token, role and keys, once");
}

#[test]
fn a_service_account_opens_a_server_outside() {
    let Some((url, mut config)) = config() else { return };
    if !url.starts_with("gs:") {
        return;
    }
    let tokens = clouds::token_service();
    let account = clouds::Account::of(&tokens);
    config.gcs.credentials_file = Some(account.path.clone());
    serves(&*open(&url, &config));
    assert_eq!(tokens.lines(), ["POST /token"], "one claim, which was signed well");
}

#[test]
fn a_server_outside_says_that_a_bucket_is_missing() {
    let Some((url, config)) = config() else { return };
    // A shared access signature for a container doesn't open another, so that a missing one isn't told from a forbidden one.
    if config.azure.sas_token.is_some() {
        return;
    }
    let scheme = url.split("://").next().unwrap();
    let store = open(&format!("{scheme}://chronik-no-such-bucket/p"), &config);
    let put = store.put("a", b"x", PutMode::IfAbsent).unwrap_err();
    assert_eq!(put.kind, Kind::NoBucket, "{put}");
    let list = store.list("", None).unwrap_err();
    assert_eq!(list.kind, Kind::NoBucket, "{list}");
}
