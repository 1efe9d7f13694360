//! `mainstay policy`: check, sign and push what the fleet may do.
//!
//! A policy is signed here, over exact bytes, and the collector only carries it: hosts obey the key
//! that their enrolment token named. Rolling back is pushing old content under a new generation.

mod push;
mod status;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use mainstay_core::policy::Policy;
use mainstay_core::policy::bundle::Bundle;
use mainstay_proto::v1::{self, GetPolicyRequest};

use crate::connect;
use crate::context::{Context, POLICY_KEY, SIGNING_KEY, read_text};
use crate::exit::{Exit, Failure};
use crate::order::Signing;
use crate::{key, output, words};

/// What can be done with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Make the key that policies and orders are signed with
    Keygen {
        /// File for the private key; the public one stands beside it as NAME.pub
        /// (default: policy.key and policy.pub in the configuration folder)
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Name every mistake in policy files; exit code 2 if there is one
    Check {
        /// Policy files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Show what would change: exit code 0 nothing, 1 something, 2 a mistake
    Diff {
        /// All files of the policy
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Sign a policy into a file, to be pushed from elsewhere
    Sign {
        #[command(flatten)]
        policy: SignArgs,
        /// File to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Sign a policy and offer it to the fleet
    Push {
        #[command(flatten)]
        policy: SignArgs,
        #[command(flatten)]
        push: PushArgs,
    },
    /// Offer a policy that was signed before (`policy sign`)
    PushSigned {
        /// The file that `policy sign` wrote
        file: PathBuf,
        #[command(flatten)]
        push: PushArgs,
    },
    /// Show which host is under which policy, and why not
    Status,
    /// Sign the content of an older generation anew and offer it
    Rollback {
        /// The generation whose content is wanted
        #[arg(long)]
        to: u64,
        #[command(flatten)]
        signing: SigningFor,
        #[command(flatten)]
        push: PushArgs,
    },
}

/// A policy to be signed.
#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// All files of the policy: what is not named is no longer part of it
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    signing: SigningFor,
}

/// The key, and how long hosts may take what it signed.
#[derive(Debug, Args)]
pub(crate) struct SigningFor {
    #[command(flatten)]
    signing: Signing,
    /// How long hosts may take it; one that is in force stays so
    #[arg(long, default_value = "30d", value_parser = crate::arguments::duration)]
    valid: Duration,
}

/// How a policy is offered.
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// How long to wait for connected hosts to take it; 0s not at all
    #[arg(long, default_value = "30s", value_parser = crate::arguments::duration)]
    wait: Duration,
}

/// Carries the command out.
pub(crate) async fn run(command: &PolicyCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Keygen { out } => keygen(out.as_deref(), context),
        PolicyCommand::Check { files } => check(files),
        PolicyCommand::Diff { files } => diff(files, context).await,
        PolicyCommand::Sign { policy, out } => push::sign(policy, out, context).await,
        PolicyCommand::Push { policy, push } => push::push(policy, push, context).await,
        PolicyCommand::PushSigned { file, push } => push::push_signed(file, push, context).await,
        PolicyCommand::Status => status::run(context).await,
        PolicyCommand::Rollback { to, signing, push } => push::rollback(*to, signing, push, context).await,
    }
}

fn keygen(out: Option<&Path>, context: &Context) -> Result<Exit, Failure> {
    let (private, public) = match out {
        Some(path) => (path.to_owned(), path.with_added_extension("pub")),
        None => {
            super::operator::make_folder(&context.folder)?;
            (context.folder.join(SIGNING_KEY), context.folder.join(POLICY_KEY))
        }
    };
    let made = key::generate()?;
    super::operator::write_new(&private, key::private_pem(&made)?.as_bytes(), 0o600)?;
    super::operator::write_new(&public, key::public_pem(&made.verifying_key())?.as_bytes(), 0o644)?;
    output::say(&format!(
        "private key {} (whoever has it commands the fleet: keep it off the collector), public key {}",
        private.display(),
        public.display()
    ));
    Ok(Exit::Success)
}

/// Policy files by their names, without folders: that is how hosts show them.
fn read(files: &[PathBuf]) -> Result<Vec<(String, String)>, Failure> {
    let mut named = Vec::new();
    for path in files {
        let name = path
            .file_name()
            .ok_or_else(|| Failure::usage(format!("{} is no file", path.display())))?
            .to_string_lossy()
            .into_owned();
        if named.iter().any(|(other, _)| *other == name) {
            return Err(Failure::usage(format!("two files are named {name}: hosts could not tell them apart")));
        }
        named.push((name, read_text(path)?));
    }
    named.sort();
    Ok(named)
}

/// Parses, and prints every mistake.
fn parse(files: &[(String, String)]) -> Result<Policy, Failure> {
    let texts: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    Policy::parse(&texts).map_err(|problems| {
        for problem in &problems {
            output::say(&problem.to_string());
        }
        Failure::usage(words::count(problems.len(), "error"))
    })
}

fn check(files: &[PathBuf]) -> Result<Exit, Failure> {
    let files = read(files)?;
    let policy = parse(&files)?;
    output::say(&format!(
        "{}, {}: no mistakes",
        words::count(files.len(), "file"),
        words::count(policy.rules().count(), "rule")
    ));
    Ok(Exit::Success)
}

/// A policy as the collector has it.
struct Newest {
    /// `None` where none was pushed yet.
    policy: Option<(v1::Signed, Bundle)>,
    fleet_id: [u8; 16],
    /// The next one has a higher generation.
    floor: u64,
}

/// The newest policy of the fleet, or that of a generation.
async fn newest(context: &Context, generation: u64) -> Result<Newest, Failure> {
    let answer = connect::queries(context).await?.get_policy(GetPolicyRequest { generation }).await?.into_inner();
    let floor = answer.floor;
    let fleet_id = answer
        .fleet_id
        .try_into()
        .map_err(|_| Failure::new(Exit::Failed, "the collector gave a fleet id that is not 16 bytes"))?;
    let Some(signed) = answer.policy else { return Ok(Newest { policy: None, fleet_id, floor }) };
    let bundle = Bundle::decode(&signed.bytes)
        .map_err(|error| Failure::new(Exit::Failed, format!("the collector's policy cannot be read: {error}")))?;
    Ok(Newest { policy: Some((signed, bundle)), fleet_id, floor })
}

async fn diff(files: &[PathBuf], context: &Context) -> Result<Exit, Failure> {
    let new = read(files)?;
    parse(&new)?;
    let old = newest(context, 0).await?.policy;
    let old = old.map(|(_, bundle)| bundle.files).unwrap_or_default();
    let mut names: Vec<_> = old.iter().map(|(name, _)| name.clone()).collect();
    names.extend(new.iter().map(|(name, _)| name.clone()));
    names.sort();
    names.dedup();
    let mut differs = false;
    for name in names {
        let before = old.iter().find(|(other, _)| *other == name).map(|(_, bytes)| String::from_utf8_lossy(bytes));
        let after = new.iter().find(|(other, _)| *other == name).map(|(_, text)| text.as_str());
        if before.as_deref() == after {
            continue;
        }
        differs = true;
        let text = similar::TextDiff::from_lines(before.as_deref().unwrap_or(""), after.unwrap_or(""))
            .unified_diff()
            .header(
                &before.as_ref().map_or_else(|| "/dev/null".to_owned(), |_| format!("fleet/{name}")),
                &after.map_or_else(|| "/dev/null".to_owned(), |_| name.clone()),
            )
            .to_string();
        for line in text.lines() {
            output::line_out(&match line.chars().next() {
                Some('+') => output::paint("32", line),
                Some('-') => output::paint("31", line),
                _ => line.to_owned(),
            })?;
        }
    }
    Ok(if differs { Exit::No } else { Exit::Success })
}
