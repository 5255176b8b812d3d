//! Owns the contract against a server that runs outside, which the environment names.
//!
//! `CHRONIK_CONTRACT_URL` is the URL of an empty bucket; the clouds' own variables say the rest. With
//! `CHRONIK_CONTRACT_SIGNED=yes` the server is one that checks signatures. scripts/stores sets them.

use std::sync::Arc;

use chronik::config::storage::{Secret, StorageConfig};
use chronik::options::storage_from_env;
use chronik::store::{open_url, Kind, Machine, ObjectStore, PutMode, Tuning};

use super::contract;

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

#[test]
fn a_server_outside_keeps_the_contract() {
    let Some((url, config)) = config() else { return };
    let store = open(&format!("{url}/contract{}", std::process::id()), &config);
    contract::holds(&*store, (12 << 20) + 12_345, 1003);
}

#[test]
fn a_server_outside_refuses_what_is_not_signed_well() {
    let Some((url, config)) = config() else { return };
    if std::env::var("CHRONIK_CONTRACT_SIGNED").as_deref() != Ok("yes") {
        return;
    }
    let mut wrong = config.clone();
    wrong.s3.secret_access_key = Some(Secret::new("wrongwrongwrong"));
    wrong.azure.key = Some(Secret::new("d3Jvbmc="));
    wrong.azure.sas_token = None;
    let store = open(&url, &wrong);
    let errors = [
        store.put("a", b"x", PutMode::Overwrite).unwrap_err(),
        store.head("a").unwrap_err(),
        store.list("", None).unwrap_err(),
        store.get("a", None, &mut std::io::sink()).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind, Kind::Denied, "{error}");
        assert!(!error.sentence.contains("wrongwrong"), "{error}");
    }
}

#[test]
fn a_server_outside_says_that_a_bucket_is_missing() {
    let Some((url, config)) = config() else { return };
    let scheme = url.split("://").next().unwrap();
    let store = open(&format!("{scheme}://chronik-no-such-bucket/p"), &config);
    let put = store.put("a", b"x", PutMode::IfAbsent).unwrap_err();
    assert_eq!(put.kind, Kind::NoBucket, "{put}");
    let list = store.list("", None).unwrap_err();
    assert_eq!(list.kind, Kind::NoBucket, "{list}");
}
