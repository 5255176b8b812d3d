//! Owns what Azure's refusals mean, and the sentences for them.

use super::super::cloud::kind_of_status;
use super::super::http::Response;
use super::super::text::from_http_date;
use super::super::{s3, xml, Kind, StoreError};

/// A refusal, as Azure words it.
pub(super) struct Fault {
    status: u16,
    code: String,
    message: String,
    detail: String,
    retry_after: Option<std::time::Duration>,
    store_ms: Option<i64>,
}

impl Fault {
    pub fn read(response: Response) -> Result<Fault, StoreError> {
        let (status, retry_after) = (response.status(), response.retry_after());
        let header = response.header("x-ms-error-code").to_owned();
        let store_ms = from_http_date(response.header("date"));
        let text = response.text()?;
        let code = if header.is_empty() { xml::text(&text, "Code").unwrap_or_default() } else { header };
        let part = |name| xml::text(&text, name).unwrap_or_default();
        Ok(Fault {
            status,
            code,
            message: part("Message"),
            detail: part("AuthenticationErrorDetail"),
            retry_after,
            store_ms,
        })
    }

    fn kind(&self) -> Kind {
        match self.code.as_str() {
            "BlobNotFound" | "ResourceNotFound" => Kind::NotFound,
            "ContainerNotFound" | "ContainerBeingDeleted" | "ContainerDisabled" => Kind::NoBucket,
            // The last: somebody else's upload of the same key ended first and took the blocks away.
            "BlobAlreadyExists" | "ConditionNotMet" | "TargetConditionNotMet" | "InvalidBlockList" => Kind::Exists,
            "InvalidRange" => Kind::OutOfRange,
            "Md5Mismatch" | "Crc64Mismatch" => Kind::Corrupt,
            "ServerBusy" | "AccountBeingCreated" | "TooManyRequests" => Kind::Throttled,
            "OperationTimedOut" => Kind::Timeout,
            "InternalError" => Kind::Unavailable,
            "AuthenticationFailed" if self.is_skew() => Kind::ClockSkew,
            _ => kind_of_status(self.status),
        }
    }

    fn is_skew(&self) -> bool {
        // Azure tells a date it doesn't like only in its text.
        let text = self.detail.to_ascii_lowercase();
        text.contains("date") && (text.contains("too old") || text.contains("range") || text.contains("future"))
    }

    /// The error, with a sentence for people.
    pub fn into_error(self, key: Option<&str>, store: &str, container: &str, now_ms: i64) -> StoreError {
        let kind = self.kind();
        let what = key.map_or_else(|| store.to_owned(), |key| format!("the object {key} in {store}"));
        let key = key.unwrap_or("of that key");
        let sentence = match &kind {
            Kind::NotFound => format!("There is no object {key} in {store}."),
            Kind::NoBucket => format!("There is no container {container}."),
            Kind::Exists => format!("The object {key} in {store} is not in the state that the upload asked for."),
            Kind::OutOfRange => format!("No byte of {what} is in the range that was asked for."),
            Kind::ClockSkew => s3::skewed(store, self.store_ms.map(|ms| now_ms - ms)),
            // The emulator has another code for it.
            Kind::Denied if self.code == "AuthenticationFailed" || self.message.contains("failed to authenticate") => {
                format!(
                "Access to {what} is denied: AZURE_STORAGE_KEY is not the account's key, or AZURE_STORAGE_SAS_TOKEN is \
                 wrong or expired."
            )
            }
            Kind::Denied => format!("Access to {what} is denied: the key is not allowed to do this ({}).", self.said()),
            Kind::Throttled => format!("{store} asks for fewer requests ({}).", self.said()),
            Kind::Corrupt => format!("What arrived in {store} is not what was sent ({}).", self.said()),
            _ => format!("Asked for {what}, Azure answered {}.", self.said()),
        };
        StoreError { kind, sentence, retry_after: self.retry_after }
    }

    /// Status, code and the message's first line, cut to a bound, safe for a log.
    fn said(&self) -> String {
        let first = self.message.lines().next().unwrap_or("");
        let message: String = first.chars().take(200).flat_map(char::escape_default).collect();
        let code: String = self.code.chars().take(60).collect();
        let parts = [self.status.to_string(), code, message.trim_end_matches('.').to_owned()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }
}
