//! What stands under the keys, as protobuf, so that a newer collector reads what an older wrote.
//!
//! Field numbers are stable for ever. Wire messages are embedded where they are what is kept.

use std::collections::BTreeMap;

use mainstay_core::id::{Epoch, FindingId, HostId};
use mainstay_fleet::correlate::SymptomId;
use mainstay_fleet::dedup::{Marks, SpoolMarks};
use mainstay_proto::v1;

/// A mark that an operator or a tool has left: something was done to these hosts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EventRow {
    /// What was done, as changes have it; `by` says who.
    #[prost(message, optional, tag = "1")]
    pub change: Option<v1::Change>,
    /// What was asked for, in words: `role=web`, `web-1`, `all hosts`.
    #[prost(string, tag = "2")]
    pub scope: String,
    /// The hosts that this meant then; none where it meant all.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub hosts: Vec<Vec<u8>>,
    /// Whether it meant every host.
    #[prost(bool, tag = "4")]
    pub all: bool,
}

/// A host that was enrolled.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HostRow {
    /// Its short number in keys of series.
    #[prost(uint32, tag = "1")]
    pub short: u32,
    /// What it said of itself last.
    #[prost(message, optional, tag = "2")]
    pub facts: Option<v1::HostFacts>,
    /// When it was enrolled.
    #[prost(sint64, tag = "3")]
    pub enrolled_ms: i64,
    /// When its certificate stopped being taken; 0 is never.
    #[prost(sint64, tag = "4")]
    pub revoked_ms: i64,
    /// Evidence only.
    #[prost(bytes = "vec", tag = "5")]
    pub machine_id: Vec<u8>,
    /// The token that it came with.
    #[prost(string, tag = "6")]
    pub token: String,
}

/// A range of numbers, both ends included.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct RangeRow {
    /// The first.
    #[prost(uint64, tag = "1")]
    pub first: u64,
    /// The last.
    #[prost(uint64, tag = "2")]
    pub last: u64,
}

/// The marks of one spool.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SpoolRow {
    /// Which spool.
    #[prost(fixed64, tag = "1")]
    pub epoch: u64,
    /// Everything up to this is stored or known to be lost.
    #[prost(uint64, tag = "2")]
    pub upto: u64,
    /// Stored beyond the first hole.
    #[prost(message, repeated, tag = "3")]
    pub ahead: Vec<RangeRow>,
    /// Declared lost.
    #[prost(message, repeated, tag = "4")]
    pub lost: Vec<RangeRow>,
    /// Lost, in ranges that are no longer told apart.
    #[prost(uint64, tag = "5")]
    pub lost_elsewhere: u64,
    /// The order in which spools were heard of.
    #[prost(uint64, tag = "6")]
    pub heard: u64,
}

/// How far the stream of a host is stored, and what is known of it besides.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MarkRow {
    /// By spool.
    #[prost(message, repeated, tag = "1")]
    pub spools: Vec<SpoolRow>,
    /// The spool that is in use.
    #[prost(fixed64, tag = "2")]
    pub epoch: u64,
    /// The latest gaps that were declared, with their times.
    #[prost(message, repeated, tag = "3")]
    pub gaps: Vec<v1::Gap>,
    /// The ledger's end as it is stored and countersigned here.
    #[prost(message, optional, tag = "4")]
    pub ledger: Option<v1::LedgerHead>,
    /// Why the ledger is doubted.
    #[prost(string, repeated, tag = "5")]
    pub doubts: Vec<String>,
    /// When anything last came.
    #[prost(sint64, tag = "6")]
    pub last_seen_ms: i64,
    /// The host's clock minus ours.
    #[prost(sint64, tag = "7")]
    pub clock_offset_ms: i64,
    /// It said goodbye and should be back by then; 0 is no.
    #[prost(sint64, tag = "8")]
    pub back_by_ms: i64,
    /// What it said of its policy.
    #[prost(message, optional, tag = "9")]
    pub policy: Option<v1::PolicyStatus>,
    /// Items that were stored, over all spools.
    #[prost(uint64, tag = "10")]
    pub stored: u64,
    /// Items that were declared lost, over all spools.
    #[prost(uint64, tag = "11")]
    pub lost: u64,
}

impl MarkRow {
    /// The marks as the deduplication knows them.
    #[must_use]
    pub fn marks(&self) -> Marks {
        let ranges = |rows: &[RangeRow]| rows.iter().map(|r| (r.first, r.last)).collect::<BTreeMap<_, _>>();
        let spools = self.spools.iter().map(|s| {
            let marks = SpoolMarks {
                upto: s.upto,
                ahead: ranges(&s.ahead),
                lost: ranges(&s.lost),
                lost_elsewhere: s.lost_elsewhere,
                heard: s.heard,
            };
            (Epoch(s.epoch), marks)
        });
        Marks { spools: spools.collect() }
    }

    /// Takes the marks back from the deduplication.
    pub fn set_marks(&mut self, marks: &Marks) {
        let rows =
            |ranges: &BTreeMap<u64, u64>| ranges.iter().map(|(&first, &last)| RangeRow { first, last }).collect();
        self.spools = marks
            .spools
            .iter()
            .map(|(epoch, s)| SpoolRow {
                epoch: epoch.0,
                upto: s.upto,
                ahead: rows(&s.ahead),
                lost: rows(&s.lost),
                lost_elsewhere: s.lost_elsewhere,
                heard: s.heard,
            })
            .collect();
    }
}

/// An enrolment token. The secret itself is never stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TokenRow {
    /// SHA-256 of the secret.
    #[prost(bytes = "vec", tag = "1")]
    pub secret_hash: Vec<u8>,
    /// How often it could be used.
    #[prost(uint32, tag = "2")]
    pub uses: u32,
    /// How often it still can.
    #[prost(uint32, tag = "3")]
    pub uses_left: u32,
    /// Until when.
    #[prost(sint64, tag = "4")]
    pub expires_ms: i64,
    /// By whom it was made.
    #[prost(string, tag = "5")]
    pub created_by: String,
    /// Labels of the hosts that come with it, where they have none of their own.
    #[prost(message, repeated, tag = "6")]
    pub labels: Vec<v1::Label>,
}

/// An operator.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorRow {
    /// viewer, operator or admin.
    #[prost(string, tag = "1")]
    pub role: String,
    /// When the certificate was made.
    #[prost(sint64, tag = "2")]
    pub created_ms: i64,
    /// When it ends.
    #[prost(sint64, tag = "3")]
    pub expires_ms: i64,
    /// Who asked for it.
    #[prost(string, tag = "4")]
    pub created_by: String,
}

/// A policy as it was pushed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PolicyRow {
    /// The exact bytes with their signature.
    #[prost(message, optional, tag = "1")]
    pub signed: Option<v1::Signed>,
    /// SHA-256 over the exact bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub hash: Vec<u8>,
    /// When it was pushed.
    #[prost(sint64, tag = "3")]
    pub pushed_ms: i64,
    /// By whom.
    #[prost(string, tag = "4")]
    pub pushed_by: String,
    /// Until when agents accept it.
    #[prost(sint64, tag = "5")]
    pub not_after_ms: i64,
    /// Its generation.
    #[prost(uint64, tag = "6")]
    pub generation: u64,
}

/// That this store was set back to a backup.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RestoredRow {
    /// When it was restored.
    #[prost(sint64, tag = "1")]
    pub restored_ms: i64,
    /// When the backup was made.
    #[prost(sint64, tag = "2")]
    pub made_ms: i64,
    /// The backup's name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Some host may have been given a policy of a generation up to this.
    #[prost(uint64, tag = "4")]
    pub generation: u64,
}

/// What an operator ordered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CommandRow {
    /// Who.
    #[prost(string, tag = "1")]
    pub operator: String,
    /// In which role.
    #[prost(string, tag = "2")]
    pub role: String,
    /// What.
    #[prost(string, tag = "3")]
    pub command: String,
    /// What came of it.
    #[prost(string, tag = "4")]
    pub result: String,
}

/// An incident.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IncidentRow {
    /// When the first member opened.
    #[prost(sint64, tag = "1")]
    pub opened_ms: i64,
    /// When it last changed.
    #[prost(sint64, tag = "2")]
    pub changed_ms: i64,
    /// When it cleared; 0 while it is open.
    #[prost(sint64, tag = "3")]
    pub cleared_ms: i64,
    /// Its members.
    #[prost(message, repeated, tag = "4")]
    pub members: Vec<MemberRow>,
    /// The likely cause: which of the members.
    #[prost(message, optional, tag = "5")]
    pub cause: Option<MemberRow>,
    /// How sure that is.
    #[prost(double, tag = "6")]
    pub cause_confidence: f64,
    /// Why, in words.
    #[prost(string, repeated, tag = "7")]
    pub evidence: Vec<String>,
    /// The ties between members.
    #[prost(string, repeated, tag = "8")]
    pub ties: Vec<String>,
    /// Members beyond what is listed.
    #[prost(uint64, tag = "9")]
    pub more: u64,
    /// The incident that this one is part of now; 0 is none.
    #[prost(fixed64, tag = "10")]
    pub merged_into: u64,
}

/// What is to be told outside of an incident.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NoticeRow {
    /// How many findings it has.
    #[prost(uint64, tag = "1")]
    pub members: u64,
    /// The likely cause, in words.
    #[prost(string, tag = "2")]
    pub cause: String,
    /// Why.
    #[prost(string, repeated, tag = "3")]
    pub evidence: Vec<String>,
}

/// A member of an incident.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemberRow {
    /// Whose finding.
    #[prost(bytes = "vec", tag = "1")]
    pub host: Vec<u8>,
    /// Which.
    #[prost(fixed64, tag = "2")]
    pub finding: u64,
}

/// A member as it is stored, if it is one.
#[must_use]
pub fn symptom_id(row: &MemberRow) -> Option<SymptomId> {
    let host = row.host.as_slice().try_into().ok().map(HostId)?;
    Some(SymptomId { host, finding: FindingId(row.finding) })
}

/// The names of the series of a block, in their order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SchemaRow {
    /// The series.
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<v1::SeriesKey>,
    /// Of each, whether it is a gauge (four columns) or a counter (one).
    #[prost(bool, repeated, tag = "2")]
    pub gauge: Vec<bool>,
    /// The last day, counted since 1970, on which a summary with these names came; 0 is unknown.
    #[prost(uint32, tag = "3")]
    pub used_day: u32,
    /// The first two as a message of their own in a zstd frame, where they do not stand above.
    #[prost(bytes = "vec", tag = "4")]
    pub packed: Vec<u8>,
}

/// Who brings series over remote write.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SourceRow {
    /// What it is known by.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<v1::Label>,
    /// The time of its first row.
    #[prost(sint64, tag = "2")]
    pub first_ms: i64,
    /// No row is later than this.
    #[prost(sint64, tag = "3")]
    pub until_ms: i64,
}

/// How far something was handed on.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct SentRow {
    /// The time of the last row.
    #[prost(sint64, tag = "1")]
    pub upto_ms: i64,
}

/// How far the series of a host are thinned.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ThinnedRow {
    /// The first stretch that it may still have.
    #[prost(uint32, tag = "1")]
    pub upto: u32,
}

/// What is known of backups.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BackupRow {
    /// When the last one was made; 0 is never.
    #[prost(sint64, tag = "1")]
    pub made_ms: i64,
    /// Where it was put.
    #[prost(string, tag = "2")]
    pub path: String,
    /// When one was last read back; 0 is never.
    #[prost(sint64, tag = "3")]
    pub verified_ms: i64,
    /// Which.
    #[prost(string, tag = "4")]
    pub verified: String,
    /// What was wrong with it.
    #[prost(string, repeated, tag = "5")]
    pub problems: Vec<String>,
}

/// How far the store is read through for damage, and when it was last.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScrubRow {
    /// When it had been read through last; 0 is never.
    #[prost(sint64, tag = "1")]
    pub ended_ms: i64,
    /// How long that took.
    #[prost(uint64, tag = "2")]
    pub took_ms: u64,
    /// What was read.
    #[prost(uint64, tag = "3")]
    pub ended_bytes: u64,
    /// Tables that were damaged then.
    #[prost(uint32, tag = "4")]
    pub damaged: u32,
    /// When it was begun, where it goes on; 0 where it does not.
    #[prost(sint64, tag = "5")]
    pub began_ms: i64,
    /// Where it goes on: the column's name, and the first key that was not read.
    #[prost(string, tag = "6")]
    pub column: String,
    /// The key.
    #[prost(bytes = "vec", tag = "7")]
    pub at: Vec<u8>,
    /// Bytes that were read so far.
    #[prost(uint64, tag = "8")]
    pub bytes: u64,
    /// Entries that were read so far.
    #[prost(uint64, tag = "9")]
    pub entries: u64,
}

/// When a finding opened, if it says.
#[must_use]
pub fn opened_ms(finding: &v1::Finding) -> Option<i64> {
    finding.opened.as_ref().map(|at| at.wall_ms)
}

/// When a finding ended; `None` while it is open, or nothing can be read any more that would show it.
#[must_use]
pub fn ended_ms(finding: &v1::Finding) -> Option<i64> {
    (finding.state == "cleared").then(|| finding.changed.as_ref().map_or(0, |at| at.wall_ms))
}

impl IncidentRow {
    /// When it ended; `None` while it is open.
    #[must_use]
    pub fn ended_ms(&self) -> Option<i64> {
        (self.cleared_ms != 0).then_some(self.cleared_ms)
    }
}
