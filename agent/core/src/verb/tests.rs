//! The protocol: what is written is read back, and no bytes make the decoder panic.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::plan::{AgedFiles, ReclaimPlace, Undo};
use crate::processes::{Deleted, Inspected, ProcessCounts};
use crate::record::Ended;
use crate::scene::{ProcessScene, SocketScene, UnitScene};
use crate::subject::PathBytes;

fn units() -> impl Strategy<Value = UnitName> {
    "[a-z]{1,12}(@[0-9]{1,3})?\\.(service|timer)".prop_map(|name| name.parse().unwrap())
}

fn resets() -> impl Strategy<Value = ResetFailed> {
    prop_oneof![Just(ResetFailed::Keep), Just(ResetFailed::Clear)]
}

fn paths() -> impl Strategy<Value = PathBytes> {
    proptest::collection::vec(1u8..=255, 0..40).prop_map(PathBytes)
}

fn places() -> impl Strategy<Value = ReclaimPlace> {
    let aged = ("[a-z]{1,9}", paths(), proptest::collection::vec("[*?a-z.]{1,9}", 0..4), any::<u32>());
    prop_oneof![
        Just(ReclaimPlace::AptCache),
        Just(ReclaimPlace::CoreDumps),
        Just(ReclaimPlace::Journal),
        aged.prop_map(|(name, under, files, ms)| {
            ReclaimPlace::Aged(AgedFiles { name, under, files, older_than: Duration::from_millis(ms.into()) })
        }),
    ]
}

fn verbs() -> impl Strategy<Value = Verb> {
    let undo = prop_oneof![Just(Undo::None), any::<u32>().prop_map(|ms| Undo::For(Duration::from_millis(ms.into())))];
    let reclaim = (paths(), proptest::collection::vec(places(), 0..5), 0.0f64..=1.0, undo).prop_map(
        |(mount, from, until_used_ratio, undo)| Verb::DiskReclaim(DiskReclaim { mount, from, until_used_ratio, undo }),
    );
    prop_oneof![
        (units(), resets()).prop_map(|(unit, reset_failed)| Verb::UnitStart { unit, reset_failed }),
        (units(), resets()).prop_map(|(unit, reset_failed)| Verb::UnitRestart { unit, reset_failed }),
        units().prop_map(|unit| Verb::UnitStop { unit }),
        units().prop_map(|unit| Verb::UnitReload { unit }),
        units().prop_map(|unit| Verb::Scene { unit }),
        reclaim,
        any::<u64>().prop_map(|id| Verb::Undo { action: ActionId(id) }),
        any::<u64>().prop_map(|id| Verb::Status { action: ActionId(id) }),
        "[a-z-]{1,20}".prop_map(|name| Verb::ProbeCommand { name }),
        Just(Verb::PurgeExpired),
        Just(Verb::Ping),
        Just(Verb::Processes),
    ]
}

fn details() -> impl Strategy<Value = Detail> {
    let place = ("[a-z-]{1,9}", any::<[u64; 3]>(), 0..SkipReason::ALL.len()).prop_map(|(name, n, reason)| PlaceDone {
        name,
        freed_bytes: n[0],
        purged_files: n[1],
        held_files: n[2],
        skipped: vec![SkipCount { reason: SkipReason::ALL[reason], files: n[0] }],
    });
    let reclaim = (
        any::<[u64; 2]>(),
        0.0f64..=1.0,
        proptest::collection::vec(place, 0..4),
        0..StopReason::ALL.len(),
        any::<Option<i64>>(),
    )
        .prop_map(|(n, ratio, places, stopped, undo_until_ms)| ReclaimDone {
            freed_bytes: n[0],
            used_ratio_before: ratio,
            used_ratio_after: 1.0 - ratio,
            places,
            stopped: StopReason::ALL[stopped],
            undo_until_ms,
            elapsed_ms: n[1],
        });
    let process = ("[a-z]{0,9}", ".{0,9}", proptest::collection::vec("[a-z+/]{0,9}", 0..4), any::<[u32; 5]>())
        .prop_map(|(name, state, stack, [pid, threads, rss, fds, sockets])| {
            let (waits_in, rss_bytes) = (name.clone(), rss.into());
            ProcessScene { pid, name, state, waits_in, stack, threads, rss_bytes, fds, sockets }
        });
    let socket = ("[a-z ]{0,9}", "[0-9.:]{0,9}", any::<[u64; 2]>())
        .prop_map(|(kind, local, [unread, unsent])| SocketScene { kind, remote: local.clone(), local, unread, unsent });
    let lists = (proptest::collection::vec(process, 0..4), proptest::collection::vec(socket, 0..4));
    let scene = (lists, any::<[u32; 2]>(), proptest::collection::vec(".{0,9}", 0..3)).prop_map(
        |((processes, sockets), [processes_more, sockets_more], limits)| {
            Detail::Scene(UnitScene { processes, processes_more, sockets, sockets_more, limits })
        },
    );
    let counts_of = (any::<[u32; 2]>(), any::<[u64; 2]>(), any::<Option<u64>>()).prop_map(
        |([pid, fds], [read_bytes, written_bytes], fds_max)| ProcessCounts {
            pid,
            read_bytes,
            written_bytes,
            fds,
            fds_max,
        },
    );
    let deleted = (any::<[u32; 4]>(), any::<u64>()).prop_map(|([pid, major, minor, files], bytes)| Deleted {
        pid,
        device: (major, minor),
        files,
        bytes,
    });
    let lists = (proptest::collection::vec(counts_of, 0..4), proptest::collection::vec(deleted, 0..4));
    let inspected =
        (lists, any::<[u32; 3]>()).prop_map(|((processes, deleted), [processes_more, unread, deleted_more])| {
            Detail::Processes(Inspected { processes, processes_more, unread, deleted, deleted_more })
        });
    prop_oneof![
        scene,
        inspected,
        (0..JobResult::ALL.len(), any::<u64>(), any::<Option<u32>>()).prop_map(|(job, elapsed_ms, main_pid)| {
            Detail::Unit(UnitDone { job: JobResult::ALL[job], elapsed_ms, main_pid })
        }),
        reclaim.prop_map(Detail::Reclaim),
        (any::<[u64; 3]>(), proptest::collection::vec((paths(), ".{0,9}"), 0..4)).prop_map(|(n, conflicts)| {
            let conflicts = conflicts.into_iter().map(|(path, why)| Conflict { path, why }).collect();
            Detail::Undo(UndoDone { restored_files: n[0], restored_bytes: n[1], conflicts, conflicts_total: n[2] })
        }),
        any::<[u64; 3]>().prop_map(|[actions, files, bytes]| Detail::Purge(PurgeDone { actions, files, bytes })),
        (any::<i32>(), any::<u64>(), any::<bool>()).prop_map(|(exit_status, elapsed_ms, timed_out)| {
            Detail::Probe(ProbeDone { exit_status, elapsed_ms, timed_out })
        }),
        ("[0-9.]{1,9}", any::<bool>()).prop_map(|(version, is_held)| Detail::Pong(Pong { version, is_held })),
    ]
}

fn plain_replies() -> impl Strategy<Value = Reply> {
    prop_oneof![
        details().prop_map(Reply::Done),
        (0..RefusalReason::ALL.len(), ".{0,40}").prop_map(|(at, text)| Reply::refused(RefusalReason::ALL[at], text)),
        (".{0,40}", proptest::option::of(0..JobResult::ALL.len()), any::<u64>()).prop_map(|(text, job, elapsed_ms)| {
            Reply::Failed(Failure { text, job: job.map(|at| JobResult::ALL[at]), elapsed_ms })
        }),
    ]
}

fn replies() -> impl Strategy<Value = Reply> {
    prop_oneof![
        plain_replies(),
        plain_replies().prop_map(|reply| Reply::Status(ActionStatus::Finished(Box::new(reply)))),
        Just(Reply::Status(ActionStatus::NotSeen)),
        Just(Reply::Status(ActionStatus::Running)),
        Just(Reply::Status(ActionStatus::Interrupted)),
    ]
}

proptest! {
    #[test]
    fn a_request_reads_back_as_written(
        action in any::<u64>(),
        decision in any::<Option<u64>>(),
        invocation in any::<Option<[u8; 16]>>(),
        verb in verbs(),
    ) {
        let decision = decision.map(DecisionId);
        let request = Request { decision, invocation, ..Request::new(ActionId(action), verb) };
        let frame = request.to_frame().unwrap();
        let header = frame[..HEADER_BYTES].try_into().unwrap();
        prop_assert_eq!(frame_len(header), Ok(frame.len() - HEADER_BYTES));
        prop_assert_eq!(Request::from_body(&frame[HEADER_BYTES..]), Ok(request));
    }

    #[test]
    fn a_reply_reads_back_as_written(reply in replies()) {
        let frame = reply.to_frame().unwrap();
        prop_assert_eq!(Reply::from_body(&frame[HEADER_BYTES..]), Ok(reply));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Request::from_body(&body);
        let _ = Reply::from_body(&body);
    }

    #[test]
    fn a_damaged_message_is_an_error_or_another_message(reply in replies(), at in any::<usize>(), byte in any::<u8>()) {
        let mut body = reply.to_frame().unwrap().split_off(HEADER_BYTES);
        let at = at % body.len();
        body[at] = byte;
        if let Ok(read) = Reply::from_body(&body) {
            prop_assert_eq!(&read.to_frame().unwrap()[HEADER_BYTES..], &body[..]);
        }
    }

    #[test]
    fn a_message_that_was_cut_is_an_error(reply in replies()) {
        let body = reply.to_frame().unwrap().split_off(HEADER_BYTES);
        for end in 0..body.len() {
            prop_assert!(Reply::from_body(&body[..end]).is_err());
        }
    }
}

#[test]
fn another_version_is_named_in_the_error() {
    let mut body = Request::new(ActionId(1), Verb::Ping).to_frame().unwrap().split_off(4);
    body[0] = 9;
    assert_eq!(Request::from_body(&body).unwrap_err().to_string(), "protocol version mismatch (got 9, have 2)");
}

#[test]
fn what_is_too_large_is_never_sent_nor_taken() {
    let verb = Verb::ProbeCommand { name: "x".repeat(70_000) };
    assert!(Request::new(ActionId(1), verb).to_frame().is_err());
    assert_eq!(frame_len([0, 1, 0, 1]), Err(WireError::TooLarge(65537)));
    assert_eq!(frame_len([0, 1, 0, 0]), Ok(65536));
}

#[test]
fn a_unit_name_that_is_none_is_refused_on_the_wire() {
    let verb = Verb::UnitStop { unit: "a.service".parse().unwrap() };
    let mut body = Request::new(ActionId(1), verb).to_frame().unwrap().split_off(4);
    let at = body.len() - "a.service".len();
    body[at] = b'/';
    assert!(matches!(Request::from_body(&body), Err(WireError::Invalid { field: "unit", .. })));
}

#[test]
fn replies_become_outcomes() {
    let done = Reply::Done(Detail::Unit(UnitDone { job: JobResult::Done, elapsed_ms: 180, main_pid: Some(4127) }));
    assert_eq!(done.outcome().text, "job done in 0.18 s, main PID 4127");
    assert_eq!(done.outcome().ended, Ended::Done);
    let probe = |exit_status, timed_out| {
        Reply::Done(Detail::Probe(ProbeDone { exit_status, elapsed_ms: 3, timed_out })).outcome().ended
    };
    assert_eq!((probe(0, false), probe(3, false), probe(0, true)), (Ended::Done, Ended::Failed, Ended::Failed));
    let refused = Reply::refused(RefusalReason::Protected, "sshd.service is protected");
    assert_eq!(refused.outcome().ended, Ended::Refused);
    assert_eq!(Reply::Status(ActionStatus::Interrupted).outcome().ended, Ended::Unknown);
    assert_eq!(Reply::refused(RefusalReason::Interrupted, "").outcome().ended, Ended::Unknown);
    assert_eq!(Reply::Status(ActionStatus::Finished(Box::new(done))).outcome().elapsed_ms, 180);
}
