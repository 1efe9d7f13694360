//! Capacity: what hosts will ask for, by themselves or added up by a label, and when that meets a limit.
//!
//! Every host's history is read and folded into hours (`query/demand.rs`), hosts of a group are added
//! up hour by hour, and mainstay-fleet foretells what comes of it.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::id::HostId;
use mainstay_core::policy::Glob;
use mainstay_fleet::capacity::{self, DAY, HIGH, HISTORY_MAX, HORIZON_MAX, Hourly, Unfit, shared};
use mainstay_promql::{EvalError, Interrupted};
use mainstay_proto::v1;
use tonic::Status;

use crate::clock;
use crate::hub::{HostState, Hub};
use crate::query::demand::{self, Part, Resource};
use crate::query::fleet::Fleet;
use crate::query::{Stop, TIMEOUT};

const HOUR_MS: i64 = 3_600_000;
/// Most rows of one answer.
const ROWS_MAX: usize = 10_000;
/// Most damaged blocks that are named.
const DAMAGED_MAX: usize = 100;
/// A history that ended so many hours ago says nothing of now.
const ENDED_HOURS: i64 = 24;

/// A request, checked.
struct Question<'r> {
    request: &'r v1::CapacityRequest,
    resources: Vec<Resource>,
    horizon: usize,
    full_at: f64,
}

impl<'r> Question<'r> {
    fn read(request: &'r v1::CapacityRequest) -> Result<Self, Status> {
        let resource = |name: &String| {
            let known = Resource::ALL.into_iter().find(|resource| resource.name() == name);
            known.ok_or_else(|| Status::invalid_argument(format!("`{name}` is no resource (cpu, memory, disk, net)")))
        };
        let mut resources = request.resources.iter().map(resource).collect::<Result<Vec<_>, _>>()?;
        resources.sort_unstable();
        resources.dedup();
        if resources.is_empty() {
            resources = Resource::ALL.to_vec();
        }
        let horizon = usize::try_from(request.horizon_ms / HOUR_MS.unsigned_abs()).unwrap_or(usize::MAX);
        if !(1..=HORIZON_MAX).contains(&horizon) {
            return Err(Status::invalid_argument(format!(
                "capacity is foretold for an hour to {} days ahead",
                HORIZON_MAX / DAY
            )));
        }
        let full_at = if request.full_at == 0.0 { 1.0 } else { request.full_at };
        if !(full_at > 0.0 && full_at <= 1.0) {
            return Err(Status::invalid_argument("a limit is met at a share of it above 0 and up to 1"));
        }
        Ok(Self { request, resources, horizon, full_at })
    }

    /// The hosts that are meant; those that were revoked are not asked for anything any more.
    fn hosts(&self, hub: &Hub) -> Result<Vec<(HostId, HostState)>, Status> {
        let glob = Glob::new(&self.request.host_glob);
        let state = hub.state();
        let all = || state.hosts.iter().filter(|(_, host)| !host.is_revoked());
        let matches = |host: &HostState| {
            let labels = host.labels();
            glob.as_ref().is_none_or(|glob| glob.matches(host.hostname().as_bytes()))
                && self.request.labels.iter().all(|want| labels.get(&want.name) == Some(&want.value))
        };
        let mut hosts: Vec<_> = all().filter(|(_, host)| matches(host)).map(|(id, host)| (*id, host.clone())).collect();
        if hosts.is_empty() && all().next().is_some() {
            return Err(Status::not_found("no host has this name and these labels; `mainstay hosts` lists them"));
        }
        let known: BTreeSet<String> = hosts.iter().flat_map(|(_, host)| host.labels().into_keys()).collect();
        let by = &self.request.by;
        if !by.is_empty() && !hosts.is_empty() && !known.contains(by) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let known = if known.is_empty() { "they have none".to_owned() } else { known.join(", ") };
            return Err(Status::invalid_argument(format!("no host has a label `{by}` ({known})")));
        }
        hosts.sort_by(|(a, x), (b, y)| x.hostname().cmp(y.hostname()).then(a.cmp(b)));
        Ok(hosts)
    }
}

/// What is foretold together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    subject: String,
    host: Option<HostId>,
    resource: Resource,
    part: String,
}

/// Answers `Capacity`.
///
/// # Errors
/// If the question is none, means no host, or cannot be answered in time.
pub fn outlook(hub: &Hub, request: &v1::CapacityRequest, stop: &Stop) -> Result<v1::CapacityResponse, Status> {
    let question = Question::read(request)?;
    let hosts = question.hosts(hub)?;
    let now_ms = clock::wall_ms();
    let end = now_ms.div_euclid(HOUR_MS);
    let first = end - i64::try_from(HISTORY_MAX).unwrap_or(0);
    let mut fleets: BTreeMap<u32, Fleet<'_>> = Fleet::of(hub, stop).each().collect();
    let mut groups: BTreeMap<Group, Vec<Part>> = BTreeMap::new();
    let mut damaged = Vec::new();
    for (done, (id, host)) in hosts.iter().enumerate() {
        // Enrolled since the question came.
        let Some(fleet) = fleets.remove(&host.row.short) else { continue };
        let parts = demand::of_host(&fleet, &question.resources, (first, end))
            .map_err(|error| failed(&error, done, hosts.len()))?;
        damaged.extend(fleet.seen().damaged);
        for part in parts {
            groups.entry(group(request, *id, host, &part)).or_default().push(part);
        }
    }
    damaged.truncate(DAMAGED_MAX);
    let rows = groups.into_iter().take(ROWS_MAX + 1).map(|(group, parts)| view(&question, group, &parts, end));
    let mut rows: Vec<v1::CapacityView> = rows.collect();
    let truncated = rows.len() > ROWS_MAX;
    rows.truncate(ROWS_MAX);
    Ok(v1::CapacityResponse { rows, now_ms, truncated, damaged })
}

fn failed(error: &EvalError, done: usize, all: usize) -> Status {
    match error {
        EvalError::Interrupted(Interrupted::TimedOut) => Status::deadline_exceeded(format!(
            "{done} of {all} hosts were read in {} s; narrow it down by --host, --selector or --resource",
            TIMEOUT.as_secs()
        )),
        EvalError::Interrupted(Interrupted::Cancelled) => Status::cancelled("the question was taken back"),
        other => {
            tracing::error!(error = %other, "histories for capacity cannot be read");
            Status::internal(format!("{other}; the collector's journal says more"))
        }
    }
}

/// Which row a part of a host belongs to. Interfaces of several hosts are added up by direction: their names differ.
fn group(request: &v1::CapacityRequest, id: HostId, host: &HostState, part: &Part) -> Group {
    let is_own = request.by.is_empty();
    let name = match (part.resource, is_own) {
        (Resource::Net, true) => format!("{} {}", part.name, part.direction),
        (Resource::Net, false) => part.direction.to_owned(),
        _ => part.name.clone(),
    };
    let (subject, host) = if is_own {
        (host.hostname().to_owned(), Some(id))
    } else {
        (host.labels().remove(&request.by).unwrap_or_default(), None)
    };
    Group { subject, host, resource: part.resource, part: name }
}

fn view(question: &Question<'_>, group: Group, parts: &[Part], end: i64) -> v1::CapacityView {
    let demands: Vec<Hourly> = parts.iter().map(|part| part.demand.trimmed()).collect();
    // What a host that is gone has does not count; what it asked for while it was there does.
    let is_there = |demand: &Hourly| !demand.values.is_empty() && demand.end() + ENDED_HOURS > end;
    let there = || parts.iter().zip(&demands).filter(|(_, demand)| is_there(demand)).map(|(part, _)| part);
    let limit = there().map(|part| part.limit).sum::<Option<f64>>().filter(|limit| *limit > 0.0);
    let history = match &demands[..] {
        [one] => one.clone(),
        several => shared(several).trimmed(),
    };
    let mut view = v1::CapacityView {
        subject: group.subject,
        host_id: group.host.map_or_else(Vec::new, |id| id.0.to_vec()),
        hosts: u32::try_from(there().count()).unwrap_or(u32::MAX),
        resource: group.resource.name().to_owned(),
        part: group.part,
        unit: group.resource.unit().to_owned(),
        now: history.last().unwrap_or(0.0),
        peak: history.values.iter().flatten().copied().fold(0.0, f64::max),
        limit,
        high_share: HIGH,
        history_ms: history.values.len() as u64 * HOUR_MS.unsigned_abs(),
        completeness: history.completeness(),
        resolution_ms: parts.iter().map(|part| part.step_ms).max().unwrap_or(0),
        ..Default::default()
    };
    if let Err(why) = foretell(question, &history, limit, end, &mut view) {
        view.unfit = why;
    }
    view
}

/// Fills in what comes, or says why nothing can be said.
fn foretell(
    question: &Question<'_>,
    history: &Hourly,
    limit: Option<f64>,
    end: i64,
    view: &mut v1::CapacityView,
) -> Result<(), String> {
    let ago = end - history.end();
    if !history.values.is_empty() && ago >= ENDED_HOURS {
        return Err(format!("nothing for {} d: no forecast", ago / 24));
    }
    // The horizon counts from now, the outlook from the last hour that is known.
    let horizon = question.horizon + usize::try_from(ago).unwrap_or(0);
    let outlook = capacity::outlook(history, horizon).map_err(|why| match why {
        Unfit::Far { reach, .. } => format!("{why}; ask --for {}d", reach / DAY),
        other => other.to_string(),
    })?;
    (view.expected, view.high) = outlook.peaks();
    view.trend_per_day = outlook.slope;
    view.season = outlook.season.name().to_owned();
    view.days = days(&outlook);
    if let Some(limit) = limit {
        view.headroom = Some(1.0 - view.high / limit);
        let met = outlook.meets(limit * question.full_at);
        let at_ms = |hour: Option<i64>| hour.map(|hour| hour * HOUR_MS);
        view.chance = Some(met.chance);
        (view.met_ms, view.earliest_ms, view.latest_ms) = (at_ms(met.at), at_ms(met.earliest), at_ms(met.latest));
    }
    Ok(())
}

/// The most of each day ahead.
fn days(outlook: &capacity::Outlook) -> Vec<v1::CapacityDay> {
    let most = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    let each = outlook.expected.chunks(DAY).zip(outlook.high.chunks(DAY)).enumerate();
    each.map(|(day, (expected, high))| v1::CapacityDay {
        from_ms: (outlook.first + i64::try_from(day * DAY).unwrap_or(0)) * HOUR_MS,
        expected: most(expected),
        high: most(high),
    })
    .collect()
}
