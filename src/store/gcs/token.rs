//! Owns the tokens that open Google's storage: got for a service account's signed claim, or lent to an instance.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{RsaKeyPair, RSA_PKCS1_SHA256};

use super::super::http::{Body, Http, Request};
use super::super::json::{quoted, Json};
use super::super::retry::Retry;
use super::super::text::{base64_url, from_http_date, percent};
use super::super::{s3, Kind, StoreError, Surroundings, Tuning};
use crate::config::storage::{GcsConfig, Secret};
use crate::limits::STORE_ANSWER_BYTES_MAX;

const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const METADATA_HOST: &str = "metadata.google.internal";
/// How long a claim is good for: Google's longest.
const CLAIM_SECONDS: i64 = 3600;
/// Tokens are renewed this long before they expire.
const RENEW_AHEAD_MS: i64 = 5 * 60 * 1000;

type Result<T> = std::result::Result<T, StoreError>;

/// Who asks for a token.
enum Origin {
    /// Nobody: an emulator doesn't want one.
    Nobody,
    Account(Box<Account>),
    Instance {
        url: String,
    },
}

/// A service account, as its key file describes it.
struct Account {
    email: String,
    key_id: String,
    key: RsaKeyPair,
    token_uri: String,
}

#[derive(Clone)]
struct Held {
    token: Arc<Secret>,
    expires_ms: i64,
}

/// Gives tokens that are valid, as far as there are any.
pub(super) struct Tokens {
    origin: Origin,
    http: Http,
    retry: Retry,
    held: Mutex<Option<Held>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.origin {
            Origin::Nobody => "Tokens(none)",
            Origin::Account(_) => "Tokens(service account)",
            Origin::Instance { .. } => "Tokens(instance)",
        })
    }
}

impl Tokens {
    /// Reads the key file, if there is one; asks for nothing yet.
    pub fn new(
        config: &GcsConfig,
        plain: bool,
        ca_file: Option<&Path>,
        tuning: &Tuning,
        around: Arc<dyn Surroundings>,
    ) -> Result<Tokens> {
        let mut tuning = tuning.clone();
        let (origin, by_proxy) = match &config.credentials_file {
            Some(path) => (Origin::Account(Box::new(read_account(path)?)), true),
            None if plain => (Origin::Nobody, true),
            None => {
                // This peer is next to the machine, and no proxy leads there.
                tuning.connect = tuning.connect.min(Duration::from_secs(2));
                tuning.tries = tuning.tries.min(3);
                let host = config.metadata_host.as_deref().unwrap_or(METADATA_HOST);
                let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
                (Origin::Instance { url }, false)
            }
        };
        let http = Http::new(&tuning, ca_file, by_proxy)?;
        Ok(Tokens { origin, http, retry: Retry { tuning, around }, held: Mutex::new(None) })
    }

    /// A token that is good for a while, got anew if need be; `None` if none is wanted.
    pub fn get(&self) -> Result<Option<Arc<Secret>>> {
        if matches!(self.origin, Origin::Nobody) {
            return Ok(None);
        }
        let mut held = self.held.lock();
        let now = self.retry.around.wall_ms();
        match held.clone() {
            Some(good) if now < good.expires_ms - RENEW_AHEAD_MS => Ok(Some(good.token)),
            old => {
                match (self.retry.run(|| self.ask()), old) {
                    (Ok(new), _) => Ok(Some(held.insert(new).token.clone())),
                    (Err(error), Some(old)) if now < old.expires_ms => {
                        log::warn!("The token for Google's storage could not be renewed and is used while it is valid. {error}");
                        Ok(Some(old.token))
                    }
                    (Err(error), _) => Err(error),
                }
            }
        }
    }

    /// Forgets a token that was refused; true if there will be another.
    pub fn renew(&self, refused: Option<&Arc<Secret>>) -> bool {
        let Some(refused) = refused else {
            return false;
        };
        let mut held = self.held.lock();
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(&held.token, refused)) {
            *held = None;
        }
        true
    }

    fn ask(&self) -> Result<Held> {
        let now_ms = self.retry.around.wall_ms();
        let response = match &self.origin {
            Origin::Nobody => return Err(denied("No token is wanted.".into())),
            Origin::Account(account) => {
                let claim = account.claim(now_ms / 1000)?;
                let grant = percent("urn:ietf:params:oauth:grant-type:jwt-bearer", "");
                let body = format!("grant_type={grant}&assertion={claim}");
                let request = Request::new("POST", account.token_uri.clone(), Body::Bytes(body.as_bytes()));
                self.http.send(&request.header("content-type", "application/x-www-form-urlencoded"))?
            }
            Origin::Instance { url } => {
                let request = Request::new("GET", url.clone(), Body::None).header("metadata-flavor", "Google");
                self.http.send(&request).map_err(|error| match error.kind {
                    Kind::Unavailable | Kind::Timeout => denied(format!(
                        "There is no key for Google's storage: GOOGLE_APPLICATION_CREDENTIALS is not set, and the \
                         instance metadata service is not there. {error}"
                    )),
                    _ => error,
                })?
            }
        };
        let (status, store_ms) = (response.status(), from_http_date(response.header("date")));
        let retry_after = response.retry_after();
        let text = response.text()?;
        if matches!(status, 429 | 500..) {
            let sentence = format!("Asked for a token, Google's authorization service answered {status}.");
            return Err(StoreError { retry_after, ..StoreError::new(Kind::Unavailable, sentence) });
        }
        let json = Json::read(&text).unwrap_or(Json::Null);
        let seconds = json.text("expires_in").and_then(|s| s.parse::<i64>().ok()).unwrap_or(CLAIM_SECONDS);
        match json.text("access_token") {
            Some(token) if status == 200 => Ok(Held {
                token: Arc::new(Secret::new(token)),
                expires_ms: now_ms.saturating_add(seconds.clamp(0, 86_400) * 1000),
            }),
            _ => Err(self.refused(status, &json, store_ms.map(|ms| now_ms - ms))),
        }
    }

    fn refused(&self, status: u16, json: &Json, ahead_ms: Option<i64>) -> StoreError {
        let said = json.text("error_description").or(json.text("error")).unwrap_or("");
        let said: String = said.chars().take(200).flat_map(char::escape_default).collect();
        // Google tells a wrong clock only in this text.
        if said.contains("iat and exp") || said.contains("short-lived") {
            return StoreError::new(Kind::ClockSkew, s3::skewed("Google's authorization service", ahead_ms));
        }
        let said = said.trim_end_matches('.');
        denied(format!("Google gives no token for the key file or the instance: it answered {status} {said}."))
    }
}

impl Account {
    /// A claim signed with the account's key (RFC 7523).
    fn claim(&self, now_s: i64) -> Result<String> {
        let header = format!(r#"{{"alg":"RS256","typ":"JWT","kid":{}}}"#, quoted(&self.key_id));
        let claims = format!(
            r#"{{"iss":{},"scope":"{SCOPE}","aud":{},"iat":{now_s},"exp":{}}}"#,
            quoted(&self.email),
            quoted(&self.token_uri),
            now_s + CLAIM_SECONDS
        );
        signed(&self.key, &header, &claims)
    }
}

/// A JSON Web Token, signed with RS256 (RFC 7515).
fn signed(key: &RsaKeyPair, header: &str, claims: &str) -> Result<String> {
    let text = format!("{}.{}", base64_url(header.as_bytes()), base64_url(claims.as_bytes()));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .map_err(|_| denied("The key of the service account can't sign.".into()))?;
    Ok(format!("{text}.{}", base64_url(&signature)))
}

fn denied(what: String) -> StoreError {
    StoreError::new(Kind::Denied, what)
}

fn read_account(path: &Path) -> Result<Account> {
    use std::io::Read;
    let wrong = |what: &str| denied(format!("The key file {} {what}.", path.display()));
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(STORE_ANSWER_BYTES_MAX).read_to_string(&mut text))
        .map_err(|e| wrong(&format!("can't be read: {e}")))?;
    let json = Json::read(&text).ok_or_else(|| wrong("is not JSON"))?;
    if json.text("type").is_some_and(|kind| kind != "service_account") {
        return Err(wrong("is not that of a service account"));
    }
    let field = |name| json.text(name).ok_or_else(|| wrong(&format!("has no {name}")));
    let key = read_key(field("private_key")?).ok_or_else(|| wrong("has a private_key that is no RSA key in PEM"))?;
    Ok(Account {
        email: field("client_email")?.to_owned(),
        key_id: json.text("private_key_id").unwrap_or("").to_owned(),
        key,
        token_uri: json.text("token_uri").unwrap_or(TOKEN_URI).to_owned(),
    })
}

fn read_key(pem: &str) -> Option<RsaKeyPair> {
    let key = ureq::tls::PrivateKey::from_pem(pem.as_bytes()).ok()?;
    RsaKeyPair::from_pkcs8(key.der()).or_else(|_| RsaKeyPair::from_der(key.der())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rfcs_token_comes_out_the_same() {
        // RFC 7515, appendix A.2: a key that everybody knows.
        let key = read_key(include_str!("../../../tests/data/store/rfc7515-a2.pem")).unwrap();
        let claims = "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
        let token = signed(&key, r#"{"alg":"RS256"}"#, claims).unwrap();
        let expected = concat!(
            "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CU",
            "Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d",
            "O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0ig",
            "cN_IoypGlUPQGe77Rw",
        );
        assert_eq!(token, expected);
    }

    #[test]
    fn a_claim_says_who_what_and_until_when() {
        let key = read_key(include_str!("../../../tests/data/store/rfc7515-a2.pem")).unwrap();
        let (email, token_uri) = ("a@b.example".to_owned(), "https://t.example/token".to_owned());
        let claim = Account { email, key_id: "k1".into(), key, token_uri }.claim(1000).unwrap();
        let part = |i: usize| {
            let text = claim.split('.').nth(i).unwrap().replace('-', "+").replace('_', "/");
            Json::read(&String::from_utf8(super::super::super::text::from_base64(&text).unwrap()).unwrap()).unwrap()
        };
        assert_eq!((part(0).text("alg"), part(0).text("kid")), (Some("RS256"), Some("k1")));
        assert_eq!((part(1).text("iss"), part(1).text("aud")), (Some("a@b.example"), Some("https://t.example/token")));
        assert_eq!((part(1).text("iat"), part(1).text("exp")), (Some("1000"), Some("4600")));
        assert_eq!(part(1).text("scope"), Some(SCOPE));
    }
}
