//! Owns AWS's keys: given ones, and those that a container or an instance is lent and that expire.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::super::http::{Body, Http, Request};
use super::super::json::Json;
use super::super::retry::Retry;
use super::super::text::from_iso_date;
use super::super::{Kind, StoreError, Surroundings, Tuning};
use crate::config::storage::{S3Config, Secret};

/// Keys are renewed this long before they expire.
const RENEW_AHEAD_MS: i64 = 5 * 60 * 1000;
/// Not sooner than this after the last attempt, unless the keys are refused.
const RENEW_PAUSE_MS: i64 = 30 * 1000;
/// Where containers of ECS ask.
const CONTAINER_ORIGIN: &str = "http://169.254.170.2";
/// Hosts that may be asked without TLS: what a container reaches only on its own machine.
const CONTAINER_HOSTS: [&str; 5] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "127.0.0.1", "localhost"];
/// Where instances of EC2 ask.
const INSTANCE_ORIGIN: &str = "http://169.254.169.254";

/// What signs.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub access_key: String,
    pub secret_key: Secret,
    pub token: Option<Secret>,
    /// When they expire; `None` for keys that were given.
    expires_ms: Option<i64>,
}

/// Where keys come from.
enum Origin {
    Given,
    Container { url: String, token: Option<Secret>, token_file: Option<PathBuf> },
    Instance { origin: String },
}

struct Held {
    keys: Option<Arc<Keys>>,
    asked_ms: i64,
}

/// Gives keys that are valid, as far as there are any.
pub(super) struct Credentials {
    origin: Origin,
    http: Http,
    retry: Retry,
    held: Mutex<Held>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.origin {
            Origin::Given => "Credentials(given)",
            Origin::Container { .. } => "Credentials(container)",
            Origin::Instance { .. } => "Credentials(instance)",
        })
    }
}

impl Credentials {
    /// Finds out where to get keys from, without asking there yet.
    pub fn new(config: &S3Config, tuning: &Tuning, around: Arc<dyn Surroundings>) -> Result<Credentials, StoreError> {
        // These peers are on the same machine or next to it, and no proxy leads there.
        let tuning = Tuning {
            tries: tuning.tries.min(3),
            connect: tuning.connect.min(Duration::from_secs(2)),
            idle: tuning.idle.min(Duration::from_secs(5)),
            ..tuning.clone()
        };
        let http = Http::new(&tuning, None, false)?;
        let (origin, keys) = match (&config.access_key_id, &config.secret_access_key) {
            (Some(access_key), Some(secret_key)) => {
                let (access_key, secret_key) = (access_key.clone(), secret_key.clone());
                let keys = Keys { access_key, secret_key, token: config.session_token.clone(), expires_ms: None };
                (Origin::Given, Some(Arc::new(keys)))
            }
            (None, None) => (lent(config)?, None),
            (Some(_), None) => return Err(denied("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not.")),
            (None, Some(_)) => return Err(denied("AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not.")),
        };
        let held = Mutex::new(Held { keys, asked_ms: i64::MIN });
        Ok(Credentials { origin, http, retry: Retry { tuning, around }, held })
    }

    /// Keys that are good for a while, got anew if need be.
    pub fn get(&self) -> Result<Arc<Keys>, StoreError> {
        let mut held = self.held.lock();
        let now = self.retry.around.wall_ms();
        let Some(keys) = held.keys.clone() else {
            return self.ask(&mut held);
        };
        let ends = keys.expires_ms.unwrap_or(i64::MAX);
        if now < ends.saturating_sub(RENEW_AHEAD_MS) || (now < ends && now - held.asked_ms < RENEW_PAUSE_MS) {
            return Ok(keys);
        }
        match self.ask(&mut held) {
            Err(error) if now < ends => {
                log::warn!("The keys for S3 could not be renewed and are used as long as they are valid. {error}");
                Ok(keys)
            }
            other => other,
        }
    }

    /// Told that `refused` have expired: true if there are others now.
    pub fn renew(&self, refused: &Keys) -> Result<bool, StoreError> {
        if matches!(self.origin, Origin::Given) {
            return Ok(false);
        }
        let mut held = self.held.lock();
        if held.keys.as_deref().is_some_and(|keys| keys != refused) {
            // Another thread was faster.
            return Ok(true);
        }
        Ok(*self.ask(&mut held)? != *refused)
    }

    fn ask(&self, held: &mut Held) -> Result<Arc<Keys>, StoreError> {
        held.asked_ms = self.retry.around.wall_ms();
        let keys = Arc::new(self.retry.run(|| match &self.origin {
            Origin::Given => Err(denied("The keys for S3 can't be renewed.")),
            Origin::Container { url, token, token_file } => {
                self.ask_container(url, token.as_ref(), token_file.as_ref())
            }
            Origin::Instance { origin } => self.ask_instance(origin),
        })?);
        held.keys = Some(Arc::clone(&keys));
        Ok(keys)
    }

    fn ask_container(
        &self,
        url: &str,
        token: Option<&Secret>,
        token_file: Option<&PathBuf>,
    ) -> Result<Keys, StoreError> {
        let mut request = Request::new("GET", url.to_owned(), Body::None);
        if let Some(path) = token_file {
            let text = std::fs::read_to_string(path)
                .map_err(|e| denied(format!("The token in {} can't be read: {e}.", path.display())))?;
            request = request.header("authorization", text.trim());
        } else if let Some(token) = token {
            request = request.header("authorization", token.reveal());
        }
        read_keys(&self.text(&request, "the container's credentials service")?)
    }

    /// Version 2 of the protocol alone: the first one answers also whoever was tricked into asking.
    fn ask_instance(&self, origin: &str) -> Result<Keys, StoreError> {
        let what = "the instance metadata service";
        let ask_token = Request::new("PUT", format!("{origin}/latest/api/token"), Body::Bytes(b""))
            .header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
        let token = self.text(&ask_token, what).map_err(|error| match error.kind {
            Kind::Unavailable | Kind::Timeout => denied(format!(
                "There are no keys for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and {what} is not \
                 there. {error}"
            )),
            _ => error,
        })?;
        let get = |path: &str| {
            let url = format!("{origin}/latest/meta-data/iam/security-credentials/{path}");
            let request = Request::new("GET", url, Body::None);
            self.text(&request.header("x-aws-ec2-metadata-token", token.trim()), what)
        };
        let roles = get("")?;
        let role = roles.lines().next().unwrap_or("").trim();
        if role.is_empty() {
            return Err(denied("There are no keys for S3: this instance has no role."));
        }
        read_keys(&get(&super::super::text::percent(role, ""))?)
    }

    fn text(&self, request: &Request<'_>, what: &str) -> Result<String, StoreError> {
        let response = self.http.send(request)?;
        match response.status() {
            200 => response.text(),
            status @ (429 | 500..) => {
                Err(StoreError::new(Kind::Unavailable, format!("Asked for keys, {what} answered {status}.")))
            }
            status => Err(denied(format!("Asked for keys, {what} answered {status}."))),
        }
    }
}

fn denied(what: impl Into<String>) -> StoreError {
    StoreError::new(Kind::Denied, what)
}

fn lent(config: &S3Config) -> Result<Origin, StoreError> {
    let container = |url| Origin::Container {
        url,
        token: config.container_token.clone(),
        token_file: config.container_token_file.clone(),
    };
    if let Some(path) = &config.container_relative_uri {
        return Ok(container(format!("{CONTAINER_ORIGIN}/{}", path.trim_start_matches('/'))));
    }
    if let Some(url) = &config.container_full_uri {
        let origin = super::super::http::origin(url);
        let host = super::super::cloud::host_of(origin);
        let host = host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(host, |(name, _)| name);
        if !origin.starts_with("https://") && !CONTAINER_HOSTS.contains(&host) {
            return Err(denied("AWS_CONTAINER_CREDENTIALS_FULL_URI must begin with https or name this machine."));
        }
        return Ok(container(url.clone()));
    }
    if config.metadata_disabled {
        return Err(denied("There are no keys for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."));
    }
    let origin = config.metadata_endpoint.as_deref().unwrap_or(INSTANCE_ORIGIN).trim_end_matches('/').to_owned();
    Ok(Origin::Instance { origin })
}

/// The document that both services answer with.
fn read_keys(text: &str) -> Result<Keys, StoreError> {
    let json = Json::read(text).unwrap_or(Json::Null);
    let field = |name| json.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    match (field("AccessKeyId"), field("SecretAccessKey"), field("Token")) {
        (Some(access_key), Some(secret_key), token) => Ok(Keys {
            access_key,
            secret_key: Secret::new(secret_key),
            token: token.map(Secret::new),
            expires_ms: json.text("Expiration").and_then(from_iso_date),
        }),
        _ => Err(denied("Asked for keys, the metadata service answered with something else.")),
    }
}
