//! `mainstay hold`: stop acting at once; `mainstay holds`: what is held.

use std::time::Duration;

use clap::{ArgGroup, Args};
use mainstay_core::id::HostId;
use mainstay_core::policy::order::{HoldScope, Order};
use mainstay_core::subject::UnitName;
use mainstay_proto::v1::{GetHostRequest, ListHoldsRequest};
use serde::Serialize;

use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::order::{self, Signing};
use crate::output::{self, Row};
use crate::{view, words};

/// Arguments of `mainstay hold`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["fleet", "host"])))]
#[command(group(ArgGroup::new("until").required(true).args(["length", "endless", "lift"])))]
pub(crate) struct HoldArgs {
    /// Every host
    #[arg(long)]
    fleet: bool,
    /// One host, by name, id or the beginning of an id
    #[arg(long)]
    host: Option<String>,
    /// With --host: only this unit
    #[arg(long, requires = "host")]
    unit: Option<UnitName>,
    /// How long
    #[arg(long = "for", value_name = "TIME", value_parser = crate::arguments::duration)]
    length: Option<Duration>,
    /// Until it is lifted
    #[arg(long)]
    endless: bool,
    /// Let it act again
    #[arg(long)]
    lift: bool,
    /// Why; it stands in the ledger of every host
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    signing: Signing,
}

/// Holds, or lifts a hold.
pub(crate) async fn run(args: &HoldArgs, context: &Context) -> Result<Exit, Failure> {
    let (scope, host) = match &args.host {
        None => (HoldScope::Fleet, String::new()),
        Some(name) => {
            let host = find(name, context).await?;
            let scope = match &args.unit {
                Some(unit) => HoldScope::Unit(host, unit.clone()),
                None => HoldScope::Host(host),
            };
            (scope, host.to_string())
        }
    };
    let order = Order::Hold {
        scope,
        until_ms: args.length.map(order::after),
        held: !args.lift,
        not_after_ms: order::not_after_ms(),
        by: order::author(context, &args.reason)?,
    };
    order::submit(context, &args.signing, &order, &host).await
}

/// The id of the host that is meant.
pub(crate) async fn find(name: &str, context: &Context) -> Result<HostId, Failure> {
    let request = GetHostRequest { host: name.to_owned() };
    let host = connect::queries(context).await?.get_host(request).await?.into_inner().host.unwrap_or_default();
    <[u8; 16]>::try_from(host.host_id.as_slice())
        .map(HostId)
        .map_err(|_| Failure::new(Exit::Failed, "the collector gave a host id that is not 16 bytes"))
}

#[derive(Debug, Serialize)]
struct HoldRow {
    scope: String,
    host_id: Option<String>,
    unit: Option<String>,
    until: Option<String>,
    by: String,
    reason: String,
    #[serde(skip)]
    left: String,
}

impl Row for HoldRow {
    const HEADINGS: &'static [&'static str] = &["SCOPE", "HOST", "UNIT", "FOR ANOTHER", "BY", "REASON"];
    const WIDE_FROM: usize = 6;

    fn cells(&self) -> Vec<String> {
        let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
        vec![
            self.scope.clone(),
            or_dash(&self.host_id),
            or_dash(&self.unit),
            self.left.clone(),
            self.by.clone(),
            self.reason.clone(),
        ]
    }
}

/// Lists what is held.
pub(crate) async fn list(context: &Context) -> Result<Exit, Failure> {
    let answer = connect::queries(context).await?.list_holds(ListHoldsRequest {}).await?.into_inner();
    let rows: Vec<_> = answer
        .holds
        .into_iter()
        .map(|hold| {
            let by = hold.by.unwrap_or_default();
            HoldRow {
                left: if hold.until_ms == 0 { "no end".to_owned() } else { words::ago(answer.now_ms, hold.until_ms) },
                scope: hold.scope,
                host_id: (!hold.host_id.is_empty()).then(|| view::host_id(&hold.host_id)),
                unit: (!hold.unit.is_empty()).then_some(hold.unit),
                until: view::moment(hold.until_ms),
                by: by.name,
                reason: by.reason,
            }
        })
        .collect();
    output::rows(context, &rows)?;
    if context.format.is_for_people() && rows.is_empty() {
        output::say("nothing is held by an operator (root's /etc/mainstay/hold on a host shows in its decisions)");
    }
    Ok(Exit::Success)
}
