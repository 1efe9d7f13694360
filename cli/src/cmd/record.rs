//! `mainstay host record`: the last minutes of a host, second by second, asked of the host itself.

use std::time::Duration;

use clap::Args;
use mainstay_core::host_query::record::LAST_MAX;
use mainstay_core::host_query::{HostQuery, HostReply, RecordQuery, RecordReply};
use mainstay_core::policy::Glob;
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::recorded::{self, RecordingDoc};
use crate::{arguments, ask, output};

/// Series that are shown without `--limit`: a screen.
const SHOWN: u32 = 40;

/// Pages of one answer, at most: a host that goes on for ever is no reason to.
const PAGES_MAX: usize = 64;

/// Arguments of `mainstay host record`.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// Name, id or the beginning of an id
    host: String,
    /// How far back, at most about an hour
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = arguments::duration)]
    last: Duration,
    /// Only series that this glob matches, as they are written in a query (`*nginx.service*`, `node_disk_*`)
    #[arg(long, value_name = "GLOB")]
    series: Option<String>,
    /// Most series that are shown; 0 is all
    #[arg(long, default_value_t = SHOWN, value_name = "N")]
    limit: u32,
}

#[derive(Debug, Serialize)]
struct RecordDoc {
    host: String,
    matching: u32,
    #[serde(flatten)]
    recording: RecordingDoc,
}

/// Carries the command out.
pub(crate) async fn run(args: &RecordArgs, context: &Context) -> Result<Exit, Failure> {
    if args.last.is_zero() || args.last > LAST_MAX {
        let most = LAST_MAX.as_secs() / 60;
        return Err(Failure::usage(format!("--last is from 1s to {most}m: hosts record about an hour")));
    }
    let series = args.series.as_deref().map(|text| {
        Glob::new(text).ok_or_else(|| Failure::usage("--series is empty and would match nothing; leave it out for all"))
    });
    let query = RecordQuery { last: args.last, series: series.transpose()?, from: 0, limit: 0 };
    let wanted = if args.limit == 0 { u32::MAX } else { args.limit };
    let (mut whole, hostname) = page(args, &RecordQuery { limit: args.limit, ..query.clone() }, context).await?;
    for _ in 0..PAGES_MAX {
        let Some(from) = whole.next.filter(|from| *from < wanted) else { break };
        let (more, _) = page(args, &RecordQuery { from, limit: wanted - from, ..query.clone() }, context).await?;
        whole.next = more.next.filter(|next| *next > from);
        join(&mut whole, more);
    }
    if context.format.is_for_people() {
        print(&whole, &hostname)?;
    } else {
        let doc = RecordDoc { host: hostname, matching: whole.matching, recording: (&whole.recording).into() };
        output::document(context, &doc)?;
    }
    Ok(Exit::Success)
}

/// Adds the series of a later page. It was asked a moment later: its samples are brought under those of the first.
fn join(whole: &mut RecordReply, more: RecordReply) {
    let rows = &more.recording.at;
    let place = |at: &mainstay_core::time::Now| rows.iter().position(|other| other == at);
    let places: Vec<_> = whole.recording.at.iter().map(place).collect();
    for mut one in more.recording.series {
        let value = |place: &Option<usize>| place.and_then(|row| one.values.get(row).copied()).unwrap_or(f64::NAN);
        one.values = places.iter().map(value).collect();
        whole.recording.series.push(one);
    }
}

async fn page(args: &RecordArgs, query: &RecordQuery, context: &Context) -> Result<(RecordReply, String), Failure> {
    let answer = ask::host(context, &args.host, &HostQuery::Record(query.clone())).await?;
    match answer.reply {
        HostReply::Record(reply) => Ok((reply, answer.hostname)),
        _ => Err(ask::of_another_kind(&answer.hostname)),
    }
}

fn print(reply: &RecordReply, hostname: &str) -> Result<(), Failure> {
    let recording = &reply.recording;
    if recording.at.is_empty() {
        output::say(&format!("{hostname} has recorded nothing in that time"));
        return Ok(());
    }
    for line in recorded::drawn(recording, None, usize::MAX) {
        output::line_out(&line)?;
    }
    let shown = u32::try_from(recording.series.len()).unwrap_or(u32::MAX);
    if reply.matching > shown {
        output::say(&format!("{shown} of {} series shown; --limit and --series choose", reply.matching));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mainstay_core::readings::SeriesKind;
    use mainstay_core::recording::{Recorded, Recording};
    use mainstay_core::series::SeriesKey;
    use mainstay_core::time::Now;

    use super::*;

    fn page(name: &str, seconds: std::ops::Range<u32>) -> RecordReply {
        let at = |n: u32| Now { boot_ns: u64::from(n) * 1_000_000_000, wall_ms: i64::from(n) * 1_000 };
        let one = Recorded {
            key: SeriesKey::new(name, &[]),
            kind: SeriesKind::Gauge,
            values: seconds.clone().map(f64::from).collect(),
        };
        let recording = Recording { at: seconds.map(at).collect(), series: vec![one], ..Recording::default() };
        RecordReply { recording, matching: 2, next: None }
    }

    #[test]
    fn a_page_that_came_a_second_later_is_brought_under_the_first() {
        let mut whole = page("a", 10..20);
        join(&mut whole, page("b", 12..22));
        assert_eq!(whole.recording.series.len(), 2);
        let late = &whole.recording.series[1].values;
        assert!(late[0].is_nan() && late[1].is_nan());
        assert_eq!(late[2..], [12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0]);
    }
}
