//! What was changed on a host shortly before a finding opened: what is about the same unit first, then the newest.
//!
//! In: the changes that the collector lists, and what the finding is about. Out: those that may have to do with it, in the
//! order in which a person would look at them. That something was changed before is no proof that it is the cause.

use mainstay_proto::v1::subject::Of;
use mainstay_proto::v1::{Change, ChangeView, ListChangesRequest, Search, Selector, Subject};
use serde::Serialize;

use crate::cmd::changes::ChangeRow;
use crate::connect;
use crate::context::Context;
use crate::{view, words};

/// How long before the opening anything that was changed may have to do with it.
const NEAR_MS: i64 = 3_600_000;

/// The same for what is about its unit.
const RELATED_MS: i64 = 24 * 3_600_000;

/// How much later than the opening a change may be told to have been: hosts look every ten seconds.
const AFTER_MS: i64 = 10_000;

/// Changes that are asked for, and that people are shown.
const ASKED_MAX: u32 = 2_000;
const SHOWN_MAX: usize = 8;

/// Names that are shorter than this are in too many others.
const STEM_BYTES_MIN: usize = 3;

/// A change near before a finding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Near {
    view: ChangeView,
    is_related: bool,
    before_ms: i64,
}

/// The same for programs.
#[derive(Debug, Serialize)]
pub(crate) struct NearDoc {
    #[serde(flatten)]
    change: ChangeRow,
    /// It is about the unit of the finding, by its name.
    is_related: bool,
    seconds_before: f64,
}

impl From<&Near> for NearDoc {
    #[allow(clippy::cast_precision_loss, reason = "a day in milliseconds")]
    fn from(near: &Near) -> Self {
        let seconds_before = near.before_ms as f64 / 1e3;
        Self { change: (&near.view).into(), is_related: near.is_related, seconds_before }
    }
}

/// Asks what was changed on a host before a finding about `subject` opened. Where the collector does not say, it is not
/// known, and the rest of the story is told without it.
pub(crate) async fn before(context: &Context, host_id: &[u8], subject: Option<&Subject>, opened_ms: i64) -> Vec<Near> {
    let request = ListChangesRequest {
        selector: Some(Selector { labels: Vec::new(), host: view::host_id(host_id) }),
        limit: ASKED_MAX,
        search: Some(Search {
            since_ms: opened_ms.saturating_sub(RELATED_MS),
            until_ms: opened_ms.saturating_add(AFTER_MS),
            ..Search::default()
        }),
    };
    let Ok(mut queries) = connect::queries(context).await else { return Vec::new() };
    let answer = queries.list_changes(request).await;
    near(answer.map(|answer| answer.into_inner().changes).unwrap_or_default(), subject, opened_ms)
}

/// Those that may have to do with it.
fn near(changes: Vec<ChangeView>, subject: Option<&Subject>, opened_ms: i64) -> Vec<Near> {
    let judged = changes.into_iter().filter_map(|view| {
        let change = view.change.as_ref()?;
        let (is_related, before_ms) = (is_related(change, subject), opened_ms.saturating_sub(change.at_ms));
        let reach_ms = if is_related { RELATED_MS } else { NEAR_MS };
        (-AFTER_MS..=reach_ms).contains(&before_ms).then_some(Near { is_related, before_ms, view })
    });
    let mut near: Vec<Near> = judged.collect();
    near.sort_by_key(|near| (!near.is_related, near.before_ms));
    near
}

/// As people read them, a line each.
pub(crate) fn lines(near: &[Near]) -> Vec<String> {
    let mut lines: Vec<String> = near.iter().take(SHOWN_MAX).map(line).collect();
    if near.len() > SHOWN_MAX {
        lines.push(format!("and {} more: `mainstay changes` lists them", near.len() - SHOWN_MAX));
    }
    lines
}

fn line(near: &Near) -> String {
    let change = near.view.change.clone().unwrap_or_default();
    let when = match u64::try_from(near.before_ms) {
        Ok(before_ms) => format!("{} before", words::short(before_ms)),
        Err(_) => "at that moment".to_owned(),
    };
    let values = match (&change.before, &change.after) {
        (None, None) => String::new(),
        (None, Some(to)) => format!(" {to}"),
        (Some(from), to) => format!(" {from} → {}", to.as_deref().unwrap_or("–")),
    };
    // A mark has no host of its own: it says what it was made for.
    let of = if near.view.host_id.is_empty() { format!(" ({})", near.view.hostname) } else { String::new() };
    let by = change.by.as_ref().map_or_else(String::new, |by| format!(", by {by}"));
    let text = if change.text.is_empty() { String::new() } else { format!(": {}", change.text) };
    format!("{}  {when}: {} {}{values}{of}{by}{text}", words::date_time(change.at_ms), change.kind, change.subject)
}

/// Whether a change is about what a finding is about, as far as names tell.
pub(crate) fn is_related(change: &Change, subject: Option<&Subject>) -> bool {
    let unit = match subject.and_then(|subject| subject.of.as_ref()) {
        Some(Of::Unit(unit)) => unit.as_str(),
        Some(Of::Series(series)) => match of_label(series) {
            Some(unit) => unit,
            None => return false,
        },
        _ => return false,
    };
    let changed = change.subject.as_str();
    if changed == unit {
        return true;
    }
    // `app@1.service` is of `app@.service`.
    let (name, kind) = unit.rsplit_once('.').unwrap_or((unit, ""));
    let stem = name.split('@').next().unwrap_or(name);
    let template = format!("{stem}@.{kind}");
    let is_file_of = |part: &str| {
        let part = part.strip_suffix(".d").unwrap_or(part);
        part == unit || (name.contains('@') && part == template)
    };
    if changed.split('/').any(is_file_of) {
        return true;
    }
    stem.len() >= STEM_BYTES_MIN && names(changed).any(|name| name == stem)
}

/// The unit of a series as it is written in a query.
fn of_label(series: &str) -> Option<&str> {
    series.split_once("unit=\"")?.1.split('"').next()
}

/// The names in a subject: of folders and files without their endings, of a package and what it is of (`nginx-core`), of
/// what was deployed (`shop 1.42`).
fn names(subject: &str) -> impl Iterator<Item = &str> {
    subject.split(['/', ' ', ':']).flat_map(|part| {
        let stem = part.split('.').next().unwrap_or(part);
        let first = stem.split('-').next().unwrap_or(stem);
        [part, stem, first]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(unit: &str) -> Option<Subject> {
        Some(Subject { of: Some(Of::Unit(unit.to_owned())) })
    }

    fn change(kind: &str, subject: &str, at_ms: i64) -> ChangeView {
        let change = Change { at_ms, kind: kind.to_owned(), subject: subject.to_owned(), ..Change::default() };
        ChangeView { host_id: vec![1; 16], hostname: "web-1".into(), change: Some(change), hosts: 1 }
    }

    #[test]
    fn what_is_about_the_unit_is_known_by_its_name() {
        let is = |unit: &str, changed: &str| {
            is_related(&Change { subject: changed.to_owned(), ..Change::default() }, subject(unit).as_ref())
        };
        for changed in [
            "nginx.service",
            "nginx",
            "nginx-core",
            "nginx:amd64",
            "/etc/nginx/nginx.conf",
            "/etc/default/nginx",
            "/etc/systemd/system/nginx.service",
            "/etc/systemd/system/nginx.service.d/limits.conf",
            "nginx 1.42",
        ] {
            assert!(is("nginx.service", changed), "{changed}");
        }
        for changed in ["libc6", "nginxy.service", "/etc/hosts", "policy", "6.1.0-9", "app-nginx"] {
            assert!(!is("nginx.service", changed), "{changed}");
        }
        assert!(is("shop@2.service", "/etc/systemd/system/shop@.service") && is("shop@2.service", "shop 1.42"));
        assert!(!is("shop@2.service", "/etc/systemd/system/shop@3.service.d/a.conf"));
        assert!(!is("a.service", "a"), "too short a name to tell anything");
        let series = Subject { of: Some(Of::Series("mainstay_unit_tasks{host=\"x\",unit=\"shop.service\"}".into())) };
        let shop = Change { subject: "shop.service".into(), ..Change::default() };
        assert!(is_related(&shop, Some(&series)) && !is_related(&shop, None));
    }

    #[test]
    fn the_most_related_come_first_then_the_newest_and_what_is_long_ago_or_later_does_not_count() {
        let opened = 100_000_000;
        let near = near(
            vec![
                change("unit.restarted", "app.service", opened + 60_000),
                change("file.changed", "/etc/hosts", opened + 9_000),
                change("package.upgraded", "libc6", opened - 60_000),
                change("package.upgraded", "app", opened - 7_200_000),
                change("package.upgraded", "libold", opened - 7_200_000),
                change("unit.restarted", "app.service", opened - 90_000_000),
                ChangeView::default(),
            ],
            subject("app.service").as_ref(),
            opened,
        );
        let said: Vec<_> =
            near.iter().map(|near| (near.view.change.clone().unwrap().subject, near.is_related)).collect();
        let want = [("app", true), ("/etc/hosts", false), ("libc6", false)];
        assert_eq!(said, want.map(|(subject, is_related)| (subject.to_owned(), is_related)));
    }

    #[test]
    fn a_line_says_when_what_from_what_to_what_and_by_whom() {
        let mut view = change("package.upgraded", "nginx", 1_000);
        view.change = view.change.map(|change| Change {
            before: Some("1.24".into()),
            after: Some("1.26".into()),
            by: Some("jane".into()),
            text: "apt install nginx".into(),
            ..change
        });
        let near = |view: &ChangeView, before_ms| Near { view: view.clone(), is_related: true, before_ms };
        let said = |near: &Near| line(near).split_once("  ").unwrap().1.to_owned();
        let whole = said(&near(&view, 2_000));
        assert_eq!(whole, "2s before: package.upgraded nginx 1.24 → 1.26, by jane: apt install nginx");
        let mark =
            ChangeView { host_id: Vec::new(), hostname: "role=web".into(), ..change("deploy", "shop 1.42", 1_000) };
        assert_eq!(said(&near(&mark, -5)), "at that moment: deploy shop 1.42 (role=web)");
        let many = vec![near(&view, 1); 11];
        assert_eq!((lines(&many).len(), lines(&many)[8].as_str()), (9, "and 3 more: `mainstay changes` lists them"));
    }
}
