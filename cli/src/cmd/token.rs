//! `mainstay token`: what lets a host enrol. The secret is shown once and kept nowhere.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use mainstay_core::token::{PolicyKeys, Token};
use mainstay_proto::v1::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest};
use serde::Serialize;

use crate::connect;
use crate::context::{Context, POLICY_KEY};
use crate::exit::{Exit, Failure};
use crate::output::{self, Row};
use crate::{key, view, words};

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it
    Create {
        /// How many hosts may enrol with it
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// How long it lasts
        #[arg(long, default_value = "1h", value_parser = crate::arguments::duration)]
        ttl: Duration,
        /// A label for the hosts that enrol with it, as NAME=VALUE; may be given more than once
        #[arg(long = "label", value_name = "NAME=VALUE", value_parser = super::label)]
        labels: Vec<(String, String)>,
        /// Public key that policies will be signed with (default: policy.pub in the configuration folder)
        #[arg(long, value_name = "FILE")]
        policy_key: Option<PathBuf>,
        /// A second public key, kept away, for when the first is lost
        #[arg(long, value_name = "FILE")]
        recovery_key: Option<PathBuf>,
        /// Where these hosts reach the collector, if not where it says itself
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<String>,
    },
    /// List tokens that can still be used
    List,
    /// Make a token useless
    Revoke {
        /// Its id, as `token list` shows it
        id: String,
    },
}

#[derive(Debug, Serialize)]
struct TokenRow {
    id: String,
    uses_left: u32,
    uses: u32,
    expires: Option<String>,
    created_by: String,
    #[serde(skip)]
    expires_in: String,
}

impl Row for TokenRow {
    const HEADINGS: &'static [&'static str] = &["ID", "USES LEFT", "EXPIRES IN", "MADE BY"];
    const WIDE_FROM: usize = 4;

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            format!("{} of {}", self.uses_left, self.uses),
            self.expires_in.clone(),
            self.created_by.clone(),
        ]
    }
}

/// Carries the command out.
pub(crate) async fn run(command: &TokenCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        TokenCommand::Create { uses, ttl, labels, policy_key, recovery_key, address } => {
            let default = context.folder.join(POLICY_KEY);
            let primary = key::read_public(policy_key.as_deref().unwrap_or(&default)).map_err(|failure| {
                failure.and("; hosts must know whose policies to obey: `mainstay policy keygen` makes the key")
            })?;
            let recovery = recovery_key.as_deref().map(key::read_public).transpose()?;
            let request = CreateTokenRequest {
                uses: *uses,
                ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
                labels: super::labels(labels),
            };
            let made = connect::commands(context).await?.create_token(request).await?.into_inner();
            let token = Token {
                address: address.clone().unwrap_or(made.address),
                ca_fingerprint: made.ca_fingerprint.try_into().map_err(|_| {
                    Failure::new(Exit::Failed, "the collector gave a CA fingerprint that is not 32 bytes")
                })?,
                secret: made.secret,
                policy_keys: Some(PolicyKeys {
                    primary: primary.to_bytes(),
                    recovery: recovery.map(|key| key.to_bytes()),
                }),
                labels: labels.clone(),
            };
            output::line_out(&token.encode())?;
            output::say(&format!(
                "token {} lets {} enrol until {}; on the host: mainstay-agent enrol --token-file FILE",
                made.id,
                words::count(usize::try_from(*uses).unwrap_or(usize::MAX), "host"),
                words::date_time(made.expires_ms)
            ));
        }
        TokenCommand::List => {
            let answer = connect::commands(context).await?.list_tokens(ListTokensRequest {}).await?.into_inner();
            let rows: Vec<_> = answer
                .tokens
                .into_iter()
                .map(|token| TokenRow {
                    expires_in: words::ago(answer.now_ms, token.expires_ms),
                    expires: view::moment(token.expires_ms),
                    id: token.id,
                    uses_left: token.uses_left,
                    uses: token.uses,
                    created_by: token.created_by,
                })
                .collect();
            output::rows(context, &rows)?;
        }
        TokenCommand::Revoke { id } => {
            connect::commands(context).await?.revoke_token(RevokeTokenRequest { id: id.clone() }).await?;
            output::say(&format!("token {id} is revoked; hosts that enrolled with it stay enrolled"));
        }
    }
    Ok(Exit::Success)
}
