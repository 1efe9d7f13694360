//! The policy of simulated fleets, and the operator who signs it.

use ed25519_dalek::SigningKey;
use mainstay_core::policy::bundle::Bundle;
use mainstay_core::policy::signed::{Signed, TrustedKeys};

/// The fleet.
pub const FLEET: [u8; 16] = *b"simulated fleet.";

/// The policy: services are restarted and disks reclaimed, both within a budget.
pub const POLICY: &str = r#"
version = 1
description = "the policy of simulated fleets"

[[rule]]
name = "services"
on = ["service.failed", "service.hung"]
all_units = true
mode = "auto"
cooldown = "20s"
backoff = 2.0
cooldown_max = "5m"
budget = "4 per 1h"
ladder = [{ do = "unit.restart" }]
verify = { stable_for = "15s", within = "60s" }

[[rule]]
name = "disks"
on = ["disk.full"]
mounts = ["/srv"]
mode = "auto"
cooldown = "1m"
budget = "2 per 1h"
ladder = [{ do = "disk.reclaim", from = ["journal"], until = "used < 80%" }]
verify = { stable_for = "15s", within = "60s" }
"#;

/// The budgets in it: rule, actions, seconds.
pub const BUDGETS: [(&str, usize, u64); 2] = [("services", 4, 3_600), ("disks", 2, 3_600)];

/// The operator's key.
#[must_use]
pub fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// What hosts trust.
#[must_use]
pub fn operator_keys() -> TrustedKeys {
    TrustedKeys(vec![key().verifying_key()])
}

/// A policy of this text and generation, signed.
#[must_use]
pub fn sign(generation: u64, text: &str) -> Signed {
    let files = vec![("fleet.toml".to_owned(), text.as_bytes().to_vec())];
    let bundle = Bundle { fleet_id: FLEET, generation, prev_hash: [0; 32], not_after_ms: i64::MAX, files };
    bundle.sign(&key())
}
