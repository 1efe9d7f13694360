//! Signing a policy, offering it, and watching the hosts take it.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_core::policy::bundle::Bundle;
use mainstay_proto::v1::{self, ListHostsRequest, PolicyStatusRequest, PushPolicyRequest};

use super::{Newest, PushArgs, SignArgs, SigningFor, newest, parse, read};
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::order::{self, to_wire};
use crate::{output, words};

/// Between two looks at how far the hosts are.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a file with a signed policy begins with; the rest is the signature (64), the key's id (8) and the bytes.
const MAGIC: &[u8] = b"mainstay-signed-policy-1\n";

/// Signs `files` as the generation after the newest.
async fn signed(
    files: Vec<(String, Vec<u8>)>,
    signing: &SigningFor,
    context: &Context,
) -> Result<(v1::Signed, u64), Failure> {
    let Newest { policy: old, fleet_id, floor } = newest(context, 0).await?;
    let bundle = Bundle {
        fleet_id,
        generation: old.as_ref().map_or(0, |(_, bundle)| bundle.generation).max(floor) + 1,
        prev_hash: old.map_or([0; 32], |(_, bundle)| bundle.hash()),
        not_after_ms: order::after(signing.valid),
        files,
    };
    let key = signing.signing.key(context)?;
    Ok((to_wire(bundle.sign(&key)), bundle.generation))
}

fn checked(files: &[PathBuf]) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let files = read(files)?;
    parse(&files)?;
    Ok(files.into_iter().map(|(name, text)| (name, text.into_bytes())).collect())
}

/// `mainstay policy sign`.
pub(super) async fn sign(policy: &SignArgs, out: &Path, context: &Context) -> Result<Exit, Failure> {
    let (signed, generation) = signed(checked(&policy.files)?, &policy.signing, context).await?;
    let bytes = [MAGIC, &signed.signature, &signed.key_id, &signed.bytes].concat();
    crate::cmd::operator::write_new(out, &bytes, 0o644)?;
    output::say(&format!(
        "{} holds generation {generation}; offer it with `mainstay policy push-signed`",
        out.display()
    ));
    Ok(Exit::Success)
}

/// `mainstay policy push`.
pub(super) async fn push(policy: &SignArgs, push: &PushArgs, context: &Context) -> Result<Exit, Failure> {
    let (signed, generation) = signed(checked(&policy.files)?, &policy.signing, context).await?;
    offer(signed, generation, push, context).await
}

/// `mainstay policy push-signed`.
pub(super) async fn push_signed(file: &Path, push: &PushArgs, context: &Context) -> Result<Exit, Failure> {
    let bytes =
        std::fs::read(file).map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    let no_policy =
        || Failure::usage(format!("{} holds no signed policy (`mainstay policy sign` makes one)", file.display()));
    let rest = bytes.strip_prefix(MAGIC).filter(|rest| rest.len() > 72).ok_or_else(no_policy)?;
    let (signature, rest) = rest.split_at(64);
    let (key_id, bytes) = rest.split_at(8);
    let bundle = Bundle::decode(bytes).map_err(|_| no_policy())?;
    let signed = v1::Signed { bytes: bytes.to_vec(), key_id: key_id.to_vec(), signature: signature.to_vec() };
    offer(signed, bundle.generation, push, context).await
}

/// `mainstay policy rollback`.
pub(super) async fn rollback(
    to: u64,
    signing: &SigningFor,
    push: &PushArgs,
    context: &Context,
) -> Result<Exit, Failure> {
    let old = newest(context, to).await?.policy;
    let (_, bundle) = old.ok_or_else(|| Failure::new(Exit::NotFound, format!("there is no generation {to}")))?;
    let (signed, generation) = signed(bundle.files, signing, context).await?;
    output::say(&format!("the content of generation {to} becomes generation {generation}"));
    offer(signed, generation, push, context).await
}

async fn offer(policy: v1::Signed, generation: u64, push: &PushArgs, context: &Context) -> Result<Exit, Failure> {
    let hosts =
        connect::queries(context).await?.list_hosts(ListHostsRequest::default()).await?.into_inner().hosts.len();
    if !push.yes && std::io::stdin().is_terminal() && !agreed(generation, hosts)? {
        output::say("nothing was pushed");
        return Ok(Exit::No);
    }
    let key = words::hex8(&policy.key_id);
    let request = PushPolicyRequest { policy: Some(policy) };
    let answer = connect::commands(context).await?.push_policy(request).await?.into_inner();
    output::say(&format!(
        "generation {}, signed by key {key}…, offered to {} of {}",
        answer.generation,
        answer.connected,
        words::count(usize::try_from(answer.hosts).unwrap_or(usize::MAX), "host"),
    ));
    watch(answer.generation, usize::try_from(answer.connected).unwrap_or(usize::MAX), push.wait, context).await
}

fn agreed(generation: u64, hosts: usize) -> Result<bool, Failure> {
    eprint!("push generation {generation} to {}? [y/N] ", words::count(hosts, "host"));
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// How far the hosts are with one generation.
#[derive(Debug, Default, PartialEq, Eq)]
struct Progress {
    effective: usize,
    refused: Vec<String>,
}

impl Progress {
    fn of(answer: &v1::PolicyStatusResponse, generation: u64) -> Self {
        let mut progress = Self::default();
        for host in &answer.hosts {
            let Some(status) = &host.status else { continue };
            let is =
                |policy: &Option<v1::PolicyRef>| policy.as_ref().is_some_and(|policy| policy.generation == generation);
            match &status.refused {
                Some(why) if is(&status.offered) => progress.refused.push(format!("{}: {why}", host.hostname)),
                _ if is(&status.effective) => progress.effective += 1,
                _ => {}
            }
        }
        progress
    }
}

/// Waits until every connected host has taken or refused it.
async fn watch(generation: u64, connected: usize, wait: Duration, context: &Context) -> Result<Exit, Failure> {
    let began = Instant::now();
    let mut queries = connect::queries(context).await?;
    let progress = loop {
        let answer = queries.policy_status(PolicyStatusRequest {}).await?.into_inner();
        let progress = Progress::of(&answer, generation);
        if progress.effective + progress.refused.len() >= connected || began.elapsed() >= wait {
            break progress;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    for refusal in &progress.refused {
        output::line_out(refusal)?;
    }
    output::say(&format!(
        "effective on {} of {} connected, refused by {} (`mainstay policy status` shows each host)",
        progress.effective,
        words::count(connected, "host"),
        progress.refused.len()
    ));
    Ok(if progress.refused.is_empty() { Exit::Success } else { Exit::No })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_counts_for_the_generation_it_is_asked_about_only() {
        let host = |name: &str, offered, effective, refused: Option<&str>| {
            let policy = |generation| Some(v1::PolicyRef { generation, hash: vec![] });
            let status = v1::PolicyStatus {
                offered: policy(offered),
                effective: policy(effective),
                confirmed: false,
                refused: refused.map(str::to_owned),
            };
            v1::PolicyHostStatus { hostname: name.to_owned(), status: Some(status), ..Default::default() }
        };
        let answer = v1::PolicyStatusResponse {
            hosts: vec![
                host("a", 8, 8, None),
                host("b", 8, 7, Some("web.toml:1:1: no")),
                host("c", 7, 7, None),
                host("d", 7, 6, Some("old")),
            ],
            ..Default::default()
        };
        let progress = Progress::of(&answer, 8);
        assert_eq!(progress, Progress { effective: 1, refused: vec!["b: web.toml:1:1: no".to_owned()] });
    }
}
