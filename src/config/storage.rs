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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
