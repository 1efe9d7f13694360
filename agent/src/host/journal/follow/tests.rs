use mainstay_core::parse::kmsg::KernelEvent;
use mainstay_core::subject::UnitName;
use proptest::prelude::*;

use super::super::made::{Made, MadeFile};
use super::*;

const NOW: i64 = 1_800_000_000_000;

fn follower(host: &Made) -> Follower {
    Follower::new(host.root(), Digest::default(), NOW)
}

fn errors(follower: &mut Follower, unit: &str) -> u64 {
    let unit: UnitName = unit.parse().unwrap();
    follower.reading(NOW).units.get(&unit).map_or(0, |counts| counts.errors)
}

#[test]
fn lines_are_taken_once_each_as_they_come_whatever_the_form_of_the_file() {
    for is_compact in [true, false] {
        let host = Made::new();
        let mut file = MadeFile::new(is_compact);
        (0..100).for_each(|n| _ = file.unit("app.service", 3, &format!("old {n}"), NOW - 1_000 + n));
        host.put("system.journal", &file);
        let mut follower = follower(&host);
        assert_eq!(follower.round(NOW).unwrap(), "1 file");
        assert_eq!(errors(&mut follower, "app.service"), 0, "what was there before is not held against it");
        for n in 0..100 {
            file.unit("app.service", 3, &format!("cannot open /srv/{n}: no such file"), NOW + n);
            file.unit("session-3.scope", 4, "somebody else", NOW + n);
            host.put("system.journal", &file);
            follower.round(NOW + n).unwrap();
            follower.round(NOW + n).unwrap();
        }
        assert_eq!(errors(&mut follower, "app.service"), 100);
        let reading = follower.reading(NOW + 200);
        assert_eq!((reading.other.lines[4], reading.skipped, reading.unread, reading.damaged), (100, 0, 0, 0));
        let top = &reading.units[&"app.service".parse().unwrap()].top[0];
        assert_eq!((top.template.as_str(), top.recent), ("cannot open <*> no such file", 100));
    }
}

#[test]
fn a_long_message_is_unpacked_and_only_the_kernel_speaks_for_the_kernel() {
    let host = Made::new();
    let mut file = MadeFile::new(true);
    host.put("system.journal", &file);
    let mut follower = follower(&host);
    follower.round(NOW).unwrap();
    let line = "I/O error, dev sdb, sector 7 op 0x0:(READ)";
    file.kernel(line, NOW);
    let claims = ["_TRANSPORT=kernel", "SYSLOG_FACILITY=3", "PRIORITY=0", &format!("MESSAGE={line}")];
    file.line(&claims, NOW);
    file.unit("app.service", 0, line, NOW);
    let long = format!("lost {}", "connection ".repeat(100));
    (0..3).for_each(|_| _ = file.unit("app.service", 3, &long, NOW));
    host.put("system.journal", &file);
    follower.round(NOW).unwrap();
    let reading = follower.reading(NOW);
    assert_eq!(reading.events, [KernelEvent::IoError { device: "sdb".into() }]);
    let app = &reading.units[&"app.service".parse().unwrap()];
    assert!(app.top[0].template.starts_with("lost connection connection"), "{app:?}");
    assert_eq!((app.top[0].recent, reading.unread), (3, 0));
}

#[test]
fn the_kernels_lines_of_the_time_without_an_agent_count_and_no_others() {
    let host = Made::new();
    let mut file = MadeFile::new(true);
    for (device, at) in [("sda", NOW - 700_000), ("sdb", NOW - 500_000), ("sdc", NOW - 1_000)] {
        file.kernel(&format!("I/O error, dev {device}, sector 7 op 0x0:(READ)"), at);
        file.unit("app.service", 3, "cannot", at);
    }
    host.put("system.journal", &file);
    let devices = |follower: &mut Follower| {
        follower.round(NOW).unwrap();
        assert_eq!(errors(follower, "app.service"), 0);
        follower.round(NOW).unwrap();
        follower.reading(NOW).events.len()
    };
    let mut fresh = follower(&host);
    fresh.round(NOW).unwrap();
    let events = fresh.reading(NOW).events;
    assert_eq!(events, ["sdb", "sdc"].map(|device| KernelEvent::IoError { device: device.into() }));
    // The agent before had read on to the middle.
    let mut before = Digest::default();
    before.line(Line { wall_ms: NOW - 400_000, source: Source::Other, priority: 6, message: None });
    file.kernel("I/O error, dev sdd, sector 7 op 0x0:(READ)", NOW - 500);
    host.put("system.journal", &file);
    let mut next = Follower::new(host.root(), before, NOW);
    next.round(NOW).unwrap();
    assert_eq!(next.reading(NOW).events.len(), 2);
    assert_eq!(devices(&mut next), 0);
}

#[test]
fn rotation_loses_no_line_even_twice_between_two_looks() {
    let host = Made::new();
    let mut first = MadeFile::new(true);
    host.put("system.journal", &first);
    let mut follower = follower(&host);
    follower.round(NOW).unwrap();
    first.unit("app.service", 3, "cannot", NOW);
    first.archive();
    host.put("system.journal", &first);
    host.rename("system.journal", "system@1-1-1.journal");
    let mut second = MadeFile::new(true);
    second.unit("app.service", 3, "cannot", NOW);
    second.archive();
    host.put("system@1-2-2.journal", &second);
    let mut third = MadeFile::new(true);
    third.unit("app.service", 3, "cannot", NOW);
    host.put("system.journal", &third);
    assert_eq!(follower.round(NOW).unwrap(), "1 file", "what was rotated away is let go");
    assert_eq!(errors(&mut follower, "app.service"), 3);
    third.unit("app.service", 3, "cannot", NOW);
    host.put("system.journal", &third);
    std::fs::remove_file(host.path("system@1-1-1.journal")).unwrap();
    follower.round(NOW).unwrap();
    assert_eq!(errors(&mut follower, "app.service"), 4);
}

#[test]
fn a_users_journal_that_comes_later_is_followed_from_its_beginning() {
    let host = Made::new();
    host.put("system.journal", &MadeFile::new(true));
    let mut follower = follower(&host);
    follower.round(NOW).unwrap();
    let mut user = MadeFile::new(false);
    user.unit("user@1000.service", 3, "cannot", NOW);
    host.put("user-1000.journal", &user);
    let said: Vec<String> = (0..=LIST_EVERY).map(|_| follower.round(NOW).unwrap()).collect();
    assert_eq!(said.last().map(String::as_str), Some("2 files"));
    assert_eq!(errors(&mut follower, "user@1000.service"), 1);
}

#[test]
fn a_flood_is_counted_and_not_read() {
    let host = Made::new();
    let mut file = MadeFile::new(true);
    host.put("system.journal", &file);
    let mut follower = follower(&host).with_lines(50);
    follower.round(NOW).unwrap();
    (0..LINES_COUNTED_MAX + 500).for_each(|_| _ = file.unit("app.service", 3, "cannot", NOW));
    file.kernel("I/O error, dev sdb, sector 7 op 0x0:(READ)", NOW);
    host.put("system.journal", &file);
    follower.round(NOW).unwrap();
    let reading = follower.reading(NOW);
    assert_eq!((reading.skipped, reading.unread), (501, u64::from(LINES_COUNTED_MAX) - 50));
    let app = &reading.units[&"app.service".parse().unwrap()];
    assert_eq!(app.errors, u64::from(LINES_COUNTED_MAX));
    file.kernel("I/O error, dev sdc, sector 7 op 0x0:(READ)", NOW);
    host.put("system.journal", &file);
    follower.round(NOW).unwrap();
    assert_eq!(follower.reading(NOW).events, [KernelEvent::IoError { device: "sdc".into() }]);
}

#[test]
fn what_was_there_at_the_start_is_read_over_several_rounds_and_not_skipped() {
    let host = Made::new();
    let mut file = MadeFile::new(true);
    (0..2 * LINES_COUNTED_MAX).for_each(|_| _ = file.unit("app.service", 3, "cannot", NOW - 2_000));
    file.kernel("I/O error, dev sdb, sector 7 op 0x0:(READ)", NOW - 1_000);
    host.put("system.journal", &file);
    let mut follower = follower(&host);
    let rounds = (1..10).find(|_| {
        follower.round(NOW).unwrap();
        follower.reading(NOW).has_news()
    });
    assert_eq!((rounds, follower.reading(NOW).skipped), (Some(3), 0));
}

#[test]
fn damage_of_a_line_is_counted_and_that_of_the_file_is_said_until_another_takes_its_place() {
    let host = Made::new();
    let mut file = MadeFile::new(true);
    host.put("system.journal", &file);
    let mut follower = follower(&host);
    follower.round(NOW).unwrap();
    let at = file.unit("app.service", 3, "cannot", NOW);
    file.unit("app.service", 3, "cannot", NOW);
    file.put(at, &[9]);
    host.put("system.journal", &file);
    follower.round(NOW).unwrap();
    let reading = follower.reading(NOW);
    assert_eq!((reading.damaged, errors(&mut follower, "app.service")), (1, 1));

    file.put(0, b"LOST");
    host.put("system.journal", &file);
    let why = follower.round(NOW).unwrap_err();
    assert!(why.contains("system.journal: is no journal file"), "{why}");
    host.rename("system.journal", "system@1-1.journal~");
    let mut next = MadeFile::new(true);
    next.unit("app.service", 3, "cannot", NOW);
    host.put("system.journal", &next);
    assert!((0..=LIST_EVERY).any(|_| follower.round(NOW).is_ok()));
    assert_eq!(errors(&mut follower, "app.service"), 2);
}

#[test]
fn a_journal_that_is_gone_is_unknown_and_one_that_comes_back_is_followed_again() {
    let host = Made::new();
    let mut file = MadeFile::new(true);
    host.put("system.journal", &file);
    let mut follower = follower(&host);
    follower.round(NOW).unwrap();
    let (there, away) = (host.root().join("var/log/journal"), host.root().join("away"));
    std::fs::rename(&there, &away).unwrap();
    assert!((0..=LIST_EVERY).any(|_| follower.round(NOW).is_err()));
    std::fs::rename(&away, &there).unwrap();
    follower.round(NOW).unwrap();
    file.unit("app.service", 3, "cannot", NOW + 1);
    host.put("system.journal", &file);
    follower.round(NOW).unwrap();
    assert_eq!(errors(&mut follower, "app.service"), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_damage_hangs_or_panics(is_compact: bool, hits in prop::collection::vec((any::<u16>(), any::<u8>()), 1..40), cut: u16) {
        let host = Made::new();
        let mut file = MadeFile::new(is_compact);
        for n in 0..40 {
            file.unit("app.service", 3, &format!("cannot {}", "x".repeat(n * 30)), NOW + n as i64);
            file.kernel("I/O error, dev sdb, sector 7 op 0x0:(READ)", NOW + n as i64);
        }
        for (at, byte) in hits {
            let at = usize::from(at) % file.bytes.len();
            file.bytes[at] = byte;
        }
        let left = file.bytes.len() - usize::from(cut) % 64;
        file.bytes.truncate(left);
        host.put("system.journal", &file);
        let mut follower = Follower::new(host.root(), Digest::default(), NOW);
        for _ in 0..3 {
            let _ = follower.round(NOW);
        }
        let reading = follower.reading(NOW);
        let met = reading.damaged + follower.lines().saturating_sub(reading.skipped);
        prop_assert!(met <= 3 * u64::from(LINES_COUNTED_MAX), "{:?}", reading);
    }
}
