//! Items of the spool as a push: series by their numbers in this session, records with their bytes
//! from the ledger, all of it under one compression.
//!
//! An item that cannot be read any more is sent as a gap of itself, and one that the collector did not say it
//! takes as its number alone, so that its number is accounted for and the stream goes on.

use std::collections::BTreeMap;

use mainstay_core::id::{Epoch, Seq};
use mainstay_core::series::Summary;
use mainstay_proto::convert::SummaryWriter;
use mainstay_proto::v1::{self, item::Of};
use prost::Message as _;

use crate::ledger::{Reader, StoredRecord};
use crate::packing;
use crate::spool::item::{Body, Stored, read_packed, read_summary};

/// Most bytes of items, as the spool keeps them, in one push.
pub(super) const BYTES_MAX: usize = 128 * 1024;
/// Fewest, however often a push was too large.
pub(super) const BYTES_MIN: usize = 1024;

const ZSTD_LEVEL: i32 = 3;

/// A push with what is remembered of it until it is acknowledged.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) push: v1::Push,
    /// When everything up to this is durable, it has arrived.
    pub(super) upto: u64,
    /// The number of its last item.
    pub(super) last_seq: Option<u64>,
    pub(super) bytes: usize,
    pub(super) items: usize,
}

/// What the collector said that it takes, besides what every one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Takes {
    /// The seconds around findings.
    pub(super) recordings: bool,
    /// What was seen before actions.
    pub(super) scenes: bool,
    /// Changes of the host.
    pub(super) changes: bool,
}

impl Takes {
    /// As Welcome says it.
    pub(super) fn of(capabilities: &[String]) -> Self {
        let says = |word: &str| capabilities.iter().any(|one| one == word);
        Self { recordings: says("recordings"), scenes: says("scenes"), changes: says("changes") }
    }
}

/// Packs items, in their order, after the one of the number that was sent last in the session. `latest` is the summary that
/// was put in last, with its number.
pub(super) fn pack(
    items: Vec<Stored>,
    last_seq: Option<u64>,
    epoch: Epoch,
    takes: Takes,
    summaries: &mut SummaryWriter,
    latest: Option<(Seq, Summary)>,
    ledger: &Reader,
) -> std::io::Result<Packed> {
    let (records, mut latest) = (records_of(&items, ledger), latest);
    summaries.begin_message();
    let mut inner = v1::Push::default();
    let mut upto = 0;
    for item in items {
        let seq = item.seq.0;
        let at_hand = latest.take_if(|(latest, _)| *latest == item.seq).map(|(_, summary)| summary);
        let of = match wire(&item, at_hand, takes, summaries, &mut inner.define, &records) {
            Ok(of) => of,
            Err(why) => {
                tracing::error!(seq, why, "an item of the spool cannot be sent and becomes a gap");
                Some(lost(&item, why))
            }
        };
        upto = upto.max(if let Some(Of::Gap(gap)) = &of { gap.seq_to } else { seq });
        inner.items.push(v1::Item { seq, of });
    }
    let (items, last_seq_now) = (inner.items.len(), inner.items.last().map(|item| item.seq));
    let push = match summaries.brief(inner, last_seq) {
        Ok(push) => push,
        Err(inner) => {
            let zstd = packing::pack(&inner.encode_to_vec(), ZSTD_LEVEL)?;
            v1::Push { epoch: epoch.0, zstd, ..v1::Push::default() }
        }
    };
    Ok(Packed { bytes: push.encoded_len(), push, upto, last_seq: last_seq_now.or(last_seq), items })
}

/// An item for the wire; `None` if the collector does not take it. A summary that is at hand need not be unpacked.
fn wire(
    item: &Stored,
    at_hand: Option<Summary>,
    takes: Takes,
    summaries: &mut SummaryWriter,
    define: &mut Vec<v1::SeriesDef>,
    records: &BTreeMap<u64, StoredRecord>,
) -> Result<Option<Of>, String> {
    let of = match &item.body {
        Body::Summary(bytes) => {
            let summary =
                at_hand.map_or_else(|| read_summary(item.seq, bytes), Ok).map_err(|error| error.to_string())?;
            Ok(Of::Summary(summaries.write(&summary, define)))
        }
        Body::Finding(bytes) => v1::Finding::decode(&**bytes).map(Of::Finding).map_err(|error| error.to_string()),
        Body::Gap(bytes) => v1::Gap::decode(&**bytes).map(Of::Gap).map_err(|error| error.to_string()),
        Body::Recording(_) if !takes.recordings => return Ok(None),
        Body::Recording(bytes) => read_packed(item.seq, bytes).map(Of::Recording).map_err(|error| error.to_string()),
        Body::Scene(_) if !takes.scenes => return Ok(None),
        Body::Scene(bytes) => read_packed(item.seq, bytes).map(Of::Scene).map_err(|error| error.to_string()),
        Body::Change(_) if !takes.changes => return Ok(None),
        Body::Change(bytes) => v1::Change::decode(&**bytes).map(Of::Change).map_err(|error| error.to_string()),
        Body::Record(index) => {
            let stored = records.get(index).ok_or_else(|| format!("record {index} is not in the ledger"))?;
            let StoredRecord { index, hash, record } = stored;
            Ok(Of::Ledger(v1::LedgerEntry { index: *index, record: record.clone(), hash: hash.to_vec() }))
        }
    };
    of.map(Some)
}

fn lost(item: &Stored, why: String) -> Of {
    let (seq, wall_ms) = (item.seq.0, item.wall_ms);
    Of::Gap(v1::Gap { seq_from: seq, seq_to: seq, wall_from_ms: wall_ms, wall_to_ms: wall_ms, reason: why })
}

/// The records that items refer to, read range by range.
fn records_of(items: &[Stored], ledger: &Reader) -> BTreeMap<u64, StoredRecord> {
    let mut wanted: Vec<u64> =
        items.iter().filter_map(|item| if let Body::Record(index) = item.body { Some(index) } else { None }).collect();
    wanted.sort_unstable();
    let mut records = BTreeMap::new();
    for range in wanted.chunk_by(|a, b| *b <= a + 1) {
        match ledger.records(range[0], range[range.len() - 1], usize::MAX) {
            Ok(found) => records.extend(found.into_iter().map(|record| (record.index, record))),
            Err(error) => tracing::error!(%error, "cannot read records to send"),
        }
    }
    records
}
