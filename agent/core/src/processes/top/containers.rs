//! What containers use: by their cgroups, and by their processes where a controller is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ContainersSeen, count, float, sort, weight};
use crate::host_query::top::{ContainerRow, ProcessRow, TopQuery};
use crate::sample::{Cgroup, Container};

/// A row for each container that is meant, in the order that was asked for.
pub(super) fn rows(seen: &ContainersSeen, processes: &[ProcessRow], query: &TopQuery) -> Vec<ContainerRow> {
    let before: BTreeMap<(&str, &str), &Cgroup> =
        seen.first.iter().filter_map(|c| Some((key(c), c.cgroup.as_ref()?))).collect();
    let is_meant = |c: &&Container| query.unit.as_ref().is_none_or(|glob| glob.matches(c.label().as_bytes()));
    let of = |container: &Container| row(container, before.get(&key(container)).copied(), seen.window, processes);
    let mut rows: Vec<ContainerRow> = seen.last.iter().filter(is_meant).map(of).collect();
    sort(&mut rows, |row| {
        let weight = weight(query.by, row.cpu.unwrap_or(0.0), row.memory_bytes.unwrap_or(0), &row.io, row.fds);
        (weight, format!("{} {}", row.name, row.id))
    });
    rows
}

fn key(container: &Container) -> (&str, &str) {
    (container.runtime, &container.id)
}

fn row(container: &Container, before: Option<&Cgroup>, window: Duration, processes: &[ProcessRow]) -> ContainerRow {
    let label = container.label();
    let own: Vec<&ProcessRow> = processes.iter().filter(|row| row.unit == label).collect();
    let now = container.cgroup.unwrap_or_default();
    let rate = |of: fn(&Cgroup) -> Option<u64>| {
        let rise = of(&now)?.checked_sub(of(before?)?)?;
        let seconds = window.as_secs_f64();
        (seconds > 0.0).then(|| float(rise) / seconds)
    };
    // Bytes a second are whole and positive, and far below what a u64 holds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bytes = |of: fn(&Cgroup) -> Option<u64>| rate(of).map(|rate| rate as u64);
    let io = bytes(|cgroup| cgroup.io_read_bytes).zip(bytes(|cgroup| cgroup.io_written_bytes));
    let has_own = !own.is_empty();
    ContainerRow {
        name: container.name.clone(),
        runtime: container.runtime.to_owned(),
        id: container.id.clone(),
        image: container.image.clone(),
        cpu: rate(|cgroup| cgroup.cpu_usage_us).map(|us| us / 1e6),
        memory_bytes: now.memory_current_bytes.or_else(|| has_own.then(|| own.iter().map(|row| row.rss_bytes).sum())),
        memory_max_bytes: now.memory_max_bytes,
        io: io.or_else(|| own.iter().filter_map(|row| row.io).reduce(|all, io| (all.0 + io.0, all.1 + io.1))),
        processes: count(own.len()),
        tasks: now.tasks.or_else(|| has_own.then(|| own.iter().map(|row| u64::from(row.threads)).sum())),
        tasks_max: now.tasks_max,
        fds: own.iter().filter_map(|row| row.fds).reduce(u64::saturating_add),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_query::top::TopBy;
    use crate::policy::Glob;

    fn container(name: &str, cgroup: Option<Cgroup>) -> Container {
        Container { runtime: "docker", id: format!("id-{name}"), name: name.into(), image: "nginx:1.27".into(), cgroup }
    }

    fn cgroup(cpu_us: u64, memory: u64, written: u64) -> Cgroup {
        Cgroup {
            cpu_usage_us: Some(cpu_us),
            memory_current_bytes: Some(memory),
            memory_max_bytes: Some(1 << 30),
            io_read_bytes: Some(0),
            io_written_bytes: Some(written),
            tasks: Some(9),
            tasks_max: Some(100),
            ..Cgroup::default()
        }
    }

    /// Two seconds: `web` kept half a CPU busy and wrote; `db` has no controller but for CPU; `new` was not there first.
    fn seen() -> ContainersSeen {
        let only_cpu = |cpu_us| Some(Cgroup { cpu_usage_us: Some(cpu_us), ..Cgroup::default() });
        ContainersSeen {
            first: vec![container("web", Some(cgroup(1_000_000, 5, 100))), container("db", only_cpu(0))],
            window: Duration::from_secs(2),
            last: vec![
                container("new", Some(cgroup(9_000_000, 7, 0))),
                container("db", only_cpu(4_000_000)),
                container("web", Some(cgroup(2_000_000, 500, 8_292))),
            ],
            unseen: 0,
        }
    }

    fn process(unit: &str) -> ProcessRow {
        ProcessRow {
            unit: unit.into(),
            rss_bytes: 40,
            threads: 3,
            io: Some((1, 2)),
            fds: Some(4),
            ..ProcessRow::default()
        }
    }

    #[test]
    fn what_a_cgroup_does_not_say_its_processes_do() {
        let processes = [process("db (docker)"), process("db (docker)"), process("web (docker)"), process("a.service")];
        let rows = rows(&seen(), &processes, &TopQuery::default());
        let row = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
        let (web, db, new) = (row("web"), row("db"), row("new"));
        assert_eq!((web.cpu, web.memory_bytes, web.io), (Some(0.5), Some(500), Some((0, 4_096))));
        assert_eq!((web.tasks, web.tasks_max, web.processes, web.fds), (Some(9), Some(100), 1, Some(4)));
        assert_eq!((db.cpu, db.memory_bytes, db.io), (Some(2.0), Some(80), Some((2, 4))));
        assert_eq!((db.tasks, db.tasks_max, db.memory_max_bytes), (Some(6), None, None));
        assert_eq!(
            (new.cpu, new.io, new.memory_bytes),
            (None, None, Some(7)),
            "what was not there first has no rate yet"
        );
        assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["db", "web", "new"]);
    }

    #[test]
    fn containers_come_in_the_order_and_by_the_glob_that_was_asked_for() {
        let names = |query: &TopQuery| rows(&seen(), &[], query).into_iter().map(|row| row.name).collect::<Vec<_>>();
        assert_eq!(names(&TopQuery { by: TopBy::Memory, ..TopQuery::default() }), ["web", "new", "db"]);
        assert_eq!(names(&TopQuery { unit: Glob::new("w* (docker)"), ..TopQuery::default() }), ["web"]);
    }

    #[test]
    fn of_a_container_that_ended_meanwhile_only_the_name_is_known() {
        let ended = ContainersSeen { last: vec![container("web", None)], ..seen() };
        let row = &rows(&ended, &[], &TopQuery::default())[0];
        let known = (row.cpu, row.memory_bytes, row.io, row.tasks, row.processes, row.fds);
        assert_eq!(known, (None, None, None, None, 0, None));
    }
}
