//! Values of every domain type, for the property tests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::change::{Change, ChangeKind};
use mainstay_core::connections::{Direction, Listening, Peer, Traffic};
use mainstay_core::decision::{Choice, Decision, Guard, HoldReason, Mode, PolicyRef, Verdict};
use mainstay_core::detect::learned::{LearnedModel, LearnedSubject, SnapshotInfo};
use mainstay_core::finding::{Evidence, Finding, FindingKind, FindingState, Measure, Severity};
use mainstay_core::host_query::connections::{EdgeRow, ListenerRow};
use mainstay_core::host_query::logs::LogLine;
use mainstay_core::host_query::top::{ContainerRow, ProcessRow, TopBy, UnitRow};
use mainstay_core::host_query::{
    ConnectionsQuery, ConnectionsReply, HostQuery, HostReply, LogsQuery, LogsReply, ModelsQuery, ModelsReply,
    RecordQuery, RecordReply, TopQuery, TopReply,
};
use mainstay_core::id::{ActionId, BootId, DecisionId, FindingId};
use mainstay_core::plan::{
    AgedFiles, DiskReclaim, Plan, PlannedStep, ReclaimPlace, ResetFailed, Risk, Step, Undo, Verify,
};
use mainstay_core::policy::Glob;
use mainstay_core::processes::Held;
use mainstay_core::readings::SeriesKind;
use mainstay_core::record::{Author, Body, Ended, LearningChange, Outcome, Record, Verification};
use mainstay_core::recording::{FindingRecording, Recorded, Recording};
use mainstay_core::sample::HostFacts;
use mainstay_core::scene::{ProcessScene, Scene, SceneLine, SocketScene, UnitScene};
use mainstay_core::series::{Point, SeriesKey, Summary};
use mainstay_core::subject::{PathBytes, Subject, UnitName};
use mainstay_core::time::Now;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

fn number() -> impl Strategy<Value = f64> {
    -1e12..1e12
}

fn now() -> impl Strategy<Value = Now> {
    (any::<u64>(), any::<i64>()).prop_map(|(boot_ns, wall_ms)| Now { boot_ns, wall_ms })
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

fn unit() -> impl Strategy<Value = UnitName> {
    "[a-z@-]{1,9}\\.(service|timer)".prop_map(|name| name.parse().unwrap())
}

fn path() -> impl Strategy<Value = PathBytes> {
    vec(any::<u8>(), 0..12).prop_map(PathBytes)
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let texts = (text(), of(text()), of(text()), of(text()), text());
    (any::<i64>(), any::<i64>(), select(ChangeKind::ALL.to_vec()), texts).prop_map(|(at_ms, seen_ms, kind, texts)| {
        let (subject, from, to, by, text) = texts;
        Change { at_ms, seen_ms, kind, subject, from, to, by, text }
    })
}

pub(crate) fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        Just(Subject::Host),
        unit().prop_map(Subject::Unit),
        path().prop_map(Subject::Mount),
        text().prop_map(Subject::Disk),
        text().prop_map(Subject::Interface),
        text().prop_map(Subject::Series),
    ]
}

fn evidence() -> impl Strategy<Value = Vec<Evidence>> {
    let measure = (text(), number(), of(number()), of(number())).prop_map(|(name, value, limit, expected)| Measure {
        name,
        value,
        limit,
        expected,
    });
    vec((text(), of(measure)).prop_map(|(text, measure)| Evidence { text, measure }), 0..3)
}

fn learning_change() -> impl Strategy<Value = LearningChange> {
    prop_oneof![
        "[a-z*]{0,9}".prop_map(|metric| LearningChange::Reset { metric: Glob::new(&metric) }),
        any::<i64>().prop_map(|to_ms| LearningChange::Rollback { to_ms: Some(to_ms) }),
    ]
}

prop_compose! {
    pub(crate) fn finding()(
        (id, effect_of) in (any::<u64>(), of(any::<u64>())),
        kind in select(FindingKind::ALL),
        subject in subject(),
        severity in select(vec![Severity::Info, Severity::Warning, Severity::Critical]),
        confidence in 0.0..=1.0,
        state in select(vec![FindingState::Open, FindingState::Cleared, FindingState::Unknown]),
        (opened, changed) in (now(), now()),
        evidence in evidence(),
    ) -> Finding {
        let (id, effect_of) = (FindingId(id), effect_of.map(ActionId));
        Finding { id, kind, subject, severity, confidence, state, opened, changed, evidence, effect_of }
    }
}

fn place() -> impl Strategy<Value = ReclaimPlace> {
    let aged = (text(), path(), vec(text(), 1..3), duration()).prop_map(|(name, under, files, older_than)| AgedFiles {
        name,
        under,
        files,
        older_than,
    });
    prop_oneof![
        Just(ReclaimPlace::AptCache),
        Just(ReclaimPlace::CoreDumps),
        Just(ReclaimPlace::Journal),
        aged.prop_map(ReclaimPlace::Aged),
    ]
}

fn reclaim() -> impl Strategy<Value = DiskReclaim> {
    let undo = prop_oneof![Just(Undo::None), duration().prop_map(Undo::For)];
    (path(), vec(place(), 1..4), 0.0..=1.0, undo).prop_map(|(mount, from, until_used_ratio, undo)| DiskReclaim {
        mount,
        from,
        until_used_ratio,
        undo,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let reset = || select(vec![ResetFailed::Keep, ResetFailed::Clear]);
    prop_oneof![
        (unit(), reset()).prop_map(|(unit, reset_failed)| Step::UnitRestart { unit, reset_failed }),
        (unit(), reset()).prop_map(|(unit, reset_failed)| Step::UnitStart { unit, reset_failed }),
        unit().prop_map(|unit| Step::UnitStop { unit }),
        unit().prop_map(|unit| Step::UnitReload { unit }),
        reclaim().prop_map(Step::DiskReclaim),
        text().prop_map(|to| Step::Notify { to }),
    ]
}

pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let planned = (any::<u64>(), step()).prop_map(|(action, step)| PlannedStep { action: ActionId(action), step });
    let risk = select(vec![Risk::Low, Risk::Medium, Risk::High]);
    (vec(planned, 0..3), risk, duration(), duration(), any::<u32>()).prop_map(
        |(steps, risk, stable_for, within, rung)| Plan { steps, risk, verify: Verify { stable_for, within }, rung },
    )
}

fn policy() -> impl Strategy<Value = PolicyRef> {
    (any::<u64>(), any::<[u8; 32]>()).prop_map(|(generation, hash)| PolicyRef { generation, hash })
}

prop_compose! {
    fn verdict()(guard in select(Guard::ALL), pass in any::<bool>(), text in text()) -> Verdict {
        Verdict { guard, pass, text }
    }
}

prop_compose! {
    pub(crate) fn decision()(
        (id, finding) in (any::<u64>(), any::<u64>()),
        at in now(),
        kind in select(FindingKind::ALL),
        subject in subject(),
        (opened, confidence) in (now(), 0.0..=1.0),
        evidence in evidence(),
        rule in of(text()),
        policy in policy(),
        mode in select(Mode::ALL.to_vec()),
        verdicts in vec(verdict(), 0..4),
        choice in prop_oneof![
            plan().prop_map(Choice::Act),
            (select(HoldReason::ALL), of(plan())).prop_map(|(reason, would)| Choice::Hold { reason, would }),
        ],
    ) -> Decision {
        let (id, finding) = (DecisionId(id), FindingId(finding));
        Decision { id, at, finding, kind, subject, opened, confidence, evidence, rule, policy, mode, verdicts, choice }
    }
}

prop_compose! {
    fn outcome()(
        ended in select(vec![Ended::Done, Ended::Failed, Ended::Refused, Ended::Unknown]),
        text in text(),
        elapsed_ms in any::<u64>(),
        freed_bytes in of(any::<u64>()),
    ) -> Outcome {
        Outcome { ended, text, elapsed_ms, freed_bytes }
    }
}

fn verification() -> impl Strategy<Value = Verification> {
    (any::<bool>(), text(), of(any::<u64>())).prop_map(|(recovered, text, down_ms)| Verification {
        recovered,
        text,
        down_ms,
    })
}

fn author() -> impl Strategy<Value = Author> {
    (text(), text()).prop_map(|(name, reason)| Author { name, reason })
}

fn body() -> impl Strategy<Value = Body> {
    let decision_id = || any::<u64>().prop_map(DecisionId);
    let action_id = || any::<u64>().prop_map(ActionId);
    prop_oneof![
        (any::<[u8; 16]>(), text()).prop_map(|(boot, version)| Body::Started { boot: BootId(boot), version }),
        decision().prop_map(|decision| Body::Decided(Box::new(decision))),
        (decision_id(), action_id(), step()).prop_map(|(decision, action, step)| Body::Intent {
            decision,
            action,
            step
        }),
        (decision_id(), action_id(), outcome()).prop_map(|(decision, action, outcome)| Body::Outcome {
            decision,
            action,
            outcome
        }),
        (decision_id(), verification()).prop_map(|(decision, verification)| Body::Verified { decision, verification }),
        (policy(), of(text())).prop_map(|(policy, refused)| Body::Policy { policy, refused }),
        (decision_id(), any::<bool>(), any::<i64>(), author())
            .prop_map(|(decision, approved, until_ms, by)| Body::Answered { decision, approved, until_ms, by }),
        (text(), of(any::<i64>()), any::<bool>(), author()).prop_map(|(scope, until_ms, held, by)| Body::Hold {
            scope,
            until_ms,
            held,
            by
        }),
        (action_id(), outcome(), author()).prop_map(|(action, outcome, by)| Body::Undone { action, outcome, by }),
        (learning_change(), any::<[u8; 32]>(), any::<i64>(), author())
            .prop_map(|(change, order, not_after_ms, by)| { Body::Learning { change, order, not_after_ms, by } }),
    ]
}

pub(crate) fn record() -> impl Strategy<Value = Record> {
    (now(), body()).prop_map(|(at, body)| Record { at, body })
}

prop_compose! {
    pub(crate) fn facts()(
        hostname in text(),
        boot in any::<[u8; 16]>(),
        (kernel, os, agent_version) in (text(), text(), text()),
        labels in btree_map(text(), text(), 0..3),
    ) -> HostFacts {
        HostFacts { hostname, boot: BootId(boot), kernel, os, agent_version, labels }
    }
}

pub(crate) fn series_key() -> impl Strategy<Value = SeriesKey> {
    ("[a-z_]{1,9}", btree_map("[a-z]{1,4}", text(), 0..3))
        .prop_map(|(name, labels)| SeriesKey { name, labels: labels.into_iter().collect() })
}

pub(crate) fn summary() -> impl Strategy<Value = Summary> {
    let gauge = (number(), number(), number(), number());
    let point = prop_oneof![
        number().prop_map(Point::Counter),
        gauge.prop_map(|(last, min, max, mean)| Point::Gauge { last, min, max, mean }),
    ];
    (now(), any::<u32>(), any::<u32>(), btree_map(series_key().prop_map(Arc::new), point, 0..12)).prop_map(
        |(at, window_ms, samples, points)| Summary { at, window_ms, samples, points: points.into_iter().collect() },
    )
}

pub(crate) fn host_query() -> impl Strategy<Value = HostQuery> {
    let glob = || "[a-z*?]{0,12}".prop_map(|glob| Glob::new(&glob));
    let models = (glob(), any::<[u32; 2]>())
        .prop_map(|(metric, [from, limit])| HostQuery::Models(ModelsQuery { metric, from, limit }));
    let record = (glob(), duration(), any::<[u32; 2]>())
        .prop_map(|(series, last, [from, limit])| HostQuery::Record(RecordQuery { last, series, from, limit }));
    let top = (select(&TopBy::ALL[..]), glob(), any::<u32>())
        .prop_map(|(by, unit, limit)| HostQuery::Top(TopQuery { by, unit, limit }));
    let connections =
        (glob(), any::<u32>()).prop_map(|(unit, limit)| HostQuery::Connections(ConnectionsQuery { unit, limit }));
    let logs = (of(unit()), duration(), 0..8u8, any::<u32>())
        .prop_map(|(unit, since, priority, limit)| HostQuery::Logs(LogsQuery { unit, since, priority, limit }));
    prop_oneof![models, record, top, connections, logs]
}

prop_compose! {
    fn log_line()(
        wall_ms in any::<i64>(), priority in 0..8u8, (unit, from, text) in (text(), text(), text()),
    ) -> LogLine {
        LogLine { wall_ms, priority, unit, from, text }
    }
}

fn logs_reply() -> impl Strategy<Value = HostReply> {
    (vec(log_line(), 0..4), any::<bool>()).prop_map(|(lines, has_more)| HostReply::Logs(LogsReply { lines, has_more }))
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

prop_compose! {
    fn listener_row()(
        unit in text(), (address, port) in (address(), any::<u16>()), [waiting, waiting_max] in any::<[u32; 2]>(),
    ) -> ListenerRow {
        let listening = Listening { local: SocketAddr::new(address, port), waiting, waiting_max };
        ListenerRow { unit, listening }
    }
}

prop_compose! {
    fn edge_row()(
        (unit, address, port, is_in) in (text(), address(), any::<u16>(), any::<bool>()),
        [open, opening, half_closed, rtt_of, rtt_us_max] in any::<[u32; 5]>(),
        [rtt_us_sum, retransmitted, segments_sent, sent_bytes, received_bytes] in any::<[u64; 5]>(),
        (known_for, last_seen) in (duration(), duration()),
    ) -> EdgeRow {
        let direction = if is_in { Direction::In } else { Direction::Out };
        let traffic = Traffic {
            open, opening, half_closed, rtt_us_sum, rtt_of, rtt_us_max, retransmitted, segments_sent, sent_bytes,
            received_bytes,
        };
        EdgeRow { unit, peer: Peer { direction, address, port }, traffic, known_for, last_seen }
    }
}

prop_compose! {
    fn connections_reply()(
        (age, notes) in (duration(), vec(text(), 0..3)),
        [connections, listeners_more, edges_more] in any::<[u32; 3]>(),
        (listeners, edges) in (vec(listener_row(), 0..3), vec(edge_row(), 0..3)),
    ) -> HostReply {
        HostReply::Connections(ConnectionsReply {
            age, connections, listeners, listeners_more, edges, edges_more, notes,
        })
    }
}

fn io() -> impl Strategy<Value = Option<(u64, u64)>> {
    of(any::<(u64, u64)>())
}

prop_compose! {
    fn process_row()(
        [pid, ppid, threads] in any::<[u32; 3]>(),
        (name, unit, state) in (text(), text(), any::<char>()),
        (cpu, io, age) in (number(), io(), any::<u32>()),
        (rss_bytes, fds, fds_max) in (any::<u64>(), of(any::<u64>()), of(any::<u64>())),
        (ended_cpu, is_new) in (number(), any::<bool>()),
    ) -> ProcessRow {
        let age = Duration::from_secs(age.into());
        ProcessRow {
            pid, ppid, name, unit, state, cpu, ended_cpu, is_new, rss_bytes, threads, io, fds, fds_max, age,
        }
    }
}

prop_compose! {
    fn unit_row()(
        (unit, [processes, threads, new], ended_cpu) in (text(), any::<[u32; 3]>(), number()),
        (tasks, tasks_max, fds) in (of(any::<u64>()), of(any::<u64>()), of(any::<u64>())),
        (cpu, rss_bytes, io, fds_used_ratio) in (number(), any::<u64>(), io(), of(number())),
    ) -> UnitRow {
        UnitRow {
            unit, processes, new, threads, tasks, tasks_max, cpu, ended_cpu, rss_bytes, io, fds, fds_used_ratio,
        }
    }
}

prop_compose! {
    fn held()(
        mount in vec(any::<u8>(), 0..9), (unit, name) in (text(), text()), [pid, files] in any::<[u32; 2]>(),
        bytes in any::<u64>(),
    ) -> Held {
        Held { mount: PathBytes(mount), unit, pid, name, files, bytes }
    }
}

prop_compose! {
    fn container_row()(
        (name, runtime, id, image) in (text(), text(), text(), text()),
        (cpu, io, processes) in (of(number()), io(), any::<u32>()),
        [memory_bytes, memory_max_bytes, tasks, tasks_max, fds] in any::<[Option<u64>; 5]>(),
    ) -> ContainerRow {
        ContainerRow {
            name, runtime, id, image, cpu, memory_bytes, memory_max_bytes, io, processes, tasks, tasks_max, fds,
        }
    }
}

prop_compose! {
    fn top_reply()(
        (cpu_window, io_window) in (duration(), of(duration())),
        [cpus, total, threads, zombies, uninterruptible, processes_more, units_more] in any::<[u32; 7]>(),
        (processes, stuck) in (vec(process_row(), 0..3), vec(process_row(), 0..3)),
        units in vec(unit_row(), 0..3),
        (held, notes) in (of(vec(held(), 0..3)), vec(text(), 0..3)),
        (forks_per_second, containers, containers_more) in (of(number()), vec(container_row(), 0..3), any::<u32>()),
    ) -> HostReply {
        HostReply::Top(TopReply {
            cpu_window, io_window, cpus, total, threads, zombies, uninterruptible, forks_per_second, processes,
            processes_more, units, units_more, containers, containers_more, stuck, held, notes,
        })
    }
}

fn recorded(rows: usize) -> impl Strategy<Value = Recorded> {
    let kind = select(&[SeriesKind::Counter, SeriesKind::Gauge][..]);
    (series_key(), kind, vec(number(), rows)).prop_map(|(key, kind, values)| Recorded { key, kind, values })
}

/// Without holes: what is not there is no number, and no number is like another.
fn recording() -> impl Strategy<Value = Recording> {
    (0usize..9).prop_flat_map(|rows| {
        let at = vec((0u64..1 << 40, any::<i64>()), rows);
        (any::<[u8; 16]>(), at, vec(recorded(rows), 0..4), any::<u32>()).prop_map(|(boot, at, series, left_out)| {
            let moment = |(ms, wall_ms)| Now { boot_ns: ms * 1_000_000, wall_ms };
            Recording { boot: BootId(boot), at: at.into_iter().map(moment).collect(), series, left_out }
        })
    })
}

prop_compose! {
    pub(crate) fn finding_recording()(
        finding in any::<u64>(), opened_ms in any::<i64>(), recording in recording(),
    ) -> FindingRecording {
        FindingRecording { finding: FindingId(finding), opened_ms, recording }
    }
}

prop_compose! {
    fn learned_model()(
        (name, in_force) in (text(), text()),
        (version, subjects, state_bytes) in (any::<u32>(), any::<u32>(), any::<u64>()),
        (since_ms, reset_ms, rolled_back_ms) in (of(any::<i64>()), of(any::<i64>()), of(any::<i64>())),
        (trained, learning) in (duration(), of(duration())),
        is_frozen in any::<bool>(),
    ) -> LearnedModel {
        LearnedModel {
            name, version, subjects, since_ms, trained, learning, state_bytes, in_force, is_frozen, reset_ms,
            rolled_back_ms,
        }
    }
}

prop_compose! {
    fn learned_subject()(
        (model, name, text) in (text(), text(), text()),
        since_ms in of(any::<i64>()),
        (trained, learning, state_bytes) in (duration(), of(duration()), any::<u64>()),
        (expected, scale, limit) in (of(number()), of(number()), of(number())),
    ) -> LearnedSubject {
        LearnedSubject { model, name, since_ms, trained, learning, state_bytes, expected, scale, limit, text }
    }
}

prop_compose! {
    fn snapshot_info()(at_ms in any::<i64>(), why in text(), bytes in any::<u64>(), unreadable in of(text())) -> SnapshotInfo {
        SnapshotInfo { at_ms, why, bytes, unreadable }
    }
}

prop_compose! {
    fn models_reply()(
        models in vec(learned_model(), 0..3),
        subjects in vec(learned_subject(), 0..3),
        (matching, next) in (any::<u32>(), of(any::<u32>())),
        is_frozen in any::<bool>(),
        snapshots in vec(snapshot_info(), 0..3),
        relearning in vec(text(), 0..3),
    ) -> HostReply {
        HostReply::Models(ModelsReply { models, subjects, matching, next, is_frozen, snapshots, relearning })
    }
}

pub(crate) fn host_reply() -> impl Strategy<Value = HostReply> {
    let record = (recording(), any::<u32>(), of(any::<u32>()))
        .prop_map(|(recording, matching, next)| HostReply::Record(RecordReply { recording, matching, next }));
    prop_oneof![models_reply(), record, top_reply(), connections_reply(), logs_reply()]
}

prop_compose! {
    fn process_scene()(
        (name, state, waits_in) in (text(), text(), text()),
        stack in vec(text(), 0..3),
        [pid, threads, fds, sockets] in any::<[u32; 4]>(),
        rss_bytes in any::<u64>(),
    ) -> ProcessScene {
        ProcessScene { pid, name, state, waits_in, stack, threads, rss_bytes, fds, sockets }
    }
}

prop_compose! {
    fn socket_scene()((kind, local, remote) in (text(), text(), text()), [unread, unsent] in any::<[u64; 2]>())
        -> SocketScene {
        SocketScene { kind, local, remote, unread, unsent }
    }
}

prop_compose! {
    fn unit_scene()(
        processes in vec(process_scene(), 0..3),
        sockets in vec(socket_scene(), 0..3),
        [processes_more, sockets_more] in any::<[u32; 2]>(),
        limits in vec(text(), 0..3),
    ) -> UnitScene {
        UnitScene { processes, processes_more, sockets, sockets_more, limits }
    }
}

prop_compose! {
    fn scene_line()(wall_ms in any::<i64>(), priority in 0u8..8, (from, text) in (text(), text())) -> SceneLine {
        SceneLine { wall_ms, priority, from, text }
    }
}

prop_compose! {
    pub(crate) fn scene()(
        [action, decision, elapsed_ms] in any::<[u64; 3]>(),
        (unit, at, processes) in (unit(), now(), unit_scene()),
        lines in vec(scene_line(), 0..3),
        notes in vec(text(), 0..3),
    ) -> Scene {
        Scene {
            action: ActionId(action), decision: DecisionId(decision), unit, at, elapsed_ms, lines, processes, notes,
        }
    }
}
