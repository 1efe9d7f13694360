//! The policy of a fleet as one signed bundle, and whether a host takes it.
//!
//! The bytes of a bundle, all numbers big-endian: tag `mainstay-policy-1`, fleet id (16 bytes), generation (u64), hash of
//! the bundle before it (32 bytes), `not_after` in milliseconds since 1970 (i64), number of files (u64), and for each
//! file its name and its content, each with its length (u64) before it. The hash of a policy is SHA-256 over exactly
//! these bytes. Accepting is a pure function: [`accept`].

use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};

use super::Policy;
use super::signed::{BadSignature, Signed, TrustedKeys};
use crate::canonical::{Reader, Truncated, Writer};
use crate::config::Problem;
use crate::decision::PolicyRef;

/// What the bytes of a bundle begin with.
const TAG: &str = "mainstay-policy-1";

/// Most files of one bundle.
pub const FILES_MAX: usize = 256;

/// Most problems that are shown when the content of a bundle is refused.
const PROBLEMS_SHOWN_MAX: usize = 20;

/// The policy of a fleet, before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The fleet that it is for: a bundle of the test fleet is not taken by production.
    pub fleet_id: [u8; 16],
    /// Only goes up. The first is 1.
    pub generation: u64,
    /// The hash of the bundle before it, zeros for the first.
    pub prev_hash: [u8; 32],
    /// After this (wall clock, milliseconds) the bundle is not taken any more. One that is in force stays in force.
    pub not_after_ms: i64,
    /// Names and contents, in the order of their names.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Bundle {
    /// The exact bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG);
        writer.fixed(&self.fleet_id).u64(self.generation).fixed(&self.prev_hash).i64(self.not_after_ms);
        writer.count(self.files.len());
        for (name, content) in &self.files {
            writer.text(name).bytes(content);
        }
        writer.finish()
    }

    /// Reads the exact bytes.
    ///
    /// # Errors
    /// [`Truncated`] for anything that [`Bundle::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, Truncated> {
        let mut reader = Reader::new(bytes, TAG)?;
        let (fleet_id, generation) = (reader.fixed()?, reader.u64()?);
        let (prev_hash, not_after_ms) = (reader.fixed()?, reader.i64()?);
        let count = reader.count()?;
        if count > FILES_MAX {
            return Err(Truncated { at: 0 });
        }
        let mut files = Vec::with_capacity(count);
        for _ in 0..count {
            files.push((reader.text()?, reader.bytes()?.to_vec()));
        }
        reader.finish()?;
        Ok(Self { fleet_id, generation, prev_hash, not_after_ms, files })
    }

    /// Signs the bundle.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Signed {
        Signed::sign(self.encode(), key)
    }

    /// The hash by which the bundle is known.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        bundle_hash(&self.encode())
    }

    /// The policy that the files are.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn policy(&self) -> Result<Policy, Vec<Problem>> {
        let mut texts = Vec::with_capacity(self.files.len());
        let mut broken = Vec::new();
        for (name, content) in &self.files {
            match std::str::from_utf8(content) {
                Ok(text) => texts.push((name.as_str(), text)),
                Err(_) => broken.push(Problem::of_file(name, "is not UTF-8 text")),
            }
        }
        if !broken.is_empty() {
            return Err(broken);
        }
        let mut policy = Policy::parse(&texts)?;
        policy.reference = PolicyRef { generation: self.generation, hash: self.hash() };
        Ok(policy)
    }
}

/// The hash of a bundle's exact bytes.
#[must_use]
pub fn bundle_hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What a host has seen of its fleet's policies. To be kept durably.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyState {
    /// The fleet that the host was enrolled in.
    pub fleet_id: [u8; 16],
    /// The policy in force; generation 0 if none was ever taken.
    pub effective: PolicyRef,
    /// The highest generation that was ever taken, given up or not. Never goes down.
    pub highest: u64,
    /// The generation that the host gave up by itself, and why.
    pub given_up: Option<(u64, String)>,
}

/// A bundle that may come into force.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The bundle.
    pub bundle: Bundle,
    /// Its policy, with its reference.
    pub policy: Policy,
    /// Whether it names the policy in force as the one before it. If not, a generation was skipped, or it was signed on
    /// top of another history: worth a warning, no reason to refuse.
    pub follows: bool,
}

/// What came of an offer.
#[derive(Debug, Clone, PartialEq)]
pub enum Offer {
    /// It is in force already.
    InForce,
    /// It may come into force.
    Accepted(Box<Accepted>),
}

/// Why an offered policy is not taken. The one in force stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The signature.
    #[error("policy is not believed: {0}")]
    Signature(#[from] BadSignature),
    /// The bytes.
    #[error("policy cannot be read: {0}")]
    Damaged(#[from] Truncated),
    /// Another fleet's.
    #[error("policy is for another fleet")]
    OtherFleet,
    /// An older one.
    #[error("policy generation out of date (got {got}, have {have})")]
    OutOfDate {
        /// Offered.
        got: u64,
        /// Highest that was taken.
        have: u64,
    },
    /// Two of one generation.
    #[error("two policies of generation {0}: the one in force has another content")]
    Fork(u64),
    /// Tried before, and given up.
    #[error("policy generation {generation} was given up here: {why}")]
    GivenUp {
        /// Which.
        generation: u64,
        /// Why.
        why: String,
    },
    /// Too late.
    #[error("policy expired {late_ms} ms ago (not_after {not_after_ms}, now {now_ms})")]
    Expired {
        /// Its end.
        not_after_ms: i64,
        /// Now.
        now_ms: i64,
        /// The difference.
        late_ms: i64,
    },
    /// The content.
    #[error("{0}")]
    Broken(String),
}

/// Whether a host takes an offered policy: the signature first, then the fleet, the generation, the time, the content.
///
/// # Errors
/// [`Refusal`], with a text for the operator.
pub fn accept(offer: &Signed, keys: &TrustedKeys, state: &PolicyState, now_wall_ms: i64) -> Result<Offer, Refusal> {
    offer.check(keys)?;
    let bundle = Bundle::decode(&offer.bytes)?;
    if bundle.fleet_id != state.fleet_id {
        return Err(Refusal::OtherFleet);
    }
    let hash = bundle_hash(&offer.bytes);
    if state.effective == (PolicyRef { generation: bundle.generation, hash }) {
        return Ok(Offer::InForce);
    }
    check_generation(bundle.generation, state)?;
    if now_wall_ms > bundle.not_after_ms {
        let late_ms = now_wall_ms.saturating_sub(bundle.not_after_ms);
        return Err(Refusal::Expired { not_after_ms: bundle.not_after_ms, now_ms: now_wall_ms, late_ms });
    }
    let policy = bundle.policy().map_err(|problems| Refusal::Broken(problem_text(&problems)))?;
    let follows = bundle.prev_hash == state.effective.hash;
    Ok(Offer::Accepted(Box::new(Accepted { bundle, policy, follows })))
}

fn check_generation(generation: u64, state: &PolicyState) -> Result<(), Refusal> {
    if let Some((given_up, why)) = state.given_up.as_ref().filter(|(given_up, _)| *given_up == generation) {
        return Err(Refusal::GivenUp { generation: *given_up, why: why.clone() });
    }
    if generation == state.effective.generation && generation > 0 {
        return Err(Refusal::Fork(generation));
    }
    if generation <= state.highest {
        return Err(Refusal::OutOfDate { got: generation, have: state.highest });
    }
    Ok(())
}

fn problem_text(problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems.iter().take(PROBLEMS_SHOWN_MAX).map(ToString::to_string).collect();
    if problems.len() > PROBLEMS_SHOWN_MAX {
        lines.push(format!("and {} more", problems.len() - PROBLEMS_SHOWN_MAX));
    }
    lines.join("\n")
}

impl PolicyState {
    /// An accepted policy came into force.
    pub fn took(&mut self, reference: PolicyRef) {
        self.effective = reference;
        self.highest = self.highest.max(reference.generation);
    }

    /// The policy in force is given up for the one before it.
    pub fn gave_up(&mut self, back_to: PolicyRef, why: &str) {
        self.given_up = Some((self.effective.generation, why.to_owned()));
        self.effective = back_to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "version = 1\n[[rule]]\nname = \"r\"\non = [\"cpu.saturated\"]\n";
    const NOW_MS: i64 = 1_800_000_000_000;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[1; 32])
    }

    fn keys() -> TrustedKeys {
        TrustedKeys(vec![key().verifying_key()])
    }

    fn bundle(generation: u64, text: &str) -> Bundle {
        let files = vec![("web.toml".to_owned(), text.as_bytes().to_vec())];
        Bundle { fleet_id: [9; 16], generation, prev_hash: [0; 32], not_after_ms: NOW_MS + 1000, files }
    }

    fn state(generation: u64) -> PolicyState {
        let mut state = PolicyState { fleet_id: [9; 16], ..PolicyState::default() };
        state.took(PolicyRef { generation, hash: bundle(generation, GOOD).hash() });
        state
    }

    fn offer(bundle: &Bundle, state: &PolicyState) -> Result<Offer, Refusal> {
        accept(&bundle.sign(&key()), &keys(), state, NOW_MS)
    }

    #[test]
    fn takes_a_newer_policy_and_knows_the_one_in_force() {
        let mut next = bundle(8, GOOD);
        next.prev_hash = bundle(7, GOOD).hash();
        let Ok(Offer::Accepted(accepted)) = offer(&next, &state(7)) else { panic!() };
        assert!(accepted.follows);
        assert_eq!(accepted.policy.reference, PolicyRef { generation: 8, hash: next.hash() });
        assert_eq!(offer(&bundle(7, GOOD), &state(7)), Ok(Offer::InForce));
        let Ok(Offer::Accepted(skipping)) = offer(&bundle(9, GOOD), &state(7)) else { panic!() };
        assert!(!skipping.follows);
    }

    #[test]
    fn the_policy_in_force_is_known_even_after_its_end() {
        let late = accept(&bundle(7, GOOD).sign(&key()), &keys(), &state(7), NOW_MS + 5000);
        assert_eq!(late, Ok(Offer::InForce));
    }

    #[test]
    fn refuses_with_the_reason() {
        let refused = |bundle: &Bundle, state: &PolicyState| offer(bundle, state).unwrap_err().to_string();
        assert_eq!(refused(&bundle(6, GOOD), &state(7)), "policy generation out of date (got 6, have 7)");
        assert_eq!(
            refused(&bundle(7, "version = 1"), &state(7)),
            "two policies of generation 7: the one in force has another content"
        );
        assert_eq!(refused(&Bundle { fleet_id: [8; 16], ..bundle(8, GOOD) }, &state(7)), "policy is for another fleet");
        assert_eq!(
            refused(&Bundle { not_after_ms: NOW_MS - 1, ..bundle(8, GOOD) }, &state(7)),
            format!("policy expired 1 ms ago (not_after {}, now {NOW_MS})", NOW_MS - 1)
        );
        assert_eq!(
            refused(&bundle(8, "version = 1\n[[rule]]\nname = \"r\"\nonn = []\n"), &state(7)),
            "web.toml:2:1: missing key `on` in `rule`\nweb.toml:4:1: unknown key `onn`; did you mean `on`?"
        );
        let not_text = Bundle { files: vec![("x.toml".into(), vec![0xff])], ..bundle(8, GOOD) };
        assert_eq!(refused(&not_text, &state(7)), "x.toml: is not UTF-8 text");
    }

    #[test]
    fn a_signature_comes_before_everything_else() {
        let stranger = SigningKey::from_bytes(&[2; 32]);
        let refused = accept(&bundle(8, "broken").sign(&stranger), &keys(), &state(7), NOW_MS).unwrap_err();
        assert!(matches!(refused, Refusal::Signature(BadSignature::UnknownKey { .. })), "{refused}");
        let mut flipped = bundle(8, GOOD).sign(&key());
        flipped.bytes[40] ^= 1;
        let refused = accept(&flipped, &keys(), &state(7), NOW_MS).unwrap_err();
        assert!(matches!(refused, Refusal::Signature(BadSignature::Wrong(_))), "{refused}");
        // What the operator signed as something else is no policy.
        let other = Signed::sign(Writer::new("mainstay-hold-1").finish(), &key());
        assert!(matches!(accept(&other, &keys(), &state(7), NOW_MS), Err(Refusal::Damaged(_))));
    }

    #[test]
    fn a_policy_that_was_given_up_does_not_come_back() {
        let mut state = state(7);
        let before = state.effective;
        state.took(PolicyRef { generation: 8, hash: bundle(8, GOOD).hash() });
        state.gave_up(before, "the agent crashed");
        assert_eq!(
            offer(&bundle(8, GOOD), &state).unwrap_err().to_string(),
            "policy generation 8 was given up here: the agent crashed"
        );
        assert_eq!(offer(&bundle(7, GOOD), &state), Ok(Offer::InForce));
        assert!(matches!(offer(&bundle(9, GOOD), &state), Ok(Offer::Accepted(_))));
    }

    proptest! {
        #[test]
        fn bundles_are_read_as_they_are_written(
            generation in any::<u64>(), not_after_ms in any::<i64>(),
            files in proptest::collection::vec(("[a-z.]{1,9}", proptest::collection::vec(any::<u8>(), 0..40)), 0..4),
        ) {
            let bundle = Bundle { fleet_id: [3; 16], generation, prev_hash: [4; 32], not_after_ms, files };
            let bytes = bundle.encode();
            prop_assert_eq!(Bundle::decode(&bytes), Ok(bundle));
            prop_assert!(Bundle::decode(&bytes[..bytes.len() - 1]).is_err());
        }

        #[test]
        fn never_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut tagged = Writer::new(TAG).finish();
            tagged.extend(&bytes);
            for bytes in [bytes, tagged] {
                if let Ok(bundle) = Bundle::decode(&bytes) {
                    prop_assert_eq!(bundle.encode(), bytes, "one value has one encoding");
                }
            }
        }
    }
}
