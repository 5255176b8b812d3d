//! Owns the APIs of access rules, delegation tokens and SASL, as a Kafka answers them that has neither an authorizer nor a
//! SASL listener.

use crate::broker::dispatch::Request;
use crate::broker::Broker;
use crate::wire::msg::{
    AclCreationResult, CreateAclsRequest, CreateAclsResponse, CreateDelegationTokenRequest,
    CreateDelegationTokenResponse, DeleteAclsFilterResult, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResponse, DescribeDelegationTokenRequest, DescribeDelegationTokenResponse,
    ExpireDelegationTokenRequest, ExpireDelegationTokenResponse, RenewDelegationTokenRequest,
    RenewDelegationTokenResponse, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse,
};
use crate::wire::{self, DecodeError, ErrorCode};

/// Who everyone is without authentication (Kafka's principal).
const ANONYMOUS: (&str, &str) = ("User", "ANONYMOUS");

/// Kafka's numbers for what a rule is about, from the first that it knows: resource types, kinds of patterns, operations,
/// and permissions.
const KNOWN: [std::ops::RangeInclusive<i8>; 4] = [1..=7, 1..=4, 1..=15, 1..=3];

/// Whether Kafka knows all of a rule's numbers. It closes the connection of whoever sends others.
fn is_known(numbers: [i8; 4]) -> bool {
    KNOWN.iter().zip(numbers).all(|(known, number)| known.contains(&number))
}

const NO_AUTHORIZER: &str = "No Authorizer is configured.";
const UNKNOWN_ELEMENTS: &str = "it sent an access rule with elements that are unknown";

impl Broker {
    pub(in crate::broker) fn describe_acls(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let r: DescribeAclsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        if !is_known([r.resource_type_filter, r.pattern_type_filter, r.operation, r.permission_type]) {
            self.close(req.to.conn, UNKNOWN_ELEMENTS);
            return Ok(());
        }
        let response = DescribeAclsResponse {
            error_code: ErrorCode::SECURITY_DISABLED,
            error_message: Some("No Authorizer is configured on the broker"),
            ..Default::default()
        };
        self.refuse(req, ErrorCode::SECURITY_DISABLED, &response);
        Ok(())
    }

    pub(in crate::broker) fn create_acls(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: CreateAclsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let mut each = request.creations.iter();
        if !each.all(|r| is_known([r.resource_type, r.resource_pattern_type, r.operation, r.permission_type])) {
            self.close(req.to.conn, UNKNOWN_ELEMENTS);
            return Ok(());
        }
        let result = AclCreationResult { error_code: ErrorCode::SECURITY_DISABLED, error_message: Some(NO_AUTHORIZER) };
        let response = CreateAclsResponse { results: vec![result; request.creations.len()], ..Default::default() };
        self.refuse(req, ErrorCode::SECURITY_DISABLED, &response);
        Ok(())
    }

    pub(in crate::broker) fn delete_acls(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DeleteAclsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let mut each = request.filters.iter();
        if !each.all(|r| is_known([r.resource_type_filter, r.pattern_type_filter, r.operation, r.permission_type])) {
            self.close(req.to.conn, UNKNOWN_ELEMENTS);
            return Ok(());
        }
        let result = DeleteAclsFilterResult {
            error_code: ErrorCode::SECURITY_DISABLED,
            error_message: Some(NO_AUTHORIZER),
            matching_acls: Vec::new(),
        };
        let response = DeleteAclsResponse { filter_results: vec![result; request.filters.len()], ..Default::default() };
        self.refuse(req, ErrorCode::SECURITY_DISABLED, &response);
        Ok(())
    }

    pub(in crate::broker) fn create_delegation_token(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: CreateDelegationTokenRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let owner = (request.owner_principal_type, request.owner_principal_name);
        let (principal_type, principal_name) = match owner {
            (Some(kind), Some(name)) if !kind.is_empty() && !name.is_empty() => (kind, name),
            _ => ANONYMOUS,
        };
        let response = CreateDelegationTokenResponse {
            error_code: ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED,
            principal_type,
            principal_name,
            token_requester_principal_type: ANONYMOUS.0,
            token_requester_principal_name: ANONYMOUS.1,
            issue_timestamp_ms: -1,
            expiry_timestamp_ms: -1,
            max_timestamp_ms: -1,
            ..Default::default()
        };
        self.refuse(req, response.error_code, &response);
        Ok(())
    }

    pub(in crate::broker) fn renew_delegation_token(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let _: RenewDelegationTokenRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let response = RenewDelegationTokenResponse {
            error_code: ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED,
            expiry_timestamp_ms: -1,
            ..Default::default()
        };
        self.refuse(req, response.error_code, &response);
        Ok(())
    }

    pub(in crate::broker) fn expire_delegation_token(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let _: ExpireDelegationTokenRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let response = ExpireDelegationTokenResponse {
            error_code: ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED,
            expiry_timestamp_ms: -1,
            ..Default::default()
        };
        self.refuse(req, response.error_code, &response);
        Ok(())
    }

    pub(in crate::broker) fn describe_delegation_token(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let _: DescribeDelegationTokenRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let error_code = ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED;
        self.refuse(req, error_code, &DescribeDelegationTokenResponse { error_code, ..Default::default() });
        Ok(())
    }

    /// SASL on a listener without it: the client is told so, as by Kafka, and can go on without.
    pub(in crate::broker) fn sasl_handshake(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let _: SaslHandshakeRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let error_code = ErrorCode::ILLEGAL_SASL_STATE;
        self.refuse(req, error_code, &SaslHandshakeResponse { error_code, ..Default::default() });
        Ok(())
    }

    pub(in crate::broker) fn sasl_authenticate(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let _: SaslAuthenticateRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let response = SaslAuthenticateResponse {
            error_code: ErrorCode::ILLEGAL_SASL_STATE,
            error_message: Some("SaslAuthenticate request received after successful authentication"),
            ..Default::default()
        };
        self.refuse(req, response.error_code, &response);
        Ok(())
    }

    /// Answers with an error that nothing has to be durable for.
    fn refuse<'m, M: wire::Response<'m>>(&mut self, req: &Request<'_>, error: ErrorCode, response: &M) {
        self.settings.metrics.request_error(req.to.key, error.0);
        self.reply_after(0, req.to, response);
    }
}
