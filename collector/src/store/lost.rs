//! What is lost, in an operator's terms: a stretch of keys as a kind of data, a time and hosts.
//!
//! In: two keys of one column. Out: [`Told`]. Fields of the keys are read from the front as far as both agree, and one more.

use mainstay_core::id::HostId;

use super::columns::Column;
use super::damage::Lost;
use super::series::{HOUR_MS, SLOT_MS};

/// A field of a key, as far as it says anything.
#[derive(Debug, Clone, Copy)]
enum Field {
    /// A time, counted in so many milliseconds.
    Time(i64),
    /// Milliseconds since 1970, as keys have them.
    Millis,
    /// The short number of a host.
    Short,
    /// A host's id.
    Host,
    /// So many bytes of something else.
    Other(usize),
}
use Field::{Host, Millis, Other, Short, Time};

/// A kind of key: its ordinal and, where they differ, a field more; what it holds; its fields.
type Kind = (&'static [u8], &'static str, &'static [Field]);

const DAY_MS: i64 = 24 * HOUR_MS;

/// The kinds of the columns that are served in part, in the order of their keys.
const KINDS: &[(Column, Kind)] = &[
    (Column::Series, (&[16], "series as they came", &[Time(HOUR_MS), Short])),
    (Column::Series, (&[17], "names of series", &[])),
    (Column::Series, (&[18], "series as they came", &[Time(HOUR_MS), Other(1), Short])),
    (Column::Series, (&[19, 1], "series by five minutes", &[Time(HOUR_MS), Other(1), Short])),
    (Column::Series, (&[19, 2], "series by hours", &[Time(DAY_MS), Other(1), Short])),
    (Column::Head, (&[24], "series of the last minutes", &[Short, Time(SLOT_MS), Millis])),
    (Column::Ledger, (&[32], "ledger records", &[Host])),
    (Column::Findings, (&[40], "findings", &[Host])),
    (Column::Findings, (&[41], "the list of findings", &[Millis, Host])),
    (Column::Findings, (&[42], "recordings around findings", &[Host])),
    (Column::Findings, (&[43], "changes", &[Host, Millis])),
    (Column::Findings, (&[44], "marks of deployments", &[Millis])),
    (Column::Findings, (&[53], "the list of changes", &[Millis, Host])),
    (Column::Decisions, (&[48], "decisions", &[Other(8), Host])),
    (Column::Decisions, (&[49], "the list of decisions", &[Millis])),
    (Column::Decisions, (&[50], "the list of decisions of hosts", &[Host, Millis])),
    (Column::Decisions, (&[51], "what was done for decisions", &[])),
    (Column::Decisions, (&[52], "scenes before actions", &[Other(8), Host])),
    (Column::Decisions, (&[60], "the list of ledger records", &[Millis, Host])),
    (Column::Incidents, (&[56], "incidents", &[])),
    (Column::Incidents, (&[57], "the list of incidents", &[Millis])),
    (Column::Incidents, (&[58], "which incidents findings are of", &[Host])),
    (Column::Incidents, (&[59], "notices that wait for the webhook", &[Millis])),
];

/// Whose data is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// It cannot be told.
    Anyone,
    /// Of hosts of these numbers, both included.
    Numbers(u32, u32),
    /// Of hosts of these ids, both included.
    Hosts(HostId, HostId),
}

/// What is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which kind of data.
    pub what: &'static str,
    /// Of which time: from the first up to the second moment.
    pub span_ms: Option<(i64, i64)>,
    /// Whose.
    pub whose: Whose,
}

/// What a stretch of keys holds, kind by kind.
#[must_use]
pub fn told(column: Column, lost: &Lost) -> Vec<Told> {
    let kinds = KINDS.iter().filter(|(of, _)| *of == column).map(|(_, kind)| kind);
    let within = kinds.filter(|(begin, ..)| {
        let is_before_end = *begin <= lost.to.as_slice();
        is_before_end && (*begin >= lost.from.as_slice() || lost.from.starts_with(begin))
    });
    let told: Vec<Told> = within.map(|kind| of_kind(kind, lost)).collect();
    if told.is_empty() { vec![Told { what: column.name(), span_ms: None, whose: Whose::Anyone }] } else { told }
}

fn of_kind((begin, what, fields): &Kind, lost: &Lost) -> Told {
    // Of a kind that begins or ends within the stretch all is meant on that side.
    let mut from = lost.from.strip_prefix(*begin).unwrap_or(&[]);
    let mut to = lost.to.strip_prefix(*begin);
    let mut told = Told { what, span_ms: None, whose: Whose::Anyone };
    for field in *fields {
        let length = field.length();
        let first = from.get(..length);
        let last = to.map(|to| to.get(..length).unwrap_or(to));
        match field {
            Time(unit) => told.span_ms = times(first, last, |bytes| number(bytes).saturating_mul(*unit), *unit),
            Millis => told.span_ms = times(first, last, |bytes| number(bytes) ^ i64::MIN, 1),
            Short => {
                let least = first.map_or(0, number);
                let most = last.map_or_else(|| i64::from(u32::MAX), number);
                let short = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
                told.whose = Whose::Numbers(short(least), short(most));
            }
            Host => {
                let id = |bytes: Option<&[u8]>, other: u8| {
                    let mut id = [other; 16];
                    id.iter_mut().zip(bytes.unwrap_or(&[])).for_each(|(to, from)| *to = *from);
                    HostId(id)
                };
                told.whose = Whose::Hosts(id(first, 0), id(last, u8::MAX));
            }
            Other(_) => {}
        }
        if first.is_none() || first != last {
            break;
        }
        from = from.get(length..).unwrap_or(&[]);
        to = to.and_then(|to| to.get(length..));
    }
    told
}

impl Field {
    fn length(self) -> usize {
        match self {
            Self::Time(_) | Self::Short => 4,
            Self::Millis => 8,
            Self::Host => 16,
            Self::Other(length) => length,
        }
    }
}

fn number(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |number, byte| (number << 8) | i64::from(*byte))
}

fn times(first: Option<&[u8]>, last: Option<&[u8]>, read: impl Fn(&[u8]) -> i64, unit: i64) -> Option<(i64, i64)> {
    let (first, last) = (first.map(&read), last.map(|last| read(last).saturating_add(unit)));
    match (first, last) {
        (None, None) => None,
        (first, last) => Some((first.unwrap_or(0), last.unwrap_or(i64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::keys::{FindingKey, Key as _, OpenRowKey, PieceKey, RollupKey};

    fn told_of(column: Column, from: Vec<u8>, to: Vec<u8>) -> Vec<Told> {
        told(column, &Lost { from, to })
    }

    #[test]
    fn a_stretch_of_blocks_is_hours_and_where_it_is_one_piece_hosts() {
        let key = |hour, piece, host| PieceKey { hour, piece, host, slot: 6, sibling: 0 }.encode();
        let hour = |hour: i64| hour * HOUR_MS;
        let what = "series as they came";
        let one = told_of(Column::Series, key(500_000, 3, 7), key(500_000, 3, 19));
        assert_eq!(one, [Told { what, span_ms: Some((hour(500_000), hour(500_001))), whose: Whose::Numbers(7, 19) }]);
        let two = told_of(Column::Series, key(500_000, 3, 7), key(500_000, 4, 2));
        assert_eq!(two, [Told { what, span_ms: Some((hour(500_000), hour(500_001))), whose: Whose::Anyone }]);
        let many = told_of(Column::Series, key(500_000, 3, 7), key(500_002, 3, 7));
        assert_eq!(many, [Told { what, span_ms: Some((hour(500_000), hour(500_003))), whose: Whose::Anyone }]);
        let rollup = RollupKey { tier: 2, stretch: 20_000, piece: 0, host: 5, sibling: 0 }.encode();
        let over = told_of(Column::Series, key(500_000, 3, 7), rollup);
        let whats: Vec<_> = over.iter().map(|told| (told.what, told.span_ms)).collect();
        assert_eq!(whats[0], (what, Some((hour(500_000), i64::MAX))));
        assert_eq!(whats[1], ("series by five minutes", None));
        assert_eq!(whats[2], ("series by hours", Some((0, hour(24 * 20_001)))));
    }

    #[test]
    fn rows_and_findings_are_hosts() {
        let row = |host, at_ms| OpenRowKey { host, slot: 3_000_000, at_ms }.encode();
        let one = told_of(Column::Head, row(7, 5), row(7, 9));
        assert_eq!(one[0].whose, Whose::Numbers(7, 7));
        assert_eq!(one[0].span_ms, Some((5, 10)));
        let two = told_of(Column::Head, row(7, 5), row(9, 9));
        assert_eq!((two[0].whose, two[0].span_ms), (Whose::Numbers(7, 9), None));
        let finding = |host| FindingKey { host: HostId([host; 16]), finding: mainstay_core::id::FindingId(1) }.encode();
        let some = told_of(Column::Findings, finding(1), finding(4));
        assert_eq!(
            some,
            [Told { what: "findings", span_ms: None, whose: Whose::Hosts(HostId([1; 16]), HostId([4; 16])) }]
        );
        assert_eq!(told_of(Column::Meta, vec![1], vec![2])[0].what, "meta");
    }
}
