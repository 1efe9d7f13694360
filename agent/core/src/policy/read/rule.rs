//! Reads one `[[rule]]`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Budget, Glob, Rule, Rung, When, Window, is_protected};
use super::ladder::{self, About};
use super::{Names, globs, selector, unique, unknown_word};
use crate::config::{Place, Spanned, TableReader, parse_duration};
use crate::decision::Mode;
use crate::finding::FindingKind;
use crate::plan::{ReclaimPlace, Risk, Verify};
use crate::policy::window::{BadWindow, Days};

/// Most actions that a budget may name: as many as are remembered of one rule.
const BUDGET_COUNT_MAX: u32 = 1_000;

/// Longest window of a budget.
const BUDGET_PER_MAX: Duration = Duration::from_secs(30 * 86_400);

/// Most tries of a rung: fewer than are remembered of one trouble.
const TRIES_MAX: u64 = 100;

/// Suffixes of unit names, to see a glob that can match none.
const UNIT_SUFFIXES: [&str; 5] = [".service", ".socket", ".timer", ".path", "*"];

const MODES: [(&str, Mode); 4] =
    [("observe", Mode::Observe), ("suggest", Mode::Suggest), ("approve", Mode::Approve), ("auto", Mode::Auto)];

const RISKS: [(&str, Risk); 3] = [("low", Risk::Low), ("medium", Risk::Medium), ("high", Risk::High)];

pub(super) fn rule(
    mut table: TableReader<'_>,
    places: &BTreeMap<String, ReclaimPlace>,
    names: &mut Names,
) -> Option<Rule> {
    let name = table.str("name");
    if let Some(name) = &name {
        unique(&table, names, "rule", name);
    }
    let on = kinds(&mut table);
    let about = About::of(&on.iter().map(|kind| kind.value).collect::<Vec<_>>());
    let units = units(&mut table, about);
    let mounts = mounts(&mut table, about);
    let labels = selector(&mut table, "labels");
    let when = when(&mut table, "when");
    let mode = table.opt_choice("mode", &MODES).map_or(Mode::Observe, Spanned::into_inner);
    let confidence = table.opt_f64("confidence");
    let confidence = table.within("confidence", confidence, 0.0..=1.0).map_or(0.9, Spanned::into_inner);
    let held_for = duration(&mut table, "for", Duration::ZERO);
    let cooldown = duration(&mut table, "cooldown", Duration::from_secs(300));
    let cooldown_max = duration(&mut table, "cooldown_max", cooldown.max(Duration::from_secs(3_600)));
    if cooldown_max < cooldown {
        table.problem(table.place_of("cooldown_max"), "`cooldown_max` is shorter than `cooldown`");
    }
    let backoff = table.opt_f64("backoff");
    let backoff = table.within("backoff", backoff, 1.0..=10.0).map_or(2.0, Spanned::into_inner);
    let budget = budget(&mut table);
    let windows: Vec<Window> = table.tables("windows").into_iter().filter_map(window).collect();
    let risk = table.opt_choice("risk", &RISKS).map_or(Risk::Medium, Spanned::into_inner);
    let tries = table.opt_u64("tries");
    let tries = table.within("tries", tries, 1..=TRIES_MAX).map(|tries| u32::try_from(tries.value).unwrap_or(u32::MAX));
    let start_over = table.opt_duration("start_over");
    if let Some(zero) = start_over.as_ref().filter(|wait| wait.value.is_zero()) {
        table.problem(&zero.place, "`start_over` of 0s would never let the ladder end; leave it out for never");
    }
    let rungs = ladder::ladder(&mut table, places);
    check_ladder(&table, &rungs, &on, mode, risk);
    check_protected(&table, &units, mode);
    let verify = verify(&mut table);
    table.finish();
    Some(Rule {
        name: name?.value,
        on: on.into_iter().map(Spanned::into_inner).collect(),
        units: units.into_iter().map(Spanned::into_inner).collect(),
        mounts,
        labels,
        when,
        mode,
        confidence,
        held_for,
        cooldown,
        backoff,
        cooldown_max,
        budget,
        windows: vec![windows],
        risk,
        ladder: rungs.into_iter().map(Spanned::into_inner).collect(),
        tries,
        start_over: start_over.map(Spanned::into_inner),
        verify,
    })
}

fn duration(table: &mut TableReader<'_>, key: &str, default: Duration) -> Duration {
    table.opt_duration(key).map_or(default, Spanned::into_inner)
}

fn kinds(table: &mut TableReader<'_>) -> Vec<Spanned<FindingKind>> {
    let Some(words) = table.strs("on") else { return Vec::new() };
    if words.value.is_empty() {
        table.problem(&words.place, "`on` is empty: name the kinds of findings that the rule is about");
    }
    let mut kinds = Vec::with_capacity(words.value.len());
    for word in words.value {
        match word.value.parse() {
            Ok(kind) => kinds.push(Spanned::new(kind, word.place)),
            Err(_) => {
                let known = FindingKind::ALL.iter().map(|kind| kind.as_str());
                table.problem(&word.place, unknown_word("finding kind", &word.value, known));
            }
        }
    }
    kinds
}

fn units(table: &mut TableReader<'_>, about: About) -> Vec<Spanned<Glob>> {
    let all = table.opt_bool("all_units");
    let listed = globs(table, "units");
    let all_units = all.as_ref().is_some_and(|all| all.value);
    let place = table.place_of(if table.has("units") { "units" } else { "all_units" }).clone();
    if !about.units && !about.units_too && !about.nothing && (listed.is_some() || all_units) {
        table.problem(&place, "`units` is given, but none of the kinds in `on` is about units");
    }
    if all_units {
        if listed.is_some() {
            table.problem(&place, "`units` and `all_units = true` exclude each other");
        }
        return Glob::new("*").map(|glob| Spanned::new(glob, place)).into_iter().collect();
    }
    let Some(listed) = listed else {
        if about.units && !table.has("units") {
            table.problem(table.place(), "a rule about units needs `units`, or all_units = true");
        }
        return Vec::new();
    };
    if listed.is_empty() {
        table.problem(&place, "`units` is empty: name units, or write all_units = true");
    }
    for glob in &listed {
        if glob.value.matches_everything() {
            let message =
                format!("unit glob \"{}\" matches every unit; name units, or write all_units = true", glob.value);
            table.problem(&glob.place, message);
        } else if !UNIT_SUFFIXES.iter().any(|suffix| glob.value.as_str().ends_with(suffix)) {
            let message =
                format!("unit glob \"{}\" matches no unit; did you mean \"{}.service\"?", glob.value, glob.value);
            table.problem(&glob.place, message);
        }
    }
    listed
}

fn mounts(table: &mut TableReader<'_>, about: About) -> Vec<Glob> {
    let listed = globs(table, "mounts");
    let place = table.place_of("mounts").clone();
    if listed.is_some() && !about.mounts && !about.nothing {
        table.problem(&place, "`mounts` is given, but none of the kinds in `on` is about filesystems");
    }
    let Some(listed) = listed else {
        if about.mounts && !table.has("mounts") {
            table.problem(
                table.place(),
                "a rule about filesystems needs `mounts`, such as [\"/var\"] or [\"/*\"] for all",
            );
        }
        return Vec::new();
    };
    if listed.is_empty() {
        table.problem(&place, "`mounts` is empty: name mount points, such as [\"/var\"] or [\"/*\"] for all");
    }
    for glob in listed.iter().filter(|glob| !glob.value.as_str().starts_with(['/', '*'])) {
        table.problem(
            &glob.place,
            format!("mount glob \"{}\" matches no mount point; it must begin with /", glob.value),
        );
    }
    listed.into_iter().map(Spanned::into_inner).collect()
}

/// A condition, with the place of what is wrong inside its text.
pub(super) fn when(table: &mut TableReader<'_>, key: &str) -> Option<When> {
    let text = table.opt_str(key)?;
    match When::parse(&text.value) {
        Ok(when) => Some(when),
        Err(bad) => {
            // One more for the quote. Escapes before the place would move it; conditions have no use for any.
            let inside = u32::try_from(bad.at).unwrap_or(0).saturating_add(1);
            let place = Place { column: text.place.column.saturating_add(inside), ..text.place };
            table.problem(&place, format!("`{key}`: {}", bad.message));
            None
        }
    }
}

fn budget(table: &mut TableReader<'_>) -> Budget {
    let default = Budget { count: 3, per: Duration::from_secs(3_600) };
    let Some(text) = table.opt_str("budget") else { return default };
    let parsed = text.value.split_once(" per ").and_then(|(count, per)| {
        let digits = count.trim();
        let count =
            if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse::<u32>().ok()? } else { return None };
        Some(Budget { count, per: parse_duration(per).ok()? })
    });
    let problem = match parsed {
        None => format!("`budget` must be such as \"3 per 1h\", not {:?}", text.value),
        Some(Budget { count: 0, .. }) => "`budget` of 0 never lets the rule act; write mode = \"observe\"".to_owned(),
        Some(Budget { count, .. }) if count > BUDGET_COUNT_MAX => {
            format!("`budget` must be at most {BUDGET_COUNT_MAX} actions, not {count}")
        }
        Some(Budget { per, .. }) if per.is_zero() || per > BUDGET_PER_MAX => {
            "`budget` must be per 1ms to 30d".to_owned()
        }
        Some(budget) => return budget,
    };
    table.problem(&text.place, problem);
    default
}

fn window(mut table: TableReader<'_>) -> Option<Window> {
    let days = table.opt_str("days");
    let (from, to, zone) = (table.str("from"), table.str("to"), table.str("tz"));
    let days = match days {
        None => Some(Days::DAILY),
        Some(text) => match Days::parse(&text.value) {
            Ok(days) => Some(days),
            Err(bad) => {
                table.problem(&text.place, format!("`days` {bad}"));
                None
            }
        },
    };
    let (from, to, zone) = match (from, to, zone) {
        (Some(from), Some(to), Some(zone)) => (from, to, zone),
        _ => return super::finished(table),
    };
    // Each value is held against good ones, so that a window with two mistakes names both.
    let tries = [
        (&from, "from", Window::new(Days::DAILY, &from.value, "24:00", "UTC")),
        (&to, "to", Window::new(Days::DAILY, if to.value == "00:00" { "00:01" } else { "00:00" }, &to.value, "UTC")),
        (&zone, "tz", Window::new(Days::DAILY, "00:00", "24:00", &zone.value)),
    ];
    let mut good = true;
    for (text, key, tried) in tries {
        if let Err(bad) = tried {
            table.problem(&text.place, describe(key, &bad));
            good = false;
        }
    }
    let window = days.filter(|_| good).and_then(|days| match Window::new(days, &from.value, &to.value, &zone.value) {
        Ok(window) => Some(window),
        Err(bad) => {
            table.problem(&to.place, describe("to", &bad));
            None
        }
    });
    table.finish();
    window
}

fn describe(key: &str, bad: &BadWindow) -> String {
    match bad {
        BadWindow::Days(_) | BadWindow::Time(_) => format!("`{key}` {bad}"),
        BadWindow::Empty(_) | BadWindow::Zone(_) => bad.to_string(),
    }
}

fn verify(table: &mut TableReader<'_>) -> Verify {
    let default = Verify { stable_for: Duration::from_secs(30), within: Duration::from_secs(300) };
    let Some(mut inner) = table.opt_table("verify") else { return default };
    let stable_for = duration(&mut inner, "stable_for", default.stable_for);
    let within = duration(&mut inner, "within", default.within.max(stable_for.saturating_mul(2)));
    if within < stable_for {
        inner.problem(
            inner.place_of("within"),
            "`within` is shorter than `stable_for`, so nothing could ever be proved",
        );
    }
    inner.finish();
    Verify { stable_for, within }
}

/// The rungs must fit the findings, come in the order of their times, and be no riskier than the rule allows.
fn check_ladder(table: &TableReader<'_>, rungs: &[Spanned<Rung>], on: &[Spanned<FindingKind>], mode: Mode, risk: Risk) {
    if rungs.is_empty() && mode > Mode::Observe && !table.has("ladder") {
        table.problem(table.place(), format!("a rule of mode `{mode}` needs a `ladder`"));
    }
    for pair in rungs.windows(2).filter(|pair| pair[1].value.after < pair[0].value.after) {
        table.problem(&pair[1].place, "this rung is due before the one above it");
    }
    for rung in rungs {
        let fits: Vec<FindingKind> =
            on.iter().map(|kind| kind.value).filter(|kind| ladder::fits(&rung.value.action, *kind)).collect();
        if fits.is_empty() && !on.is_empty() {
            let message = format!("`{}` fits none of the kinds in `on`", rung.value.action.kind());
            table.problem(&rung.place, message);
        }
        let worst = fits.iter().map(|kind| rung.value.action.risk(*kind)).max();
        if let Some(worst) = worst.filter(|worst| *worst > risk) {
            let message = format!(
                "`{}` is of risk {worst} here and the rule allows {risk}; write risk = \"{worst}\" if that is meant",
                rung.value.action.kind()
            );
            table.problem(&rung.place, message);
        }
    }
    if rungs.is_empty() {
        return;
    }
    for kind in on.iter().filter(|kind| !rungs.iter().any(|rung| ladder::fits(&rung.value.action, kind.value))) {
        table.problem(&kind.place, format!("no rung of the ladder fits `{}`", kind.value));
    }
}

/// A unit that is named outright and can never be acted on is a mistake.
fn check_protected(table: &TableReader<'_>, units: &[Spanned<Glob>], mode: Mode) {
    if mode == Mode::Observe {
        return;
    }
    for glob in units {
        if glob.value.as_str().parse().is_ok_and(|unit| is_protected(&unit)) {
            table.problem(
                &glob.place,
                format!("{} is protected and never acted on; write mode = \"observe\"", glob.value),
            );
        }
    }
}
