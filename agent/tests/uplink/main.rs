//! The uplink against a collector on loopback: what is sent arrives once, whatever is lost on the
//! way, and nothing but the right collector is believed.

mod enrolment;
mod fake;
mod host;

use std::time::{Duration, Instant};

use mainstay_agent::identity::Identity;
use mainstay_agent::uplink::{Inbound, OrderKind, OutMessage, PolicyStanding};
use mainstay_core::finding::FindingKind;
use mainstay_core::host_query::{HostQuery, HostReply, ModelsReply};
use mainstay_core::id::{DecisionId, HostId};
use mainstay_core::ledger::Head;
use mainstay_core::policy::Glob;
use mainstay_core::recording::FindingRecording;
use mainstay_core::series::Point;
use mainstay_core::subject::Subject;
use mainstay_proto::v1::agent_message::Of as Said;
use mainstay_proto::v1::collector_message::Of as Say;
use mainstay_proto::v1::{self, item::Of};

use fake::Fake;
use host::{Host, told};

fn durable(wanted: u64) -> impl Fn(Inbound) -> Option<Option<Head>> {
    move |inbound| match inbound {
        Inbound::Acked { durable, ledger } if durable.0 == wanted => Some(ledger),
        _ => None,
    }
}

#[tokio::test]
async fn what_is_put_in_the_spool_arrives_once_and_is_acknowledged() {
    let fake = Fake::start().await;
    let mut host = Host::enrolled(&fake).await;
    host.summary(1.5);
    host.finding(2);
    host.record("one");
    let (uplink, mut inbound) = host.connect();
    let head = told(&mut inbound, "three items", durable(3)).await;
    assert_eq!(head, Some(host.ledger.head()), "the collector countersigns the ledger's end");
    host.record("two");
    host.summary(2.5);
    told(&mut inbound, "two more", durable(5)).await;
    assert_eq!(host.spool.status().acked.0, 5);
    fake.with(|state| {
        assert_eq!((state.duplicates, state.items.len(), state.hellos.len()), (0, 5, 1));
        assert_eq!(state.series.values().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["node_load1"]);
        let Some(Of::Ledger(entry)) = &state.items[&4].of else { panic!("{:?}", state.items[&4]) };
        let before = Head::genesis(HostId([7; 16]));
        let Some(Of::Ledger(first)) = &state.items[&3].of else { panic!("{:?}", state.items[&3]) };
        assert_eq!(before.after(&first.record).after(&entry.record).hash[..], entry.hash[..], "the exact bytes");
        let Some(Of::Summary(summary)) = &state.items[&5].of else { panic!("{:?}", state.items[&5]) };
        assert_eq!((&summary.gauge_ids[..], &summary.gauges[..]), (&[1][..], &[2.5; 4][..]));
        let hello = &state.hellos[0];
        assert_eq!((hello.seq_first, hello.seq_next, hello.ledger.as_ref().unwrap().index), (1, 4, 1));
    });
    assert_eq!(uplink.counters().sessions.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn summaries_go_as_columns_where_the_collector_reads_them_and_anew_in_every_session() {
    let fake = Fake::start().await;
    let host = Host::enrolled(&fake).await;
    fake.with(|state| (state.columns, state.lose_acks) = (true, 1));
    host.summary(1.5);
    host.summary(2.25);
    let (_uplink, mut inbound) = host.connect();
    told(&mut inbound, "the broken session", |told| matches!(told, Inbound::Disconnected { .. }).then_some(())).await;
    host.summary(1.0 / 3.0);
    told(&mut inbound, "three summaries", durable(3)).await;
    fake.with(|state| {
        assert!(state.hellos.iter().all(|hello| hello.capabilities.iter().any(|one| one == "columns")));
        let gauges: Vec<_> = state.summaries.values().map(|summary| summary.points[0].1).collect();
        let same = |value: f64| Point::Gauge { last: value, min: value, max: value, mean: value };
        assert_eq!(gauges, [1.5, 2.25, 1.0 / 3.0].map(same));
        let columns = state.items.values().all(|item| match &item.of {
            Some(Of::Summary(summary)) => !summary.columns.is_empty() && summary.gauges.is_empty(),
            _ => false,
        });
        assert!(columns, "{:?}", state.items);
    });
}

#[tokio::test]
async fn a_summary_that_follows_goes_alone_and_only_what_is_new_is_acknowledged() {
    let fake = Fake::start().await;
    let host = Host::enrolled(&fake).await;
    fake.with(|state| (state.columns, state.coded) = (true, true));
    let (_uplink, mut inbound) = host.connect();
    told(&mut inbound, "what Welcome says", durable(0)).await;
    for (seq, value) in (1..).zip([1.5, 2.25, 1.0 / 3.0]) {
        host.summary(value);
        told(&mut inbound, "a summary", durable(seq)).await;
    }
    host.finding(4);
    told(&mut inbound, "a finding", durable(4)).await;
    fake.with(|state| (state.briefs, state.full) = (state.briefs + 100, true));
    host.summary(7.0);
    told(&mut inbound, "that it was not taken", durable(4)).await;
    fake.with(|state| state.full = false);
    told(&mut inbound, "that it was taken then", durable(5)).await;
    host.summary(8.0);
    told(&mut inbound, "the last", durable(6)).await;
    fake.with(|state| {
        assert!(state.hellos[0].capabilities.iter().any(|one| one == "brief"));
        let values: Vec<_> = state.summaries.iter().map(|(seq, summary)| (*seq, summary.points[0].1)).collect();
        let same = |value: f64| Point::Gauge { last: value, min: value, max: value, mean: value };
        assert_eq!(values, [(1, 1.5), (2, 2.25), (3, 1.0 / 3.0), (5, 7.0), (6, 8.0)].map(|(seq, v)| (seq, same(v))));
        // The first named its series; what was not taken came again with its number.
        assert_eq!((state.hellos.len(), state.duplicates, state.gaps.len(), state.briefs), (1, 0, 0, 100 + 2 + 2));
    });
}

#[tokio::test]
async fn recordings_and_scenes_go_to_a_collector_that_takes_them_and_to_no_other() {
    let fake = Fake::start().await;
    let host = Host::enrolled(&fake).await;
    host.recording(41);
    host.scene(42);
    host.finding(43);
    let (uplink, mut inbound) = host.connect();
    told(&mut inbound, "three items", durable(3)).await;
    fake.with(|state| {
        assert!(state.items[&1].of.is_none() && state.items[&2].of.is_none(), "an older collector knows neither");
        assert!(matches!(&state.items[&3].of, Some(Of::Finding(finding)) if finding.id == 43));
        assert_eq!((state.gaps.len(), state.duplicates), (0, 0), "and nothing counts as lost");
    });
    uplink.stop("upgrade", Duration::from_secs(5), Duration::from_secs(5)).await;
    fake.with(|state| state.evidence = true);
    host.recording(44);
    host.scene(45);
    let (_uplink, mut inbound) = host.connect();
    told(&mut inbound, "two more", durable(5)).await;
    fake.with(|state| {
        let Some(Of::Recording(kept)) = &state.items[&4].of else { panic!("{:?}", state.items[&4]) };
        let kept = FindingRecording::try_from(kept.clone()).unwrap();
        assert_eq!((kept.finding.0, kept.opened_ms, kept.recording.at.len()), (44, 5, 1));
        let Some(Of::Scene(scene)) = &state.items[&5].of else { panic!("{:?}", state.items[&5]) };
        assert_eq!((scene.action, scene.lines[0].text.as_str()), (45, "cannot go on"));
    });
}

#[tokio::test]
async fn changes_go_to_a_collector_that_takes_them_and_to_another_as_their_numbers_alone() {
    for takes in [true, false] {
        let fake = Fake::start().await;
        let host = Host::enrolled(&fake).await;
        fake.with(|state| state.changes = takes);
        host.finding(1);
        host.change("/etc/a");
        host.finding(3);
        let (_uplink, mut inbound) = host.connect();
        told(&mut inbound, "all three", durable(3)).await;
        fake.with(|state| {
            let change = state.items[&2].of.as_ref();
            let subject = change.and_then(|of| if let Of::Change(change) = of { Some(&change.subject) } else { None });
            assert_eq!(subject.map(String::as_str), takes.then_some("/etc/a"), "{change:?}");
            assert!(state.gaps.is_empty() && change.is_some() == takes, "nothing is taken for lost");
        });
    }
}

#[tokio::test]
async fn a_lost_acknowledgement_costs_neither_an_item_nor_a_duplicate() {
    let fake = Fake::start().await;
    let mut host = Host::enrolled(&fake).await;
    fake.with(|state| state.lose_acks = 1);
    host.finding(1);
    host.record("one");
    let (_uplink, mut inbound) = host.connect();
    told(&mut inbound, "the broken session", |told| matches!(told, Inbound::Disconnected { .. }).then_some(())).await;
    assert_eq!(host.spool.status().acked.0, 0);
    told(&mut inbound, "what Welcome says", durable(2)).await;
    host.finding(3);
    told(&mut inbound, "the third", durable(3)).await;
    fake.with(|state| assert_eq!((state.duplicates, state.items.len(), state.hellos.len()), (0, 3, 2)));
}

#[tokio::test]
async fn a_restored_collector_gets_again_what_it_lacks() {
    let fake = Fake::start().await;
    let mut host = Host::enrolled(&fake).await;
    host.finding(1);
    host.record("one");
    host.finding(3);
    let (uplink, mut inbound) = host.connect();
    told(&mut inbound, "three items", durable(3)).await;
    uplink.stop("upgrade", Duration::from_secs(5), Duration::from_secs(5)).await;
    fake.with(|state| {
        assert!(matches!(&state.said[..], [Said::Bye(bye)] if bye.reason == "upgrade" && bye.back_within_ms == 5000));
        state.marks = mainstay_fleet::dedup::Marks::default();
        state.items.clear();
    });
    let (_uplink, mut inbound) = host.connect();
    told(&mut inbound, "all of it again", durable(3)).await;
    fake.with(|state| assert_eq!((state.items.len(), state.gaps.len(), state.duplicates), (3, 0, 0)));
}

#[tokio::test]
async fn a_collector_that_has_more_than_the_spool_makes_it_number_anew() {
    let fake = Fake::start().await;
    let host = Host::enrolled(&fake).await;
    host.finding(1);
    // The machine was set back to before it sent these.
    fake.with(|state| {
        for seq in 1..=9 {
            state.marks.admit(mainstay_core::id::Epoch(0xe), mainstay_core::id::Seq(seq));
        }
    });
    let (_uplink, mut inbound) = host.connect();
    told(&mut inbound, "the finding under a new number", durable(1)).await;
    fake.with(|state| {
        assert_eq!((state.items.len(), state.duplicates), (1, 0));
        assert_ne!(state.hellos[0].epoch, state.hellos[1].epoch);
    });
}

fn reject(reason: &str, retry_after_ms: u64) -> v1::Reject {
    v1::Reject { reason: reason.to_owned(), text: "not now".to_owned(), retry_after_ms }
}

#[tokio::test]
async fn the_collectors_wish_to_wait_is_honoured() {
    let fake = Fake::start().await;
    let host = Host::enrolled(&fake).await;
    fake.with(|state| state.reject = Some((reject("rate_limited", 1500), 1)));
    let (_uplink, mut inbound) = host.connect();
    fake.until("it was refused", |state| state.hellos.len() == 1).await;
    let refused = Instant::now();
    told(&mut inbound, "a session", |told| matches!(told, Inbound::Connected { .. }).then_some(())).await;
    assert!(refused.elapsed() >= Duration::from_millis(1400), "{:?}", refused.elapsed());
    assert_eq!(fake.with(|state| state.hellos.len()), 2);
}

#[tokio::test]
async fn a_host_that_is_not_known_keeps_its_identity_and_says_so() {
    let fake = Fake::start().await;
    let host = Host::enrolled(&fake).await;
    fake.with(|state| state.reject = Some((reject("not_enrolled", 0), 1)));
    let (uplink, mut inbound) = host.connect();
    let why = told(&mut inbound, "the reason", |told| match told {
        Inbound::Degraded { why } => why,
        _ => None,
    })
    .await;
    assert_eq!(why, "the collector refused (not_enrolled): not now");
    uplink.stop("stopping", Duration::ZERO, Duration::from_secs(5)).await;
    assert_eq!(Identity::load(host.state.path()).unwrap(), Some(host.identity));
    assert_eq!(fake.with(|state| state.hellos.len()), 1, "it does not hammer");
}

#[tokio::test]
async fn the_collector_is_heard_and_answered() {
    let fake = Fake::start().await;
    let host = Host::enrolled(&fake).await;
    let signed = v1::Signed { bytes: vec![1], key_id: vec![2], signature: vec![3] };
    let order =
        |kind: &str, id| Say::Order(v1::OperatorOrder { kind: kind.to_owned(), signed: Some(signed.clone()), id });
    fake.with(|state| {
        state.after_welcome = vec![
            Say::PolicyOffer(signed.clone()),
            order("hold", 5),
            order("dance", 6),
            Say::Lease(v1::LeaseReply { decision: 9, granted: false, ttl_ms: 7000, text: "3 of 3".to_owned() }),
        ];
    });
    let (uplink, mut inbound) = host.connect();
    let standing = PolicyStanding { refused: Some("line 3".to_owned()), ..PolicyStanding::default() };
    assert!(uplink.send(OutMessage::Policy(standing)));
    told(&mut inbound, "the offer", |told| match told {
        Inbound::PolicyOffer(signed) if signed.bytes == [1] => Some(()),
        _ => None,
    })
    .await;
    told(&mut inbound, "the order", |told| match told {
        Inbound::Order { id: 5, kind: OrderKind::Hold, signed } if signed.signature == [3] => Some(()),
        _ => None,
    })
    .await;
    told(&mut inbound, "the lease", |told| match told {
        Inbound::Lease { decision: DecisionId(9), granted: false, ttl, .. } if ttl == Duration::from_secs(7) => {
            Some(())
        }
        _ => None,
    })
    .await;
    assert!(uplink.send(OutMessage::Result { id: 5, done: true, text: "held".to_owned() }));
    let (decision, kind, subject) = (DecisionId(9), FindingKind::ServiceFailed, Subject::Host);
    assert!(uplink.send(OutMessage::Lease { decision, kind, subject, share: 0.1 }));
    fake.until("it has heard all", |state| {
        let heard = |said: &dyn Fn(&Said) -> bool| state.said.iter().any(said);
        heard(&|said| matches!(said, Said::Result(result) if result.id == 5 && result.done))
            && heard(&|said| matches!(said, Said::Result(result) if result.id == 6 && !result.done))
            && heard(&|said| matches!(said, Said::Lease(lease) if lease.kind == "service.failed"))
    })
    .await;
    fake.with(|state| {
        let in_hello = state.hellos[0].policy.as_ref().is_some_and(|policy| policy.refused.is_some());
        let said = state.said.iter().any(|said| matches!(said, Said::Policy(policy) if policy.refused.is_some()));
        assert!(in_hello || said);
    });
}

#[tokio::test]
async fn a_question_is_heard_and_answered_and_one_from_the_future_is_said_to_be_unknown() {
    let fake = Fake::start().await;
    let host = Host::enrolled(&fake).await;
    let models = v1::ModelsQuery { metric: "*cpu*".to_owned(), from: 3, limit: 7 };
    let too_long = v1::ModelsQuery { metric: "x".repeat(10_000), ..models.clone() };
    let ask = |id, what| Say::Query(v1::HostQuery { id, what });
    fake.with(|state| {
        state.after_welcome = vec![
            ask(1, Some(v1::host_query::What::Models(models))),
            ask(2, None),
            ask(3, Some(v1::host_query::What::Models(too_long))),
        ];
    });
    let (uplink, mut inbound) = host.connect();
    let asked = told(&mut inbound, "the question", |told| match told {
        Inbound::Asked { id: 1, query: HostQuery::Models(query) } => Some(query),
        _ => None,
    })
    .await;
    assert_eq!((asked.metric.as_ref().map(Glob::as_str), asked.from, asked.limit), (Some("*cpu*"), 3, 7));
    let reply = ModelsReply { matching: 12, next: Some(10), ..ModelsReply::default() };
    assert!(uplink.send(OutMessage::Reply { id: 1, reply: Ok(HostReply::Models(reply.clone())) }));
    let long = ModelsReply { relearning: vec!["x".repeat(2 << 20)], ..reply };
    assert!(uplink.send(OutMessage::Reply { id: 4, reply: Ok(HostReply::Models(long)) }));
    let answer = |state: &fake::State, id| {
        state.said.iter().find_map(|said| match said {
            Said::Reply(reply) if reply.id == id => Some(reply.what.clone().unwrap()),
            _ => None,
        })
    };
    fake.until("all is answered", |state| (1..=4).all(|id| answer(state, id).is_some())).await;
    fake.with(|state| {
        assert!(state.hellos[0].capabilities.iter().any(|said| said == "host_query.models"), "it says what it can do");
        let says = |id, words: &str| match answer(state, id) {
            Some(v1::host_reply::What::Error(text)) => assert!(text.contains(words), "{text}"),
            other => panic!("an error was expected, not {other:?}"),
        };
        assert!(matches!(answer(state, 1), Some(v1::host_reply::What::Models(reply)) if reply.matching == 12));
        says(2, "does not know the question; upgrade it");
        says(3, "field models.metric has a length of 10000 (expected at most 256)");
        says(4, "ask for less");
    });
}

#[tokio::test]
async fn a_collector_without_room_is_not_pushed_to() {
    let fake = Fake::start().await;
    let host = Host::enrolled(&fake).await;
    fake.with(|state| (state.withhold, state.credit) = (true, 1));
    host.finding(1);
    let (uplink, mut inbound) = host.connect();
    fake.until("the first push", |state| state.pushes == 1).await;
    for id in 2..40 {
        host.finding(id);
    }
    // A message that goes behind every push that could have been sent.
    let (decision, kind, subject) = (DecisionId(9), FindingKind::ServiceFailed, Subject::Host);
    assert!(uplink.send(OutMessage::Lease { decision, kind, subject, share: 0.1 }));
    fake.until("the lease", |state| state.said.iter().any(|said| matches!(said, Said::Lease(_)))).await;
    assert_eq!(fake.with(|state| (state.pushes, state.items.len())), (1, 1), "one may always be under way");
    fake.with(|state| (state.withhold, state.lose_acks) = (false, 0));
    drop(uplink);
    let (_uplink, mut again) = host.connect();
    told(&mut again, "the rest", durable(39)).await;
    inbound.close();
    assert_eq!(fake.with(|state| state.duplicates), 0);
}

#[tokio::test]
async fn what_a_full_collector_does_not_take_is_kept_and_sent_in_the_same_session_when_there_is_room() {
    let fake = Fake::start().await;
    let host = Host::enrolled(&fake).await;
    fake.with(|state| (state.full, state.columns) = (true, true));
    host.summary(1.5);
    host.finding(2);
    let (_uplink, mut inbound) = host.connect();
    told(&mut inbound, "what Welcome says", durable(0)).await;
    told(&mut inbound, "that nothing was taken", durable(0)).await;
    host.summary(2.5);
    // Nothing more is sent until the next ping is answered with credit.
    fake.with(|state| {
        assert_eq!(state.left, 1);
        state.full = false;
    });
    told(&mut inbound, "all of it", durable(3)).await;
    fake.with(|state| {
        assert_eq!((state.hellos.len(), state.duplicates, state.gaps.len(), state.left), (1, 0, 0, 1));
        assert!(state.hellos[0].capabilities.iter().any(|one| one == "waits"));
        let values: Vec<_> = state.summaries.iter().map(|(seq, summary)| (*seq, summary.points[0].1)).collect();
        let same = |value: f64| Point::Gauge { last: value, min: value, max: value, mean: value };
        assert_eq!(values, [(1, same(1.5)), (3, same(2.5))], "in step, though the first was read twice");
    });
}

#[tokio::test]
async fn another_collector_is_not_talked_to() {
    let (fake, other) = (Fake::start().await, Fake::start().await);
    let mut host = Host::enrolled(&fake).await;
    host.identity.address.clone_from(&other.address);
    host.finding(1);
    let (_uplink, mut inbound) = host.connect();
    let why = told(&mut inbound, "the reason", |told| match told {
        Inbound::Disconnected { why } => Some(why),
        _ => None,
    })
    .await;
    assert!(why.contains("certificate"), "{why}");
    assert_eq!(other.with(|state| state.hellos.len()), 0, "it heard nothing");
}

#[tokio::test]
async fn an_expired_certificate_is_named_and_the_operator_told() {
    let fake = Fake::start().await;
    let mut host = Host::enrolled(&fake).await;
    host.identity.certificate = fake.sign_for_key(&host.identity.key, 2000, 2001);
    let (_uplink, mut inbound) = host.connect();
    let why = told(&mut inbound, "the reason", |told| match told {
        Inbound::Degraded { why } => why,
        _ => None,
    })
    .await;
    assert!(why.starts_with("the host's certificate has expired"), "{why}");
    assert_eq!(fake.with(|state| state.hellos.len()), 0);
}

#[tokio::test]
async fn a_certificate_past_half_of_its_life_is_renewed() {
    let fake = Fake::start().await;
    let mut host = Host::enrolled(&fake).await;
    let old = host.identity.certificate.clone();
    host.identity.certificate = fake.sign_for_key(&host.identity.key, 2000, 2040);
    assert!(host.identity.validity().unwrap().renew_at_ms() < host::clock().wall_ms);
    let (uplink, _inbound) = host.connect();
    fake.until("it was asked for a new one", |state| state.renewals == 1).await;
    uplink.stop("stopping", Duration::ZERO, Duration::from_secs(10)).await;
    let renewed = Identity::load(host.state.path()).unwrap().unwrap();
    assert_ne!(renewed.certificate, old);
    assert_eq!(renewed.key, host.identity.key, "the key stays");
}
