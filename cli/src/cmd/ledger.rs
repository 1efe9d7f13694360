//! `mainstay ledger`: what its records say, and whether every one is there and unchanged.
//!
//! Over the network the chain is computed anew from the raw records that the collector keeps. On a
//! host, or on a copy of its folder, the shards themselves are read.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::ProgressBar;
use mainstay_core::id::HostId;
use mainstay_core::ledger::{Entry, Head, verify};
use mainstay_proto::v1::{LedgerChunk, LedgerHead, ListHostsRequest, ReadLedgerRequest};
use serde::Serialize;

use super::HostSelector;
use super::records::{self, RecordsArgs};
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::{view, words};

/// What can be done with ledgers.
#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// List records of ledgers, newest first: decisions, steps, orders, starts of agents
    List(RecordsArgs),
    /// Name the first bad record of each ledger, if there is one; exit code 1 if so
    Verify {
        #[command(flatten)]
        selector: HostSelector,
        /// Verify the shards in this folder instead, such as /var/lib/mainstay/ledger/HOST-ID
        #[arg(long, value_name = "FOLDER", conflicts_with = "host", requires = "host_id")]
        dir: Option<PathBuf>,
        /// With --dir: the host whose ledger it is
        #[arg(long, value_name = "ID")]
        host_id: Option<HostId>,
    },
}

/// What was found of one ledger.
#[derive(Debug, Serialize)]
struct LedgerDoc {
    host: String,
    records: u64,
    intact: bool,
    first_bad: Option<u64>,
    problems: Vec<String>,
    countersigned: Option<String>,
    #[serde(skip)]
    countersigned_ms: i64,
}

/// Carries the command out.
pub(crate) async fn run(command: &LedgerCommand, context: &Context) -> Result<Exit, Failure> {
    let (selector, dir, host_id) = match command {
        LedgerCommand::List(args) => return records::run(args, context).await,
        LedgerCommand::Verify { selector, dir, host_id } => (selector, dir, host_id),
    };
    let found = match (dir, host_id) {
        (Some(dir), Some(host)) => vec![verify_folder(dir, *host)?],
        _ => verify_fleet(selector, context).await?,
    };
    if context.format.is_for_people() {
        for ledger in &found {
            output::line_out(&line(ledger))?;
        }
    } else {
        output::document(context, &found)?;
    }
    Ok(if found.iter().all(|ledger| ledger.intact) { Exit::Success } else { Exit::No })
}

fn line(ledger: &LedgerDoc) -> String {
    let countersigned = match ledger.countersigned_ms {
        0 => String::new(),
        at => format!(", last countersigned {}", words::date_time(at)),
    };
    let records = words::count(usize::try_from(ledger.records).unwrap_or(usize::MAX), "record");
    if ledger.intact {
        format!("{}: {records}, chain intact{countersigned}", ledger.host)
    } else {
        format!("{}: {records} good, {}{countersigned}", ledger.host, output::paint("31", &ledger.problems.join("; ")))
    }
}

fn verify_folder(dir: &Path, host: HostId) -> Result<LedgerDoc, Failure> {
    let cannot = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", dir.display()));
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .map_err(cannot)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(cannot)?;
    names.retain(|path| path.extension().is_some_and(|extension| extension == "shard"));
    names.sort();
    if names.is_empty() {
        return Err(Failure::usage(format!("no *.shard in {}: this is no ledger's folder", dir.display())));
    }
    let shards = names.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>().map_err(cannot)?;
    let report = verify::verify(host, &shards, &[]);
    let mut problems: Vec<_> = report.doubts.iter().map(ToString::to_string).collect();
    if let Some(bad) = &report.bad {
        let shard = names.get(bad.place.shard).and_then(|path| path.file_name()).unwrap_or_default();
        problems.insert(
            0,
            format!("record {} is bad at byte {} of {}: {}", bad.index, bad.place.offset, shard.display(), bad.fault),
        );
    }
    Ok(LedgerDoc {
        host: host.to_string(),
        records: report.records,
        intact: report.is_intact(),
        first_bad: report.bad.map(|bad| bad.index),
        problems,
        countersigned: None,
        countersigned_ms: 0,
    })
}

async fn verify_fleet(selector: &HostSelector, context: &Context) -> Result<Vec<LedgerDoc>, Failure> {
    let mut queries = connect::queries(context).await?;
    let request = ListHostsRequest { selector: Some(selector.to_wire()) };
    let hosts = queries.list_hosts(request).await?.into_inner().hosts;
    if hosts.is_empty() {
        return Err(Failure::new(Exit::NotFound, "no host matches"));
    }
    let bar = ProgressBar::new(hosts.len() as u64);
    let mut found = Vec::new();
    for host in hosts {
        let name = host.facts.map(|facts| facts.hostname).unwrap_or_default();
        let request = ReadLedgerRequest { host: view::host_id(&host.host_id), from_index: 1 };
        let mut chunks = queries.read_ledger(request).await?.into_inner();
        let id = <[u8; 16]>::try_from(host.host_id.as_slice())
            .map(HostId)
            .map_err(|_| Failure::new(Exit::Failed, format!("the collector gave {name} an id that is not 16 bytes")))?;
        let mut chain = Chain::new(id);
        while let Some(chunk) = chunks.message().await? {
            chain.take(&chunk);
        }
        found.push(chain.finish(name));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(found)
}

/// The chain, computed anew as the records come.
struct Chain {
    head: Head,
    first_bad: Option<u64>,
    problems: Vec<String>,
    countersigned: LedgerHead,
}

impl Chain {
    fn new(host: HostId) -> Self {
        Self { head: Head::genesis(host), first_bad: None, problems: Vec::new(), countersigned: LedgerHead::default() }
    }

    fn take(&mut self, chunk: &LedgerChunk) {
        if let Some(head) = &chunk.head {
            self.countersigned = head.clone();
        }
        for doubt in &chunk.doubts {
            if !self.problems.contains(doubt) {
                self.problems.push(doubt.clone());
            }
        }
        for entry in &chunk.entries {
            if self.first_bad.is_some() {
                return;
            }
            let linked = <[u8; 32]>::try_from(entry.hash.as_slice())
                .map_err(|_| "its hash is not 32 bytes".to_owned())
                .and_then(|hash| {
                    self.head
                        .link(&Entry { index: entry.index, hash, record: &entry.record })
                        .map_err(|broken| broken.to_string())
                });
            match linked {
                Ok(head) => self.head = head,
                Err(why) => {
                    self.first_bad = Some(self.head.index + 1);
                    self.problems.insert(0, format!("record {} is bad: {why}", self.head.index + 1));
                }
            }
        }
    }

    fn finish(mut self, host: String) -> LedgerDoc {
        let seen = &self.countersigned;
        if self.first_bad.is_none()
            && (seen.index != self.head.index || (seen.index > 0 && seen.hash != self.head.hash))
        {
            self.problems.push(format!(
                "the collector countersigned {} records, and holds {} that link up",
                seen.index, self.head.index
            ));
        }
        LedgerDoc {
            host,
            records: self.head.index,
            intact: self.problems.is_empty(),
            first_bad: self.first_bad,
            problems: self.problems,
            countersigned: view::moment(self.countersigned.countersigned_ms),
            countersigned_ms: self.countersigned.countersigned_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use mainstay_proto::v1::LedgerEntry;

    use super::*;

    const HOST: HostId = HostId([7; 16]);

    fn chunk(records: &[&[u8]]) -> LedgerChunk {
        let mut head = Head::genesis(HOST);
        let mut entries = Vec::new();
        for record in records {
            head = head.after(record);
            entries.push(LedgerEntry { index: head.index, record: record.to_vec(), hash: head.hash.to_vec() });
        }
        let head = LedgerHead { index: head.index, hash: head.hash.to_vec(), countersigned_ms: 1 };
        LedgerChunk { entries, head: Some(head), ..LedgerChunk::default() }
    }

    fn verified(chunk: &LedgerChunk) -> LedgerDoc {
        let mut chain = Chain::new(HOST);
        chain.take(chunk);
        chain.finish("web-1".to_owned())
    }

    #[test]
    fn an_untouched_chain_is_intact() {
        let found = verified(&chunk(&[b"one", b"two", b"three"]));
        assert!(found.intact, "{:?}", found.problems);
        assert_eq!(found.records, 3);
    }

    #[test]
    fn a_changed_record_is_named() {
        let mut changed = chunk(&[b"one", b"two", b"three"]);
        changed.entries[1].record = b"tow".to_vec();
        let found = verified(&changed);
        assert_eq!(found.first_bad, Some(2));
        assert!(!found.intact);
    }

    #[test]
    fn a_cut_end_is_found_against_the_countersigned_head() {
        let mut cut = chunk(&[b"one", b"two", b"three"]);
        cut.entries.pop();
        let found = verified(&cut);
        assert!(!found.intact);
        assert!(found.problems[0].contains("countersigned 3 records"), "{:?}", found.problems);
    }
}
