//! Enrolment: who has the token gets in, once, and only at the collector that the token names.

use std::path::Path;

use mainstay_agent::enrol::{EnrolError, Existing, enrol, read_token};
use mainstay_agent::identity::Identity;
use mainstay_core::id::HostId;
use mainstay_core::token::PolicyKeys;

use crate::fake::Fake;
use crate::host::facts;

fn is_empty(state: &Path) -> bool {
    std::fs::read_dir(state).unwrap().next().is_none()
}

#[tokio::test]
async fn a_token_gives_an_identity_with_what_the_token_says() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let keys = PolicyKeys { primary: [1; 32], recovery: None };
    let token = mainstay_core::token::Token { policy_keys: Some(keys), ..fake.token() };
    let identity = enrol(&token, &facts(), b"m", state.path(), Existing::Keep).await.unwrap();
    assert_eq!((identity.host, identity.policy_keys), (HostId([7; 16]), Some(keys)));
    assert_eq!(identity.labels, [("role".to_owned(), "web".to_owned())], "the token's, not the collector's");
    assert_eq!(Identity::load(state.path()).unwrap(), Some(identity));
}

#[tokio::test]
async fn a_spent_token_is_refused_and_leaves_nothing_behind() {
    let fake = Fake::start().await;
    fake.with(|state| state.spent = true);
    let state = tempfile::tempdir().unwrap();
    let refused = enrol(&fake.token(), &facts(), b"m", state.path(), Existing::Keep).await.unwrap_err();
    assert_eq!(refused.to_string(), "the collector refused: the token is spent");
    assert!(is_empty(state.path()));
}

#[tokio::test]
async fn a_collector_with_another_ca_never_sees_the_secret() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let token = mainstay_core::token::Token { ca_fingerprint: [0; 32], ..fake.token() };
    let error = enrol(&token, &facts(), b"m", state.path(), Existing::Keep).await.unwrap_err();
    assert!(matches!(error, EnrolError::Tls(_)), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(!fake.with(|state| state.spent) && is_empty(state.path()));
}

#[tokio::test]
async fn an_enrolled_host_is_enrolled_anew_only_by_force_and_keeps_the_old_until_then() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let first = enrol(&fake.token(), &facts(), b"m", state.path(), Existing::Keep).await.unwrap();
    let again = enrol(&fake.token(), &facts(), b"m", state.path(), Existing::Keep).await.unwrap_err();
    assert!(again.to_string().contains("--force"), "{again}");
    let refused = enrol(&fake.token(), &facts(), b"m", state.path(), Existing::Replace).await;
    assert!(matches!(refused, Err(EnrolError::Refused(_))), "spent");
    assert_eq!(Identity::load(state.path()).unwrap(), Some(first.clone()));
    fake.with(|state| state.spent = false);
    let second = enrol(&fake.token(), &facts(), b"m", state.path(), Existing::Replace).await.unwrap();
    assert_ne!(first.key, second.key);
    assert_eq!(Identity::load(state.path()).unwrap(), Some(second));
}

#[tokio::test]
async fn a_token_file_is_read_and_an_unreachable_collector_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start().await;
    let token = mainstay_core::token::Token { address: "127.0.0.1:1".to_owned(), ..fake.token() };
    let path = dir.path().join("token");
    std::fs::write(&path, token.encode() + "\n").unwrap();
    let read = read_token(&path).unwrap();
    assert_eq!(read, token);
    let state = tempfile::tempdir().unwrap();
    let error = enrol(&read, &facts(), b"m", state.path(), Existing::Keep).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot connect to 127.0.0.1:1: Connection refused"), "{error}");
    assert!(is_empty(state.path()));
    let missing = read_token(&dir.path().join("none")).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read the token from /"), "{missing}");
}
