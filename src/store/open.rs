//! Owns the way from settings, or from a URL, to a store.

use std::path::Path;
use std::sync::Arc;

use super::cloud::CloudStore;
use super::local::LocalStore;
use super::{Kind, ObjectStore, StoreError, Surroundings, Tuning};
use crate::config::storage::{Backend, StorageConfig};

/// The store that the settings name; `None` if it is a local one without a folder. Nothing is asked yet, so that an error
/// is about the settings, or about a file that they name.
pub fn open(
    config: &StorageConfig,
    tuning: Tuning,
    around: Arc<dyn Surroundings>,
) -> Result<Option<Box<dyn ObjectStore>>, StoreError> {
    let ca = config.ca_file.as_deref();
    Ok(Some(match config.backend {
        Backend::Local => match &config.local_path {
            Some(path) => Box::new(LocalStore::open(path).beside(around.traffic())),
            None => return Ok(None),
        },
        Backend::S3 => Box::new(CloudStore::s3(&config.s3, ca, tuning, around)?),
        Backend::Gcs => Box::new(CloudStore::gcs(&config.gcs, ca, tuning, around)?),
        Backend::Azure => Box::new(CloudStore::azure(&config.azure, ca, tuning, around)?),
    }))
}

/// The settings for a folder within the store that they name.
pub fn within(config: &StorageConfig, folder: &str) -> StorageConfig {
    let mut config = config.clone();
    let under = |prefix: &Option<String>| match prefix.as_deref().map(|prefix| prefix.trim_matches('/')) {
        None | Some("") => Some(folder.to_owned()),
        Some(prefix) => Some(format!("{prefix}/{folder}")),
    };
    match config.backend {
        Backend::Local => config.local_path = config.local_path.map(|path| path.join(folder)),
        Backend::S3 => config.s3.prefix = under(&config.s3.prefix),
        Backend::Gcs => config.gcs.prefix = under(&config.gcs.prefix),
        Backend::Azure => config.azure.prefix = under(&config.azure.prefix),
    }
    config
}

/// The store that a URL names: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `azure://CONTAINER/PREFIX` (or `az://`),
/// `file:///PATH`. Regions, endpoints and keys come from the settings, the place in the store from the URL alone.
pub fn open_url(
    url: &str,
    config: &StorageConfig,
    tuning: Tuning,
    around: Arc<dyn Surroundings>,
) -> Result<Box<dyn ObjectStore>, StoreError> {
    let config = with_url(url, config)?;
    // A local store has its folder here, so that there is always one.
    open(&config, tuning, around)?.ok_or_else(|| not_a_store(url))
}

/// The settings with what the URL says in place of their own.
pub fn with_url(url: &str, config: &StorageConfig) -> Result<StorageConfig, StoreError> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| not_a_store(url))?;
    let mut config = config.clone();
    if scheme == "file" {
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        if !path.starts_with('/') || path.contains(['?', '#']) {
            return Err(not_a_store(url));
        }
        config.backend = Backend::Local;
        config.local_path = Some(Path::new(path).to_owned());
        return Ok(config);
    }
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if name.is_empty() || rest.contains(['?', '#', '@']) {
        return Err(not_a_store(url));
    }
    let prefix = Some(prefix.trim_matches('/').to_owned()).filter(|p| !p.is_empty());
    let name = Some(name.to_owned());
    match scheme {
        "s3" => (config.backend, config.s3.bucket, config.s3.prefix) = (Backend::S3, name, prefix),
        "gs" => (config.backend, config.gcs.bucket, config.gcs.prefix) = (Backend::Gcs, name, prefix),
        "azure" | "az" => {
            (config.backend, config.azure.container, config.azure.prefix) = (Backend::Azure, name, prefix);
        }
        _ => return Err(not_a_store(url)),
    }
    Ok(config)
}

/// The URL itself isn't repeated: somebody may have put a key into it.
fn not_a_store(url: &str) -> StoreError {
    let scheme: String =
        url.split("://").next().unwrap_or("").chars().take(20).flat_map(char::escape_default).collect();
    let what = format!(
        "The URL of a store is s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, azure://CONTAINER/PREFIX or file:///PATH, without \
         keys in it; the one given begins with '{scheme}'."
    );
    StoreError::new(Kind::Other, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_stores() {
        let base = StorageConfig::default();
        let of = |url| with_url(url, &base).unwrap();
        let s3 = of("s3://bucket/a/b/");
        assert_eq!(
            (s3.backend, s3.s3.bucket.as_deref(), s3.s3.prefix.as_deref()),
            (Backend::S3, Some("bucket"), Some("a/b"))
        );
        let gs = of("gs://bucket");
        assert_eq!((gs.backend, gs.gcs.bucket.as_deref(), gs.gcs.prefix), (Backend::Gcs, Some("bucket"), None));
        for url in ["azure://c/p", "az://c/p"] {
            let az = of(url);
            assert_eq!((az.backend, az.azure.container.as_deref()), (Backend::Azure, Some("c")));
        }
        let file = of("file:///srv/b");
        assert_eq!((file.backend, file.local_path.as_deref()), (Backend::Local, Some(Path::new("/srv/b"))));
        for bad in [
            "",
            "bucket",
            "s3://",
            "s3:///p",
            "ftp://x",
            "file://host/p",
            "s3://key:secret@bucket",
            "s3://b?x=1",
            "file://p",
        ] {
            let error = with_url(bad, &base).unwrap_err();
            assert!(!error.sentence.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_urls_prefix_replaces_the_settings_own() {
        let mut base = StorageConfig::default();
        base.s3.prefix = Some("segments".into());
        assert_eq!(with_url("s3://bucket", &base).unwrap().s3.prefix, None);
    }
}
