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
    symptoms.into_iter().flat_map(|s| correlator.observe(s, NOW)).collect()
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
