//! Enrolment tokens: made by an admin, spent by agents, never stored in the clear.
//!
//! Spending is atomic: the use is taken in the same durable batch that writes the host, and one
//! lock orders those who spend at once.

use mainstay_proto::v1;
use sha2::{Digest, Sha256};

use crate::random;
use crate::store::keys::TokenKey;
use crate::store::values::TokenRow;
use crate::store::{Batch, Store, StoreError};
use crate::words;

/// Longest life of a token: a month.
pub const TTL_MS_MAX: u64 = 31 * 86_400_000;
/// Most uses of one token.
pub const USES_MAX: u32 = 100_000;

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No token has this secret.
    #[error("the token is unknown; an admin can make one with `mainstay token create`")]
    Unknown,
    /// It has been used as often as it could.
    #[error("the token {id} is spent: it was for {}, and all of them have come", words::hosts(*uses))]
    Spent {
        /// Which.
        id: String,
        /// For how many.
        uses: u32,
    },
    /// Its time is over.
    #[error("the token {id} has expired {ago_s} s ago")]
    Expired {
        /// Which.
        id: String,
        /// Since when.
        ago_s: i64,
    },
}

/// A new token and its secret, which is shown once.
#[must_use]
pub fn make(uses: u32, ttl_ms: u64, labels: Vec<v1::Label>, by: &str, now_ms: i64) -> (TokenKey, TokenRow, String) {
    let secret = random::secret();
    let key = TokenKey { id: format!("t-{}", random::hex(&random::bytes::<4>())) };
    let row = TokenRow {
        secret_hash: hash(&secret),
        uses,
        uses_left: uses,
        expires_ms: now_ms.saturating_add(i64::try_from(ttl_ms.min(TTL_MS_MAX)).unwrap_or(0)),
        created_by: by.to_owned(),
        labels,
    };
    (key, row, secret)
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.trim().as_bytes()).to_vec()
}

/// Finds the token with a secret and takes one use of it into the batch. The caller holds the lock
/// that orders enrolments until the batch is durable.
///
/// # Errors
/// If the store cannot be read. A refusal is inside.
pub fn spend(
    store: &Store,
    batch: &mut Batch,
    secret: &str,
    now_ms: i64,
) -> Result<Result<(TokenKey, TokenRow), Refused>, StoreError> {
    let wanted = hash(secret);
    for item in store.scan_values::<TokenKey, TokenRow>(&TokenKey::all()) {
        let (key, mut row) = item?;
        // Hashes of 256 random bits: nothing is learned from how long comparing them takes.
        if row.secret_hash != wanted {
            continue;
        }
        if row.uses_left == 0 {
            return Ok(Err(Refused::Spent { id: key.id, uses: row.uses }));
        }
        if now_ms > row.expires_ms {
            return Ok(Err(Refused::Expired { id: key.id, ago_s: (now_ms - row.expires_ms) / 1000 }));
        }
        row.uses_left -= 1;
        batch.put(&key, &row);
        return Ok(Ok((key, row)));
    }
    Ok(Err(Refused::Unknown))
}
