//! What the command line answers to programs (`-o json`), as far as tests look at it. Unknown keys are left alone: that is
//! how a script of a user reads them too.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Reads the JSON of one answer.
///
/// # Errors
/// Shows the text when it is not what was expected.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).with_context(|| format!("unexpected answer:\n{text}"))
}

/// A host as `mainstay -o json hosts` lists it.
#[derive(Debug, Clone, Deserialize)]
pub struct HostRow {
    /// Its name.
    pub host: String,
    /// Its identity, as it is typed.
    #[serde(default)]
    pub host_id: String,
    /// online, healing, silent, revoked.
    pub state: String,
    /// The policy in force and what is wrong with an offered one: `g7 ok`, `g6, g7 refused`, `built-in`.
    pub policy: String,
    /// Share of what it numbered that has arrived.
    pub completeness: f64,
}

impl HostRow {
    /// Generation of the policy in force; 0 is the built-in one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        let digits = |word: &str| word.chars().take_while(char::is_ascii_digit).collect::<String>();
        self.policy.strip_prefix('g').and_then(|rest| digits(rest).parse().ok()).unwrap_or(0)
    }
}

/// A host as `mainstay -o json policy status` lists it.
#[derive(Debug, Clone, Deserialize)]
pub struct PolicyRow {
    /// Its name.
    pub host: String,
    /// Generation that it was offered last.
    pub offered: u64,
    /// Generation in force; 0 is the built-in policy.
    pub effective: u64,
    /// Why the offered one is not in force.
    pub refused: Option<String>,
}

/// A decision as `mainstay -o json decisions` lists it.
#[derive(Debug, Clone, Deserialize)]
pub struct Decision {
    /// Its id, as it is typed.
    pub id: String,
    /// Kind of the finding.
    pub kind: String,
    /// What the finding is about.
    pub subject: String,
    /// `act` or `hold`.
    pub choice: String,
    /// Why it was held.
    pub reason: Option<String>,
    /// The rule that it fell under.
    pub rule: Option<String>,
    /// What is done, or would be done, in a line.
    pub plan: String,
    /// What was done.
    pub steps: Vec<Step>,
    /// Whether the finding cleared afterwards; absent until that is known.
    pub recovered: Option<bool>,
    /// How long the subject was down.
    pub down_ms: Option<u64>,
    /// First of its ledger records.
    pub ledger_from: u64,
    /// Last of its ledger records.
    pub ledger_to: u64,
}

impl Decision {
    /// True for a decision that acted and has been shown to help.
    #[must_use]
    pub fn helped(&self) -> bool {
        self.choice == "act" && self.recovered == Some(true)
    }

    /// True when it is about this kind and subject.
    #[must_use]
    pub fn is_about(&self, kind: &str, subject: &str) -> bool {
        self.kind == kind && self.subject == subject
    }
}

/// One step of a decision.
#[derive(Debug, Clone, Deserialize)]
pub struct Step {
    /// Its action id, as `mainstay undo` takes it.
    pub action: String,
    /// The action.
    pub kind: String,
    /// What came of it.
    pub outcome: Option<String>,
    /// Bytes that a reclaim really freed.
    pub freed_bytes: Option<u64>,
    /// Whether it was undone.
    pub undone: bool,
}

#[cfg(test)]
mod tests {
    use super::HostRow;

    #[test]
    fn the_generation_in_force_is_read_whatever_stands_behind_it() {
        let row = |policy: &str| HostRow {
            host: String::new(),
            host_id: String::new(),
            state: String::new(),
            policy: policy.to_owned(),
            completeness: 1.0,
        };
        assert_eq!(row("g7 ok").generation(), 7);
        assert_eq!(row("g12, g13 refused").generation(), 12);
        assert_eq!(row("built-in, g1 refused").generation(), 0);
    }
}
