//! The answer as a page.

use std::fmt::Write as _;

use super::super::page::{Side, known, name, per_second, table, write_more};
use super::{ContainerRow, ProcessRow, TopReply, UnitRow};
use crate::detect::words::{bytes, duration};
use crate::processes::Held;
use Side::{Left, Right};

impl TopReply {
    /// As people read it.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::new();
        let io = self.io_window.map_or_else(String::new, |window| format!(", I/O over {:.1} s", window.as_secs_f64()));
        let forks = self.forks_per_second.map_or_else(String::new, |forks| format!(", {forks:.1} begun a second"));
        let _ = writeln!(
            page,
            "{} processes{forks}, {} threads, {} zombies, {} in uninterruptible sleep, {} CPUs; CPU over {:.1} s{io}",
            self.total,
            self.threads,
            self.zombies,
            self.uninterruptible,
            self.cpus,
            self.cpu_window.as_secs_f64(),
        );
        for note in &self.notes {
            let _ = writeln!(page, "{note}");
        }
        page.push('\n');
        self.write_units(&mut page);
        page.push('\n');
        if !self.containers.is_empty() {
            self.write_containers(&mut page);
            page.push('\n');
        }
        self.write_processes(&mut page);
        self.write_stuck(&mut page);
        self.write_held(&mut page);
        page
    }

    /// Only the containers, as people read them.
    #[must_use]
    pub fn containers_page(&self) -> String {
        let window = self.io_window.map_or_else(String::new, |window| format!(", over {:.1} s", window.as_secs_f64()));
        let all = u64::from(self.containers_more).saturating_add(self.containers.len() as u64);
        let mut page = format!("{all} containers, {} CPUs{window}\n", self.cpus);
        if !self.containers.is_empty() {
            page.push('\n');
            self.write_containers(&mut page);
        }
        page
    }

    fn write_containers(&self, page: &mut String) {
        let headings = [
            ("CONTAINER", Left),
            ("BY", Left),
            ("IMAGE", Left),
            ("PROCESSES", Right),
            ("TASKS", Right),
            ("CPU", Right),
            ("MEMORY", Right),
            ("READ", Right),
            ("WRITTEN", Right),
            ("FDS", Right),
        ];
        let row = |container: &ContainerRow| {
            let memory = |held: u64| match container.memory_max_bytes {
                Some(most) => format!("{}/{}", bytes(held), bytes(most)),
                None => bytes(held),
            };
            [
                name(&container.name),
                name(&container.runtime),
                if container.image.is_empty() { "–".to_owned() } else { name(&container.image) },
                container.processes.to_string(),
                of_limit(container.tasks, container.tasks_max),
                known(container.cpu, cpu),
                known(container.memory_bytes, memory),
                known(container.io, |io| per_second(io.0)),
                known(container.io, |io| per_second(io.1)),
                known(container.fds, |fds| fds.to_string()),
            ]
        };
        table(page, headings, &self.containers.iter().map(row).collect::<Vec<_>>());
        write_more(page, self.containers_more, "containers");
    }

    fn write_units(&self, page: &mut String) {
        let headings = [
            ("UNIT", Left),
            ("PROCESSES", Right),
            ("NEW", Right),
            ("THREADS", Right),
            ("TASKS", Right),
            ("CPU", Right),
            ("OF ENDED", Right),
            ("RSS", Right),
            ("READ", Right),
            ("WRITTEN", Right),
            ("FDS", Right),
            ("FDS USED", Right),
        ];
        let row = |unit: &UnitRow| {
            [
                name(&unit.unit),
                unit.processes.to_string(),
                unit.new.to_string(),
                unit.threads.to_string(),
                of_limit(unit.tasks, unit.tasks_max),
                cpu(unit.cpu),
                cpu(unit.ended_cpu),
                bytes(unit.rss_bytes),
                known(unit.io, |io| per_second(io.0)),
                known(unit.io, |io| per_second(io.1)),
                known(unit.fds, |fds| fds.to_string()),
                known(unit.fds_used_ratio, |used| format!("{:.0} %", used * 100.0)),
            ]
        };
        table(page, headings, &self.units.iter().map(row).collect::<Vec<_>>());
        write_more(page, self.units_more, "units");
    }

    fn write_processes(&self, page: &mut String) {
        let headings = [
            ("PID", Right),
            ("NAME", Left),
            ("UNIT", Left),
            ("STATE", Left),
            ("CPU", Right),
            ("OF ENDED", Right),
            ("RSS", Right),
            ("THREADS", Right),
            ("READ", Right),
            ("WRITTEN", Right),
            ("FDS", Right),
            ("AGE", Right),
        ];
        let row = |process: &ProcessRow| {
            [
                process.pid.to_string(),
                name(&process.name),
                name(&process.unit),
                process.state.to_string(),
                cpu(process.cpu),
                cpu(process.ended_cpu),
                bytes(process.rss_bytes),
                process.threads.to_string(),
                known(process.io, |io| per_second(io.0)),
                known(process.io, |io| per_second(io.1)),
                of_limit(process.fds, process.fds_max),
                duration(process.age),
            ]
        };
        table(page, headings, &self.processes.iter().map(row).collect::<Vec<_>>());
        write_more(page, self.processes_more, "processes");
    }

    fn write_stuck(&self, page: &mut String) {
        if self.stuck.is_empty() {
            return;
        }
        page.push_str("\nended and not waited for (Z), or in uninterruptible sleep (D):\n");
        let headings =
            [("PID", Right), ("PARENT", Right), ("NAME", Left), ("UNIT", Left), ("STATE", Left), ("AGE", Right)];
        let row = |process: &ProcessRow| {
            [
                process.pid.to_string(),
                process.ppid.to_string(),
                name(&process.name),
                name(&process.unit),
                process.state.to_string(),
                duration(process.age),
            ]
        };
        table(page, headings, &self.stuck.iter().map(row).collect::<Vec<_>>());
    }

    fn write_held(&self, page: &mut String) {
        let Some(held) = self.held.as_ref().filter(|held| !held.is_empty()) else { return };
        page.push_str("\ndeleted files that are still open, and hold space until they are closed:\n");
        let headings =
            [("SPACE", Right), ("FILES", Right), ("UNIT", Left), ("PID", Right), ("NAME", Left), ("FILESYSTEM", Left)];
        let row = |held: &Held| {
            [
                bytes(held.bytes),
                held.files.to_string(),
                name(&held.unit),
                held.pid.to_string(),
                name(&held.name),
                name(&held.mount.to_string()),
            ]
        };
        table(page, headings, &held.iter().map(row).collect::<Vec<_>>());
    }
}

fn cpu(cpus: f64) -> String {
    format!("{:.1} %", cpus * 100.0)
}

fn of_limit(used: Option<u64>, most: Option<u64>) -> String {
    match (used, most) {
        (Some(used), Some(most)) => format!("{used}/{most}"),
        (used, _) => known(used, |used| used.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_page_says_who_uses_what_and_a_dash_what_is_not_known() {
        let process = ProcessRow {
            pid: 4711,
            ppid: 1,
            name: "app".into(),
            unit: "app.service".into(),
            state: 'D',
            cpu: 1.25,
            ended_cpu: 0.5,
            is_new: false,
            rss_bytes: 3 << 20,
            threads: 4,
            io: Some((0, 2_048)),
            fds: Some(12),
            fds_max: Some(1_024),
            age: Duration::from_secs(3_700),
        };
        let unit = UnitRow { unit: "app.service".into(), processes: 1, threads: 4, ..UnitRow::default() };
        let held = Held {
            mount: "/srv".into(),
            unit: "app.service".into(),
            pid: 4711,
            name: "app".into(),
            files: 3,
            bytes: 12 << 30,
        };
        let reply = TopReply {
            cpu_window: Duration::from_millis(9_500),
            cpus: 2,
            total: 213,
            forks_per_second: Some(812.34),
            processes: vec![process.clone()],
            processes_more: 212,
            units: vec![unit],
            stuck: vec![process],
            held: Some(vec![held]),
            notes: vec!["something is unknown".into()],
            ..TopReply::default()
        };
        let page = reply.page();
        let lines: Vec<&str> = page.lines().collect();
        assert!(
            lines[0].starts_with("213 processes, 812.3 begun a second, ") && lines[0].ends_with("CPU over 9.5 s"),
            "{page}"
        );
        assert_eq!(lines[1], "something is unknown");
        let row = lines.iter().find(|line| line.contains("125.0 %")).unwrap();
        assert!(
            row.contains(" 50.0 % ")
                && row.contains("2.0 KiB/s")
                && row.contains("12/1024")
                && row.ends_with("1 h 1 min"),
            "{row}"
        );
        assert!(lines.contains(&"and 212 more processes"), "{page}");
        assert!(lines.last().unwrap().contains("12.0 GiB") && lines.last().unwrap().ends_with("/srv"), "{page}");
        let unit = lines.iter().find(|line| line.starts_with("app.service ")).unwrap();
        assert!(unit.ends_with('–'), "{unit}");
    }

    #[test]
    fn containers_stand_by_name_and_image_and_what_is_not_known_is_a_dash() {
        let container = ContainerRow {
            name: "shop-web-1".into(),
            runtime: "docker".into(),
            image: "nginx:1.27".into(),
            cpu: Some(0.25),
            memory_bytes: Some(3 << 20),
            memory_max_bytes: Some(1 << 30),
            tasks: Some(9),
            tasks_max: Some(100),
            processes: 2,
            ..ContainerRow::default()
        };
        let reply = TopReply { cpus: 2, containers: vec![container], containers_more: 4, ..TopReply::default() };
        let page = reply.containers_page();
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines[0], "5 containers, 2 CPUs");
        assert!(lines[2].starts_with("CONTAINER   BY      IMAGE"), "{page}");
        let row: Vec<&str> = lines[3].split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        let want = ["shop-web-1", "docker", "nginx:1.27", "2", "9/100", "25.0 %", "3.0 MiB/1.0 GiB", "–", "–", "–"];
        assert_eq!(row, want);
        assert_eq!(lines[4], "and 4 more containers");
        assert!(reply.page().contains("\nCONTAINER ") && !TopReply::default().page().contains("CONTAINER"));
        assert_eq!(TopReply::default().containers_page(), "0 containers, 0 CPUs\n");
    }
}
