//! From stored rows to requests: what of some hosts is to be sent, packed.

use std::collections::BTreeSet;

use hyper::body::Bytes;
use mainstay_promql::{EvalError, Labels, Matcher, Wanted};
use prost::Message as _;

use crate::hub::Hub;
use crate::query::fleet::Fleet;
use crate::query::{Stop, TIMEOUT};
use crate::remote::message::{Label, Sample, TimeSeries, WriteRequest};

/// A request is closed when it has so many samples, or labels of so many bytes.
const SAMPLES_MAX: usize = 5_000;
const LABEL_BYTES_MAX: usize = 512 * 1024;
/// No host is begun after so many samples: what is read waits in memory until it is sent.
const READ_MAX: usize = 50_000;

/// What is asked for.
pub(super) struct Ask<'a> {
    pub(super) matchers: &'a [Matcher],
    /// Both included.
    pub(super) span: (i64, i64),
    pub(super) hosts: &'a BTreeSet<u32>,
    /// Whether the row of a host at a moment is to be sent.
    pub(super) wants: &'a dyn Fn(u32, i64) -> bool,
}

/// A host whose rows are all in this request and those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) host: u32,
    /// Whether any of its series can be meant.
    pub(super) is_meant: bool,
    /// Its last row in the span.
    pub(super) last_ms: Option<i64>,
}

/// One request.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// Empty without samples.
    pub(super) body: Bytes,
    pub(super) samples: u64,
    pub(super) done: Vec<Done>,
}

/// Reads and packs. Hosts that are not done in the end are still to be read.
///
/// # Errors
/// If the store cannot be read.
pub(super) fn read(hub: &Hub, ask: &Ask<'_>) -> Result<Vec<Packed>, EvalError> {
    let stop = Stop::after(TIMEOUT);
    let fleet = Fleet::of(hub, &stop);
    let wanted = Wanted::all_of(ask.matchers, ask.span);
    let mut packer = Packer::default();
    let packing = std::cell::RefCell::new(&mut packer);
    fleet.of_hosts(
        &wanted,
        ask.hosts,
        &mut |host, labels, at, values| {
            let points = at.iter().zip(values).filter(|(at, _)| (ask.wants)(host, **at));
            let samples = points.map(|(at, value)| Sample { value: *value, timestamp: *at }).collect();
            packing.borrow_mut().add(&labels, samples)
        },
        &mut |host, is_meant, last_ms| {
            let mut packer = packing.borrow_mut();
            packer.done.push(Done { host, is_meant, last_ms });
            packer.total < READ_MAX
        },
    )?;
    packer.close()?;
    Ok(packer.packed)
}

#[derive(Default)]
struct Packer {
    series: Vec<TimeSeries>,
    samples: usize,
    label_bytes: usize,
    done: Vec<Done>,
    packed: Vec<Packed>,
    total: usize,
}

impl Packer {
    fn add(&mut self, labels: &Labels, samples: Vec<Sample>) -> Result<(), EvalError> {
        if samples.is_empty() {
            return Ok(());
        }
        self.samples += samples.len();
        self.total += samples.len();
        self.label_bytes += labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let label = |(name, value): (&str, &str)| Label { name: name.to_owned(), value: value.to_owned() };
        self.series.push(TimeSeries { labels: labels.iter().map(label).collect(), samples, histograms: Vec::new() });
        if self.samples >= SAMPLES_MAX || self.label_bytes >= LABEL_BYTES_MAX { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), EvalError> {
        let timeseries = std::mem::take(&mut self.series);
        let samples = std::mem::take(&mut self.samples) as u64;
        self.label_bytes = 0;
        let body = if timeseries.is_empty() {
            Bytes::new()
        } else {
            let plain = WriteRequest { timeseries }.encode_to_vec();
            let packed = snap::raw::Encoder::new().compress_vec(&plain);
            packed.map_err(|error| EvalError::Execution(format!("a request cannot be packed: {error}")))?.into()
        };
        self.packed.push(Packed { body, samples, done: std::mem::take(&mut self.done) });
        Ok(())
    }
}
