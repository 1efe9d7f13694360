//! `mainstay status`: how the collector itself is.

use mainstay_proto::v1::{
    BackupState, CollectorStatusRequest, CollectorStatusResponse, DamagedTable, LostStretch, ScrubState,
};
use serde::Serialize;

use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::{output, view, words};

/// Where the text of a line begins.
const INDENT: usize = 11;

#[derive(Debug, Serialize)]
struct Doc {
    version: String,
    started: Option<String>,
    hosts: u64,
    sessions: u64,
    store_bytes: u64,
    free_bytes: u64,
    min_free_bytes: u64,
    damaged: Vec<DamagedDoc>,
    backup: BackupDoc,
    scrub: ScrubDoc,
    going_on: Vec<JobDoc>,
}

#[derive(Debug, Serialize)]
struct DamagedDoc {
    column: String,
    table: String,
    said: String,
    is_searched: bool,
    lost: Vec<LostDoc>,
}

#[derive(Debug, Serialize)]
struct LostDoc {
    what: String,
    from: Option<String>,
    to: Option<String>,
    hosts: Vec<String>,
    hosts_more: u32,
}

#[derive(Debug, Serialize)]
struct BackupDoc {
    made: Option<String>,
    path: String,
    verified_at: Option<String>,
    verified: String,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ScrubDoc {
    ended: Option<String>,
    took_ms: u64,
    bytes: u64,
    damaged: u32,
}

#[derive(Debug, Serialize)]
struct JobDoc {
    what: String,
    since: Option<String>,
    done: u64,
}

/// Shows it. Exit code 1 if something is wrong.
pub(crate) async fn run(context: &Context) -> Result<Exit, Failure> {
    let answer = connect::queries(context).await?.collector_status(CollectorStatusRequest {}).await?.into_inner();
    let backup = answer.backup.clone().unwrap_or_default();
    if context.format.is_for_people() {
        for (head, text) in lines(&answer, &backup) {
            output::line_out(&format!("{head:<INDENT$}{text}"))?;
        }
    } else {
        output::document(context, &document(&answer, &backup))?;
    }
    let is_wrong =
        !answer.damaged.is_empty() || !backup.problems.is_empty() || answer.free_bytes < answer.min_free_bytes;
    Ok(if is_wrong { Exit::No } else { Exit::Success })
}

fn lines(answer: &CollectorStatusResponse, backup: &BackupState) -> Vec<(&'static str, String)> {
    let ago = |then_ms: i64| words::ago(then_ms, answer.now_ms);
    let mut lines = vec![
        ("collector", format!("{}, up {}", answer.version, ago(answer.started_ms))),
        ("hosts", format!("{} of {} connected", answer.sessions, answer.hosts)),
        (
            "store",
            format!(
                "{}, {} free, {} of it reserved{}",
                words::bytes(answer.store_bytes),
                words::bytes(answer.free_bytes),
                words::bytes(answer.min_free_bytes),
                if answer.free_bytes < answer.min_free_bytes { ": it is full, agents keep what they have" } else { "" }
            ),
        ),
    ];
    for damaged in &answer.damaged {
        lines.push((
            "damaged",
            output::paint("31", &format!("{} of {}: {}", damaged.table, damaged.column, damaged.said)),
        ));
        lines.extend(lost_lines(damaged).into_iter().map(|line| ("", line)));
    }
    if !answer.damaged.is_empty() {
        let next = "what can be read is served; look after the disk, then put a good backup in its place or keep what is left:";
        lines.push(("", next.to_owned()));
        let how = "`mainstay backup restore` or `mainstay-collector repair`, see \"When the store is damaged\" in OPERATING.md";
        lines.push(("", how.to_owned()));
    }
    lines.push((
        "backup",
        if backup.made_ms == 0 {
            "none is known of; `mainstay backup create` makes one".to_owned()
        } else {
            format!("{} ago, {}", ago(backup.made_ms), backup.path)
        },
    ));
    if backup.verified_ms > 0 {
        let found = match backup.problems.len() {
            0 => "nothing is wrong with it".to_owned(),
            1 => output::paint("31", "1 thing is wrong"),
            wrong => output::paint("31", &format!("{wrong} things are wrong")),
        };
        lines.push(("verified", format!("{} ago, {}: {found}", ago(backup.verified_ms), backup.verified)));
        lines.extend(backup.problems.iter().map(|problem| ("", problem.clone())));
    }
    lines.push(("scrubbed", scrub_words(&answer.scrub.unwrap_or_default(), answer.now_ms)));
    for job in &answer.jobs {
        let done = if job.done > 0 { format!(", {} entries so far", job.done) } else { String::new() };
        lines.push(("going on", format!("{}, for {}{done}", job.what, ago(job.since_ms))));
    }
    lines
}

fn scrub_words(scrub: &ScrubState, now_ms: i64) -> String {
    if scrub.ended_ms == 0 {
        return "the store was not read through for damage yet".to_owned();
    }
    let found = match scrub.damaged {
        0 => "nothing was damaged".to_owned(),
        1 => output::paint("31", "1 table was damaged"),
        tables => output::paint("31", &format!("{tables} tables were damaged")),
    };
    let (ago, took) = (words::ago(scrub.ended_ms, now_ms), words::short(scrub.took_ms));
    format!("{ago} ago, {} in {took}: {found}", words::bytes(scrub.bytes))
}

fn lost_lines(damaged: &DamagedTable) -> Vec<String> {
    if !damaged.is_searched {
        return vec!["what is lost is being looked for".to_owned()];
    }
    damaged.lost.iter().map(|lost| format!("lost: {}", lost_words(lost))).collect()
}

fn lost_words(lost: &LostStretch) -> String {
    let mut said = vec![lost.what.clone()];
    match (lost.from_ms, lost.to_ms) {
        (0, 0) => {}
        (from, i64::MAX) => said.push(format!("{} and later", words::date_time(from))),
        (0, to) => said.push(format!("before {}", words::date_time(to))),
        (from, to) => said.push(format!("{} to {}", words::date_time(from), words::date_time(to))),
    }
    if !lost.hosts.is_empty() {
        let named = lost.hosts.join(", ");
        said.push(match lost.hosts_more {
            0 => named,
            more => format!("{named} and {more} more {}", if more == 1 { "host" } else { "hosts" }),
        });
    }
    said.join(", ")
}

fn document(answer: &CollectorStatusResponse, backup: &BackupState) -> Doc {
    // An open end is none.
    let moment = |ms: i64| if ms == i64::MAX { None } else { view::moment(ms) };
    let lost = |lost: &LostStretch| LostDoc {
        what: lost.what.clone(),
        from: moment(lost.from_ms),
        to: moment(lost.to_ms),
        hosts: lost.hosts.clone(),
        hosts_more: lost.hosts_more,
    };
    let damaged = |damaged: &DamagedTable| DamagedDoc {
        column: damaged.column.clone(),
        table: damaged.table.clone(),
        said: damaged.said.clone(),
        is_searched: damaged.is_searched,
        lost: damaged.lost.iter().map(lost).collect(),
    };
    let scrub = answer.scrub.unwrap_or_default();
    Doc {
        version: answer.version.clone(),
        started: view::moment(answer.started_ms),
        hosts: answer.hosts,
        sessions: answer.sessions,
        store_bytes: answer.store_bytes,
        free_bytes: answer.free_bytes,
        min_free_bytes: answer.min_free_bytes,
        damaged: answer.damaged.iter().map(damaged).collect(),
        backup: BackupDoc {
            made: view::moment(backup.made_ms),
            path: backup.path.clone(),
            verified_at: view::moment(backup.verified_ms),
            verified: backup.verified.clone(),
            problems: backup.problems.clone(),
        },
        scrub: ScrubDoc {
            ended: view::moment(scrub.ended_ms),
            took_ms: scrub.took_ms,
            bytes: scrub.bytes,
            damaged: scrub.damaged,
        },
        going_on: answer
            .jobs
            .iter()
            .map(|job| JobDoc { what: job.what.clone(), since: view::moment(job.since_ms), done: job.done })
            .collect(),
    }
}
