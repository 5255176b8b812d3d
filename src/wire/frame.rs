//! Owns what stands around a message: the request and response headers and the length in front.

use std::fmt;

use super::api::{Api, ApiKey};
use super::reader::{DecodeError, Reader};
use super::writer::{Encoded, Writer};
use super::{Message, Request, Response};

/// The header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The API's row of the table.
    pub api: &'static Api,
    /// The version asked for, which may be one that the codec doesn't describe: see [`Api::describes`].
    pub version: i16,
    /// The number that the response must carry.
    pub correlation_id: i32,
    /// What the client calls itself. Bytes that aren't UTF-8 end the text, as a name is no reason to turn a client away.
    pub client_id: Option<&'a str>,
}

/// Why a request's header can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// An API that the codec doesn't describe; how its header goes on can't be known.
    UnknownApi {
        /// The key asked for.
        key: ApiKey,
        /// The version asked for.
        version: i16,
        /// The request's number.
        correlation_id: i32,
    },
    /// Not a request header.
    Malformed(DecodeError),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::UnknownApi { key, version, .. } => {
                write!(f, "unknown API key {} (version {version})", key.0)
            }
            HeaderError::Malformed(error) => write!(f, "not a request header: {error}"),
        }
    }
}

impl std::error::Error for HeaderError {}

impl From<DecodeError> for HeaderError {
    fn from(error: DecodeError) -> Self {
        HeaderError::Malformed(error)
    }
}

impl<'a> RequestHeader<'a> {
    /// Splits a frame, without the length in front, into its header and the message's body.
    ///
    /// The client id has a 2-byte length in the flexible header too, so that any broker can read the header of an
    /// ApiVersions request from the future.
    pub fn parse(frame: &'a [u8]) -> Result<(Self, &'a [u8]), HeaderError> {
        let mut r = Reader::new(frame, 0, false);
        let key = ApiKey(r.i16()?);
        let version = r.i16()?;
        let correlation_id = r.i32()?;
        let Some(api) = key.api() else {
            return Err(HeaderError::UnknownApi { key, version, correlation_id });
        };
        let client_id = match r.i16()? {
            -1 => None,
            len @ 0.. => Some(readable(r.take(len as usize)?)),
            _ => return Err(r.error("the length of the client id is negative").into()),
        };
        if api.request_header(version) >= 2 {
            r.skip_tags()?;
        }
        Ok((RequestHeader { api, version, correlation_id, client_id }, r.rest()))
    }
}

/// The longest part from the start that is UTF-8.
fn readable(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
    }
}

/// A whole response frame: length, header, body. The length counts the externals' data, and the externals' positions
/// are those in the returned bytes.
pub fn response<'a, M: Response<'a>>(version: i16, correlation_id: i32, message: &M) -> Encoded {
    frame(version, message, |w| response_header::<M>(w, correlation_id))
}

/// Begins a response frame. For a message that is too long to be put together before it is written: the caller writes its fields, up to
/// the tagged ones, and ends it with [`finish`].
pub fn begin<'a, M: Response<'a>>(version: i16, correlation_id: i32) -> Writer {
    let mut w = Writer::new(version, false);
    w.i32(0);
    response_header::<M>(&mut w, correlation_id);
    w.set_flexible(M::API.is_flexible(version));
    w
}

fn response_header<'a, M: Response<'a>>(w: &mut Writer, correlation_id: i32) {
    w.i32(correlation_id);
    if M::API.response_header(w.version()) >= 1 {
        w.uvarint(0);
    }
}

/// A whole request frame: length, header, body. Tools and tests are the ones who send requests.
pub fn request<'a, M: Request<'a>>(version: i16, correlation_id: i32, client_id: Option<&str>, message: &M) -> Encoded {
    frame(version, message, |w| {
        w.i16(M::API.key.0);
        w.i16(version);
        w.i32(correlation_id);
        w.string(client_id);
        if M::API.request_header(version) >= 2 {
            w.uvarint(0);
        }
    })
}

/// Splits a response frame, without the length in front, into its correlation id and the message's body.
pub fn parse_response<'a>(api: &Api, version: i16, frame: &'a [u8]) -> Result<(i32, &'a [u8]), DecodeError> {
    let mut r = Reader::new(frame, 0, false);
    let correlation_id = r.i32()?;
    if api.response_header(version) >= 1 {
        r.skip_tags()?;
    }
    Ok((correlation_id, r.rest()))
}

fn frame<'a, M: Message<'a>>(version: i16, message: &M, header: impl FnOnce(&mut Writer)) -> Encoded {
    let mut w = Writer::new(version, false);
    w.i32(0);
    header(&mut w);
    w.set_flexible(M::API.is_flexible(version));
    message.write(&mut w);
    finish(w)
}

/// Ends a frame: puts its length in front.
pub fn finish(mut w: Writer) -> Encoded {
    let external: usize = w.externals.iter().map(|e| e.len as usize).sum();
    let len = w.position() - 4 + external;
    // A frame over 2 GiB can't be expressed; the bounds on what a response may hold keep it far below.
    w.patch_i32(0, i32::try_from(len).unwrap_or(i32::MAX));
    w.into_encoded()
}
