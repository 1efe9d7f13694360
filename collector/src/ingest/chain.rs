//! The chain: whether a host's ledger goes on from where it was countersigned.
//!
//! In: the head that is stored here, and what the host says. Out: the new head, or a doubt in words.
//! A doubt never stops the stream: the records are evidence, and the operator is told.

use mainstay_core::id::HostId;
use mainstay_core::ledger::{Entry, Head};
use mainstay_proto::v1;

/// Most doubts that are kept of one host; the first ones say the most.
pub const DOUBTS_MAX: usize = 32;

/// What to do with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It follows: store it, this is the new head.
    Follows(Head),
    /// It is stored already, under the same hash.
    Known,
    /// It does not follow, for this reason. Stored all the same, if nothing stands there yet.
    Doubtful(String, Option<Head>),
    /// It is no entry.
    Malformed(&'static str),
}

/// The stored head of a host.
#[must_use]
pub fn head_of(host: HostId, stored: Option<&v1::LedgerHead>) -> Head {
    let hash = stored.and_then(|head| head.hash.as_slice().try_into().ok());
    match (stored, hash) {
        (Some(head), Some(hash)) if head.index > 0 => Head { index: head.index, hash },
        _ => Head::genesis(host),
    }
}

/// Holds an entry against the head. `stored_hash` is the hash under which its number is stored here.
#[must_use]
pub fn link(head: Head, entry: &v1::LedgerEntry, stored_hash: Option<&[u8]>) -> Link {
    let Ok(hash) = <[u8; 32]>::try_from(entry.hash.as_slice()) else {
        return Link::Malformed("a chain hash has 32 bytes");
    };
    if entry.index == 0 {
        return Link::Malformed("ledger records count from 1");
    }
    if entry.index <= head.index {
        return match stored_hash {
            Some(stored) if stored == hash => Link::Known,
            Some(_) => {
                Link::Doubtful(format!("record #{} was rewritten after it was countersigned", entry.index), None)
            }
            None => Link::Known, // older than what is kept here
        };
    }
    match head.link(&Entry { index: entry.index, hash, record: &entry.record }) {
        Ok(next) => Link::Follows(next),
        // What comes next is held against what the host says, so that one break is one doubt.
        Err(broken) => {
            let text = format!(
                "record #{} does not follow from #{}, which was countersigned: {broken}",
                entry.index, head.index
            );
            Link::Doubtful(text, Some(Head { index: entry.index, hash }))
        }
    }
}

/// What is wrong with the end of the ledger that a host names when it connects.
#[must_use]
pub fn doubt_at_hello(head: Head, said: Option<&v1::LedgerHead>) -> Option<String> {
    let said = said?;
    if said.index < head.index {
        return Some(format!(
            "the ledger ends at #{}, but #{} was countersigned: its tail was cut",
            said.index, head.index
        ));
    }
    (said.index == head.index && head.index > 0 && said.hash != head.hash).then(|| {
        format!("the ledger has another record #{} than was countersigned: its history was rewritten", head.index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostId = HostId([7; 16]);

    fn entry(head: Head, record: &[u8]) -> v1::LedgerEntry {
        let next = head.after(record);
        v1::LedgerEntry { index: next.index, record: record.to_vec(), hash: next.hash.to_vec() }
    }

    #[test]
    fn a_chain_follows_a_repeat_is_known_and_a_break_is_one_doubt() {
        let genesis = head_of(HOST, None);
        let first = entry(genesis, b"one");
        let Link::Follows(head) = link(genesis, &first, None) else { panic!("the first record follows") };
        assert_eq!(link(head, &first, Some(&first.hash)), Link::Known);
        let other = entry(genesis, b"other");
        assert!(
            matches!(link(head, &other, Some(&first.hash)), Link::Doubtful(text, None) if text.contains("#1 was rewritten"))
        );
        let skipped = entry(head.after(b"never sent"), b"three");
        let Link::Doubtful(text, Some(after)) = link(head, &skipped, None) else { panic!("a hole is doubtful") };
        assert!(text.contains("#3") && text.contains("record 2 is missing"), "{text}");
        assert!(matches!(link(after, &entry(after, b"four"), None), Link::Follows(_)));
    }

    #[test]
    fn a_cut_tail_and_a_rewritten_end_are_seen_at_hello() {
        let head = head_of(HOST, None).after(b"one").after(b"two");
        let said = |head: Head| v1::LedgerHead { index: head.index, hash: head.hash.to_vec(), countersigned_ms: 0 };
        assert_eq!(doubt_at_hello(head, Some(&said(head))), None);
        assert_eq!(doubt_at_hello(head, Some(&said(head.after(b"three")))), None);
        let cut = head_of(HOST, None).after(b"one");
        assert!(doubt_at_hello(head, Some(&said(cut))).unwrap().contains("tail was cut"));
        let other = head_of(HOST, None).after(b"one").after(b"2");
        assert!(doubt_at_hello(head, Some(&said(other))).unwrap().contains("rewritten"));
    }
}
