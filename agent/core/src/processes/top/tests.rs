use super::*;
use crate::policy::Glob;
use crate::processes::ended::Times;
use crate::processes::{Deleted, ProcessCounts};

fn process(pid: u32, cgroup: &str, ticks: u64, rss_bytes: u64) -> ProcessSeen {
    ProcessSeen {
        pid,
        ppid: 1,
        name: format!("p{pid}"),
        state: 'S',
        ticks,
        ended_ticks: 0,
        started_ticks: 5,
        threads: 2,
        rss_bytes,
        cgroup: format!("/system.slice/{cgroup}"),
        fds: None,
        fds_max: None,
    }
}

fn counts(pid: u32, read_bytes: u64, fds: u32) -> ProcessCounts {
    ProcessCounts { pid, read_bytes, written_bytes: 0, fds, fds_max: Some(100) }
}

fn times(started: u64, own: u64) -> Times {
    Times { ppid: 1, started, own, ended: 0 }
}

/// Ten seconds: 10 used one CPU, 11 half of one, 12 began with 11's id of before.
fn look() -> Look {
    let deleted = vec![
        Deleted { pid: 11, device: (8, 1), files: 1, bytes: 50 },
        Deleted { pid: 10, device: (8, 1), files: 3, bytes: 900 },
        Deleted { pid: 99, device: (0, 45), files: 1, bytes: 10 },
    ];
    let first = Inspected { processes: vec![counts(10, 1_000, 1), counts(11, 0, 1)], ..Inspected::default() };
    let last = Inspected {
        processes: vec![counts(10, 1_500, 5), counts(11, 8_000, 90), counts(12, 7, 2)],
        deleted,
        ..Inspected::default()
    };
    Look {
        at: Now { boot_ns: 20_000_000_000, wall_ms: 0 },
        before: Before {
            at: Now { boot_ns: 10_000_000_000, wall_ms: 0 },
            times: BTreeMap::from([(10, times(5, 500)), (11, times(5, 0)), (12, times(4, 7_000))]),
        },
        ticks_per_second: 100,
        cpus: 2,
        seen: vec![
            process(10, "a.service", 1_500, 100),
            process(11, "b.service", 500, 900),
            process(12, "b.service", 400, 10),
        ],
        unseen: 0,
        counted: Ok(Counted { first, window: Duration::from_secs(2), last }),
        mounts: vec![((8, 1), PathBytes::from("/srv"))],
        containers: BTreeMap::new(),
        containers_seen: ContainersSeen::default(),
        forks_per_second: Some(12.5),
        tasks: BTreeMap::from([("b.service".to_owned(), (Some(4), Some(512)))]),
    }
}

fn pids(by: TopBy) -> Vec<u32> {
    let reply = top(&look(), &TopQuery { by, ..TopQuery::default() });
    reply.processes.iter().map(|row| row.pid).collect()
}

#[test]
fn processes_come_in_the_order_that_was_asked_for() {
    assert_eq!(pids(TopBy::Cpu), [10, 11, 12]);
    assert_eq!(pids(TopBy::Memory), [11, 10, 12]);
    assert_eq!(pids(TopBy::Io), [11, 10, 12]);
    assert_eq!(pids(TopBy::Fds), [11, 10, 12]);
}

#[test]
fn rates_are_over_their_own_windows_and_a_new_process_counts_from_its_beginning() {
    let reply = top(&look(), &TopQuery::default());
    let row = |pid| reply.processes.iter().find(|row| row.pid == pid).unwrap();
    assert_eq!((row(10).cpu, row(10).io), (1.0, Some((250, 0))));
    assert_eq!((row(11).cpu, row(11).io, row(11).fds), (0.5, Some((4_000, 0)), Some(90)));
    assert_eq!((row(12).cpu, row(12).io), (0.4, None), "of the one before it nothing is taken over");
    assert_eq!((row(10).age.as_secs(), reply.cpu_window.as_secs()), (19, 10));
}

#[test]
fn who_starts_short_programs_is_seen_by_what_they_used() {
    let mut look = look();
    // 12 is a loop: it does little itself, and what it starts is gone by the time of the look.
    look.before.times.insert(12, Times { ended: 1_000, ..times(5, 400) });
    look.seen[2].ended_ticks = 2_900;
    let reply = top(&look, &TopQuery::default());
    let first = &reply.processes[0];
    assert_eq!((first.pid, first.cpu, first.ended_cpu), (12, 0.0, 1.9));
    let unit = &reply.units[0];
    assert_eq!((unit.unit.as_str(), unit.cpu, unit.ended_cpu, unit.new), ("b.service", 0.5, 1.9, 0));
    assert_eq!(reply.forks_per_second, Some(12.5));
}

#[test]
fn processes_that_are_new_are_counted_by_unit() {
    let reply = top(&look(), &TopQuery::default());
    let new: Vec<_> = reply.units.iter().map(|unit| (unit.unit.as_str(), unit.new)).collect();
    assert_eq!(new, [("a.service", 0), ("b.service", 1)]);
}

#[test]
fn units_sum_their_processes_and_show_the_one_nearest_to_its_limit() {
    let reply = top(&look(), &TopQuery::default());
    let names: Vec<_> = reply.units.iter().map(|unit| unit.unit.as_str()).collect();
    assert_eq!(names, ["a.service", "b.service"]);
    let b = &reply.units[1];
    assert_eq!((b.processes, b.threads, b.rss_bytes, b.io), (2, 4, 910, Some((4_000, 0))));
    assert_eq!((b.fds, b.fds_used_ratio, b.tasks, b.tasks_max), (Some(92), Some(0.9), Some(4), Some(512)));
}

#[test]
fn holders_of_deleted_files_are_named_largest_first() {
    let held = top(&look(), &TopQuery::default()).held.unwrap();
    let said: Vec<_> = held.iter().map(|h| (h.bytes, h.unit.as_str(), h.name.as_str(), h.mount.to_string())).collect();
    assert_eq!(
        said,
        [
            (900, "a.service", "p10", "/srv".to_owned()),
            (50, "b.service", "p11", "/srv".to_owned()),
            (10, "?", "?", "(0:45)".to_owned())
        ]
    );
}

#[test]
fn a_glob_and_a_limit_choose_and_the_rest_is_counted() {
    let query = TopQuery { unit: Glob::new("b.*"), limit: 1, ..TopQuery::default() };
    let reply = top(&look(), &query);
    assert_eq!(reply.processes.iter().map(|row| row.pid).collect::<Vec<_>>(), [11]);
    assert_eq!((reply.processes_more, reply.units.len(), reply.units_more), (1, 1, 0));
    assert_eq!((reply.held.unwrap().len(), reply.total), (1, 3));
}

#[test]
fn without_the_actuator_io_and_deleted_files_are_unknown_and_it_is_said_why() {
    let look = Look { counted: Err("it is away".to_owned()), unseen: 4, ..look() };
    let reply = top(&look, &TopQuery::default());
    assert!(reply.held.is_none() && reply.io_window.is_none() && reply.processes.iter().all(|row| row.io.is_none()));
    assert_eq!(reply.notes, ["4 processes could not be looked at", "I/O and deleted files are unknown: it is away"]);
    assert_eq!(reply.total, 7);
}

#[test]
fn what_is_stuck_is_listed_within_a_bound() {
    let mut look = look();
    look.seen = (0..200).map(|pid| ProcessSeen { state: 'Z', ..process(pid, "a.service", 0, 0) }).collect();
    look.seen.push(ProcessSeen { state: 'D', ..process(900, "b.service", 0, 0) });
    let reply = top(&look, &TopQuery { unit: Glob::new("b.service"), ..TopQuery::default() });
    assert_eq!(reply.stuck.iter().map(|row| (row.pid, row.state)).collect::<Vec<_>>(), [(900, 'D')]);
    let reply = top(&look, &TopQuery::default());
    assert_eq!((reply.stuck.len(), reply.zombies, reply.uninterruptible), (STUCK_MAX, 200, 1));
}

#[test]
fn processes_of_a_container_go_by_its_name() {
    let scope = format!("docker-{}.scope", "3a".repeat(32));
    let mut look = look();
    look.seen.push(ProcessSeen { cgroup: format!("/system.slice/{scope}/init"), ..process(99, "", 0, 0) });
    let unit = |look: &Look| {
        let reply = top(look, &TopQuery::default());
        let row = reply.processes.iter().find(|row| row.pid == 99).unwrap();
        assert_eq!(reply.held.unwrap().last().unwrap().unit, row.unit);
        row.unit.clone()
    };
    assert_eq!(unit(&look), scope);
    look.containers.insert(format!("/system.slice/{scope}"), "web (docker)".to_owned());
    assert_eq!(unit(&look), "web (docker)");
}

#[test]
fn nothing_seen_is_an_empty_answer() {
    let look = Look { seen: Vec::new(), at: Now::default(), before: Before::default(), ..look() };
    let reply = top(&look, &TopQuery::default());
    assert!(reply.processes.is_empty() && reply.units.is_empty());
}
