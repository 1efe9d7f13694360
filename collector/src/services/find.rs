//! Finding what an operator means: a name, an id, or the beginning of one.

use mainstay_core::id::{DecisionId, FindingId, HostId, IncidentId};
use mainstay_proto::v1;
use tonic::Status;

use crate::hub::{HostState, State};
use crate::store::Store;
use crate::store::keys::{DecisionKey, IncidentKey, Key};

/// Shortest beginning of an id that is looked for.
const BEGINNING_MIN: usize = 2;

/// The one host that is meant.
///
/// # Errors
/// If there is none, or more than one.
pub fn host(state: &State, asked: &str) -> Result<HostId, Status> {
    if asked.is_empty() {
        return Err(Status::invalid_argument("name a host; `mainstay hosts` lists them"));
    }
    let named: Vec<HostId> =
        state.hosts.iter().filter(|(_, h)| h.hostname() == asked && !h.is_revoked()).map(|(id, _)| *id).collect();
    match named[..] {
        [only] => return Ok(only),
        [] => {}
        _ => {
            let ids: Vec<String> = named.iter().map(ToString::to_string).collect();
            return Err(Status::failed_precondition(format!(
                "{} hosts are called {asked}; name one by its id: {}",
                ids.len(),
                ids.join(", ")
            )));
        }
    }
    let mut begin = state.hosts.iter().filter(|(id, h)| {
        asked.len() >= BEGINNING_MIN && (id.to_string().starts_with(asked) || (h.hostname() == asked))
    });
    match (begin.next(), begin.next()) {
        (Some((id, _)), None) => Ok(*id),
        (Some(_), Some(_)) => {
            Err(Status::failed_precondition(format!("several host ids begin with {asked}; give more of it")))
        }
        _ => Err(Status::not_found(format!("no host is called {asked}; `mainstay hosts` lists them"))),
    }
}

/// The hosts that a selector means, with their states.
///
/// # Errors
/// If it names a host that is not there.
pub fn hosts(state: &State, selector: Option<&v1::Selector>) -> Result<Vec<(HostId, HostState)>, Status> {
    let everything = v1::Selector::default();
    let selector = selector.unwrap_or(&everything);
    let only = if selector.host.is_empty() { None } else { Some(host(state, &selector.host)?) };
    let matches = |id: &HostId, h: &HostState| {
        let labels = h.labels();
        only.is_none_or(|only| only == *id)
            && selector.labels.iter().all(|want| labels.get(&want.name).is_some_and(|have| *have == want.value))
    };
    Ok(state.hosts.iter().filter(|(id, h)| matches(id, h)).map(|(id, h)| (*id, h.clone())).collect())
}

/// The range of numbers that the beginning of an id stands for: `d-3f9` or `3f9`.
fn range(letter: char, asked: &str) -> Option<(u64, u64)> {
    let hex = asked.strip_prefix(letter).and_then(|rest| rest.strip_prefix('-')).unwrap_or(asked);
    if hex.is_empty() || hex.len() > 16 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let low = u64::from_str_radix(&format!("{hex:0<16}"), 16).ok()?;
    let high = u64::from_str_radix(&format!("{hex:f<16}"), 16).ok()?;
    Some((low, high))
}

/// The one decision that is meant.
///
/// # Errors
/// If there is none, or more than one.
pub fn decision(store: &Store, asked: &str) -> Result<DecisionKey, Status> {
    let Some((low, high)) = range('d', asked) else {
        return Err(Status::invalid_argument(format!(
            "`{asked}` is not a decision id such as d-3f9a; `mainstay decisions` lists them"
        )));
    };
    let from = DecisionKey { decision: DecisionId(low), host: HostId([0; 16]) }.encode();
    let found = store.scan::<DecisionKey>(&DecisionKey::all(), &from);
    let mut keys = Vec::new();
    for item in found.take(2) {
        let (key, _) = item?;
        if key.decision.0 <= high {
            keys.push(key);
        }
    }
    one(keys, "decision", asked, "`mainstay decisions` lists them")
}

/// The one incident that is meant.
///
/// # Errors
/// If there is none, or more than one.
pub fn incident(store: &Store, asked: &str) -> Result<IncidentId, Status> {
    let Some((low, high)) = range('i', asked) else {
        return Err(Status::invalid_argument(format!(
            "`{asked}` is not an incident id such as i-12ab; `mainstay incidents` lists them"
        )));
    };
    let from = IncidentKey { incident: IncidentId(low) }.encode();
    let mut keys = Vec::new();
    for item in store.scan::<IncidentKey>(&IncidentKey::all(), &from).take(2) {
        let (key, _) = item?;
        if key.incident.0 <= high {
            keys.push(key.incident);
        }
    }
    one(keys, "incident", asked, "`mainstay incidents` lists them")
}

/// The ids of findings that begin so: from this one to that, both included.
///
/// # Errors
/// If it is no beginning of an id.
pub fn findings(asked: &str) -> Result<(FindingId, FindingId), Status> {
    let Some((low, high)) = range('f', asked) else {
        return Err(Status::invalid_argument(format!(
            "`{asked}` is not a finding id such as f-3f9a; `mainstay findings --all -o wide` lists them"
        )));
    };
    Ok((FindingId(low), FindingId(high)))
}

fn one<T>(mut found: Vec<T>, what: &str, asked: &str, next: &str) -> Result<T, Status> {
    match (found.pop(), found.pop()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => {
            Err(Status::failed_precondition(format!("several {what}s begin with {asked}; give more of the id")))
        }
        _ => Err(Status::not_found(format!("no {what} begins with {asked}; {next}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_id_is_a_range() {
        assert_eq!(range('d', "d-3f"), Some((0x3f00_0000_0000_0000, 0x3fff_ffff_ffff_ffff)));
        assert_eq!(range('d', "3f"), range('d', "d-3f"));
        assert_eq!(range('d', "d-0123456789abcdef"), Some((0x0123_4567_89ab_cdef, 0x0123_4567_89ab_cdef)));
        for bad in ["", "d-", "d-xyz", "f-12 ", "d-0123456789abcdef0"] {
            assert_eq!(range('d', bad), None, "{bad}");
        }
    }
}
