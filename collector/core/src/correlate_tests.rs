//! Tables of findings and the incidents that they come to.

use mainstay_core::policy::{Depends as Declared, Glob, Target};

use super::*;

const NOW: i64 = 1_000_000;

fn host(n: u8) -> HostId {
    HostId([n; 16])
}

fn symptom(n: u8, finding: u64, kind: FindingKind, subject: Subject, opened_ms: i64) -> Symptom {
    let role = if n < 10 { "web" } else { "db" };
    Symptom {
        id: SymptomId { host: host(n), finding: FindingId(finding) },
        hostname: format!("{role}-{n}"),
        labels: BTreeMap::from([("role".to_owned(), role.to_owned())]),
        kind,
        subject,
        severity: Severity::Critical,
        confidence: 1.0,
        state: FindingState::Open,
        opened_ms,
    }
}

fn unit(name: &str) -> Subject {
    Subject::Unit(name.parse().unwrap())
}

fn failed(n: u8, opened_ms: i64) -> Symptom {
    symptom(n, u64::from(n), FindingKind::ServiceFailed, unit("app.service"), opened_ms)
}

fn web_needs_db() -> Depends {
    let hosts = |glob| Target { host: Glob::new(glob), ..Target::default() };
    Depends { list: vec![Declared { from: hosts("web-*"), on: hosts("db-*") }] }
}

fn observe_all(correlator: &mut Correlator, symptoms: impl IntoIterator<Item = Symptom>) -> Vec<Change> {
    let changes = symptoms.into_iter().flat_map(|s| correlator.observe(s, NOW)).collect();
    let ids: Vec<IncidentId> = correlator.incidents().map(|incident| incident.id).collect();
    ids.into_iter().for_each(|id| correlator.settle(id));
    changes
}

#[test]
fn a_lone_finding_is_no_incident_but_a_silent_host_is() {
    let mut c = Correlator::new(1, Depends::default());
    assert_eq!(c.observe(failed(1, NOW), NOW), []);
    let changes = c.observe(symptom(2, 9, FindingKind::HostSilent, Subject::Host, NOW + 500_000), NOW);
    assert!(matches!(changes[..], [Change::Opened(_)]));
}

#[test]
fn groups_by_subject_label_and_dependency_and_by_nothing_else() {
    let other = |n, at| symptom(n, 77, FindingKind::DiskFull, Subject::Mount("/var".into()), at);
    let cases: [(&str, Symptom, Symptom, bool); 7] = [
        ("same host, near in time", failed(1, NOW), other(1, NOW + 5_000), true),
        ("same host, far in time", failed(1, NOW), other(1, NOW + WINDOW_MS + 1), false),
        ("same role, same kind and unit", failed(1, NOW), failed(2, NOW + 5_000), true),
        ("same role, another kind", failed(1, NOW), other(2, NOW + 5_000), false),
        ("another role", failed(1, NOW), failed(11, NOW + 5_000), false),
        ("same role, far in time", failed(1, NOW), failed(2, NOW + WINDOW_MS + 1), false),
        ("another role, another kind", failed(1, NOW), other(11, NOW), false),
    ];
    for (name, a, b, grouped) in cases {
        let mut c = Correlator::new(1, Depends::default());
        observe_all(&mut c, [a.clone(), b.clone()]);
        assert_eq!(c.incidents().count() == 1, grouped, "{name}");
        assert_eq!(c.incident_of(a.id).is_some(), grouped, "{name}");
        assert_eq!(c.incident_of(b.id).is_some(), grouped, "{name}");
    }
    let mut c = Correlator::new(1, web_needs_db());
    observe_all(&mut c, [other(11, NOW), failed(1, NOW + WINDOW_MS + 1)]);
    assert_eq!(c.incidents().count(), 1, "a dependency reaches further in time");
}

#[test]
fn the_cause_is_what_the_others_depend_on_even_if_it_was_found_later() {
    let mut c = Correlator::new(1, web_needs_db());
    let db = symptom(11, 3, FindingKind::DiskFull, Subject::Mount("/var".into()), NOW + 3_000);
    observe_all(&mut c, [failed(1, NOW), failed(2, NOW + 1_000), db.clone()]);
    let incident = c.incidents().next().unwrap();
    assert_eq!((incident.members.len(), incident.cause), (3, db.id));
    assert!(incident.evidence.iter().any(|e| e.contains("2 of 2 other findings")), "{:?}", incident.evidence);
    assert!(incident.cause_confidence > 0.7);
}

#[test]
fn without_dependencies_the_cause_is_what_came_first() {
    let mut c = Correlator::new(1, Depends::default());
    observe_all(&mut c, [failed(2, NOW + 30_000), failed(1, NOW), failed(3, NOW + 31_000)]);
    let incident = c.incidents().next().unwrap();
    assert_eq!(incident.cause, failed(1, NOW).id);
    assert!(incident.evidence.iter().any(|e| e.contains("came first, by 30.0 s")), "{:?}", incident.evidence);
}

#[test]
fn an_incident_clears_with_its_last_member_and_opens_again_with_any() {
    let mut c = Correlator::new(1, Depends::default());
    observe_all(&mut c, [failed(1, NOW), failed(2, NOW)]);
    let id = c.incidents().next().unwrap().id;
    let cleared = |n| Symptom { state: FindingState::Cleared, ..failed(n, NOW) };
    assert_eq!(c.observe(cleared(1), NOW + 1), [Change::Changed(id)]);
    assert_eq!(c.observe(cleared(1), NOW + 1), []);
    assert_eq!(c.observe(cleared(2), NOW + 2), [Change::Cleared(id)]);
    assert_eq!(c.incident(id).unwrap().cleared_ms, Some(NOW + 2));
    assert_eq!(c.observe(failed(2, NOW), NOW + 3), [Change::Changed(id)]);
    assert_eq!(c.incident(id).unwrap().cleared_ms, None);
}

#[test]
fn two_incidents_become_one_when_a_finding_ties_them() {
    let mut c = Correlator::new(1, web_needs_db());
    let hung = |n| symptom(n, 50, FindingKind::ServiceHung, unit("db.service"), NOW);
    observe_all(&mut c, [failed(1, NOW), failed(2, NOW)]);
    let first = c.incidents().next().unwrap().id;
    // On hosts with another role, before the dependency reaches them.
    c.set_depends(Depends::default());
    observe_all(&mut c, [hung(11), hung(12)]);
    assert_eq!(c.incidents().count(), 2);
    c.set_depends(web_needs_db());
    let changes = c.observe(failed(3, NOW + 10), NOW + 10);
    assert!(changes.iter().any(|change| matches!(change, Change::Merged { .. })), "{changes:?}");
    assert_eq!(c.incidents().count(), 1);
    let merged = c.incidents().next().unwrap();
    assert_eq!(merged.members.len(), 5);
    assert!(c.incident_of(failed(1, NOW).id).is_some() && merged.id.0 != 0 && first.0 != 0);
}

#[test]
fn the_same_seed_and_order_give_the_same_incidents() {
    let run = |seed| {
        let mut c = Correlator::new(seed, web_needs_db());
        observe_all(&mut c, (1..40).map(|n| failed(n, NOW + i64::from(n) * 700)));
        c.incidents().cloned().collect::<Vec<_>>()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5)[0].id, run(6)[0].id);
}

#[test]
fn what_cleared_long_ago_is_forgotten() {
    let mut c = Correlator::new(1, Depends::default());
    observe_all(&mut c, [failed(1, NOW), failed(2, NOW)]);
    observe_all(&mut c, [1, 2].map(|n| Symptom { state: FindingState::Cleared, ..failed(n, NOW) }));
    c.forget_old(NOW + CLEARED_KEPT_MS);
    assert_eq!(c.incidents().count(), 1);
    c.forget_old(NOW + CLEARED_KEPT_MS + 1);
    assert_eq!(c.incidents().count(), 0);
    assert!(c.symptom(failed(1, NOW).id).is_none());
}

#[test]
fn what_is_beyond_the_list_is_counted_once_and_keeps_the_incident_open() {
    let silent = |n: u32, state| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let id = SymptomId { host: HostId(id), finding: FindingId(1) };
        Symptom { id, state, ..symptom(1, 1, FindingKind::HostSilent, Subject::Host, NOW) }
    };
    let hosts = u32::try_from(MEMBERS_MAX).unwrap() + 300;
    let mut c = Correlator::new(1, Depends::default());
    observe_all(&mut c, (0..hosts).map(|n| silent(n, FindingState::Open)));
    assert_eq!(c.incidents().count(), 1);
    let incident = c.incidents().next().unwrap();
    assert_eq!((incident.members.len(), incident.beyond.len()), (MEMBERS_MAX, 300));
    let joined = c.take_joined();
    assert_eq!(joined.len(), MEMBERS_MAX + 300, "each has come in once");
    assert_eq!(c.take_joined(), []);
    c.give_joined_back(joined[..2].to_vec());
    assert_eq!(c.take_joined(), joined[..2]);
    // All that are listed clear, and those beyond do not.
    let listed = c.incidents().next().unwrap().members.clone();
    let (listed, beyond): (Vec<u32>, Vec<u32>) =
        (0..hosts).partition(|n| listed.contains(&silent(*n, FindingState::Open).id));
    observe_all(&mut c, listed.into_iter().map(|n| silent(n, FindingState::Cleared)));
    assert_eq!(c.incidents().next().unwrap().cleared_ms, None);
    observe_all(&mut c, beyond.into_iter().map(|n| silent(n, FindingState::Cleared)));
    assert_eq!(c.incidents().next().unwrap().cleared_ms, Some(NOW));
    c.forget_old(NOW + CLEARED_KEPT_MS + 1);
    assert!(c.incidents().next().is_none() && c.symptom(silent(hosts - 1, FindingState::Open).id).is_none());
    assert!(c.incident_of(silent(hosts - 1, FindingState::Open).id).is_none());
}

#[test]
fn a_dependency_is_held_against_each_finding_as_against_each_pair() {
    let on = |host: &str, unit: Option<&str>| Target {
        host: Glob::new(host),
        unit: unit.and_then(Glob::new),
        ..Target::default()
    };
    let declared = [
        (on("web-*", None), on("db-*", None)),
        (on("*", Some("app.*")), on("db-1*", Some("db.*"))),
        (on("*", None), on("web-1", None)),
        (on("db-*", Some("db.*")), on("db-*", Some("db.*"))),
    ];
    let depends = Depends { list: declared.map(|(from, on)| Declared { from, on }).to_vec() };
    let db = |n| symptom(n, 50, FindingKind::ServiceHung, unit("db.service"), NOW);
    let full = |n| symptom(n, 60, FindingKind::DiskFull, Subject::Mount("/var".into()), NOW);
    let all = [failed(1, NOW), failed(2, NOW), failed(11, NOW), db(11), db(12), full(1), full(12)];
    let symptoms: Vec<&Symptom> = all.iter().collect();
    let by_pairs: Vec<usize> =
        all.iter().map(|below| all.iter().filter(|above| depends.needs(above, below)).count()).collect();
    assert_eq!(depends.needed(&symptoms), by_pairs);
    assert!(by_pairs.iter().any(|n| *n > 2) && by_pairs.contains(&0), "{by_pairs:?}");
}
