//! Owns the settings of object storage: which store, where in it, and with whose keys.

use std::fmt;
use std::path::PathBuf;

/// Text that must not be shown: it has no way out but [`Secret::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps it.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for whoever signs with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The kinds of stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// A folder.
    #[default]
    Local,
    /// Amazon S3, or what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// Every setting, whichever store is used. Empty text is never among them: what isn't set is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// Which store.
    pub backend: Backend,
    /// Folder of the local store. `None`: the server keeps no objects.
    pub local_path: Option<PathBuf>,
    /// PEM file of the certificates to trust, in place of the usual ones.
    pub ca_file: Option<PathBuf>,
    /// Settings of S3.
    pub s3: S3Config,
    /// Settings of Google Cloud Storage.
    pub gcs: GcsConfig,
    /// Settings of Azure.
    pub azure: AzureConfig,
    /// How old what the store lacks may become, in ms; 0: what is not sealed is not uploaded by itself.
    pub upload_interval_ms: i64,
    /// From the end of one upload to the beginning of the next at least, in ms. No option.
    pub upload_pause_ms: i64,
    /// The store's objects become this server's, whoever's they were.
    pub take_over: bool,
    /// Bytes of the disk cache for segments that only the store has.
    pub cache_bytes: u64,
    /// Bytes that should stay free on the data directory's filesystem: below that stored segments lose their local copies.
    pub local_free_bytes: u64,
}

impl Default for StorageConfig {
    fn default() -> StorageConfig {
        StorageConfig {
            backend: Backend::default(),
            local_path: None,
            ca_file: None,
            s3: S3Config::default(),
            gcs: GcsConfig::default(),
            azure: AzureConfig::default(),
            upload_interval_ms: 0,
            upload_pause_ms: 60_000,
            take_over: false,
            cache_bytes: 1 << 30,
            local_free_bytes: 1 << 30,
        }
    }
}

impl StorageConfig {
    /// Whether both name the same folder of the same store.
    pub fn is_same_place(&self, other: &StorageConfig) -> bool {
        let prefix = |prefix: &Option<String>| prefix.as_deref().unwrap_or("").trim_matches('/').to_owned();
        self.backend == other.backend
            && match self.backend {
                Backend::Local => self.local_path == other.local_path,
                Backend::S3 => {
                    let (a, b) = (&self.s3, &other.s3);
                    (&a.bucket, &a.endpoint, prefix(&a.prefix)) == (&b.bucket, &b.endpoint, prefix(&b.prefix))
                }
                Backend::Gcs => {
                    let (a, b) = (&self.gcs, &other.gcs);
                    (&a.bucket, &a.endpoint, prefix(&a.prefix)) == (&b.bucket, &b.endpoint, prefix(&b.prefix))
                }
                Backend::Azure => {
                    let (a, b) = (&self.azure, &other.azure);
                    let is_same = (&a.account, &a.container, &a.endpoint) == (&b.account, &b.container, &b.endpoint);
                    is_same && prefix(&a.prefix) == prefix(&b.prefix)
                }
            }
    }

    /// Whether the server keeps segments in a store.
    pub fn keeps_objects(&self) -> bool {
        self.backend != Backend::Local || self.local_path.is_some()
    }
}

/// Settings of S3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Config {
    /// Bucket.
    pub bucket: Option<String>,
    /// Region. `None`: `aws_region`, then us-east-1.
    pub region: Option<String>,
    /// Region as the platform's environment tells it.
    pub aws_region: Option<String>,
    /// URL of the service. `None`: Amazon's in that region.
    pub endpoint: Option<String>,
    /// Folder in the bucket.
    pub prefix: Option<String>,
    /// Whether the bucket stands in the URL's path instead of its host. `None`: if there is an endpoint.
    pub path_style: Option<bool>,
    /// Id of the access key.
    pub access_key_id: Option<String>,
    /// The key itself.
    pub secret_access_key: Option<Secret>,
    /// Token of temporary keys.
    pub session_token: Option<Secret>,
    /// Where a container gets its keys, as a path on the platform's own address.
    pub container_relative_uri: Option<String>,
    /// Where a container gets its keys, as a URL.
    pub container_full_uri: Option<String>,
    /// What it shows there.
    pub container_token: Option<Secret>,
    /// File that holds what it shows there, read each time.
    pub container_token_file: Option<PathBuf>,
    /// Never ask the instance metadata service for keys.
    pub metadata_disabled: bool,
    /// URL of the instance metadata service. `None`: the usual one.
    pub metadata_endpoint: Option<String>,
}

/// Settings of Google Cloud Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcsConfig {
    /// Bucket.
    pub bucket: Option<String>,
    /// Folder in the bucket.
    pub prefix: Option<String>,
    /// Key file of a service account. `None`: the instance's own account, or none for an `endpoint` of plain HTTP.
    pub credentials_file: Option<PathBuf>,
    /// URL, or host and port, of an emulator. `None`: Google's.
    pub endpoint: Option<String>,
    /// Host, and port, of the instance metadata service. `None`: the usual one.
    pub metadata_host: Option<String>,
}

/// Settings of Azure Blob Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureConfig {
    /// Storage account.
    pub account: Option<String>,
    /// Its key, in Base64.
    pub key: Option<Secret>,
    /// A shared access signature, instead of the key.
    pub sas_token: Option<Secret>,
    /// Container.
    pub container: Option<String>,
    /// Folder in the container.
    pub prefix: Option<String>,
    /// URL of the blob service. `None`: Azure's for that account.
    pub endpoint: Option<String>,
}
