//! Owns ShareAcknowledge in version 2 (KIP-1222), which the other implementation does not know: its version 1, with the
//! flag put in that says that locks are renewed, and the lock's time taken out of the answer.

use bytes::Bytes;
use kafka_protocol::messages::ShareAcknowledgeRequest;

use super::proto::{request_frame, response_body, Answer, Ask};

/// The version that is made here.
pub const VERSION: i16 = 2;

/// Bytes of a request's header: API, version, correlation, the client's id "sim", no tagged fields.
const HEADER_BYTES: usize = 2 + 2 + 4 + 2 + 3 + 1;

/// Bytes before an answer's error message: length, correlation, no tagged fields, throttle time, error.
const BEFORE_MESSAGE_BYTES: usize = 4 + 4 + 1 + 4 + 2;

/// The request's frame.
pub fn frame(ask: &Ask, correlation: i32, version: i16) -> Bytes {
    let Ask::ShareAcknowledge(request) = ask else { return ask.frame(correlation, version) };
    if version != VERSION {
        return ask.frame(correlation, version);
    }
    let mut frame = request_frame(correlation, 1, request).to_vec();
    frame[2..4].copy_from_slice(&VERSION.to_be_bytes());
    // Names are shorter than what one byte of length tells.
    let names = [request.group_id.as_ref().map(|id| id.len()), request.member_id.as_ref().map(|id| id.len())];
    let names: usize = names.iter().map(|len| 1 + len.unwrap_or(0)).sum();
    frame.insert(HEADER_BYTES + names + 4, 1);
    frame.into()
}

/// The answer in a frame.
pub fn answer(ask: &Ask, frame: &Bytes, correlation: i32, version: i16) -> Result<Answer, String> {
    if version != VERSION || !matches!(ask, Ask::ShareAcknowledge(_)) {
        return ask.answer(frame, correlation, version);
    }
    let mut bytes = frame.to_vec();
    let message = usize::from(*bytes.get(BEFORE_MESSAGE_BYTES).ok_or("an answer without a message")?);
    let at = BEFORE_MESSAGE_BYTES + message.max(1);
    if bytes.len() < at + 4 {
        return Err("an answer without the lock's time".to_string());
    }
    bytes.drain(at..at + 4);
    let len = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    response_body::<ShareAcknowledgeRequest>(&bytes.into(), correlation, 1).map(Answer::ShareAcknowledge)
}
