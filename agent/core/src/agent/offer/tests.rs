//! What is kept of policies over a restart, and what of it is believed.

use ed25519_dalek::SigningKey;

use super::*;
use crate::detect;
use crate::policy::signed::TrustedKeys;
use crate::sample::HostFacts;

const FLEET: [u8; 16] = *b"a fleet of tests";
const POLICY: &str = "version = 1\n[[rule]]\nname = \"r\"\non = [\"service.failed\"]\nall_units = true\n\
                      ladder = [{ do = \"unit.restart\" }]\n";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn settings() -> Settings {
    Settings {
        ids_seed: 1,
        host: Some(crate::id::HostId([1; 16])),
        facts: HostFacts::default(),
        detect: detect::Settings::default(),
        operator_keys: TrustedKeys(vec![key(1).verifying_key()]),
        fleet: FLEET,
        budget: crate::budget::Limits::default(),
        observe_only: None,
    }
}

fn bundle(generation: u64, key: &SigningKey) -> Signed {
    let files = vec![("p.toml".to_owned(), POLICY.as_bytes().to_vec())];
    Bundle { fleet_id: FLEET, generation, prev_hash: [0; 32], not_after_ms: i64::MAX, files }.sign(key)
}

fn kept() -> Kept {
    let in_force = bundle(2, &key(1));
    let seen = bundle::PolicyState {
        fleet_id: FLEET,
        effective: reference(&in_force),
        highest: 3,
        given_up: Some((3, "it did harm".to_owned())),
    };
    let before = Before { failing: 4, troubled: ["db.service".to_owned(), "/srv".to_owned()].into() };
    let trial = Some((before, BootId([5; 16])));
    Kept { seen, in_force: Some(in_force), previous: Some(bundle(1, &key(1))), trial }
}

fn restored(bytes: Vec<u8>) -> Policies {
    let restored = Restored { policy: Some(bytes), ..Restored::default() };
    Policies::restored(&settings(), &restored, Now::default())
}

#[test]
fn what_is_kept_is_read_as_it_was_written_and_damage_is_no_policy() {
    let bytes = kept().encode();
    assert_eq!(Kept::decode(&bytes), Ok(kept()));
    assert_eq!(Kept::decode(&Kept::default().encode()), Ok(Kept::default()));
    assert_eq!(restored(bytes.clone()).state.effective.generation, 2);
    for len in 0..bytes.len() {
        assert!(Kept::decode(&bytes[..len]).is_err(), "cut at {len}");
    }
    let damaged = restored(bytes[..bytes.len() - 1].to_vec());
    assert_eq!(damaged.state.effective.generation, 0);
    assert!(damaged.state.refused.is_some(), "and it is said");
}

#[test]
fn a_kept_policy_that_no_operator_signed_is_not_in_force() {
    let forged = Kept { in_force: Some(bundle(2, &key(2))), ..kept() };
    let policies = restored(forged.encode());
    assert_eq!(policies.state.effective.generation, 0);
    assert!(policies.state.refused.is_some_and(|text| text.contains("does not trust")));
}

#[test]
fn what_another_fleet_left_behind_counts_for_nothing() {
    let mut other = kept();
    other.seen.fleet_id = [9; 16];
    let policies = restored(other.encode());
    assert_eq!((policies.state.effective.generation, policies.kept.seen.highest), (0, 0));
}

#[test]
fn roots_files_that_cannot_be_understood_keep_the_host_from_acting() {
    let local_policy = vec![SourceFile { name: "x.toml".to_owned(), bytes: b"version = ".to_vec() }];
    let restored = Restored { local_policy, policy: Some(kept().encode()), ..Restored::default() };
    let policies = Policies::restored(&settings(), &restored, Now::default());
    assert!(policies.local_error.is_some_and(|text| text.starts_with("x.toml:1:")));
}

#[test]
fn on_a_host_that_is_not_enrolled_roots_files_are_the_policy() {
    let local_policy = vec![SourceFile { name: "x.toml".to_owned(), bytes: POLICY.as_bytes().to_vec() }];
    let restored = Restored { local_policy, ..Restored::default() };
    let rules = |settings: &Settings| {
        let policies = Policies::restored(settings, &restored, Now::default());
        let names: Vec<_> = policies.effective.rules().map(|rule| rule.name.clone()).collect();
        (policies.in_force, names)
    };
    assert_eq!(rules(&Settings { host: None, ..settings() }), (InForce::Roots, vec!["r".to_owned()]));
    let (in_force, names) = rules(&settings());
    assert_eq!(in_force, InForce::BuiltIn);
    assert!(!names.contains(&"r".to_owned()), "once enrolled they only narrow");
}
