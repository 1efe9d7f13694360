use std::sync::Arc;

use mainstay_core::change::Change;
use mainstay_core::decision::Decision;
use mainstay_core::finding::Finding;
use mainstay_core::host_query::{HostQuery, HostReply};
use mainstay_core::ledger::Head;
use mainstay_core::plan::Plan;
use mainstay_core::record::Record;
use mainstay_core::recording::FindingRecording;
use mainstay_core::sample::HostFacts;
use mainstay_core::scene::Scene;
use mainstay_core::series::SeriesKey;
use mainstay_core::subject::Subject;
use proptest::prelude::*;
use prost::Message;

use super::generate;
use super::*;
use crate::v1;

/// Through the bytes of the wire and back.
fn over_the_wire<W: Message + Default>(wire: &W) -> W {
    W::decode(&*wire.encode_to_vec()).unwrap()
}

proptest! {
    #[test]
    fn records_come_back_as_they_went(record in generate::record()) {
        prop_assert_eq!(decode_record(&encode_record(&record)), Ok(record));
    }

    #[test]
    fn changes_come_back_as_they_went(change in generate::change()) {
        prop_assert_eq!(Change::try_from(over_the_wire(&v1::Change::from(&change))), Ok(change));
    }

    #[test]
    fn findings_come_back_as_they_went(finding in generate::finding()) {
        prop_assert_eq!(Finding::try_from(over_the_wire(&v1::Finding::from(&finding))), Ok(finding));
    }

    #[test]
    fn decisions_come_back_as_they_went(decision in generate::decision()) {
        prop_assert_eq!(Decision::try_from(over_the_wire(&v1::Decision::from(&decision))), Ok(decision));
    }

    #[test]
    fn plans_come_back_as_they_went(plan in generate::plan()) {
        prop_assert_eq!(Plan::try_from(over_the_wire(&v1::Plan::from(&plan))), Ok(plan));
    }

    #[test]
    fn subjects_come_back_as_they_went(subject in generate::subject()) {
        prop_assert_eq!(Subject::try_from(over_the_wire(&v1::Subject::from(&subject))), Ok(subject));
    }

    #[test]
    fn facts_come_back_as_they_went(facts in generate::facts()) {
        prop_assert_eq!(HostFacts::try_from(over_the_wire(&v1::HostFacts::from(&facts))), Ok(facts));
    }

    #[test]
    fn series_come_back_as_they_went(key in generate::series_key()) {
        prop_assert_eq!(SeriesKey::try_from(over_the_wire(&v1::SeriesKey::from(&key))), Ok(key));
    }

    #[test]
    fn heads_come_back_as_they_went(index in 1u64.., hash in any::<[u8; 32]>()) {
        let head = Head { index, hash };
        prop_assert_eq!(v1::LedgerHead::from(head).try_into(), Ok(Some(head)));
    }

    #[test]
    fn summaries_come_back_as_they_went(summaries in prop::collection::vec(generate::summary(), 1..4)) {
        let (mut sender, mut reader) = (Dictionary::default(), Definitions::default());
        for summary in summaries {
            let mut define = Vec::new();
            let wire = sender.summary(&summary, &mut define);
            for def in define {
                reader.define(over_the_wire(&def), Arc::new).unwrap();
            }
            prop_assert_eq!(summary_from_wire(over_the_wire(&wire), &reader), Ok(summary));
        }
    }

    #[test]
    fn questions_to_hosts_come_back_as_they_went(query in generate::host_query()) {
        let wire = over_the_wire(&v1::HostQuery { id: 1, what: Some((&query).into()) });
        prop_assert_eq!(HostQuery::try_from(wire.what.unwrap()), Ok(query));
    }

    #[test]
    fn answers_of_hosts_come_back_as_they_went(reply in generate::host_reply()) {
        let wire = over_the_wire(&v1::HostReply { id: 1, what: Some((&reply).into()) });
        prop_assert_eq!(HostReply::try_from(wire.what.unwrap()), Ok(reply));
    }

    #[test]
    fn the_seconds_around_findings_come_back_as_they_went(kept in generate::finding_recording()) {
        let wire = over_the_wire(&v1::FindingRecording::from(&kept));
        prop_assert_eq!(FindingRecording::try_from(wire), Ok(kept));
    }

    #[test]
    fn scenes_come_back_as_they_went(scene in generate::scene()) {
        prop_assert_eq!(Scene::try_from(over_the_wire(&v1::Scene::from(&scene))), Ok(scene));
    }

    #[test]
    fn reading_any_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_record(&bytes);
    }

    #[test]
    fn a_record_with_a_changed_byte_never_panics(
        record in generate::record(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = encode_record(&record);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode_record(&bytes);
    }
}

fn decision() -> v1::Decision {
    v1::Decision {
        at: Some(v1::Now::default()),
        opened: Some(v1::Now::default()),
        kind: "service.failed".to_owned(),
        subject: Some((&Subject::Host).into()),
        policy: Some(v1::PolicyRef { generation: 1, hash: vec![0; 32] }),
        mode: "auto".to_owned(),
        choice: Some(v1::decision::Choice::Hold(v1::Hold { reason: "cooldown".to_owned(), would: None })),
        ..v1::Decision::default()
    }
}

/// The field that a record with this decision fails on.
fn failing(change: impl FnOnce(&mut v1::Decision)) -> String {
    let mut decision = decision();
    change(&mut decision);
    let body = Some(v1::record::Body::Decided(decision));
    let record = v1::Record { at: Some(v1::Now::default()), body };
    Record::try_from(record).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_is_named_with_its_field() {
    assert!(Decision::try_from(decision()).is_ok());
    assert_eq!(failing(|d| d.at = None), "field decided.at is missing or of an unknown kind");
    assert_eq!(failing(|d| d.subject = None), "field decided.subject is missing or of an unknown kind");
    assert_eq!(
        failing(|d| d.subject = Some(v1::Subject { of: None })),
        "field decided.subject.of is missing or of an unknown kind"
    );
    assert_eq!(failing(|d| d.choice = None), "field decided.choice is missing or of an unknown kind");
    assert_eq!(failing(|d| d.kind = "x.y".to_owned()), "field decided.kind has the unknown word \"x.y\"");
    assert_eq!(failing(|d| d.mode = String::new()), "field decided.mode has the unknown word \"\"");
    assert_eq!(
        failing(|d| d.policy.as_mut().unwrap().hash.clear()),
        "field decided.policy.hash has a length of 0 (expected 32)"
    );
    assert_eq!(failing(|d| d.confidence = 1.5), "field decided.confidence is invalid: 1.5 is not between 0 and 1");
    let verdict = v1::Verdict { guard: "luck".to_owned(), ..v1::Verdict::default() };
    assert_eq!(failing(|d| d.verdicts.push(verdict)), "field decided.verdicts.guard has the unknown word \"luck\"");
    let hold = v1::Hold { reason: "mood".to_owned(), would: None };
    let hold = Some(v1::decision::Choice::Hold(hold));
    assert_eq!(failing(|d| d.choice = hold), "field decided.hold.reason has the unknown word \"mood\"");
}

#[test]
fn an_empty_message_is_no_record() {
    assert_eq!(decode_record(&[]).unwrap_err().field(), "body");
}

#[test]
fn a_summary_with_a_series_that_was_not_defined_is_refused() {
    let summary = v1::Summary { counter_ids: vec![7], counters: vec![1.0], ..v1::Summary::default() };
    let error = summary_from_wire(summary, &Definitions::default()).unwrap_err();
    assert_eq!(error.to_string(), "field counter_ids has the unknown word \"7\"");
    let summary = v1::Summary { gauge_ids: vec![7], gauges: vec![1.0], ..v1::Summary::default() };
    let error = summary_from_wire(summary, &Definitions::default()).unwrap_err();
    assert_eq!(error.to_string(), "field gauges has a length of 1 (expected 4)");
}
