//! The answer as a page.

use std::fmt::Write as _;

use super::super::page::{Side, known, name, per_second, table, write_more};
use super::{ProcessRow, TopReply, UnitRow};
use crate::detect::words::{bytes, duration};
use crate::processes::Held;
use Side::{Left, Right};

impl TopReply {
    /// As people read it.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::new();
        let io = self.io_window.map_or_else(String::new, |window| format!(", I/O over {:.1} s", window.as_secs_f64()));
        let _ = writeln!(
            page,
            "{} processes, {} threads, {} zombies, {} in uninterruptible sleep, {} CPUs; CPU over {:.1} s{io}",
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
        self.write_processes(&mut page);
        self.write_stuck(&mut page);
        self.write_held(&mut page);
        page
    }

    fn write_units(&self, page: &mut String) {
        let headings = [
            ("UNIT", Left),
            ("PROCESSES", Right),
            ("THREADS", Right),
            ("TASKS", Right),
            ("CPU", Right),
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
                unit.threads.to_string(),
                of_limit(unit.tasks, unit.tasks_max),
                cpu(unit.cpu),
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
        assert!(lines[0].starts_with("213 processes, ") && lines[0].ends_with("CPU over 9.5 s"), "{page}");
        assert_eq!(lines[1], "something is unknown");
        let row = lines.iter().find(|line| line.contains("125.0 %")).unwrap();
        assert!(row.contains("2.0 KiB/s") && row.contains("12/1024") && row.ends_with("1 h 1 min"), "{row}");
        assert!(lines.contains(&"and 212 more processes"), "{page}");
        assert!(lines.last().unwrap().contains("12.0 GiB") && lines.last().unwrap().ends_with("/srv"), "{page}");
        let unit = lines.iter().find(|line| line.starts_with("app.service ")).unwrap();
        assert!(unit.ends_with('–'), "{unit}");
    }
}
