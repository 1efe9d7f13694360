//! What the collector tells of a host as entries of its timeline: findings, decisions with their steps, changes,
//! gaps, and what only the ledger has: starts of the agent, orders.

use mainstay_core::id::{ActionId, DecisionId, FindingId};
use mainstay_proto::v1::decision::Choice;
use mainstay_proto::v1::record::Body;
use mainstay_proto::v1::{ChangeView, DecisionView, Finding, FindingView, Gap, LedgerEntry, Now, Record, StepView};
use prost::Message as _;

use crate::timeline::{Entry, What};
use crate::{records, view, words};

fn ms(now: Option<&Now>) -> i64 {
    now.map_or(0, |now| now.wall_ms)
}

/// When each finding opened, and what became of it.
pub(crate) fn findings(all: &[FindingView]) -> impl Iterator<Item = Entry> {
    all.iter().filter_map(|view| view.finding.as_ref()).flat_map(finding)
}

fn finding(finding: &Finding) -> impl Iterator<Item = Entry> {
    let subject = view::subject(finding.subject.as_ref());
    let why = finding.evidence.first().map_or(String::new(), |evidence| format!(": {}", evidence.text));
    let (opened_ms, changed_ms) = (ms(finding.opened.as_ref()), ms(finding.changed.as_ref()));
    let found = format!("{} ({}, {:.2}){why}", finding.kind, finding.severity, finding.confidence);
    let after = words::short(u64::try_from(changed_ms.saturating_sub(opened_ms)).unwrap_or(0));
    let end = match finding.state.as_str() {
        "cleared" => Some((What::Cleared, format!("{} after {after}", finding.kind))),
        "unknown" => Some((What::Unknown, format!("{}, whether it still is so after {after}", finding.kind))),
        _ => None,
    };
    let end = end.map(|(what, text)| Entry::new(changed_ms, what, subject.clone(), text));
    let opened = Entry::new(opened_ms, What::Found, subject, found);
    let id = FindingId(finding.id);
    [Some(opened), end].into_iter().flatten().map(move |entry| entry.under(id))
}

/// What was decided, what was done, and whether it helped.
pub(crate) fn decisions(all: &[DecisionView]) -> impl Iterator<Item = Entry> {
    all.iter().flat_map(decision)
}

fn decision(decided: &DecisionView) -> Vec<Entry> {
    let decision = decided.decision.clone().unwrap_or_default();
    let subject = view::subject(decision.subject.as_ref());
    let id = DecisionId(decision.id);
    let what = if matches!(decision.choice, Some(Choice::Act(_))) { What::Decided } else { What::Held };
    let unread = || format!("{}: a decision that this mainstay cannot read; upgrade it", decision.kind);
    let text = records::decided(&decision).unwrap_or_else(unread);
    let mut entries = vec![Entry::new(ms(decision.at.as_ref()), what, subject.clone(), text).under(id)];
    entries.extend(decided.steps.iter().map(step));
    if let (Some(verification), Some(at)) = (&decided.verification, &decided.verified_at) {
        let text = records::verification(verification);
        entries.push(Entry::new(at.wall_ms, What::Verified, subject, text).under(id));
    }
    entries
}

fn step(view: &StepView) -> Entry {
    let (action, target) = view::step(view.step.as_ref());
    let at_ms = ms(view.outcome_at.as_ref().or(view.intent_at.as_ref()));
    let mut text = match &view.outcome {
        Some(outcome) => format!("{action} {}", records::outcome(outcome)),
        None => format!("{action}, no outcome yet"),
    };
    if view.undone {
        text.push_str(" (undone since)");
    }
    Entry::new(at_ms, What::Did, target, text).under(ActionId(view.action))
}

/// What was changed on it, and marks that mean it.
pub(crate) fn changes(all: &[ChangeView]) -> impl Iterator<Item = Entry> {
    all.iter().filter_map(|view| view.change.as_ref()).map(|change| {
        let values = match (&change.before, &change.after) {
            (None, None) => String::new(),
            (None, Some(after)) => format!(" to {after}"),
            (Some(before), None) => format!(", was {before}"),
            (Some(before), Some(after)) => format!(" from {before} to {after}"),
        };
        let by = change.by.as_ref().map_or(String::new(), |by| format!(" by {by}"));
        let more = if change.text.is_empty() { String::new() } else { format!(": {}", change.text) };
        if change.kind == "host.booted" {
            return Entry::new(change.at_ms, What::Booted, "host", format!("kernel {}", change.subject));
        }
        Entry::new(change.at_ms, What::Changed, change.subject.clone(), format!("{}{values}{by}{more}", change.kind))
    })
}

/// What is known to have been lost on its way.
pub(crate) fn gaps(all: &[Gap]) -> impl Iterator<Item = Entry> {
    all.iter().map(|gap| {
        let items = words::count(usize::try_from(gap.seq_to.saturating_sub(gap.seq_from) + 1).unwrap_or(0), "item");
        let text = format!("{items} lost, until {} ({})", words::date_time(gap.wall_to_ms), gap.reason);
        Entry::new(gap.wall_from_ms, What::Missing, "data", text).until(gap.wall_to_ms)
    })
}

/// Where nothing is stored of it, but for what is told as lost.
pub(crate) fn silences(all: &[(i64, i64)], lost: &[Gap]) -> Vec<Entry> {
    let is_told = |(from, to): (i64, i64)| lost.iter().any(|gap| gap.wall_from_ms < to && gap.wall_to_ms > from);
    let entry = |&(from, to): &(i64, i64)| {
        let length = words::short(u64::try_from(to - from).unwrap_or(0));
        let text = format!("nothing is stored for {length}, until {}", words::date_time(to));
        Entry::new(from, What::Missing, "data", text).until(to)
    };
    all.iter().filter(|span| !is_told(**span)).map(entry).collect()
}

/// What only the ledger tells. Records that cannot be read are counted.
pub(crate) fn of_ledger(all: &[LedgerEntry]) -> (Vec<Entry>, usize) {
    let (mut entries, mut unread, mut boot) = (Vec::new(), 0, None);
    for record in all.iter().map(|entry| Record::decode(&entry.record[..])) {
        let Ok(Record { at, body: Some(body) }) = record else {
            unread += 1;
            continue;
        };
        let at_ms = ms(at.as_ref());
        if let Body::Started(started) = &body {
            let is_other = boot.replace(started.boot.clone()).is_some_and(|before| before != started.boot);
            let after = if is_other { ", after the host booted" } else { "" };
            let text = format!("version {}{after}", started.version);
            entries.push(Entry::new(at_ms, What::Started, "agent", text));
        }
        entries.extend(ordered(at_ms, &body));
    }
    (entries, unread)
}

fn ordered(at_ms: i64, body: &Body) -> Option<Entry> {
    let (what, subject) = match body {
        Body::Answered(_) => (What::Ordered, "decision"),
        Body::Hold(hold) => (What::Ordered, hold.scope.as_str()),
        Body::Undone(_) => (What::Ordered, "action"),
        Body::Learning(_) => (What::Ordered, "learning"),
        Body::Policy(policy) if policy.refused.is_some() => (What::Changed, "policy"),
        // The rest is told with findings, decisions and changes.
        _ => return None,
    };
    let entry = Entry::new(at_ms, what, subject, records::text(Some(body))?);
    Some(Entry { id: records::id(Some(body)), ..entry })
}

#[cfg(test)]
mod tests {
    use mainstay_core::id::BootId;
    use mainstay_core::record::{self, Author, LearningChange};
    use mainstay_core::time;
    use mainstay_proto::convert::encode_record;
    use mainstay_proto::v1::step::Of as StepOf;
    use mainstay_proto::v1::subject::Of;
    use mainstay_proto::v1::{
        Change, Decision, Evidence, Hold, Outcome, Plan, PlannedStep, Step, Subject, UnitStep, Verification,
    };

    use super::*;

    fn at(wall_ms: i64) -> Option<Now> {
        Some(Now { boot_ns: 0, wall_ms })
    }

    fn unit() -> Option<Subject> {
        Some(Subject { of: Some(Of::Unit("nginx.service".into())) })
    }

    fn lines(entries: impl IntoIterator<Item = Entry>) -> Vec<String> {
        let line = |entry: Entry| format!("{} {} {}: {}", entry.at_ms, entry.what.word(), entry.subject, entry.text);
        entries.into_iter().map(line).collect()
    }

    #[test]
    fn a_finding_is_told_when_it_opened_and_when_it_ended() {
        let finding = |state: &str| FindingView {
            finding: Some(Finding {
                kind: "service.failed".into(),
                subject: unit(),
                severity: "critical".into(),
                confidence: 1.0,
                state: state.into(),
                opened: at(1_000),
                changed: at(31_000),
                evidence: vec![Evidence { text: "status=9/KILL".into(), measure: None }],
                ..Finding::default()
            }),
            ..FindingView::default()
        };
        let found = "1000 found nginx.service: service.failed (critical, 1.00): status=9/KILL";
        assert_eq!(lines(findings(&[finding("open")])), [found]);
        let cleared = lines(findings(&[finding("cleared")]));
        assert_eq!(cleared, [found, "31000 cleared nginx.service: service.failed after 30s"]);
        assert_eq!(findings(&[finding("unknown")]).last().unwrap().what, What::Unknown);
    }

    #[test]
    fn a_decision_is_told_with_what_was_done_and_whether_it_helped() {
        let step =
            Step { of: Some(StepOf::UnitRestart(UnitStep { unit: "nginx.service".into(), ..UnitStep::default() })) };
        let plan =
            Plan { steps: vec![PlannedStep { step: Some(step.clone()), ..PlannedStep::default() }], ..Plan::default() };
        let decision = Decision {
            at: at(5),
            kind: "service.failed".into(),
            subject: unit(),
            rule: Some("web".into()),
            choice: Some(Choice::Act(plan.clone())),
            ..Decision::default()
        };
        let outcome =
            Outcome { ended: "done".into(), text: "new main PID 7".into(), elapsed_ms: 180, freed_bytes: None };
        let done = StepView {
            step: Some(step.clone()),
            intent_at: at(6),
            outcome_at: at(7),
            outcome: Some(outcome),
            ..StepView::default()
        };
        let under_way = StepView { step: Some(step), intent_at: at(8), ..StepView::default() };
        let acted = DecisionView {
            decision: Some(decision.clone()),
            steps: vec![done, under_way],
            verification: Some(Verification { recovered: true, text: "active for 30 s".into(), down_ms: Some(410) }),
            verified_at: at(9),
            ..DecisionView::default()
        };
        assert_eq!(
            lines(decisions(&[acted])),
            [
                "5 decided nginx.service: service.failed: unit.restart nginx.service, rule web",
                "7 did nginx.service: unit.restart done in 0.18s: new main PID 7",
                "8 did nginx.service: unit.restart, no outcome yet",
                "9 verified nginx.service: helped: active for 30 s, down for 0.41s",
            ]
        );
        let hold = Hold { reason: "budget_spent".into(), would: Some(plan) };
        let held = Decision { choice: Some(Choice::Hold(hold)), ..decision };
        assert_eq!(
            lines(decisions(&[DecisionView { decision: Some(held), ..DecisionView::default() }])),
            ["5 held nginx.service: service.failed: budget spent; else unit.restart nginx.service, rule web"]
        );
    }

    #[test]
    fn changes_and_boots_are_told_with_what_they_were_before_and_by_whom() {
        let change =
            |kind: &str, subject: &str, before: Option<&str>, after: Option<&str>, by: Option<&str>| ChangeView {
                change: Some(Change {
                    at_ms: 3,
                    kind: kind.into(),
                    subject: subject.into(),
                    before: before.map(Into::into),
                    after: after.map(Into::into),
                    by: by.map(Into::into),
                    ..Change::default()
                }),
                ..ChangeView::default()
            };
        let all = [
            change("package.upgraded", "nginx", Some("1.0"), Some("1.1"), Some("root")),
            change("package.removed", "nginx", Some("1.1"), None, None),
            change("host.booted", "6.1.0-10", None, None, None),
        ];
        assert_eq!(
            lines(changes(&all)),
            [
                "3 changed nginx: package.upgraded from 1.0 to 1.1 by root",
                "3 changed nginx: package.removed, was 1.1",
                "3 booted host: kernel 6.1.0-10",
            ]
        );
    }

    #[test]
    fn what_is_told_as_lost_is_not_told_as_silence_too() {
        let gap = Gap { seq_from: 5, seq_to: 9, wall_from_ms: 1_000, wall_to_ms: 61_000, reason: "spool full".into() };
        let told = lines(gaps(std::slice::from_ref(&gap)));
        assert!(told[0].starts_with("1000 missing data: 5 items lost, until "), "{told:?}");
        let silent = silences(&[(0, 70_000), (100_000, 400_000)], &[gap]);
        assert_eq!((silent.len(), silent[0].at_ms, silent[0].until_ms), (1, 100_000, Some(400_000)));
        assert!(silent[0].text.starts_with("nothing is stored for 5m, until "), "{silent:?}");
    }

    #[test]
    fn starts_and_orders_come_from_the_ledger() {
        let by = Author { name: "ops".into(), reason: "network change".into() };
        let hold = |held, until_ms| record::Body::Hold { scope: "fleet".into(), until_ms, held, by: by.clone() };
        let started = |boot| record::Body::Started { boot: BootId([boot; 16]), version: "0.1.0".into() };
        let bodies = [
            started(1),
            started(1),
            hold(true, None),
            hold(false, None),
            started(2),
            record::Body::Answered { decision: DecisionId(0x1f), approved: false, until_ms: 0, by: by.clone() },
            record::Body::Learning {
                change: LearningChange::Reset { metric: None },
                order: [0; 32],
                not_after_ms: 0,
                by,
            },
        ];
        let mut all: Vec<LedgerEntry> = (1..)
            .zip(bodies)
            .map(|(index, body)| {
                let at = time::Now { boot_ns: 0, wall_ms: index * 10 };
                let record = encode_record(&record::Record { at, body });
                LedgerEntry { index: index.cast_unsigned(), record, hash: Vec::new() }
            })
            .collect();
        all.push(LedgerEntry { record: vec![0xff; 3], ..LedgerEntry::default() });
        let (entries, unread) = of_ledger(&all);
        assert_eq!(unread, 1);
        assert_eq!(entries[4].id, None);
        assert_eq!(entries[5].id.as_deref(), Some("d-000000000000001f"));
        assert_eq!(
            lines(entries),
            [
                "10 started agent: version 0.1.0",
                "20 started agent: version 0.1.0",
                "30 ordered fleet: acting is stopped by ops: network change",
                "40 ordered fleet: acting is allowed again by ops: network change",
                "50 started agent: version 0.1.0, after the host booted",
                "60 ordered decision: denied by ops: network change",
                "70 ordered learning: what was learned is forgotten by ops: network change",
            ]
        );
    }
}
