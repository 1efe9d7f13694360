//! Items as they stand in a segment: number, wall clock, kind, and bytes that need nothing else to
//! be read. Compression against earlier messages happens only when sending.

use std::sync::Arc;

use mainstay_core::change::Change;
use mainstay_core::finding::Finding;
use mainstay_core::id::Seq;
use mainstay_core::recording::FindingRecording;
use mainstay_core::scene::Scene;
use mainstay_core::series::{SeriesKey, Summary};
use mainstay_proto::convert::{ConvertError, Definitions, definitions, summary_by_place, summary_from_wire};
use mainstay_proto::{MESSAGE_BYTES_MAX, v1};
use prost::Message as _;

use crate::packing;

/// Bytes before the body: number, wall clock, kind.
const HEADER_BYTES: usize = 8 + 8 + 1;

/// zstd's level for what is kept here: what comes higher costs more time and memory than it saves.
const ZSTD_LEVEL: i32 = 1;

/// What an item is.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A summary: zstd over a `Push` that defines its series and holds the one item.
    Summary(Vec<u8>),
    /// A finding as it opened, changed or closed: an encoded `Finding`.
    Finding(Vec<u8>),
    /// The number of a record in the ledger, where its bytes are.
    Record(u64),
    /// Items that will never come: an encoded `Gap`.
    Gap(Vec<u8>),
    /// The seconds around a finding: zstd over an encoded `FindingRecording`.
    Recording(Vec<u8>),
    /// What was seen before an action: zstd over an encoded `Scene`.
    Scene(Vec<u8>),
    /// Something that was changed on the host: an encoded `Change`.
    Change(Vec<u8>),
}

/// An item with its number.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its number.
    pub seq: Seq,
    /// When it was put in, by the wall clock.
    pub wall_ms: i64,
    /// What it is.
    pub body: Body,
}

impl Stored {
    /// Whether it stands for a record, whose bytes are in the ledger.
    pub(crate) fn is_record(&self) -> bool {
        matches!(self.body, Body::Record(_))
    }

    /// As it stands in a frame.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, body): (u8, &[u8]) = match &self.body {
            Body::Summary(bytes) => (1, bytes),
            Body::Finding(bytes) => (2, bytes),
            Body::Record(index) => (3, &index.to_le_bytes()),
            Body::Gap(bytes) => (4, bytes),
            Body::Recording(bytes) => (5, bytes),
            Body::Scene(bytes) => (6, bytes),
            Body::Change(bytes) => (7, bytes),
        };
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(&self.seq.0.to_le_bytes());
        out.extend_from_slice(&self.wall_ms.to_le_bytes());
        out.push(kind);
        out.extend_from_slice(body);
        out
    }

    /// Reads the payload of a frame; `None` if it is of a kind that this build does not know.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let (seq, rest) = payload.split_first_chunk::<8>()?;
        let (wall_ms, rest) = rest.split_first_chunk::<8>()?;
        let (kind, body) = rest.split_first()?;
        let body = match kind {
            1 => Body::Summary(body.to_vec()),
            2 => Body::Finding(body.to_vec()),
            3 => Body::Record(u64::from_le_bytes(body.try_into().ok()?)),
            4 => Body::Gap(body.to_vec()),
            5 => Body::Recording(body.to_vec()),
            6 => Body::Scene(body.to_vec()),
            7 => Body::Change(body.to_vec()),
            _ => return None,
        };
        Some(Self { seq: Seq(u64::from_le_bytes(*seq)), wall_ms: i64::from_le_bytes(*wall_ms), body })
    }

    /// Roughly how many bytes of a message it will be. A record is longer than its number.
    #[must_use]
    pub fn bytes(&self) -> usize {
        HEADER_BYTES
            + match &self.body {
                Body::Summary(bytes)
                | Body::Finding(bytes)
                | Body::Gap(bytes)
                | Body::Change(bytes)
                | Body::Recording(bytes)
                | Body::Scene(bytes) => bytes.len(),
                Body::Record(_) => 1024,
            }
    }
}

/// Makes summaries as the spool keeps them. The series of one are mostly those of the one before, so that their definitions
/// are kept as they were written.
#[derive(Debug, Default)]
pub(super) struct SummaryBodies {
    keys: Vec<Arc<SeriesKey>>,
    /// An encoded `Push` of nothing but the definitions of these keys.
    defined: Vec<u8>,
}

impl SummaryBodies {
    /// A summary as the spool keeps it.
    pub(super) fn body(&mut self, summary: &Summary) -> std::io::Result<Body> {
        let (keys, points) = (&self.keys, &summary.points);
        let is_same = keys.len() == points.len() && keys.iter().zip(points).all(|(a, (b, _))| Arc::ptr_eq(a, b));
        if !is_same {
            self.keys = points.iter().map(|(key, _)| Arc::clone(key)).collect();
            self.defined = v1::Push { define: definitions(&self.keys), ..v1::Push::default() }.encode_to_vec();
        }
        let item = v1::Item { seq: 0, of: Some(v1::item::Of::Summary(summary_by_place(summary))) };
        let rest = v1::Push { items: vec![item], ..v1::Push::default() };
        // Of a message in two parts the second adds to the first.
        let mut bytes = Vec::with_capacity(self.defined.len() + rest.encoded_len());
        bytes.extend_from_slice(&self.defined);
        rest.encode(&mut bytes).map_err(std::io::Error::other)?;
        packing::pack(&bytes, ZSTD_LEVEL).map(Body::Summary)
    }
}

/// A finding as the spool keeps it.
pub(super) fn finding_body(finding: &Finding) -> Body {
    Body::Finding(v1::Finding::from(finding).encode_to_vec())
}

/// The seconds around a finding as the spool keeps them.
pub(super) fn recording_body(recording: &FindingRecording) -> std::io::Result<Body> {
    packing::pack(&v1::FindingRecording::from(recording).encode_to_vec(), ZSTD_LEVEL).map(Body::Recording)
}

/// What was seen before an action as the spool keeps it.
pub(super) fn scene_body(scene: &Scene) -> std::io::Result<Body> {
    packing::pack(&v1::Scene::from(scene).encode_to_vec(), ZSTD_LEVEL).map(Body::Scene)
}

/// A change as the spool keeps it.
pub(super) fn change_body(change: &Change) -> Body {
    Body::Change(v1::Change::from(change).encode_to_vec())
}

/// Why an item of the spool cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum BadItem {
    /// Its bytes do not unpack.
    #[error("item {seq} does not unpack: {why}", seq = seq.0)]
    Packed {
        /// Its number.
        seq: Seq,
        /// Why.
        why: String,
    },
    /// It is not what it should be.
    #[error("item {seq} cannot be read", seq = seq.0)]
    Convert {
        /// Its number.
        seq: Seq,
        /// Why.
        #[source]
        source: ConvertError,
    },
}

/// Reads a message of the wire back. `bytes` are those of a [`Body::Recording`] or a [`Body::Scene`].
///
/// # Errors
/// If they are no such.
pub fn read_packed<M: prost::Message + Default>(seq: Seq, bytes: &[u8]) -> Result<M, BadItem> {
    let packed = |why: &dyn std::fmt::Display| BadItem::Packed { seq, why: why.to_string() };
    let bytes = packing::unpack(bytes, MESSAGE_BYTES_MAX).map_err(|error| packed(&error))?;
    M::decode(&*bytes).map_err(|error| packed(&error))
}

/// Reads a summary back. `bytes` are those of a [`Body::Summary`].
///
/// # Errors
/// If they are no such.
pub fn read_summary(seq: Seq, bytes: &[u8]) -> Result<Summary, BadItem> {
    let packed = |why: &dyn std::fmt::Display| BadItem::Packed { seq, why: why.to_string() };
    let bytes = packing::unpack(bytes, MESSAGE_BYTES_MAX).map_err(|error| packed(&error))?;
    let push = v1::Push::decode(&*bytes).map_err(|error| packed(&error))?;
    let mut definitions = Definitions::default();
    for def in push.define {
        definitions.define(def, Arc::new).map_err(|source| BadItem::Convert { seq, source })?;
    }
    match push.items.into_iter().next().and_then(|item| item.of) {
        Some(v1::item::Of::Summary(summary)) => {
            summary_from_wire(summary, &definitions).map_err(|source| BadItem::Convert { seq, source })
        }
        _ => Err(packed(&"no summary in it")),
    }
}
