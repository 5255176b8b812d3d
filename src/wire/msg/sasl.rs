//! Owns the messages of SASL authentication and of SCRAM credentials (KIP-554). Descriptions only.

use crate::wire::macros::message;
use crate::wire::ErrorCode;

message! {
    /// Names the SASL mechanism. After version 0 raw SASL tokens follow, after version 1 SaslAuthenticate
    /// requests (KIP-152).
    request SaslHandshakeRequest<'a> = SASL_HANDSHAKE -> SaslHandshakeResponse<'a> {
        mechanism: &'a str [0..],
    }

    /// Whether the mechanism is known, and all that are.
    response SaslHandshakeResponse<'a> = SASL_HANDSHAKE {
        error_code: ErrorCode [0..],
        mechanisms: Vec<&'a str> [0..],
    }
}

message! {
    /// One step of the SASL exchange, from the client.
    request SaslAuthenticateRequest<'a> = SASL_AUTHENTICATE -> SaslAuthenticateResponse<'a> {
        auth_bytes: &'a [u8] [0..],
    }

    /// One step of the SASL exchange, from the broker; version 1 adds the session's length (KIP-368).
    response SaslAuthenticateResponse<'a> = SASL_AUTHENTICATE {
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        auth_bytes: &'a [u8] [0..],
        session_lifetime_ms: i64 [1..],
    }
}

message! {
    /// Asks which users have SCRAM credentials; null is all users.
    request DescribeUserScramCredentialsRequest<'a> = DESCRIBE_USER_SCRAM_CREDENTIALS -> DescribeUserScramCredentialsResponse<'a> {
        users: Option<Vec<UserName<'a>>> [0..],
    }
    struct UserName<'a> { name: &'a str [0..] }

    /// The users' mechanisms and iteration counts, never the credentials.
    response DescribeUserScramCredentialsResponse<'a> = DESCRIBE_USER_SCRAM_CREDENTIALS {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        results: Vec<DescribeUserScramCredentialsResult<'a>> [0..],
    }
    struct DescribeUserScramCredentialsResult<'a> {
        user: &'a str [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        credential_infos: Vec<CredentialInfo> [0..],
    }
    struct CredentialInfo { mechanism: i8 [0..], iterations: i32 [0..] }
}

message! {
    /// Sets and deletes SCRAM credentials.
    request AlterUserScramCredentialsRequest<'a> = ALTER_USER_SCRAM_CREDENTIALS -> AlterUserScramCredentialsResponse<'a> {
        deletions: Vec<ScramCredentialDeletion<'a>> [0..],
        upsertions: Vec<ScramCredentialUpsertion<'a>> [0..],
    }
    struct ScramCredentialDeletion<'a> { name: &'a str [0..], mechanism: i8 [0..] }
    struct ScramCredentialUpsertion<'a> {
        name: &'a str [0..],
        mechanism: i8 [0..],
        iterations: i32 [0..],
        salt: &'a [u8] [0..],
        salted_password: &'a [u8] [0..],
    }

    /// What became of it.
    response AlterUserScramCredentialsResponse<'a> = ALTER_USER_SCRAM_CREDENTIALS {
        throttle_time_ms: i32 [0..],
        results: Vec<AlterUserScramCredentialsResult<'a>> [0..],
    }
    struct AlterUserScramCredentialsResult<'a> {
        user: &'a str [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}
