//! Owns DescribeUserScramCredentials and AlterUserScramCredentials (KIP-554). What a client sends of a password is turned
//! into keys at once; neither is ever logged or told.

use std::collections::{BTreeMap, BTreeSet};

use super::{error_of, message_of, repeated, Outcome, Refused};
use crate::broker::dispatch::Request;
use crate::broker::scram::{Credential, Mechanism};
use crate::broker::Broker;
use crate::limits;
use crate::wire::msg::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, AlterUserScramCredentialsResult,
    CredentialInfo, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult, ScramCredentialDeletion, ScramCredentialUpsertion,
};
use crate::wire::{self, DecodeError, ErrorCode};

/// How often a client may hash a password (Kafka's bounds).
const ITERATIONS_MIN: i32 = 4096;
const ITERATIONS_MAX: i32 = 16384;

/// What is to happen with one user, if that is allowed.
type Change = (Mechanism, Option<Credential>);

impl Broker {
    pub(in crate::broker) fn describe_user_scram_credentials(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DescribeUserScramCredentialsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        // No list and an empty one are all users.
        let named = request.users.as_deref().unwrap_or(&[]);
        let twice = repeated(named.iter().map(|user| user.name));
        let users: BTreeSet<&str> = match named.is_empty() {
            true => self.scram.users().collect(),
            false => named.iter().map(|user| user.name).collect(),
        };
        let told: Vec<_> = users.iter().map(|user| (*user, self.describe_user(user, twice.contains(user)))).collect();
        let results = told.iter().map(|(user, outcome)| DescribeUserScramCredentialsResult {
            user,
            error_code: error_of(outcome),
            // Kafka says nothing here by an empty text.
            error_message: Some(message_of(outcome).unwrap_or("")),
            credential_infos: outcome.as_ref().map_or(Vec::new(), Clone::clone),
        });
        let response = DescribeUserScramCredentialsResponse {
            error_message: Some(""),
            results: results.collect(),
            ..Default::default()
        };
        let encoded = wire::frame::response(req.to.version, req.to.correlation_id, &response);
        for (_, outcome) in &told {
            self.count_outcomes(req.to, std::slice::from_ref(outcome));
        }
        self.send_after(self.gather.meta_seq(), req.to, encoded, &[]);
        Ok(())
    }

    fn describe_user(&self, user: &str, twice: bool) -> Result<Vec<CredentialInfo>, Refused> {
        if twice {
            let why = format!("Cannot describe SCRAM credentials for the same user twice in a single request: {user}");
            return Err(Refused::new(ErrorCode::DUPLICATE_RESOURCE, why));
        }
        let Some(credentials) = self.scram.user(user) else {
            let why = format!("Attempt to describe a user credential that does not exist: {user}");
            return Err(Refused::new(ErrorCode::RESOURCE_NOT_FOUND, why));
        };
        let infos = credentials.iter().map(|(mechanism, credential)| CredentialInfo {
            mechanism: mechanism.number(),
            iterations: credential.iterations,
        });
        Ok(infos.collect())
    }

    pub(in crate::broker) fn alter_user_scram_credentials(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: AlterUserScramCredentialsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let mut changes: BTreeMap<&str, Result<Change, Refused>> = BTreeMap::new();
        let count = request.deletions.len() + request.upsertions.len();
        for deletion in &request.deletions {
            add(&mut changes, deletion.name, || self.check_deletion(deletion));
        }
        for upsertion in &request.upsertions {
            add(&mut changes, upsertion.name, || self.check_upsertion(upsertion));
        }
        let mut outcomes: BTreeMap<&str, Outcome> = BTreeMap::new();
        for (user, change) in changes {
            let outcome = match change {
                _ if count > limits::REQUEST_ITEMS_MAX => Err(ErrorCode::POLICY_VIOLATION.into()),
                Ok(change) => self.change_scram(req, user, change),
                Err(refused) => Err(refused),
            };
            self.count_outcomes(req.to, std::slice::from_ref(&outcome));
            outcomes.insert(user, outcome);
        }
        let results = outcomes.iter().map(|(user, outcome)| AlterUserScramCredentialsResult {
            user,
            error_code: error_of(outcome),
            error_message: message_of(outcome),
        });
        let response = AlterUserScramCredentialsResponse { results: results.collect(), ..Default::default() };
        self.reply(req.to, &response);
        Ok(())
    }

    fn check_deletion(&self, deletion: &ScramCredentialDeletion<'_>) -> Result<Change, Refused> {
        let mechanism = check_user(deletion.name, deletion.mechanism)?;
        match self.scram.get(deletion.name, mechanism) {
            Some(_) => Ok((mechanism, None)),
            None => Err(Refused::new(
                ErrorCode::RESOURCE_NOT_FOUND,
                "Attempt to delete a user credential that does not exist",
            )),
        }
    }

    fn check_upsertion(&self, upsertion: &ScramCredentialUpsertion<'_>) -> Result<Change, Refused> {
        let mechanism = check_user(upsertion.name, upsertion.mechanism)?;
        let unacceptable = |why: &str| Err(Refused::new(ErrorCode::UNACCEPTABLE_CREDENTIAL, why));
        let (salt, salted_password) = (upsertion.salt, upsertion.salted_password);
        match upsertion.iterations {
            ..ITERATIONS_MIN => unacceptable("Too few iterations"),
            iterations if iterations > ITERATIONS_MAX => unacceptable("Too many iterations"),
            _ if salted_password.is_empty() => unacceptable("The salted password is empty"),
            _ if salt.len() > limits::SCRAM_BYTES_MAX || upsertion.name.len() > limits::SCRAM_BYTES_MAX => {
                unacceptable("The user name or the salt is too long")
            }
            iterations => Ok((mechanism, Some(Credential::derive(mechanism, iterations, salt, salted_password)))),
        }
    }

    fn change_scram(&mut self, req: &Request<'_>, user: &str, (mechanism, credential): Change) -> Outcome {
        // Counted here, as those before it in the request count too.
        if credential.is_some() && self.scram.user(user).is_none() && self.scram.len() >= limits::SCRAM_USERS_MAX {
            return Err(Refused::new(ErrorCode::UNACCEPTABLE_CREDENTIAL, "There are too many users"));
        }
        self.check_space(req.now, 0)?;
        let entry = self.scram.put(user, mechanism, credential);
        self.append_meta(entry);
        Ok(())
    }
}

/// Adds the change of one user; of several none is carried out. What was refused stays refused.
fn add<'a>(
    changes: &mut BTreeMap<&'a str, Result<Change, Refused>>,
    user: &'a str,
    check: impl FnOnce() -> Result<Change, Refused>,
) {
    let why = "A user credential cannot be altered twice in the same request";
    match changes.get(user) {
        None => changes.insert(user, check()),
        Some(Ok(_)) => changes.insert(user, Err(Refused::new(ErrorCode::DUPLICATE_RESOURCE, why))),
        Some(Err(_)) => None,
    };
}

fn check_user(name: &str, mechanism: i8) -> Result<Mechanism, Refused> {
    if name.is_empty() {
        return Err(Refused::new(ErrorCode::UNACCEPTABLE_CREDENTIAL, "Username must not be empty"));
    }
    let unknown = || Refused::new(ErrorCode::UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism");
    Mechanism::of(mechanism).ok_or_else(unknown)
}
