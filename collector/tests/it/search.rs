//! Findings, incidents, decisions, records of ledgers and changes are found by subject, kind, words and time.

use mainstay_collector::clock::wall_ms;
use mainstay_collector::store::Batch;
use mainstay_collector::store::keys::FindingByTimeKey;
use mainstay_core::id::{FindingId, HostId};
use mainstay_proto::v1;
use mainstay_proto::v1::item::Of;
use mainstay_proto::v1::record::Body;
use mainstay_proto::v1::subject;
use prost::Message;

use crate::agent::{Agent, Book, finding, hello, item, repair};
use crate::world::{Papers, World, until};

/// So many hosts are not asked one by one.
const HOSTS: usize = 17;
const MINUTE_MS: i64 = 60_000;

fn at(wall_ms: i64) -> Option<v1::Now> {
    Some(v1::Now { boot_ns: 0, wall_ms })
}

fn full(id: u64, mount: &str, state: &str, (opened_ms, changed_ms): (i64, i64)) -> v1::Finding {
    let evidence = vec![v1::Evidence { text: "98% used, growing 2 GiB/h".to_owned(), measure: None }];
    let subject = Some(v1::Subject { of: Some(subject::Of::Mount(mount.as_bytes().to_vec())) });
    let (opened, changed) = (at(opened_ms), at(changed_ms));
    v1::Finding { kind: "disk.full".to_owned(), subject, opened, changed, evidence, ..finding(id, "", state, 0) }
}

fn search(kind: &str, subject: &str, text: &str) -> v1::Search {
    let (kind, subject, text) = (kind.to_owned(), subject.to_owned(), text.to_owned());
    v1::Search { kind, subject, text, ..v1::Search::default() }
}

struct Asked<'a> {
    world: &'a World,
    ops: &'a Papers,
}

impl Asked<'_> {
    /// Ids of findings, in the order of the answer, by host and id; and whether there are more.
    async fn findings(&self, host: &str, all: bool, limit: u32, search: &v1::Search) -> (Vec<(String, u64)>, bool) {
        let selector = Some(v1::Selector { host: host.to_owned(), labels: Vec::new() });
        let request = v1::ListFindingsRequest { selector, all, limit, search: Some(search.clone()), id: String::new() };
        let answer = self.world.queries(self.ops).await.list_findings(request).await.unwrap().into_inner();
        let row = |view: v1::FindingView| (view.hostname, view.finding.unwrap().id);
        (answer.findings.into_iter().map(row).collect(), answer.truncated)
    }

    async fn decisions(&self, host: &str, search: v1::Search) -> Vec<u64> {
        let selector = Some(v1::Selector { host: host.to_owned(), labels: Vec::new() });
        let request = v1::ListDecisionsRequest { selector, limit: 0, acted: false, search: Some(search) };
        let answer = self.world.queries(self.ops).await.list_decisions(request).await.unwrap().into_inner();
        answer.decisions.into_iter().map(|view| view.decision.unwrap().id).collect()
    }

    /// Hosts and numbers in their ledgers, in the order of the answer.
    async fn records(&self, host: &str, search: v1::Search) -> Vec<(String, u64)> {
        let selector = Some(v1::Selector { host: host.to_owned(), labels: Vec::new() });
        let request = v1::ListRecordsRequest { selector, limit: 0, search: Some(search) };
        let answer = self.world.queries(self.ops).await.list_records(request).await.unwrap().into_inner();
        answer.records.into_iter().map(|view| (view.hostname, view.index)).collect()
    }

    async fn changes(&self, search: v1::Search) -> Vec<String> {
        let request = v1::ListChangesRequest { selector: None, limit: 0, search: Some(search) };
        let answer = self.world.queries(self.ops).await.list_changes(request).await.unwrap().into_inner();
        answer.changes.into_iter().map(|view| view.change.unwrap().subject).collect()
    }

    async fn incidents(&self, all: bool, search: v1::Search) -> Vec<u64> {
        let request = v1::ListIncidentsRequest { all, limit: 0, search: Some(search) };
        let answer = self.world.queries(self.ops).await.list_incidents(request).await.unwrap().into_inner();
        answer.incidents.into_iter().map(|incident| incident.id).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finding_is_found_by_its_id_however_long_ago_and_among_however_many_it_is() {
    let world = World::start().await;
    let papers = [world.enrol("web-1").await, world.enrol("web-2").await];
    let old_ms = wall_ms() - 60 * 24 * 60 * MINUTE_MS;
    for (papers, name, ids) in
        [(&papers[0], "web-1", [0x3f9a << 48, 0x3f9b << 48]), (&papers[1], "web-2", [0x3f9c << 48, 0x40 << 56])]
    {
        let (mut agent, _) = Agent::open(&world.address(), papers, hello(name)).await;
        let told = ids.map(|id| full(id, "/var", "cleared", (old_ms, old_ms + MINUTE_MS)));
        agent.acked((1..).zip(told).map(|(seq, finding)| item(seq, Of::Finding(finding))).collect()).await;
    }
    let ops = world.operator("ann", "viewer").await;
    let mut queries = world.queries(&ops).await;
    for (asked, limit, found) in [
        ("f-3f9a", 2, &[0x3f9a << 48][..]),
        ("3F9B", 2, &[0x3f9b << 48]),
        ("4", 2, &[0x40 << 56]),
        ("f-4000000000000000", 2, &[0x40 << 56]),
        ("f-41", 2, &[]),
        ("3f", 10, &[0x3f9a << 48, 0x3f9b << 48, 0x3f9c << 48]),
    ] {
        let request = v1::ListFindingsRequest { id: asked.to_owned(), limit, ..v1::ListFindingsRequest::default() };
        let answer = queries.list_findings(request).await.unwrap().into_inner();
        let mut ids: Vec<u64> = answer.findings.into_iter().map(|view| view.finding.unwrap().id).collect();
        ids.sort_unstable();
        assert_eq!((&ids[..], answer.truncated), (found, false), "{asked}");
    }
    let request = v1::ListFindingsRequest { id: "3f".to_owned(), limit: 2, ..v1::ListFindingsRequest::default() };
    assert!(queries.list_findings(request).await.unwrap().into_inner().truncated);
    let request = v1::ListFindingsRequest { id: "nginx".to_owned(), ..v1::ListFindingsRequest::default() };
    let refused = queries.list_findings(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("`nginx` is not a finding id such as f-3f9a"), "{}", refused.message());
    world.stop().await;
}

fn ids(found: &(Vec<(String, u64)>, bool)) -> Vec<u64> {
    found.0.iter().map(|(_, id)| *id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_are_found_by_subject_kind_words_and_time_on_one_host_and_on_all() {
    let mut world = World::start().await;
    let now = wall_ms();
    let mut papers = Vec::new();
    for n in 1..=HOSTS {
        papers.push(world.enrol(&format!("web-{n}")).await);
    }
    let ago = |minutes: i64| now - minutes * MINUTE_MS;
    let told = [
        full(1, "/var", "open", (ago(90), ago(90))),
        full(2, "/var/lib/shop", "cleared", (ago(80), ago(20))),
        full(3, "/var", "cleared", (ago(70), ago(60))),
        v1::Finding { opened: at(ago(10)), ..finding(4, "shop.service", "open", ago(10)) },
        // Whether it still is so cannot be seen any more: it has not ended.
        full(5, "/srv", "unknown", (ago(100), ago(95))),
    ];
    let (mut agent, _) = Agent::open(&world.address(), &papers[0], hello("web-1")).await;
    agent.acked((1..).zip(told).map(|(seq, finding)| item(seq, Of::Finding(finding))).collect()).await;
    let (mut other, _) = Agent::open(&world.address(), &papers[16], hello("web-17")).await;
    let early = v1::Finding { opened: at(ago(30)), ..finding(9, "shop.service", "cleared", ago(25)) };
    // Open first: the index has to learn that it ended.
    let open = v1::Finding { state: "open".to_owned(), changed: at(ago(30)), ..early.clone() };
    other.acked(vec![item(1, Of::Finding(open))]).await;
    other.acked(vec![item(2, Of::Finding(early))]).await;
    drop((agent, other));
    // As an older collector wrote it, which did not say there when it ended.
    let host = HostId(papers[0].host_id);
    let store = &world.collector.as_ref().unwrap().hub.store;
    let mut batch = Batch::default();
    batch.put_raw(&FindingByTimeKey { opened_ms: ago(70), host, finding: FindingId(3) }, Vec::new());
    store.commit(batch).await.unwrap();
    world.restart().await;
    let ops = world.operator("ann", "viewer").await;
    let asked = Asked { world: &world, ops: &ops };

    for (what, open, all) in [
        (search("", "", ""), &[4, 1][..], &[4, 9, 3, 2, 1, 5][..]),
        (search("disk", "", ""), &[1], &[3, 2, 1, 5]),
        (search("disk.full", "/var", ""), &[1], &[3, 1]),
        (search("", "/var*", ""), &[1], &[3, 2, 1]),
        (search("", "shop", ""), &[4], &[4, 9]),
        (search("", "", "Shop"), &[4], &[4, 9, 2]),
        (search("", "", "growing 98%"), &[1], &[3, 2, 1, 5]),
        (search("service", "", "WEB-17 failed"), &[], &[9]),
        (search("service", "", "sigkill"), &[4], &[4, 9]),
        (search("service", "", "sigterm"), &[], &[]),
        // Of a time: what was there then.
        (v1::Search { since_ms: ago(22), ..search("", "", "") }, &[4, 1], &[4, 2, 1, 5]),
        (v1::Search { until_ms: ago(75), ..search("", "", "") }, &[1], &[2, 1, 5]),
        (v1::Search { since_ms: ago(29), until_ms: ago(22), ..search("", "", "") }, &[1], &[9, 2, 1, 5]),
        (v1::Search { since_ms: ago(50), until_ms: ago(40), ..search("disk", "/var*", "") }, &[1], &[2, 1]),
    ] {
        assert_eq!(ids(&asked.findings("", false, 0, &what).await), open, "open: {what:?}");
        assert_eq!(ids(&asked.findings("", true, 0, &what).await), all, "all: {what:?}");
        // What is read host by host says the same.
        let mut one_by_one = ids(&asked.findings("web-1", true, 0, &what).await);
        one_by_one.extend(ids(&asked.findings("web-17", true, 0, &what).await));
        one_by_one.sort_unstable();
        let mut all = all.to_vec();
        all.sort_unstable();
        assert_eq!(one_by_one, all, "one by one: {what:?}");
    }
    for (host, all) in [("", true), ("", false), ("web-1", true)] {
        let any = search("", "", "");
        let (found, is_cut) = asked.findings(host, all, 1, &any).await;
        assert_eq!((found, is_cut), (vec![("web-1".to_owned(), 4)], true), "{host}: there are more");
        let shop = search("", "shop", "failed");
        let whole = asked.findings("web-1", all, 1, &shop).await;
        assert_eq!((ids(&whole), whole.1), (vec![4], false), "{host}: there are no more");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_changes_and_incidents_are_found_by_subject_kind_words_and_time() {
    let world = World::start().await;
    let now = wall_ms();
    for (name, id) in [("web-1", 3), ("web-2", 4)] {
        let papers = world.enrol(name).await;
        let (mut agent, _) = Agent::open(&world.address(), &papers, hello(name)).await;
        let mut of = vec![Of::Finding(finding(id, "nginx.service", "open", now))];
        of.extend(repair(&mut Book::new(papers.host_id), id + 10, id, now - 30 * MINUTE_MS * id.cast_signed()));
        let upgraded = v1::Change {
            at_ms: now - 5 * MINUTE_MS * id.cast_signed(),
            kind: "package.upgraded".to_owned(),
            subject: format!("nginx-{id}"),
            after: Some(format!("1.{id}-deb12")),
            by: Some("ann".to_owned()),
            ..v1::Change::default()
        };
        of.push(Of::Change(upgraded));
        agent.acked((1..).zip(of).map(|(seq, of)| item(seq, of)).collect()).await;
    }
    let ops = world.operator("ann", "operator").await;
    let mark = v1::MarkEventRequest { kind: "deploy".to_owned(), name: "shop 1.42".to_owned(), ..Default::default() };
    world.commands(&ops).await.mark_event(mark).await.unwrap();
    let asked = Asked { world: &world, ops: &ops };

    for (what, found) in [
        (search("service", "nginx", ""), &[13, 14][..]),
        (search("", "", "unit.restart \"job done\""), &[]),
        (search("", "", "unit.restart job DONE active"), &[13, 14]),
        (search("disk", "", ""), &[]),
        (search("", "", "act helped web-1"), &[13]),
        (v1::Search { since_ms: now - 100 * MINUTE_MS, ..search("", "", "job") }, &[13]),
        (v1::Search { until_ms: now - 100 * MINUTE_MS, ..search("", "nginx.service", "") }, &[14]),
    ] {
        assert_eq!(asked.decisions("", what.clone()).await, found, "{what:?}");
        let of_one: Vec<u64> = found.iter().copied().filter(|id| *id == 13).collect();
        assert_eq!(asked.decisions("web-1", what.clone()).await, of_one, "{what:?}");
    }
    for (what, found) in [
        (search("", "", ""), &["shop 1.42", "nginx-3", "nginx-4"][..]),
        (search("", "nginx*", ""), &["nginx-3", "nginx-4"]),
        (search("package", "", "1.4-deb12 ANN"), &["nginx-4"]),
        (search("", "", "shop"), &["shop 1.42"]),
        (v1::Search { until_ms: now - 17 * MINUTE_MS, ..search("", "", "ann") }, &["nginx-4"]),
    ] {
        assert_eq!(asked.changes(what.clone()).await, found, "{what:?}");
    }
    let id =
        until("the incident", || async { asked.incidents(false, search("", "", "")).await.first().copied() }).await;
    for (what, found) in [
        (search("service.failed", "nginx", "sigkill"), &[id][..]),
        // Words of why they belong together.
        (search("", "nginx*", "role=web"), &[id]),
        (search("", "shop", ""), &[]),
        (v1::Search { until_ms: now - MINUTE_MS, ..search("", "", "") }, &[]),
    ] {
        assert_eq!(asked.incidents(true, what.clone()).await, found, "{what:?}");
    }

    let request = v1::ListDecisionsRequest { limit: 1, ..Default::default() };
    let answer = world.queries(&ops).await.list_decisions(request).await.unwrap().into_inner();
    assert_eq!((answer.decisions.len(), answer.truncated, answer.looked_back_to_ms), (1, true, None));
    let request = v1::ListIncidentsRequest { limit: 1, ..Default::default() };
    let answer = world.queries(&ops).await.list_incidents(request).await.unwrap().into_inner();
    assert_eq!((answer.incidents.len(), answer.truncated), (1, false), "there is one");

    let backwards = v1::Search { since_ms: 5, until_ms: 4, ..search("", "", "") };
    let request = v1::ListIncidentsRequest { all: true, limit: 0, search: Some(backwards) };
    let refused = world.queries(&ops).await.list_incidents(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_found_by_subject_kind_words_and_time_whatever_the_clock_of_their_host_said() {
    let world = World::start().await;
    let now = wall_ms();
    for (name, id) in [("web-1", 3u64), ("web-2", 4)] {
        let papers = world.enrol(name).await;
        let (mut agent, _) = Agent::open(&world.address(), &papers, hello(name)).await;
        let mut book = Book::new(papers.host_id);
        let (decision, action, apart_ms) = (id + 10, id + 1_010, id.cast_signed() * 1_000);
        let mut of = repair(&mut book, decision, id, now - 30 * 60 * apart_ms);
        // It booted with a clock that knew nothing.
        let started = v1::record::Started { boot: vec![1; 16], version: "0.1.7".to_owned() };
        of.push(book.add(apart_ms, Body::Started(started)));
        let by = Some(v1::Author { name: "ann".to_owned(), reason: "Network change".to_owned() });
        let scope = "fleet".to_owned();
        let hold = v1::record::HoldChange { scope, until_ms: None, held: true, by: by.clone() };
        of.push(book.add(now - 60 * apart_ms, Body::Hold(hold)));
        let answered = v1::record::Answered { decision, approved: true, by: by.clone(), until_ms: now };
        of.push(book.add(now - 50_000 - apart_ms, Body::Answered(answered)));
        let outcome = Some(v1::Outcome { ended: "done".to_owned(), text: "put back".to_owned(), ..Default::default() });
        of.push(book.add(now - 40_000 - apart_ms, Body::Undone(v1::record::Undone { action, outcome, by })));
        of.push(book.bytes(vec![0xff; 3]));
        // As a newer agent might write.
        of.push(book.bytes(v1::Record { at: at(now - 30_000 - apart_ms), body: None }.encode_to_vec()));
        agent.acked((1..).zip(of).map(|(seq, of)| item(seq, of)).collect()).await;
    }
    let ops = world.operator("ann", "viewer").await;
    let asked = Asked { world: &world, ops: &ops };

    let day = |search: v1::Search| v1::Search { since_ms: now - 24 * 60 * MINUTE_MS, ..search };
    let (one, two) = ("web-1", "web-2");
    let named = |found: &[(&str, u64)]| -> Vec<(String, u64)> {
        found.iter().map(|(name, index)| ((*name).to_owned(), *index)).collect()
    };
    let both = |index: u64| [(one, index), (two, index)];
    let repairs = [4, 3, 2, 1].map(|index| (one, index)).into_iter().chain([4, 3, 2, 1].map(|index| (two, index)));
    let repairs: Vec<_> = repairs.collect();
    for (what, found) in [
        (day(search("", "", "")), [&both(10)[..], &both(8)[..], &both(7)[..], &both(6)[..], &repairs[..]].concat()),
        (search("agent", "", ""), vec![(two, 5), (one, 5)]),
        (search("agent.started", "", "0.1.7 WEB-2"), vec![(two, 5)]),
        (day(search("step", "", "")), vec![(one, 3), (one, 2), (two, 3), (two, 2)]),
        (day(search("decision", "", "")), [both(7), both(1)].concat()),
        // Only their decision says which unit it was.
        (day(search("", "nginx", "")), [&both(8)[..], &both(7)[..], &repairs[..]].concat()),
        (day(search("step.ended", "nginx.service", "service.failed job DONE")), both(3).to_vec()),
        (day(search("", "", "helped active web-2")), vec![(two, 4)]),
        (day(search("hold", "fleet", "ann network")), both(6).to_vec()),
        (day(search("hold", "host", "")), vec![]),
        (day(search("action", "nginx", "ann back")), both(8).to_vec()),
        (v1::Search { until_ms: now - 100 * MINUTE_MS, ..day(search("plan", "", "")) }, vec![(two, 4)]),
        (v1::Search { since_ms: now - 100 * MINUTE_MS, ..search("plan", "", "") }, vec![(one, 4)]),
    ] {
        assert_eq!(asked.records("", what.clone()).await, named(&found), "{what:?}");
        for name in [one, two] {
            // Of one host that is told too which has no time.
            let mut all = asked.records(name, what.clone()).await;
            assert_eq!(all.iter().any(|(_, index)| *index == 9), what == day(search("", "", "")), "{name}: {what:?}");
            all.retain(|(_, index)| *index != 9);
            let of_it: Vec<_> = found.iter().copied().filter(|(of, _)| *of == name).collect();
            assert_eq!(all, named(&of_it), "{name}: {what:?}");
        }
    }
    // In the order of its ledger, whatever its clock said.
    let indexes: Vec<u64> = asked.records(one, search("", "", "")).await.into_iter().map(|(_, index)| index).collect();
    assert_eq!(indexes, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    let unread = asked.records(one, day(search("unreadable", "", ""))).await;
    assert_eq!(unread, named(&[(one, 10), (one, 9)]));

    let request = v1::ListRecordsRequest { limit: 1, search: Some(search("hold", "", "")), ..Default::default() };
    let answer = world.queries(&ops).await.list_records(request).await.unwrap().into_inner();
    let told: Vec<_> = answer.records.iter().map(|view| (view.kind.as_str(), view.subject.as_str())).collect();
    assert_eq!((told, answer.truncated), (vec![("hold.set", "fleet")], true));
    world.stop().await;
}
