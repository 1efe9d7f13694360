//! `mainstay host top`: which processes, units and containers of a host use most, asked of the host itself.

use clap::Args;
use mainstay_core::host_query::top::{ContainerRow, ProcessRow, TopBy, UnitRow};
use mainstay_core::host_query::{HostQuery, HostReply, TopQuery, TopReply};
use mainstay_core::policy::Glob;
use mainstay_core::processes::Held;
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::{ask, output};

/// Processes and units that are shown without `--limit`: a screen.
const SHOWN: u32 = 20;

/// Arguments of `mainstay host top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Name, id or the beginning of an id
    host: String,
    /// In which order: cpu, memory, io or fds
    #[arg(long, default_value = "cpu", value_name = "WHAT")]
    by: TopBy,
    /// Only units that this glob matches; containers go by `NAME (docker)`
    #[arg(long, value_name = "GLOB")]
    unit: Option<String>,
    /// Only containers, by name and image
    #[arg(long)]
    containers: bool,
    /// Most processes, units and containers that are shown; 0 is as many as the host says at once
    #[arg(long, default_value_t = SHOWN, value_name = "N")]
    limit: u32,
}

/// Carries the command out.
pub(crate) async fn run(args: &TopArgs, context: &Context) -> Result<Exit, Failure> {
    let unit = args.unit.as_deref().map(|text| {
        Glob::new(text).ok_or_else(|| Failure::usage("--unit is empty and would match nothing; leave it out for all"))
    });
    let query = TopQuery { by: args.by, unit: unit.transpose()?, limit: args.limit };
    let answer = ask::host(context, &args.host, &HostQuery::Top(query)).await?;
    let HostReply::Top(reply) = answer.reply else { return Err(ask::of_another_kind(&answer.hostname)) };
    if context.format.is_for_people() {
        let page = if args.containers { reply.containers_page() } else { reply.page() };
        for line in format!("{}: {page}", answer.hostname).lines() {
            output::line_out(line)?;
        }
    } else {
        output::document(context, &TopDoc::new(answer.hostname, &reply))?;
    }
    Ok(Exit::Success)
}

#[derive(Debug, Serialize)]
struct TopDoc {
    host: String,
    cpu_window_seconds: f64,
    io_window_seconds: Option<f64>,
    cpus: u32,
    total: u32,
    threads: u32,
    zombies: u32,
    uninterruptible: u32,
    forks_per_second: Option<f64>,
    units: Vec<UnitDoc>,
    units_more: u32,
    containers: Vec<ContainerDoc>,
    containers_more: u32,
    processes: Vec<ProcessDoc>,
    processes_more: u32,
    stuck: Vec<ProcessDoc>,
    held_by_deleted_files: Option<Vec<HeldDoc>>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ProcessDoc {
    pid: u32,
    ppid: u32,
    name: String,
    unit: String,
    state: char,
    cpus: f64,
    cpus_of_ended_children: f64,
    is_new: bool,
    rss_bytes: u64,
    threads: u32,
    read_bytes_per_second: Option<u64>,
    written_bytes_per_second: Option<u64>,
    fds: Option<u64>,
    fds_max: Option<u64>,
    age_seconds: u64,
}

#[derive(Debug, Serialize)]
struct UnitDoc {
    unit: String,
    processes: u32,
    processes_new: u32,
    threads: u32,
    tasks: Option<u64>,
    tasks_max: Option<u64>,
    cpus: f64,
    cpus_of_ended_children: f64,
    rss_bytes: u64,
    read_bytes_per_second: Option<u64>,
    written_bytes_per_second: Option<u64>,
    fds: Option<u64>,
    fds_used_ratio: Option<f64>,
}

#[derive(Debug, Serialize)]
struct ContainerDoc {
    name: String,
    runtime: String,
    id: String,
    image: Option<String>,
    processes: u32,
    tasks: Option<u64>,
    tasks_max: Option<u64>,
    cpus: Option<f64>,
    memory_bytes: Option<u64>,
    memory_max_bytes: Option<u64>,
    read_bytes_per_second: Option<u64>,
    written_bytes_per_second: Option<u64>,
    fds: Option<u64>,
}

#[derive(Debug, Serialize)]
struct HeldDoc {
    mount: String,
    unit: String,
    pid: u32,
    name: String,
    files: u32,
    bytes: u64,
}

impl TopDoc {
    fn new(host: String, reply: &TopReply) -> Self {
        Self {
            host,
            cpu_window_seconds: reply.cpu_window.as_secs_f64(),
            io_window_seconds: reply.io_window.map(|window| window.as_secs_f64()),
            cpus: reply.cpus,
            total: reply.total,
            threads: reply.threads,
            zombies: reply.zombies,
            uninterruptible: reply.uninterruptible,
            forks_per_second: reply.forks_per_second,
            units: reply.units.iter().map(Into::into).collect(),
            units_more: reply.units_more,
            containers: reply.containers.iter().map(Into::into).collect(),
            containers_more: reply.containers_more,
            processes: reply.processes.iter().map(Into::into).collect(),
            processes_more: reply.processes_more,
            stuck: reply.stuck.iter().map(Into::into).collect(),
            held_by_deleted_files: reply.held.as_ref().map(|held| held.iter().map(Into::into).collect()),
            notes: reply.notes.clone(),
        }
    }
}

impl From<&ProcessRow> for ProcessDoc {
    fn from(row: &ProcessRow) -> Self {
        Self {
            pid: row.pid,
            ppid: row.ppid,
            name: row.name.clone(),
            unit: row.unit.clone(),
            state: row.state,
            cpus: row.cpu,
            cpus_of_ended_children: row.ended_cpu,
            is_new: row.is_new,
            rss_bytes: row.rss_bytes,
            threads: row.threads,
            read_bytes_per_second: row.io.map(|io| io.0),
            written_bytes_per_second: row.io.map(|io| io.1),
            fds: row.fds,
            fds_max: row.fds_max,
            age_seconds: row.age.as_secs(),
        }
    }
}

impl From<&UnitRow> for UnitDoc {
    fn from(row: &UnitRow) -> Self {
        Self {
            unit: row.unit.clone(),
            processes: row.processes,
            processes_new: row.new,
            threads: row.threads,
            tasks: row.tasks,
            tasks_max: row.tasks_max,
            cpus: row.cpu,
            cpus_of_ended_children: row.ended_cpu,
            rss_bytes: row.rss_bytes,
            read_bytes_per_second: row.io.map(|io| io.0),
            written_bytes_per_second: row.io.map(|io| io.1),
            fds: row.fds,
            fds_used_ratio: row.fds_used_ratio,
        }
    }
}

impl From<&ContainerRow> for ContainerDoc {
    fn from(row: &ContainerRow) -> Self {
        Self {
            name: row.name.clone(),
            runtime: row.runtime.clone(),
            id: row.id.clone(),
            image: Some(row.image.clone()).filter(|image| !image.is_empty()),
            processes: row.processes,
            tasks: row.tasks,
            tasks_max: row.tasks_max,
            cpus: row.cpu,
            memory_bytes: row.memory_bytes,
            memory_max_bytes: row.memory_max_bytes,
            read_bytes_per_second: row.io.map(|io| io.0),
            written_bytes_per_second: row.io.map(|io| io.1),
            fds: row.fds,
        }
    }
}

impl From<&Held> for HeldDoc {
    fn from(held: &Held) -> Self {
        Self {
            mount: held.mount.to_string(),
            unit: held.unit.clone(),
            pid: held.pid,
            name: held.name.clone(),
            files: held.files,
            bytes: held.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_null_for_programs() {
        let process = ProcessRow { pid: 7, state: 'D', io: Some((1, 2)), ..ProcessRow::default() };
        let reply = TopReply { processes: vec![process, ProcessRow::default()], ..TopReply::default() };
        let doc = serde_json::to_value(TopDoc::new("web-1".into(), &reply)).unwrap();
        assert!(doc["held_by_deleted_files"].is_null() && doc["io_window_seconds"].is_null());
        assert_eq!(doc["processes"][0]["written_bytes_per_second"], 2);
        assert!(doc["processes"][1]["read_bytes_per_second"].is_null() && doc["processes"][1]["fds"].is_null());
        assert_eq!((&doc["processes"][0]["state"], &doc["host"]), (&"D".into(), &"web-1".into()));
    }
}
