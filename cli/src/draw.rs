//! Sparklines: a series over time as a line of bars, with what was expected and when a finding began.
//!
//! Where the terminal does not speak UTF-8 the bars are plain ASCII. Colours follow
//! [`output::is_colourful`].

use std::fmt::Write as _;

use mainstay_core::drawing;
use mainstay_core::finding::FindingKind;
use mainstay_core::subject::Subject;
use mainstay_proto::v1::{self, QueryRangeRequest};

use crate::context::Context;
use crate::{connect, output, words};

/// Columns of a line.
pub(crate) const WIDTH: usize = 72;

/// Most points that are asked for: a line has far fewer.
const POINTS_MAX: u32 = 10_000;

/// Measures of one finding that are drawn: those that are named first.
const DRAWN: usize = 3;

/// What is shown before a finding opened, at least: enough to see what was usual.
const BEFORE_MS: i64 = 20 * 60_000;
/// And at most, of one that is old, in all: the day around its onset.
const SPAN_MS_MAX: i64 = 24 * 3_600_000;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 8] = ['_', '.', ',', '-', '=', '+', '*', '#'];

/// The last column of a bar, in eighths.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// Whether the terminal speaks UTF-8, by the first of the variables that say so (locale(7)).
fn is_utf8() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// The bars to draw with.
fn bars() -> [char; 8] {
    if is_utf8() { BARS } else { ASCII }
}

/// Values as a line of bars between the least and the greatest; each bar is the mean of its share of
/// them, those beyond `usual` (least, greatest) in red where colours are welcome.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index of eight bars"
)]
fn line(values: &[f64], usual: Option<(f64, f64)>, bars: [char; 8]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = values.len().min(WIDTH);
    let mut text = String::new();
    for column in 0..width {
        let from = column * values.len() / width;
        let to = ((column + 1) * values.len() / width).max(from + 1);
        let mean = values[from..to].iter().sum::<f64>() / (to - from) as f64;
        let share = if greatest > least { (mean - least) / (greatest - least) } else { 0.0 };
        let bar = bars[((share * 7.0).round() as usize).min(7)].to_string();
        let is_beyond = usual.is_some_and(|(low, high)| mean < low || mean > high);
        text.push_str(&if is_beyond { output::paint("31", &bar) } else { bar });
    }
    text
}

/// Values at their moments as a line of so many bars, blank where no value is known.
pub(crate) fn timeline(values: &[f64], at_ms: &[i64], width: usize) -> String {
    timeline_of(values, at_ms, width, bars())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of eight bars")]
fn timeline_of(values: &[f64], at_ms: &[i64], width: usize, bars: [char; 8]) -> String {
    let (Some(first), Some(last)) = (at_ms.first(), at_ms.last()) else { return String::new() };
    let mut sums = vec![(0.0, 0u32); width];
    for (value, at) in values.iter().zip(at_ms).filter(|(value, _)| value.is_finite()) {
        let (sum, count) = &mut sums[column(*at, *first, *last, width)];
        *sum += value;
        *count += 1;
    }
    let means: Vec<_> = sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / f64::from(count))).collect();
    let known = || means.iter().copied().flatten();
    let (low, high) = known().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let bar = |mean: Option<f64>| {
        let Some(mean) = mean else { return ' ' };
        let share = if high > low { (mean - low) / (high - low) } else { 0.0 };
        bars[((share * 7.0).round() as usize).min(7)]
    };
    means.into_iter().map(bar).collect()
}

/// A share of a whole as a bar; all of it is so many columns wide.
pub(crate) fn bar(share: f64, width: usize) -> String {
    bar_of(share, width, is_utf8())
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "columns of a terminal"
)]
fn bar_of(share: f64, width: usize, is_utf8: bool) -> String {
    let columns = share.clamp(0.0, 1.0) * width as f64;
    if !is_utf8 {
        return "#".repeat(columns.round() as usize);
    }
    let eighths = (columns * 8.0).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// The values as a line of bars.
pub(crate) fn sparkline(values: &[f64]) -> String {
    line(values, None, bars())
}

/// The column of a moment, in a line from `from_ms` to `to_ms` that is so wide.
pub(crate) fn column(at_ms: i64, from_ms: i64, to_ms: i64, width: usize) -> usize {
    let (passed, whole) = (at_ms.saturating_sub(from_ms).max(0), to_ms.saturating_sub(from_ms).max(1));
    let width = i64::try_from(width).unwrap_or(1).max(1);
    usize::try_from((passed.saturating_mul(width) / whole).min(width - 1)).unwrap_or(0)
}

/// The lines that draw a finding: for each measure that a stored series shows, its name, the series
/// around the onset, and under it where the finding opened and what was expected. Empty where
/// nothing is stored, or the collector cannot say.
pub(crate) async fn finding(context: &Context, hostname: &str, finding: &v1::Finding, now_ms: i64) -> Vec<String> {
    let mut lines = Vec::new();
    let (Ok(kind), Some(Ok(subject))) =
        (finding.kind.parse::<FindingKind>(), finding.subject.clone().map(Subject::try_from))
    else {
        return lines;
    };
    let opened_ms = finding.opened.as_ref().map_or(now_ms, |opened| opened.wall_ms);
    let (from_ms, to_ms) = span(opened_ms, finding, now_ms);
    let measures = finding.evidence.iter().filter_map(|evidence| evidence.measure.as_ref());
    for measure in measures.take(DRAWN) {
        let Some(promql) = drawing::query(kind, &subject, &measure.name, hostname) else { continue };
        let step_ms = u32::try_from((to_ms - from_ms) / i64::try_from(WIDTH).unwrap_or(1)).unwrap_or(u32::MAX);
        let request = QueryRangeRequest {
            from_ms,
            to_ms,
            step_ms: step_ms.max(10_000),
            promql,
            points_max: POINTS_MAX,
            ..Default::default()
        };
        let Ok(mut queries) = connect::queries(context).await else { return lines };
        // What cannot be drawn is told in words all the same.
        let Ok(answer) = queries.query_range(request).await else { continue };
        let Some(series) = answer.into_inner().series.into_iter().next() else { continue };
        let points = series.at_ms.iter().copied().zip(series.values.iter().copied());
        let points: Vec<_> = points.filter(|(_, value)| value.is_finite()).collect();
        if points.len() > 1 {
            lines.extend(drawn(measure, &points, opened_ms, bars()));
        }
    }
    lines
}

/// From when to when a finding is drawn: its onset with what was before it, and what came of it.
fn span(opened_ms: i64, finding: &v1::Finding, now_ms: i64) -> (i64, i64) {
    let ended_ms = if finding.state == "cleared" {
        finding.changed.as_ref().map_or(now_ms, |changed| changed.wall_ms.saturating_add(BEFORE_MS / 2))
    } else {
        now_ms
    };
    let before_ms = ended_ms.saturating_sub(opened_ms).max(0).max(BEFORE_MS);
    let from_ms = opened_ms.saturating_sub(before_ms.min(SPAN_MS_MAX / 2));
    (
        from_ms,
        ended_ms
            .clamp(from_ms.saturating_add(60_000), from_ms.saturating_add(SPAN_MS_MAX))
            .min(now_ms.max(from_ms + 60_000)),
    )
}

/// One measure: its name, the line, and what stands under it.
fn drawn(measure: &v1::Measure, points: &[(i64, f64)], opened_ms: i64, bars: [char; 8]) -> Vec<String> {
    let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    let (first, last) = (points[0].0, points[points.len() - 1].0);
    let usual = measure.expected.zip(measure.limit).map(|(expected, limit)| {
        let far = (limit - expected).abs();
        (expected - far, expected + far)
    });
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    let width = values.len().min(WIDTH);
    let mut under =
        format!("{:>at$} found {}", "^", words::clock(opened_ms), at = column(opened_ms, first, last, width) + 1);
    if let Some((low, high)) = usual {
        let _ = write!(under, ", usual {} to {}", words::number(low), words::number(high));
    }
    vec![
        measure.name.clone(),
        format!("{}  {} to {}", line(&values, usual, bars), words::number(low), words::number(high)),
        under,
        format!("{} to {}", words::date_time(first), words::date_time(last)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_rises_where_the_values_rise() {
        let rising = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        assert_eq!(line(&rising, None, BARS), "▁▂▃▄▅▆▇█");
        assert_eq!(line(&rising, None, ASCII), "_.,-=+*#");
        assert_eq!(line(&[5.0, 5.0], None, BARS), "▁▁");
        assert_eq!(line(&vec![1.0; 500], None, BARS).chars().count(), WIDTH);
    }

    #[test]
    fn a_timeline_is_blank_where_nothing_was_recorded() {
        let at_ms: Vec<i64> = (0..8).map(|n| n * 1_000).collect();
        let values = [0.0, 1.0, 2.0, f64::NAN, f64::NAN, 5.0, 6.0, 7.0];
        assert_eq!(timeline_of(&values, &at_ms, 8, BARS), "▁▂▃  ▆▇█");
        let far: Vec<i64> = (0..8).map(|n| if n < 4 { n * 1_000 } else { 100_000 + n * 1_000 }).collect();
        assert_eq!(timeline_of(&[1.0; 8], &far, 4, ASCII), "_  _");
        assert_eq!(timeline_of(&[], &[], 4, ASCII), "");
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!([1.0, 0.5, 0.32, 0.0].map(|share| bar_of(share, 4, true)), ["████", "██", "█▎", ""]);
        assert_eq!([2.0, 0.6, -1.0, f64::NAN].map(|share| bar_of(share, 4, false)), ["####", "##", "", ""]);
    }

    #[test]
    fn the_onset_stands_under_its_moment_beside_what_was_expected() {
        let points: Vec<_> = (0..10).map(|n| (n * 60_000, if n < 5 { 0.3 } else { 0.9 })).collect();
        let measure = v1::Measure { name: "cpu_busy_ratio".into(), value: 0.9, limit: Some(0.42), expected: Some(0.3) };
        let lines = drawn(&measure, &points, 5 * 60_000, BARS);
        assert_eq!(lines[0], "cpu_busy_ratio");
        assert_eq!(lines[1], "▁▁▁▁▁█████  0.3000 to 0.9000");
        assert!(lines[2].starts_with("     ^ found "), "{}", lines[2]);
        assert!(lines[2].ends_with(", usual 0.1800 to 0.4200"), "{}", lines[2]);
        let measure = v1::Measure { expected: None, ..measure };
        assert!(!drawn(&measure, &points, 0, BARS)[2].contains("usual"));
    }

    #[test]
    fn what_was_before_is_shown_for_as_long_as_what_came_of_it_within_a_day() {
        let finding = |state: &str, changed_ms: i64| v1::Finding {
            state: state.into(),
            changed: Some(v1::Now { boot_ns: 0, wall_ms: changed_ms }),
            ..v1::Finding::default()
        };
        let (minute, day) = (60_000, 86_400_000);
        let now = 10 * day;
        assert_eq!(span(now - minute, &finding("open", 0), now), (now - 21 * minute, now));
        assert_eq!(span(now - 60 * minute, &finding("open", 0), now), (now - 120 * minute, now));
        assert_eq!(span(now - 5 * day, &finding("open", 0), now), (now - 5 * day - day / 2, now - 5 * day + day / 2));
        let cleared = finding("cleared", now - day + 10 * minute);
        assert_eq!(span(now - day, &cleared, now), (now - day - 20 * minute, now - day + 20 * minute));
    }
}
