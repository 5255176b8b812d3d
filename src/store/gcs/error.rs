//! Owns what Google's refusals mean, and the sentences for them.

use super::super::http::Response;
use super::super::json::Json;
use super::super::{Kind, StoreError};

/// A refusal, as Google words it.
pub(super) struct Fault {
    status: u16,
    reason: String,
    message: String,
    retry_after: Option<std::time::Duration>,
}

impl Fault {
    pub fn read(response: Response) -> Result<Fault, StoreError> {
        let (status, retry_after) = (response.status(), response.retry_after());
        let text = response.text()?;
        let json = Json::read(&text).unwrap_or(Json::Null);
        let error = json.get("error").unwrap_or(&Json::Null);
        let reason = error.list("errors").first().and_then(|first| first.text("reason")).unwrap_or("").to_owned();
        // Downloads are refused in plain text.
        let message = error.text("message").unwrap_or(if text.starts_with(['{', '<']) { "" } else { &text }).to_owned();
        Ok(Fault { status, reason, message, retry_after })
    }

    fn kind(&self) -> Kind {
        match (self.status, self.reason.as_str()) {
            (403 | 429, "rateLimitExceeded" | "userRateLimitExceeded") | (429, _) => Kind::Throttled,
            (401 | 403, _) => Kind::Denied,
            // Only the text says which of the two is missing.
            (404, _) if self.message.to_ascii_lowercase().contains("bucket does not exist") => Kind::NoBucket,
            (404 | 410, _) => Kind::NotFound,
            (412, _) => Kind::Exists,
            (416, _) => Kind::OutOfRange,
            (408, _) => Kind::Timeout,
            (500 | 502..=504, _) => Kind::Unavailable,
            // Google has no code of its own for a checksum that differs.
            (400, _) if self.message.contains("hash") || self.message.contains("CRC32C") => Kind::Corrupt,
            _ => Kind::Other,
        }
    }

    pub fn no_bucket(bucket: &str) -> StoreError {
        StoreError::new(Kind::NoBucket, format!("There is no bucket {bucket}."))
    }

    /// The error, with a sentence for people.
    pub fn into_error(self, key: Option<&str>, store: &str, bucket: &str) -> StoreError {
        let kind = self.kind();
        let what = key.map_or_else(|| store.to_owned(), |key| format!("the object {key} in {store}"));
        let key = key.unwrap_or("of that key");
        let sentence = match &kind {
            Kind::NotFound => format!("There is no object {key} in {store}."),
            Kind::NoBucket => return Fault::no_bucket(bucket),
            Kind::Exists => format!("The object {key} in {store} is not in the state that the upload asked for."),
            Kind::OutOfRange => format!("No byte of {what} is in the range that was asked for."),
            Kind::Denied if self.status == 401 => format!("Access to {what} is denied: the token is not accepted."),
            Kind::Denied => {
                format!("Access to {what} is denied: the account is not allowed to do this ({}).", self.said())
            }
            Kind::Throttled => format!("{store} asks for fewer requests ({}).", self.said()),
            Kind::Corrupt => format!("What arrived in {store} is not what was sent ({}).", self.said()),
            _ => format!("Asked for {what}, Google's storage answered {}.", self.said()),
        };
        StoreError { kind, sentence, retry_after: self.retry_after }
    }

    /// Status and message, cut to a bound, safe for a log.
    fn said(&self) -> String {
        let message: String = self.message.trim().chars().take(200).flat_map(char::escape_default).collect();
        format!("{} {}", self.status, message.trim_end_matches('.')).trim_end().to_owned()
    }
}
