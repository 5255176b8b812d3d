//! Owns the rows of object storage in the table of options, and their rules among each other.
//!
//! Keys come from the environment or from files alone: the command line of a process is there for everybody to read.

use std::ffi::OsString;
use std::path::PathBuf;

use super::row::{bytes, millis, opt, Draft, Group, Kind, Opt, Set};
use super::{find_variable, refused, value, Origin, Setting, UsageError, OPTIONS};
use crate::config::storage::{Backend, Secret, StorageConfig};

pub(super) const BACKENDS: &[&str] = &["local", "s3", "gcs", "azure"];
pub(super) const BACKEND_HELP: &str =
    "Where sealed segments are kept besides the data directory: local, nowhere or in the folder of --local-storage-path; \
     s3, gcs or azure, in a cloud.";

/// Takes a name of the row `--storage`.
pub(super) fn set_backend(draft: &mut Draft, name: &'static str) {
    draft.config.storage.backend = match name {
        "s3" => Backend::S3,
        "gcs" => Backend::Gcs,
        "azure" => Backend::Azure,
        _ => Backend::Local,
    };
}

const fn text(long: &'static str, hint: &'static str, env: &'static str, help: &'static str, set: Set<String>) -> Opt {
    opt(Group::Objects, long, hint, "", help, Kind::Text(set)).env_named(env)
}

const fn path(long: &'static str, hint: &'static str, env: &'static str, help: &'static str, set: Set<PathBuf>) -> Opt {
    opt(Group::Objects, long, hint, "", help, Kind::Path(set)).env_named(env)
}

pub(super) const LOCAL_PATH: Opt = path(
    "local-storage-path",
    "PATH",
    "LOCAL_STORAGE_PATH",
    "Folder in which --storage=local keeps sealed segments, on another disk or a network filesystem.",
    |d, v| d.config.storage.local_path = Some(v),
);
pub(super) const CA_FILE: Opt = path(
    "storage-ca-file",
    "FILE",
    "AWS_CA_BUNDLE",
    "Certificates, in PEM, that are trusted in place of the usual ones when a store is spoken to.",
    |d, v| d.config.storage.ca_file = Some(v),
);
pub(super) const UPLOAD_INTERVAL: Opt = opt(
    Group::Objects,
    "upload-interval",
    "TIME",
    "0",
    "How old what the store lacks may become at most, the segment that is being written included. 0: segments are uploaded \
     when they are sealed and tidied.",
    millis(0, 36_525 * 86_400_000, |d, v| d.config.storage.upload_interval_ms = v),
);
pub(super) const CACHE_BYTES: Opt = opt(
    Group::Objects,
    "storage-cache-bytes",
    "SIZE",
    "1GiB",
    "Disk cache, in the data directory, for segments that only the store has.",
    bytes(64 << 20, i64::MAX, |d, v| d.config.storage.cache_bytes = v as u64),
);
pub(super) const FREE_BYTES: Opt = opt(
    Group::Objects,
    "storage-free-bytes",
    "SIZE",
    "1GiB",
    "With less free than this on the data directory's filesystem, the oldest segments that the store has lose their local \
     copies, also those that local.retention.ms and local.retention.bytes would keep.",
    bytes(0, i64::MAX, |d, v| d.config.storage.local_free_bytes = v as u64),
);
pub(super) const TAKE_OVER: Opt = opt(
    Group::Objects,
    "storage-take-over",
    "",
    "false",
    "This data directory is a copy of one whose server is gone for good: its objects become this server's.",
    Kind::Flag(|d, v| d.config.storage.take_over = v),
);
pub(super) const S3_BUCKET: Opt =
    text("s3-bucket", "NAME", "S3_BUCKET", "Bucket in S3.", |d, v| d.config.storage.s3.bucket = Some(v));
pub(super) const S3_PREFIX: Opt = text(
    "s3-prefix",
    "PREFIX",
    "S3_PREFIX",
    "Folder in the bucket that holds everything; a bucket can serve several servers that way.",
    |d, v| d.config.storage.s3.prefix = Some(v),
);
pub(super) const S3_REGION: Opt = text(
    "s3-region",
    "REGION",
    "S3_REGION",
    "Region of the bucket. Without it AWS_REGION counts, and then us-east-1.",
    |d, v| d.config.storage.s3.region = Some(v),
);
pub(super) const AWS_REGION: Opt =
    text("aws-region", "", "AWS_REGION", "Region of the bucket, if S3_REGION is not set.", |d, v| {
        d.config.storage.s3.aws_region = Some(v)
    })
    .env_only();
pub(super) const S3_ENDPOINT: Opt = text(
    "s3-endpoint",
    "URL",
    "S3_ENDPOINT",
    "URL of a service that speaks S3's protocol. Without it Amazon's in that region.",
    |d, v| d.config.storage.s3.endpoint = Some(v),
);
pub(super) const S3_PATH_STYLE: Opt = opt(
    Group::Objects,
    "s3-path-style",
    "CHOICE",
    "auto",
    "Whether the bucket stands in the URL's path (true) or in its host (false); auto is true with an endpoint.",
    Kind::Choice {
        names: &["auto", "true", "false"],
        refused: &[],
        set: |d, v| d.config.storage.s3.path_style = v.parse().ok(),
    },
)
.env_named("S3_PATH_STYLE");
pub(super) const AWS_KEY_ID: Opt =
    text("aws-access-key-id", "", "AWS_ACCESS_KEY_ID", "Id of the access key.", |d, v| {
        d.config.storage.s3.access_key_id = Some(v)
    })
    .env_only();
pub(super) const AWS_SECRET: Opt =
    text("aws-secret-access-key", "", "AWS_SECRET_ACCESS_KEY", "The access key.", |d, v| {
        d.config.storage.s3.secret_access_key = Some(Secret::new(v))
    })
    .secret();
pub(super) const AWS_TOKEN: Opt =
    text("aws-session-token", "", "AWS_SESSION_TOKEN", "The token of a temporary access key.", |d, v| {
        d.config.storage.s3.session_token = Some(Secret::new(v))
    })
    .secret();
pub(super) const AWS_CONTAINER_PATH: Opt = text(
    "aws-container-credentials-relative-uri",
    "",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "Where a container gets its access key. Set by the platform.",
    |d, v| d.config.storage.s3.container_relative_uri = Some(v),
)
.env_only();
pub(super) const AWS_CONTAINER_URL: Opt = text(
    "aws-container-credentials-full-uri",
    "",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "The same as a whole URL.",
    |d, v| d.config.storage.s3.container_full_uri = Some(v),
)
.env_only();
pub(super) const AWS_CONTAINER_TOKEN: Opt = text(
    "aws-container-authorization-token",
    "",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "What a container shows to get its access key.",
    |d, v| d.config.storage.s3.container_token = Some(Secret::new(v)),
)
.secret();
pub(super) const AWS_CONTAINER_TOKEN_FILE: Opt = path(
    "aws-container-authorization-token-file",
    "",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "File that holds it, read each time.",
    |d, v| d.config.storage.s3.container_token_file = Some(v),
)
.env_only();
pub(super) const AWS_METADATA_DISABLED: Opt = opt(
    Group::Objects,
    "aws-ec2-metadata-disabled",
    "",
    "false",
    "Never ask the instance metadata service for an access key.",
    Kind::Bool(|d, v| d.config.storage.s3.metadata_disabled = v),
)
.env_named("AWS_EC2_METADATA_DISABLED")
.env_only();
pub(super) const AWS_METADATA_URL: Opt = text(
    "aws-ec2-metadata-service-endpoint",
    "",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "URL of the instance metadata service, if it is not the usual one.",
    |d, v| d.config.storage.s3.metadata_endpoint = Some(v),
)
.env_only();
pub(super) const GCS_BUCKET: Opt =
    text("gcs-bucket", "NAME", "GCS_BUCKET", "Bucket in Google Cloud Storage.", |d, v| {
        d.config.storage.gcs.bucket = Some(v)
    });
pub(super) const GCS_PREFIX: Opt =
    text("gcs-prefix", "PREFIX", "GCS_PREFIX", "Folder in that bucket that holds everything.", |d, v| {
        d.config.storage.gcs.prefix = Some(v)
    });
pub(super) const GCS_KEY_FILE: Opt = path(
    "gcs-credentials",
    "FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "Key file of a service account. Without it the account of the instance.",
    |d, v| d.config.storage.gcs.credentials_file = Some(v),
);
pub(super) const GCS_ENDPOINT: Opt = text(
    "gcs-endpoint",
    "URL",
    "STORAGE_EMULATOR_HOST",
    "URL of a service that speaks Google's protocol. One of plain HTTP is sent no token unless there is a key file.",
    |d, v| d.config.storage.gcs.endpoint = Some(v),
);
pub(super) const GCS_METADATA_HOST: Opt = text(
    "gce-metadata-host",
    "",
    "GCE_METADATA_HOST",
    "Host, and port, of the instance metadata service, if it is not the usual one.",
    |d, v| d.config.storage.gcs.metadata_host = Some(v),
)
.env_only();
pub(super) const AZURE_ACCOUNT: Opt =
    text("azure-storage-account", "NAME", "AZURE_STORAGE_ACCOUNT", "Storage account in Azure.", |d, v| {
        d.config.storage.azure.account = Some(v)
    });
pub(super) const AZURE_KEY: Opt =
    text("azure-storage-key", "", "AZURE_STORAGE_KEY", "Key of the storage account, in Base64.", |d, v| {
        d.config.storage.azure.key = Some(Secret::new(v))
    })
    .secret();
pub(super) const AZURE_SAS: Opt = text(
    "azure-storage-sas-token",
    "",
    "AZURE_STORAGE_SAS_TOKEN",
    "A shared access signature for the container; it wins over the key.",
    |d, v| d.config.storage.azure.sas_token = Some(Secret::new(v)),
)
.secret();
pub(super) const AZURE_CONTAINER: Opt =
    text("azure-container", "NAME", "AZURE_CONTAINER", "Container in Azure Blob Storage.", |d, v| {
        d.config.storage.azure.container = Some(v)
    });
pub(super) const AZURE_PREFIX: Opt =
    text("azure-prefix", "PREFIX", "AZURE_PREFIX", "Folder in the container that holds everything.", |d, v| {
        d.config.storage.azure.prefix = Some(v)
    });
pub(super) const AZURE_ENDPOINT: Opt = text(
    "azure-storage-endpoint",
    "URL",
    "AZURE_STORAGE_ENDPOINT",
    "URL of the blob service. Without it Azure's for that account.",
    |d, v| d.config.storage.azure.endpoint = Some(v),
);

/// Settings of stores from the environment alone: for tools, which are told the store itself by a URL, or by the server's
/// environment if it is the one that keeps its segments.
pub fn storage_from_env(env: &dyn Fn(&str) -> Option<OsString>) -> Result<StorageConfig, UsageError> {
    let mut draft = Draft::default();
    for opt in OPTIONS.iter().filter(|o| o.group == Group::Objects || o.long == "storage") {
        if let Some(setting) = find_variable(opt, env)? {
            value::apply(opt, &setting.value, &mut draft).map_err(|refusal| refused(&setting, refusal))?;
        }
    }
    Ok(draft.config.storage)
}

/// Refuses what the chosen backend doesn't use, if it was asked for on the command line, and misses what it needs. In
/// the environment there may be settings of other programs.
pub(super) fn check(config: &StorageConfig, settings: &[Setting]) -> Result<(), UsageError> {
    let own = match config.backend {
        Backend::Local => "local-storage-",
        Backend::S3 => "s3-",
        Backend::Gcs => "gcs-",
        Backend::Azure => "azure-",
    };
    for setting in settings.iter().filter(|s| s.opt.group == Group::Objects && s.origin != Origin::Default) {
        let long = setting.opt.long;
        let is_of_all = [UPLOAD_INTERVAL.long, CACHE_BYTES.long, FREE_BYTES.long, TAKE_OVER.long].contains(&long);
        if is_of_all && !config.keeps_objects() {
            if setting.origin == Origin::CommandLine {
                let sentence = format!("{} does nothing without a store: see --storage.", setting.who);
                return Err(UsageError::usage(sentence));
            }
            continue;
        }
        let is_shared = is_of_all || (long == CA_FILE.long && config.backend != Backend::Local);
        if setting.origin == Origin::CommandLine && !long.starts_with(own) && !is_shared {
            let sentence = format!("{} is for a store that --storage does not name.", setting.who);
            return Err(UsageError::usage(sentence));
        }
    }
    let missing = match config.backend {
        Backend::S3 if config.s3.bucket.is_none() => "s3 needs --s3-bucket",
        Backend::Gcs if config.gcs.bucket.is_none() => "gcs needs --gcs-bucket",
        Backend::Azure if config.azure.account.is_none() => "azure needs --azure-storage-account",
        Backend::Azure if config.azure.container.is_none() => "azure needs --azure-container",
        _ => return Ok(()),
    };
    Err(UsageError::config(format!("--storage {missing}.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<StorageConfig, UsageError> {
        let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        storage_from_env(&find)
    }

    #[test]
    fn the_environment_alone_makes_the_settings_of_a_store() {
        let config = from(&[
            ("S3_ENDPOINT", "http://127.0.0.1:9"),
            ("S3_PATH_STYLE", "false"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "hidden"),
            ("AZURE_STORAGE_KEY", ""),
            ("STORAGE_BACKEND", "s3"),
        ])
        .unwrap();
        assert_eq!(config.s3.path_style, Some(false));
        assert_eq!(config.s3.secret_access_key.as_ref().unwrap().reveal(), "hidden");
        assert_eq!(config.azure.key, None, "an empty variable counts as unset");
        assert_eq!(config.backend, Backend::S3);
        assert!(!format!("{config:?}").contains("hidden"));
        let error = from(&[("AWS_SECRET_ACCESS_KEY", "hid den")]).unwrap_err();
        assert!(!error.sentence.contains("hid"), "{error}");
    }

    #[test]
    fn a_backend_misses_what_it_needs_and_refuses_what_is_for_another() {
        let setting = |opt: &'static Opt, origin| Setting { opt, value: "x".into(), origin, who: opt.long.into() };
        let bucket = OPTIONS.iter().find(|o| o.long == "s3-bucket").unwrap();
        let mut config = StorageConfig { backend: Backend::S3, ..StorageConfig::default() };
        assert!(check(&config, &[]).unwrap_err().sentence.contains("needs --s3-bucket"));
        config.s3.bucket = Some("x".into());
        check(&config, &[setting(bucket, Origin::CommandLine)]).unwrap();
        config.backend = Backend::Local;
        check(&config, &[setting(bucket, Origin::Environment)]).unwrap();
        check(&config, &[setting(bucket, Origin::CommandLine)]).unwrap_err();
    }
}
