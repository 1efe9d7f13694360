//! What came of the faults, as a table for people.

use std::fmt::Write as _;

use super::faults::Fault;
use crate::site::learning::Opened;

/// A fault and what the host said about it.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub fault: Fault,
    /// When it began, by the wall clock.
    pub began_ms: i64,
    /// What opened since then on its host.
    pub opened: Vec<Opened>,
}

impl Row {
    /// Findings about the fault: of the detectors made for it, and of the learned model, in order. An alarm that names a
    /// metric of the machine may be about anything.
    fn about(&self) -> impl Iterator<Item = &Opened> {
        let is_learned = |found: &Opened| found.kind == "metric.anomalous" && !found.is_the_machines();
        self.opened.iter().filter(move |found| self.fault.kinds.contains(&&*found.kind) || is_learned(found))
    }

    fn after(&self, found: &Opened) -> String {
        delay(found.opened_ms - self.began_ms)
    }

    /// Whether it was told from which unit, mount point or host the trouble comes.
    fn is_blamed_right(&self, found: &Opened) -> bool {
        found.blames(self.fault.blame) || self.fault.blame == "host"
    }

    fn line(&self) -> String {
        let name = self.fault.name;
        let Some(first) = self.about().next() else {
            let minutes = self.fault.minutes;
            return format!("| {name} | not in {minutes} min | – | – | – | {} |", self.others());
        };
        let right = if self.is_blamed_right(first) { "yes" } else { "no" };
        let own = self.about().filter(|found| self.fault.kinds.contains(&&*found.kind));
        let own: Vec<_> = own.map(|found| format!("{} {}", found.kind, self.after(found))).collect();
        let own = if own.is_empty() { "–".to_owned() } else { own.join(", ") };
        format!("| {name} | {} | {} | {right} | {own} | {} |", self.after(first), first.kind, self.others())
    }

    /// What else opened on the host meanwhile.
    fn others(&self) -> String {
        let about: Vec<&str> = self.about().map(|found| found.id.as_str()).collect();
        let rest = self.opened.iter().filter(|found| !about.contains(&found.id.as_str()) && !found.is_the_machines());
        let rest: Vec<_> =
            rest.map(|found| format!("{} {} {}", found.kind, found.subject, self.after(found))).collect();
        if rest.is_empty() { "–".to_owned() } else { rest.join(", ") }
    }
}

/// `47 s`, `12 min 5 s`
fn delay(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}

/// All of it, as Markdown.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| fault | found after | first by | blamed right | by its own detector | also opened |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let _ = writeln!(text, "{}", row.line());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::faults::QUICK_FAULTS;
    use super::*;

    fn found(kind: &str, subject: &str, evidence: &str, opened_ms: i64) -> Opened {
        let (id, kind) = (format!("f-{opened_ms}"), kind.to_owned());
        Opened { id, kind, subject: subject.to_owned(), evidence: evidence.to_owned(), opened_ms }
    }

    #[test]
    fn a_row_says_who_was_first_and_whether_the_right_unit_is_blamed() {
        let opened = vec![
            found("cpu.saturated", "host", "", 2_000),
            found("metric.anomalous", "host", r#"unit_cpus{unit="worker.service"} is 0.9, at this"#, 61_000),
            found("finding.flapping", "host", "", 90_000),
            found("process.runaway", "worker.service", "used more", 361_000),
        ];
        let mut row = Row { fault: QUICK_FAULTS[0], began_ms: 1_000, opened };
        let wanted = "| runaway: one CPU, all the time | 60 s | metric.anomalous | yes | process.runaway 6 min 0 s \
                      | finding.flapping host 89 s |";
        assert_eq!(row.line(), wanted);
        row.opened.retain(|found| found.kind == "cpu.saturated");
        assert_eq!(row.line(), "| runaway: one CPU, all the time | not in 8 min | – | – | – | – |");
    }

    #[test]
    fn what_blames_another_unit_is_not_right() {
        let opened = vec![found("metric.anomalous", "host", r#"unit_cpus{unit="slow.service"} is 0.9, at"#, 61_000)];
        let row = Row { fault: QUICK_FAULTS[0], began_ms: 1_000, opened };
        assert!(row.line().contains("| no |"), "{}", row.line());
    }
}
