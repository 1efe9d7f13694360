//! The likely cause of an incident: what the others depend on, and what came first.
//!
//! In: the members of an incident and the declared dependencies. Out: one member, how sure that
//! is, and why in words. Dependency outweighs time, because detectors take unequal long to be sure.

use std::cmp::Reverse;

use crate::correlate::{Symptom, SymptomId};
use crate::depends::Depends;

/// Most members that are weighed against each other: the earliest ones.
const WEIGHED_MAX: usize = 200;

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// Which member.
    pub symptom: SymptomId,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// Why.
    pub why: Vec<String>,
}

/// Names the member that most likely caused the others; `None` when there is no member.
#[must_use]
pub fn likely_cause(members: &[&Symptom], depends: &Depends) -> Option<Cause> {
    let mut members: Vec<&Symptom> = members.to_vec();
    members.sort_by_key(|s| (s.opened_ms, Reverse(s.severity), s.id));
    members.truncate(WEIGHED_MAX);
    let needed = depends.needed(&members);
    // The most needed; among these the first, which is how the members are sorted already.
    let (at, needed_by) = needed.into_iter().enumerate().max_by_key(|(at, n)| (*n, Reverse(*at)))?;
    let cause = members[at];
    let others = members.len() - 1;
    let lead_ms = members.iter().filter(|s| s.id != cause.id).map(|s| s.opened_ms - cause.opened_ms).min().unwrap_or(0);
    Some(Cause {
        symptom: cause.id,
        confidence: confidence(cause, others, needed_by, lead_ms),
        why: why(cause, others, needed_by, lead_ms),
    })
}

/// A third for nothing but being there, more for what needs it and for having come first.
fn confidence(cause: &Symptom, others: usize, needed_by: usize, lead_ms: i64) -> f64 {
    if others == 0 {
        return cause.confidence;
    }
    let needed = needed_by as f64 / others as f64;
    // Ten seconds of lead is what a summary is long; beyond a minute more lead says nothing more.
    let led = (lead_ms as f64 / 60_000.0).clamp(0.0, 1.0);
    ((0.35 + 0.45 * needed + 0.2 * led) * cause.confidence.clamp(0.0, 1.0)).clamp(0.0, 0.99)
}

fn why(cause: &Symptom, others: usize, needed_by: usize, lead_ms: i64) -> Vec<String> {
    if others == 0 {
        return vec![format!("{} stands alone", cause.said())];
    }
    let mut why = Vec::new();
    if needed_by > 0 {
        why.push(format!("{needed_by} of {others} other findings are on what depends on it"));
    }
    match lead_ms {
        0 => why.push(format!("{} came first, together with others", cause.said())),
        ms if ms > 0 => why.push(format!("{} came first, by {:.1} s", cause.said(), ms as f64 / 1000.0)),
        ms => why.push(format!(
            "{} was found {:.1} s after the first, but others depend on it",
            cause.said(),
            -ms as f64 / 1000.0
        )),
    }
    why
}
