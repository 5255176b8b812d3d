//! Owns the messages of delegation tokens (KIP-48). Descriptions only.

use crate::wire::macros::message;
use crate::wire::ErrorCode;

message! {
    /// Creates a token, for its owner or on behalf of another one (KIP-373).
    request CreateDelegationTokenRequest<'a> = CREATE_DELEGATION_TOKEN -> CreateDelegationTokenResponse<'a> {
        owner_principal_type: Option<&'a str> [3..],
        owner_principal_name: Option<&'a str> [3..],
        renewers: Vec<CreatableRenewers<'a>> [0..],
        max_lifetime_ms: i64 [0..],
    }
    struct CreatableRenewers<'a> { principal_type: &'a str [0..], principal_name: &'a str [0..] }

    /// The token.
    response CreateDelegationTokenResponse<'a> = CREATE_DELEGATION_TOKEN {
        error_code: ErrorCode [0..],
        principal_type: &'a str [0..],
        principal_name: &'a str [0..],
        token_requester_principal_type: &'a str [3..],
        token_requester_principal_name: &'a str [3..],
        issue_timestamp_ms: i64 [0..],
        expiry_timestamp_ms: i64 [0..],
        max_timestamp_ms: i64 [0..],
        token_id: &'a str [0..],
        hmac: &'a [u8] [0..],
        throttle_time_ms: i32 [0..],
    }
}

message! {
    /// Prolongs a token.
    request RenewDelegationTokenRequest<'a> = RENEW_DELEGATION_TOKEN -> RenewDelegationTokenResponse {
        hmac: &'a [u8] [0..],
        renew_period_ms: i64 [0..],
    }

    /// When the token expires.
    response RenewDelegationTokenResponse = RENEW_DELEGATION_TOKEN {
        error_code: ErrorCode [0..],
        expiry_timestamp_ms: i64 [0..],
        throttle_time_ms: i32 [0..],
    }
}

message! {
    /// Ends a token.
    request ExpireDelegationTokenRequest<'a> = EXPIRE_DELEGATION_TOKEN -> ExpireDelegationTokenResponse {
        hmac: &'a [u8] [0..],
        expiry_time_period_ms: i64 [0..],
    }

    /// When the token expires.
    response ExpireDelegationTokenResponse = EXPIRE_DELEGATION_TOKEN {
        error_code: ErrorCode [0..],
        expiry_timestamp_ms: i64 [0..],
        throttle_time_ms: i32 [0..],
    }
}

message! {
    /// Asks for the tokens of owners; null is all.
    request DescribeDelegationTokenRequest<'a> = DESCRIBE_DELEGATION_TOKEN -> DescribeDelegationTokenResponse<'a> {
        owners: Option<Vec<DescribeDelegationTokenOwner<'a>>> [0..],
    }
    struct DescribeDelegationTokenOwner<'a> {
        principal_type: &'a str [0..],
        principal_name: &'a str [0..],
    }

    /// The tokens.
    response DescribeDelegationTokenResponse<'a> = DESCRIBE_DELEGATION_TOKEN {
        error_code: ErrorCode [0..],
        tokens: Vec<DescribedDelegationToken<'a>> [0..],
        throttle_time_ms: i32 [0..],
    }
    struct DescribedDelegationToken<'a> {
        principal_type: &'a str [0..],
        principal_name: &'a str [0..],
        token_requester_principal_type: &'a str [3..],
        token_requester_principal_name: &'a str [3..],
        issue_timestamp: i64 [0..],
        expiry_timestamp: i64 [0..],
        max_timestamp: i64 [0..],
        token_id: &'a str [0..],
        hmac: &'a [u8] [0..],
        renewers: Vec<DescribedDelegationTokenRenewer<'a>> [0..],
    }
    struct DescribedDelegationTokenRenewer<'a> {
        principal_type: &'a str [0..],
        principal_name: &'a str [0..],
    }
}
