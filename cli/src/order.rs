//! Orders to hosts: signed here with the operator's key, carried by the collector.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use mainstay_core::policy::order::Order;
use mainstay_core::policy::signed::Signed;
use mainstay_core::record::Author;
use mainstay_proto::v1::{self, SubmitRequest, SubmitResponse};

use crate::connect;
use crate::context::{Context, OPERATOR, SIGNING_KEY};
use crate::exit::{Exit, Failure};
use crate::{key, output, words};

/// How long a host that cannot be reached may still take an order when it comes back.
const TAKEN_WITHIN: Duration = Duration::from_hours(1);

/// What every order needs.
#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// Key to sign with (default: policy.key in the configuration folder)
    #[arg(long, env = "MAINSTAY_POLICY_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

impl Signing {
    /// Reads the key.
    pub(crate) fn key(&self, context: &Context) -> Result<ed25519_dalek::SigningKey, Failure> {
        let default = context.folder.join(SIGNING_KEY);
        let path: &Path = self.key.as_deref().unwrap_or(&default);
        key::read_private(path).map_err(|failure| {
            failure.and("; name the fleet's signing key with --key (`mainstay policy keygen` makes one)")
        })
    }
}

/// Who orders, and why.
pub(crate) fn author(context: &Context, reason: &str) -> Result<Author, Failure> {
    Ok(Author { name: context.read(OPERATOR)?.trim().to_owned(), reason: reason.to_owned() })
}

/// Until when an order made now may be taken.
pub(crate) fn not_after_ms() -> i64 {
    after(TAKEN_WITHIN)
}

/// The wall clock after this time.
pub(crate) fn after(wait: Duration) -> i64 {
    crate::cmd::wall_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

/// What was signed, for the wire.
pub(crate) fn to_wire(signed: Signed) -> v1::Signed {
    v1::Signed { bytes: signed.bytes, key_id: signed.key_id.0.to_vec(), signature: signed.signature.to_vec() }
}

/// Signs an order and has the collector carry it to `host`, or to every host where that is empty.
pub(crate) async fn submit(context: &Context, signing: &Signing, order: &Order, host: &str) -> Result<Exit, Failure> {
    let signed = order.sign(&signing.key(context)?);
    let request = SubmitRequest { kind: order.kind().to_owned(), signed: Some(to_wire(signed)), host: host.to_owned() };
    let answer = connect::commands(context).await?.submit(request).await?.into_inner();
    output::say(&told(&answer));
    // A host that was reached and did not do it has said no; one that is away will be told when it comes back.
    Ok(if answer.connected > 0 && !answer.done { Exit::No } else { Exit::Success })
}

fn told(answer: &SubmitResponse) -> String {
    let hosts = words::count(usize::try_from(answer.hosts).unwrap_or(usize::MAX), "host");
    let waiting = answer.hosts.saturating_sub(answer.connected);
    let mut line = format!("sent to {} of {hosts}", answer.connected);
    if waiting > 0 {
        line.push_str(&format!(
            "; {waiting} cannot be reached and will be told if back within {}",
            words::short(u64::try_from(TAKEN_WITHIN.as_millis()).unwrap_or(u64::MAX))
        ));
    }
    if !answer.text.is_empty() {
        line.push_str(&format!(": {}", answer.text));
    }
    line
}
