//! `disk.failing`: a disk says that it will not last, or an array runs without one.
//!
//! In: what the kernel says of software RAID, an eMMC of its wear, and smartd of the disks that it reads. All of it is about
//! hardware that somebody has to replace while the data is still there, so nothing but a message comes of it.

use std::time::Duration;

use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::{float, measured, said};
use crate::finding::{Evidence, FindingKind, Severity};
use crate::parse::emmc::{Spare, Wear};
use crate::parse::mdstat::{Activity, Array};
use crate::parse::smartd::{State, Warning};
use crate::sample::{HealthReport, Sample};

/// Attributes whose count is none on a disk that is well, with their names and what they count.
const BAD_SECTORS: [(u8, &str, &str); 3] = [
    (187, "smart_reported_uncorrect", "reads that failed for good"),
    (197, "smart_pending_sectors", "sectors that cannot be read at present"),
    (198, "smart_offline_uncorrectable", "sectors that can be neither read nor repaired"),
];

/// Sectors that were replaced: evidence beside others, nothing by itself, as many disks live long with a few.
const REALLOCATED: u8 = 5;

/// Of its life in tenths: nearly used up, and more than its maker promised.
const LIFE_TENTHS_LOW: u8 = 10;
const LIFE_TENTHS_OUT: u8 = 11;

/// Judges every disk and array that something is known of.
pub(crate) fn observe(sample: &Sample, round: &mut Round<'_>) {
    let Some(all) = &sample.disk_health else {
        round.judge_rest(FindingKind::DiskFailing, &Verdict::Unknown);
        return;
    };
    for disk in all.iter() {
        let verdict = match &disk.report {
            HealthReport::Array(array) => of_array(array),
            HealthReport::Flash(wear) => of_flash(*wear),
            HealthReport::Smart(state) => of_smart(state, disk.file.as_deref()),
        };
        round.judge(FindingKind::DiskFailing, SubjectRef::Disk(&disk.name), verdict);
    }
    // What is gone from the host does not fail there.
    round.judge_rest(FindingKind::DiskFailing, &Verdict::Over);
}

fn holds(severity: Severity, confidence: f64, evidence: Vec<Evidence>) -> Verdict {
    Verdict::Holds(Case { severity, confidence, evidence, raise_after: Duration::ZERO })
}

fn of_array(array: &Array) -> Verdict {
    let missing = array.disks_required.saturating_sub(array.disks_active);
    if array.activity == Activity::Inactive || (missing == 0 && array.disks_failed == 0) {
        return Verdict::Over;
    }
    let runs = format!("runs on {} of {} disks", array.disks_active, array.disks_required);
    let mut evidence = vec![measured(runs, "raid_disks_missing", float(missing), Some(0.0))];
    if array.disks_failed > 0 {
        evidence.push(said(format!("{} failed, {} in reserve", array.disks_failed, array.disks_spare)));
    }
    if array.activity == Activity::Recovering && array.blocks > 0 {
        evidence.push(said("a disk is being filled".to_owned()));
    }
    let is_bare = missing > 0 && array.activity != Activity::Recovering;
    holds(if is_bare { Severity::Critical } else { Severity::Warning }, 0.99, evidence)
}

fn of_flash(wear: Wear) -> Verdict {
    let mut evidence = Vec::new();
    if let Some(tenths) = wear.life_tenths.filter(|tenths| *tenths >= LIFE_TENTHS_LOW) {
        let text = if tenths >= LIFE_TENTHS_OUT {
            "more of its life is used than its maker promised".to_owned()
        } else {
            "more than nine tenths of its life are used".to_owned()
        };
        evidence.push(measured(text, "life_used", f64::from(tenths) / 10.0, Some(f64::from(LIFE_TENTHS_LOW) / 10.0)));
    }
    match wear.spare {
        Spare::Low => evidence.push(said("four fifths of its spare blocks are used".to_owned())),
        Spare::Out => evidence.push(said("nine tenths of its spare blocks are used".to_owned())),
        Spare::Unknown | Spare::Normal => {}
    }
    if evidence.is_empty() {
        return Verdict::Over;
    }
    let is_out = wear.spare == Spare::Out || wear.life_tenths.is_some_and(|tenths| tenths >= LIFE_TENTHS_OUT);
    holds(if is_out { Severity::Critical } else { Severity::Warning }, 0.9, evidence)
}

fn of_smart(state: &State, file: Option<&str>) -> Verdict {
    let warned = state.warnings.iter().filter_map(|warning| match warning {
        Warning::Health => Some("smartd: the disk itself says that it fails"),
        Warning::Usage => Some("smartd: it is worn out"),
        Warning::SelfTest => Some("smartd: a self-test failed"),
        // Of errors in a disk's log cables are to blame as well; sectors are counted below.
        Warning::ErrorCount | Warning::PendingSectors | Warning::Uncorrectable => None,
    });
    let mut evidence: Vec<Evidence> = warned.map(|text| said(text.to_owned())).collect();
    for (id, name, what) in BAD_SECTORS {
        if let Some(raw) = state.attributes.get(&id).map(|row| row.raw).filter(|raw| *raw > 0) {
            evidence.push(measured(format!("{raw} {what}"), name, float(raw), Some(0.0)));
        }
    }
    if state.self_test_errors > 0 && !state.warnings.contains(&Warning::SelfTest) {
        evidence.push(said(format!("{} of its self-tests failed", state.self_test_errors)));
    }
    if evidence.is_empty() {
        return Verdict::Over;
    }
    if let Some(raw) = state.attributes.get(&REALLOCATED).map(|row| row.raw).filter(|raw| *raw > 0) {
        evidence.push(measured(format!("{raw} sectors replaced"), "smart_reallocated_sectors", float(raw), None));
    }
    if let Some(file) = file {
        let text = format!(
            "the kernel has no disk of this serial number: it is behind a controller, or gone; then remove {file}"
        );
        evidence.push(said(text));
    }
    let is_critical = state.warnings.contains(&Warning::Health);
    holds(if is_critical { Severity::Critical } else { Severity::Warning }, 0.9, evidence)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::parse::{mdstat, smartd};
    use crate::sample::DiskHealth;
    use crate::subject::Subject;
    use crate::time::Now;

    /// What opens and clears where these are the disks, each for two minutes.
    fn seen(states: &[Option<Vec<DiskHealth>>]) -> Vec<(usize, Change, Subject, Severity, Vec<String>)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for second in 0..states.len() as u64 * 120 {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let at = (second / 120) as usize;
            let disk_health = states[at].clone().map(Arc::new);
            let events = detectors.observe_sample(&Sample { at: now, disk_health, ..Sample::default() }, now);
            for event in events.into_iter().filter(|event| event.finding.kind == FindingKind::DiskFailing) {
                let words = event.finding.evidence.into_iter().map(|evidence| evidence.text).collect();
                seen.push((at, event.change, event.finding.subject, event.finding.severity, words));
            }
        }
        seen
    }

    fn disk(name: &str, report: HealthReport) -> Vec<DiskHealth> {
        vec![DiskHealth { name: name.to_owned(), file: None, report }]
    }

    fn array(active: u64, failed: u64, activity: Activity) -> Vec<DiskHealth> {
        let array = Array {
            name: "md0".to_owned(),
            activity,
            disks_active: active,
            disks_required: 2,
            disks_failed: failed,
            blocks: 100,
            ..Array::default()
        };
        disk("md0", HealthReport::Array(array))
    }

    #[test]
    fn an_array_without_a_disk_is_found_until_it_is_whole_again() {
        let whole = array(2, 0, Activity::Active);
        let states = [whole.clone(), array(1, 1, Activity::Active), array(1, 0, Activity::Recovering), whole];
        let seen = seen(&states.map(Some));
        let what: Vec<_> = seen.iter().map(|(at, change, _, severity, _)| (*at, *change, *severity)).collect();
        assert_eq!(what[0], (1, Change::Opened, Severity::Critical), "{seen:?}");
        assert_eq!(what.last().unwrap().1, Change::Cleared, "{seen:?}");
        assert_eq!(what.last().unwrap().0, 3, "{seen:?}");
        assert_eq!(seen[0].2, Subject::Disk("md0".to_owned()));
        assert_eq!(seen[0].4, ["runs on 1 of 2 disks", "1 failed, 0 in reserve"]);
    }

    #[test]
    fn recorded_arrays_are_judged_one_by_one() {
        let arrays = mdstat::parse(include_bytes!("../parse/fixtures/mdstat.6.1.txt")).unwrap();
        let all = arrays.into_iter().map(|array| DiskHealth {
            name: array.name.clone(),
            file: None,
            report: HealthReport::Array(array),
        });
        let seen = seen(&[Some(all.collect())]);
        assert_eq!(seen.len(), 1, "only md3 is not whole, and md5 was never started: {seen:?}");
        assert_eq!((&seen[0].2, seen[0].3), (&Subject::Disk("md3".to_owned()), Severity::Warning));
        assert_eq!(seen[0].4, ["runs on 2 of 3 disks", "1 failed, 1 in reserve", "a disk is being filled"]);
    }

    #[test]
    fn what_smartd_says_is_told_and_a_disk_that_is_no_longer_read_is_unknown() {
        let read = |bytes: &[u8]| disk("sda", HealthReport::Smart(smartd::parse(bytes).unwrap()));
        let well = read(include_bytes!("../parse/fixtures/smartd_well.ata.txt"));
        let failing = read(include_bytes!("../parse/fixtures/smartd_failing.ata.txt"));
        let seen = seen(&[Some(well), Some(failing), None]);
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!((seen[0].0, seen[0].1, seen[0].3), (1, Change::Opened, Severity::Critical));
        let words = [
            "smartd: the disk itself says that it fails",
            "smartd: a self-test failed",
            "77 reads that failed for good",
            "24 sectors that cannot be read at present",
            "24 sectors that can be neither read nor repaired",
            "1816 sectors replaced",
        ];
        assert_eq!(seen[0].4, words);
        assert_eq!((seen[1].0, seen[1].1), (2, Change::Unknown));
    }

    #[test]
    fn sectors_that_were_replaced_are_nothing_by_themselves_and_pending_ones_are() {
        let state = |rows: &str| of_smart(&smartd::parse(rows.as_bytes()).unwrap(), None);
        assert_eq!(state("ata-smart-attribute.0.id = 5\nata-smart-attribute.0.raw = 8\n"), Verdict::Over);
        let Verdict::Holds(case) = state("ata-smart-attribute.0.id = 197\nata-smart-attribute.0.raw = 1\n") else {
            panic!("a sector that cannot be read")
        };
        assert_eq!((case.severity, case.evidence.len()), (Severity::Warning, 1));
    }

    #[test]
    fn of_a_disk_that_the_kernel_does_not_know_it_says_where_it_stands() {
        let state = State { self_test_errors: 1, ..State::default() };
        let Verdict::Holds(case) = of_smart(&state, Some("/var/x.state")) else { panic!("a test failed") };
        assert!(case.evidence[1].text.ends_with("then remove /var/x.state"), "{case:?}");
    }

    #[test]
    fn flash_is_told_before_it_is_worn_out() {
        let severity = |life_tenths, spare| match of_flash(Wear { life_tenths, spare }) {
            Verdict::Holds(case) => Some(case.severity),
            _ => None,
        };
        assert_eq!(severity(Some(9), Spare::Normal), None);
        assert_eq!(severity(None, Spare::Unknown), None);
        assert_eq!(severity(Some(10), Spare::Normal), Some(Severity::Warning));
        assert_eq!(severity(Some(3), Spare::Low), Some(Severity::Warning));
        assert_eq!(severity(Some(11), Spare::Normal), Some(Severity::Critical));
        assert_eq!(severity(None, Spare::Out), Some(Severity::Critical));
    }
}
