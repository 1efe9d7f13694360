//! The wire: what an agent says in one session, as the collector reads it, and what a collector says.
//!
//! In: frames, each a length (u16, big-endian) and a message. The first bit of the length says whose it is. Nothing may
//! panic, and what converts to the domain converts back to the same.

use std::fmt::Debug;
use std::sync::Arc;

use mainstay_core::change::Change;
use mainstay_core::finding::Finding;
use mainstay_core::host_query::{HostQuery, HostReply};
use mainstay_core::ledger::Head;
use mainstay_core::recording::FindingRecording;
use mainstay_core::sample::HostFacts;
use mainstay_core::scene::Scene;
use mainstay_core::series::SeriesKey;
use mainstay_core::subject::Subject;
use mainstay_proto::convert::{ConvertError, Form, SummaryReader, SummaryWriter, decode_record, encode_record};
use mainstay_proto::packed::unpack;
use mainstay_proto::v1;
use prost::Message as _;

/// Says in the length of a frame that a collector sent it.
const FROM_COLLECTOR: u16 = 0x8000;
/// Series that a session defines here at most: the collector has a bound as well.
const SERIES_MAX: usize = 4_096;

/// What came of the bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Messages that were messages.
    pub messages: usize,
    /// What converted to the domain.
    pub converted: usize,
}

/// One frame for [`run`].
#[must_use]
pub fn frame(message: &[u8], is_collectors: bool) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(FROM_COLLECTOR - 1) & !FROM_COLLECTOR;
    let length = if is_collectors { length | FROM_COLLECTOR } else { length };
    [&length.to_be_bytes(), message].concat()
}

/// Reads a session.
pub fn run(mut bytes: &[u8]) -> Read {
    let mut session = Session::default();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = u16::from_be_bytes(*length);
        let (message, rest) = rest.split_at(usize::from(length & !FROM_COLLECTOR).min(rest.len()));
        bytes = rest;
        if length & FROM_COLLECTOR == 0 {
            if let Ok(v1::AgentMessage { of: Some(of) }) = v1::AgentMessage::decode(message) {
                session.read.messages += 1;
                session.agent(of);
            }
        } else if let Ok(v1::CollectorMessage { of: Some(of) }) = v1::CollectorMessage::decode(message) {
            session.read.messages += 1;
            session.collector(of);
        }
    }
    session.read
}

#[derive(Default)]
struct Session {
    reader: SummaryReader,
    has_ended: bool,
    read: Read,
}

impl Session {
    fn agent(&mut self, of: v1::agent_message::Of) {
        match of {
            v1::agent_message::Of::Hello(hello) => {
                hello.facts.into_iter().for_each(|facts| self.back::<_, HostFacts>(facts));
                if let Some(head) = hello.ledger {
                    self.read.converted += usize::from(Option::<Head>::try_from(head).is_ok());
                }
            }
            v1::agent_message::Of::Push(push) => self.packed(push),
            v1::agent_message::Of::Lease(lease) => {
                lease.subject.into_iter().for_each(|subject| self.back::<_, Subject>(subject));
            }
            v1::agent_message::Of::Reply(v1::HostReply { what: Some(what), .. }) => self.back::<_, HostReply>(what),
            _ => {}
        }
    }

    fn collector(&mut self, of: v1::collector_message::Of) {
        if let v1::collector_message::Of::Query(v1::HostQuery { what: Some(what), .. }) = of {
            self.back::<_, HostQuery>(what);
        }
    }

    /// Converts to the domain; then there and back again has to be the same.
    fn back<W, D>(&mut self, wire: W)
    where
        D: TryFrom<W, Error = ConvertError> + Debug,
        W: for<'d> From<&'d D>,
    {
        let Ok(domain) = D::try_from(wire) else { return };
        self.read.converted += 1;
        // By their text, because NaN is no NaN's equal.
        let text = format!("{domain:?}");
        match D::try_from(W::from(&domain)) {
            Ok(again) => assert_eq!(format!("{again:?}"), text, "comes back as something else"),
            Err(error) => panic!("does not come back: {error}: {text}"),
        }
    }

    /// As it is; and what is no frame of zstd as what one unpacks to, for a fuzzer does not find frames.
    fn packed(&mut self, push: v1::Push) {
        match unpack(push.clone()) {
            Ok(push) => self.push(push),
            Err(_) => {
                let frame = zstd::bulk::compress(&push.zstd, 1).expect("zstd");
                if let Ok(push) = unpack(v1::Push { epoch: push.epoch, zstd: frame, ..v1::Push::default() }) {
                    self.push(push);
                }
            }
        }
    }

    fn push(&mut self, push: v1::Push) {
        assert!(push.zstd.is_empty(), "what is unpacked is not packed");
        if !push.next.is_empty() {
            self.summary(v1::Summary { columns: push.next, ..v1::Summary::default() });
        }
        for def in push.define {
            let known = self.reader.definitions.len();
            if known < SERIES_MAX {
                let defined = self.reader.definitions.define(def, |key| Arc::<SeriesKey>::new(key));
                self.read.converted += usize::from(defined.is_ok());
            }
        }
        for item in push.items {
            match item.of {
                Some(v1::item::Of::Summary(summary)) => self.summary(summary),
                Some(v1::item::Of::Finding(finding)) => self.back::<_, Finding>(finding),
                Some(v1::item::Of::Ledger(entry)) => self.record(&entry.record),
                Some(v1::item::Of::Recording(recording)) => self.back::<_, FindingRecording>(recording),
                Some(v1::item::Of::Scene(scene)) => self.back::<_, Scene>(scene),
                Some(v1::item::Of::Change(change)) => self.back::<_, Change>(change),
                Some(v1::item::Of::Gap(_)) | None => {}
            }
        }
    }

    fn record(&mut self, bytes: &[u8]) {
        let Ok(record) = decode_record(bytes) else { return };
        self.read.converted += 1;
        let again = decode_record(&encode_record(&record)).expect("a record comes back");
        assert_eq!(format!("{again:?}"), format!("{record:?}"), "a record comes back as another");
    }

    fn summary(&mut self, summary: v1::Summary) {
        if self.has_ended {
            return;
        }
        let Ok(summary) = self.reader.read(summary) else {
            self.has_ended = true;
            return;
        };
        self.read.converted += 1;
        // No honest agent names a series twice, and the collector takes the first of them.
        if !summary.points.is_sorted_by(|a, b| a.0 < b.0) {
            return;
        }
        for form in [Form::Lists, Form::Columns, Form::Coded] {
            let (mut reader, mut define) = (SummaryReader::default(), Vec::new());
            let wire = SummaryWriter::new(form).write(&summary, &mut define);
            for def in define {
                reader.definitions.define(def, Arc::new).expect("what is written is defined");
            }
            let again = reader.read(wire).expect("a summary comes back");
            assert_eq!(again.points.len(), summary.points.len(), "{form:?}");
        }
    }
}
