//! Owns what S3's refusals mean, and the sentences for them.

use super::super::cloud::kind_of_status;
use super::super::http::Response;
use super::super::text::from_http_date;
use super::super::{xml, Kind, StoreError};

/// With this, and status 404, versitygw answers who shows an access key that it doesn't know.
const VERSITY_UNKNOWN_KEY: &str = "XAdminUserNotFound";

/// A refusal, as S3 words it.
#[derive(Debug, Default)]
pub(super) struct Fault {
    pub status: u16,
    /// Its code; empty for an answer without a body.
    pub code: String,
    message: String,
    region: Option<String>,
    retry_after: Option<std::time::Duration>,
    /// The store's clock, in milliseconds since 1970.
    store_ms: Option<i64>,
}

/// What was asked, for the sentence.
pub(super) struct Asked<'a> {
    pub key: Option<&'a str>,
    pub store: &'a str,
    pub bucket: &'a str,
    pub region: &'a str,
    pub now_ms: i64,
}

impl Fault {
    /// Reads an answer that is no success.
    pub fn read(response: Response) -> Result<Fault, StoreError> {
        let mut fault = Fault {
            status: response.status(),
            retry_after: response.retry_after(),
            store_ms: from_http_date(response.header("date")),
            region: Some(response.header("x-amz-bucket-region").to_owned()).filter(|r| !r.is_empty()),
            ..Fault::default()
        };
        fault.fill(&response.text()?);
        Ok(fault)
    }

    /// Reads an error that came with status 200, as the end of a multipart upload may.
    pub fn of_text(text: &str) -> Fault {
        // Nothing was done, and S3 asks to try again.
        let mut fault = Fault { status: 500, ..Fault::default() };
        fault.fill(text);
        fault
    }

    fn fill(&mut self, text: &str) {
        self.code = xml::text(text, "Code").unwrap_or_default();
        self.message = xml::text(text, "Message").unwrap_or_default();
        self.region = self.region.take().or_else(|| xml::text(text, "Region"));
    }

    /// Whether the keys were good once and aren't any more.
    pub fn is_expiry(&self) -> bool {
        matches!(self.code.as_str(), "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "InvalidToken")
    }

    fn kind(&self, asked: &Asked<'_>) -> Kind {
        match self.code.as_str() {
            "NoSuchKey" | "NoSuchUpload" | "NoSuchVersion" => Kind::NotFound,
            "NoSuchBucket" => Kind::NoBucket,
            "PreconditionFailed" => Kind::Exists,
            "InvalidRange" => Kind::OutOfRange,
            "RequestTimeTooSkewed" => Kind::ClockSkew,
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"
                if self.region.as_deref() != Some(asked.region) =>
            {
                Kind::WrongRegion(self.region.clone())
            }
            "SlowDown" | "RequestLimitExceeded" | "TooManyRequests" | "Throttling" => Kind::Throttled,
            "RequestTimeout" => Kind::Timeout,
            // Two conditional writes met; the outcome is open, and asking again tells it.
            "ConditionalRequestConflict" | "OperationAborted" | "InternalError" | "ServiceUnavailable" => {
                Kind::Unavailable
            }
            "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" | "IncompleteBody" => {
                Kind::Corrupt
            }
            "AccessDenied"
            | "InvalidAccessKeyId"
            | VERSITY_UNKNOWN_KEY
            | "SignatureDoesNotMatch"
            | "AccountProblem"
            | "AllAccessDisabled" => Kind::Denied,
            _ if self.is_expiry() => Kind::Denied,
            _ => self.kind_of_status(asked),
        }
    }

    fn kind_of_status(&self, asked: &Asked<'_>) -> Kind {
        match self.status {
            301 | 307 => Kind::WrongRegion(self.region.clone()),
            400 if self.region.as_deref().is_some_and(|region| region != asked.region) => {
                Kind::WrongRegion(self.region.clone())
            }
            // Of what is missing here nobody knows whether it is the object; taken for one, it would count as deleted.
            404 if !self.code.is_empty() => Kind::Other,
            status => kind_of_status(status),
        }
    }

    /// The error, with a sentence for people.
    pub fn into_error(self, asked: &Asked<'_>) -> StoreError {
        let kind = self.kind(asked);
        let store = asked.store;
        let what = asked.key.map_or_else(|| store.to_owned(), |key| format!("the object {key} in {store}"));
        let sentence = match &kind {
            Kind::NotFound => format!("There is no object {} in {store}.", asked.key.unwrap_or("of that key")),
            Kind::NoBucket => format!("There is no bucket {}.", asked.bucket),
            Kind::Exists => format!(
                "The object {} in {store} is not in the state that the upload asked for.",
                asked.key.unwrap_or("")
            ),
            Kind::OutOfRange => format!("No byte of {what} is in the range that was asked for."),
            Kind::Denied => self.denied(&what),
            Kind::WrongRegion(Some(right)) => {
                format!(
                    "The bucket {} is in the region {right} and not in {}: set S3_REGION={right}.",
                    asked.bucket, asked.region
                )
            }
            Kind::WrongRegion(None) => format!("The bucket {} is not in the region {}.", asked.bucket, asked.region),
            Kind::ClockSkew => skewed(store, self.store_ms.map(|ms| asked.now_ms - ms)),
            Kind::Throttled => format!("{store} asks for fewer requests ({}).", self.said()),
            Kind::Corrupt => format!("What arrived in {store} is not what was sent ({}).", self.said()),
            _ => format!("Asked for {what}, S3 answered {}.", self.said()),
        };
        StoreError { kind, sentence, retry_after: self.retry_after }
    }

    fn denied(&self, what: &str) -> String {
        match self.code.as_str() {
            "InvalidAccessKeyId" | VERSITY_UNKNOWN_KEY => {
                format!("Access to {what} is denied: AWS_ACCESS_KEY_ID names no key that S3 knows.")
            }
            "SignatureDoesNotMatch" => {
                format!("Access to {what} is denied: AWS_SECRET_ACCESS_KEY is not the secret of that access key.")
            }
            _ if self.is_expiry() => format!("Access to {what} is denied: the session token is expired or wrong."),
            _ => format!("Access to {what} is denied: the access key is not allowed to do this ({}).", self.said()),
        }
    }

    /// Status, code and message, cut to a bound, safe for a log.
    fn said(&self) -> String {
        let message: String = self.message.chars().take(200).flat_map(char::escape_default).collect();
        [self.status.to_string(), self.code.chars().take(60).collect(), message.trim_end_matches('.').to_owned()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The sentence for clocks that differ; positive if this machine's is ahead.
pub(in super::super) fn skewed(store: &str, ahead_ms: Option<i64>) -> String {
    let how = match ahead_ms.map(|ms| (ms / 1000, ms >= 0)) {
        None => String::new(),
        Some((seconds, true)) => format!(" It is {seconds} s ahead."),
        Some((seconds, false)) => format!(" It is {} s behind.", -seconds),
    };
    format!("This machine's clock differs too much from that of {store}, so that signatures are refused.{how}")
}
