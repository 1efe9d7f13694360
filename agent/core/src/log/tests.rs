use super::*;
use proptest::prelude::*;

fn unit(name: &str) -> UnitName {
    name.parse().unwrap()
}

fn said(digest: &mut Digest, name: &UnitName, priority: u8, message: &str, wall_ms: i64) {
    digest.line(Line { wall_ms, source: Source::Unit(name), priority, message: Some(message.as_bytes()) });
}

#[test]
fn lines_are_counted_by_unit_and_priority_and_errors_have_their_patterns() {
    let (mut digest, app) = (Digest::default(), unit("app.service"));
    for n in 0..10 {
        said(&mut digest, &app, 3, &format!("cannot open /srv/{n}: no such file"), n * 100);
    }
    said(&mut digest, &app, 6, "all is well", 1_000);
    said(&mut digest, &app, 6, "ERROR out of luck", 1_000);
    digest.line(Line { wall_ms: 1_000, source: Source::Other, priority: 4, message: None });
    let reading = digest.reading(2_000);
    let counts = &reading.units[&app];
    assert_eq!((counts.lines[3], counts.lines[6], counts.errors), (10, 2, 11));
    assert_eq!((reading.other.lines[4], reading.unread), (1, 1));
    assert_eq!((counts.top[0].template.as_str(), counts.top[0].recent), ("cannot open <*> no such file", 10));
    assert_eq!(counts.top[0].example, "cannot open /srv/0: no such file");
    assert_eq!(counts.top.len(), 2, "what is well is no pattern of errors");
    assert!(digest.reading(600_000).units[&app].top.is_empty());
}

#[test]
fn only_the_kernels_own_lines_report_for_the_kernel() {
    let line = "Out of memory: Killed process 7 (x) total-vm:1kB, anon-rss:1kB, file-rss:0kB";
    let (mut digest, app) = (Digest::default(), unit("app.service"));
    said(&mut digest, &app, 0, line, 0);
    digest.line(Line { wall_ms: 0, source: Source::Other, priority: 0, message: Some(line.as_bytes()) });
    assert_eq!(digest.reading(0).events, []);
    let kernel = Line { wall_ms: 0, source: Source::Kernel, priority: 3, message: Some(line.as_bytes()) };
    (0..KERNEL_EVENTS_MAX + 2).for_each(|_| digest.line(kernel));
    let reading = digest.reading(0);
    assert_eq!((reading.events.len(), reading.events_dropped), (KERNEL_EVENTS_MAX, 2));
    assert_eq!(digest.reading(0).events, [], "an event is in one reading only");
}

/// A unit that has said the same for two hours.
fn known() -> (Digest, UnitName, i64) {
    let (mut digest, app) = (Digest::default(), unit("app.service"));
    for n in 0..240 {
        said(&mut digest, &app, 6, &format!("served {n} requests"), n * 30_000);
    }
    (digest, app, 240 * 30_000)
}

#[test]
fn a_new_pattern_of_errors_is_told_once_when_it_has_come_three_times() {
    let (mut digest, app, at) = known();
    for n in 0..5 {
        said(&mut digest, &app, 3, &format!("lost connection to db-{n}"), at + n);
        let novel = digest.reading(at + n).novel;
        assert_eq!(novel.len(), usize::from(n == 2), "{novel:?}");
    }
    for n in 0..5 {
        said(&mut digest, &app, 6, "a new pattern that is no error", at + n);
    }
    assert_eq!(digest.reading(at).novel, []);
}

#[test]
fn what_is_new_on_a_host_that_is_not_known_yet_is_not_told() {
    let (mut digest, app) = (Digest::default(), unit("app.service"));
    (0..500).for_each(|n| said(&mut digest, &app, 3, &format!("lost connection to db-{n}"), n));
    assert_eq!(digest.reading(500).novel, []);
}

#[test]
fn what_was_learned_survives_a_restart() {
    let (mut digest, app, at) = known();
    said(&mut digest, &app, 3, "lost connection to db-1", at);
    let bytes = digest.snapshot();
    let mut restored = Digest::restore(&bytes, Redaction::default()).unwrap();
    assert_eq!((restored.snapshot(), restored.seen_ms()), (bytes.clone(), at));
    assert_eq!(restored.reading(at).units[&app].lines, [0; 8], "counters begin anew");
    said(&mut restored, &app, 6, "served 7 requests", at + 1);
    (2..4).for_each(|n| said(&mut restored, &app, 3, "lost connection to db-2", at + n));
    assert_eq!(restored.reading(at + 4).novel.len(), 1, "the first of three came before the restart");
    assert!(Digest::restore(&bytes[..bytes.len() - 1], Redaction::default()).is_err());
}

#[test]
fn units_and_templates_are_bounded_whatever_is_logged() {
    let mut digest = Digest::default();
    for n in 0..2 * UNITS_MAX {
        let name = unit(&format!("u{n}.service"));
        for m in 0..20 {
            said(&mut digest, &name, 6, &"x ".repeat(m + 1), n as i64);
        }
    }
    assert_eq!(digest.units.len(), UNITS_MAX);
    let templates: usize = digest.units.values().map(|kept| kept.templates.len()).sum();
    assert!(templates <= TEMPLATES_HOST_MAX, "{templates}");
    assert!(digest.reading(0).evicted > 0);
}

proptest! {
    #[test]
    fn never_panics(messages in prop::collection::vec((0u8..255, prop::collection::vec(any::<u8>(), 0..80)), 0..60)) {
        let (mut digest, app) = (Digest::default(), unit("app.service"));
        for (priority, message) in &messages {
            let source = match priority % 3 {
                0 => Source::Kernel,
                1 => Source::Unit(&app),
                _ => Source::Other,
            };
            digest.line(Line { wall_ms: i64::from(*priority) * 1_000, source, priority: *priority, message: Some(message) });
        }
        let bytes = digest.snapshot();
        prop_assert_eq!(Digest::restore(&bytes, Redaction::default()).unwrap().snapshot(), bytes);
    }

    #[test]
    fn no_saved_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..400, byte: u8) {
        let _ = Digest::restore(&bytes, Redaction::default());
        let mut saved = known().0.snapshot();
        let at = at % saved.len();
        saved[at] = byte;
        let _ = Digest::restore(&saved, Redaction::default());
    }
}
