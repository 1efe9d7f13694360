//! `top`: which processes and units use most.

use std::time::Duration;

use mainstay_core::host_query::top::{ContainerRow, ProcessRow, TopBy, UnitRow};
use mainstay_core::host_query::{TopQuery, TopReply};
use mainstay_core::processes::Held;
use mainstay_core::subject::PathBytes;

use super::super::{ConvertError, all, finite, listed, optional_finite};
use super::{glob_from_wire, glob_to_wire, millis};
use crate::v1;

impl From<&TopQuery> for v1::TopQuery {
    fn from(query: &TopQuery) -> Self {
        let unit = glob_to_wire(query.unit.as_ref());
        Self { by: query.by.as_str().to_owned(), unit, limit: query.limit }
    }
}

impl TryFrom<v1::TopQuery> for TopQuery {
    type Error = ConvertError;

    fn try_from(query: v1::TopQuery) -> Result<Self, ConvertError> {
        let by = listed("by", &query.by, &TopBy::ALL, TopBy::as_str)?;
        Ok(Self { by, unit: glob_from_wire("unit", &query.unit)?, limit: query.limit })
    }
}

impl From<&TopReply> for v1::TopReply {
    fn from(reply: &TopReply) -> Self {
        Self {
            cpu_window_ms: millis(reply.cpu_window),
            io_window_ms: reply.io_window.map(millis),
            cpus: reply.cpus,
            total: reply.total,
            threads: reply.threads,
            zombies: reply.zombies,
            uninterruptible: reply.uninterruptible,
            processes: reply.processes.iter().map(Into::into).collect(),
            processes_more: reply.processes_more,
            units: reply.units.iter().map(Into::into).collect(),
            units_more: reply.units_more,
            stuck: reply.stuck.iter().map(Into::into).collect(),
            held: reply.held.as_ref().map(|held| v1::HeldFiles { by: held.iter().map(Into::into).collect() }),
            notes: reply.notes.clone(),
            forks_per_second: reply.forks_per_second,
            containers: reply.containers.iter().map(Into::into).collect(),
            containers_more: reply.containers_more,
        }
    }
}

impl TryFrom<v1::TopReply> for TopReply {
    type Error = ConvertError;

    fn try_from(reply: v1::TopReply) -> Result<Self, ConvertError> {
        Ok(Self {
            cpu_window: Duration::from_millis(reply.cpu_window_ms),
            io_window: reply.io_window_ms.map(Duration::from_millis),
            cpus: reply.cpus,
            total: reply.total,
            threads: reply.threads,
            zombies: reply.zombies,
            uninterruptible: reply.uninterruptible,
            processes: all("processes", reply.processes)?,
            processes_more: reply.processes_more,
            units: all("units", reply.units)?,
            units_more: reply.units_more,
            stuck: all("stuck", reply.stuck)?,
            held: reply.held.map(|held| held.by.into_iter().map(Into::into).collect()),
            notes: reply.notes,
            forks_per_second: optional_finite("forks_per_second", reply.forks_per_second)?,
            containers: all("containers", reply.containers)?,
            containers_more: reply.containers_more,
        })
    }
}

fn io_to_wire(io: Option<(u64, u64)>) -> Option<v1::IoRate> {
    io.map(|(read, written)| v1::IoRate { read, written })
}

fn io_from_wire(io: Option<v1::IoRate>) -> Option<(u64, u64)> {
    io.map(|io| (io.read, io.written))
}

impl From<&ProcessRow> for v1::TopProcess {
    fn from(row: &ProcessRow) -> Self {
        Self {
            pid: row.pid,
            ppid: row.ppid,
            name: row.name.clone(),
            unit: row.unit.clone(),
            state: u32::from(row.state),
            cpu: row.cpu,
            rss_bytes: row.rss_bytes,
            threads: row.threads,
            io: io_to_wire(row.io),
            fds: row.fds,
            fds_max: row.fds_max,
            age_s: row.age.as_secs(),
            ended_cpu: row.ended_cpu,
            is_new: row.is_new,
        }
    }
}

impl TryFrom<v1::TopProcess> for ProcessRow {
    type Error = ConvertError;

    fn try_from(row: v1::TopProcess) -> Result<Self, ConvertError> {
        let state = char::from_u32(row.state).ok_or_else(|| ConvertError::invalid("state", row.state))?;
        Ok(Self {
            pid: row.pid,
            ppid: row.ppid,
            name: row.name,
            unit: row.unit,
            state,
            cpu: finite("cpu", row.cpu)?,
            rss_bytes: row.rss_bytes,
            threads: row.threads,
            io: io_from_wire(row.io),
            fds: row.fds,
            fds_max: row.fds_max,
            age: Duration::from_secs(row.age_s),
            ended_cpu: finite("ended_cpu", row.ended_cpu)?,
            is_new: row.is_new,
        })
    }
}

impl From<&UnitRow> for v1::TopUnit {
    fn from(row: &UnitRow) -> Self {
        Self {
            unit: row.unit.clone(),
            processes: row.processes,
            threads: row.threads,
            tasks: row.tasks,
            tasks_max: row.tasks_max,
            cpu: row.cpu,
            rss_bytes: row.rss_bytes,
            io: io_to_wire(row.io),
            fds: row.fds,
            fds_used_ratio: row.fds_used_ratio,
            ended_cpu: row.ended_cpu,
            new: row.new,
        }
    }
}

impl TryFrom<v1::TopUnit> for UnitRow {
    type Error = ConvertError;

    fn try_from(row: v1::TopUnit) -> Result<Self, ConvertError> {
        Ok(Self {
            unit: row.unit,
            processes: row.processes,
            threads: row.threads,
            tasks: row.tasks,
            tasks_max: row.tasks_max,
            cpu: finite("cpu", row.cpu)?,
            rss_bytes: row.rss_bytes,
            io: io_from_wire(row.io),
            fds: row.fds,
            fds_used_ratio: optional_finite("fds_used_ratio", row.fds_used_ratio)?,
            ended_cpu: finite("ended_cpu", row.ended_cpu)?,
            new: row.new,
        })
    }
}

impl From<&ContainerRow> for v1::TopContainer {
    fn from(row: &ContainerRow) -> Self {
        let ContainerRow { name, runtime, id, image, .. } = row.clone();
        Self {
            name,
            runtime,
            id,
            image,
            cpu: row.cpu,
            memory_bytes: row.memory_bytes,
            memory_max_bytes: row.memory_max_bytes,
            io: io_to_wire(row.io),
            processes: row.processes,
            tasks: row.tasks,
            tasks_max: row.tasks_max,
            fds: row.fds,
        }
    }
}

impl TryFrom<v1::TopContainer> for ContainerRow {
    type Error = ConvertError;

    fn try_from(row: v1::TopContainer) -> Result<Self, ConvertError> {
        Ok(Self {
            name: row.name,
            runtime: row.runtime,
            id: row.id,
            image: row.image,
            cpu: optional_finite("cpu", row.cpu)?,
            memory_bytes: row.memory_bytes,
            memory_max_bytes: row.memory_max_bytes,
            io: io_from_wire(row.io),
            processes: row.processes,
            tasks: row.tasks,
            tasks_max: row.tasks_max,
            fds: row.fds,
        })
    }
}

impl From<&Held> for v1::Held {
    fn from(held: &Held) -> Self {
        Self {
            mount: held.mount.0.clone(),
            unit: held.unit.clone(),
            pid: held.pid,
            name: held.name.clone(),
            files: held.files,
            bytes: held.bytes,
        }
    }
}

impl From<v1::Held> for Held {
    fn from(held: v1::Held) -> Self {
        Self {
            mount: PathBytes(held.mount),
            unit: held.unit,
            pid: held.pid,
            name: held.name,
            files: held.files,
            bytes: held.bytes,
        }
    }
}
