//! What was seen before an action.

use mainstay_core::id::{ActionId, DecisionId};
use mainstay_core::scene::{ProcessScene, Scene, SceneLine, SocketScene, UnitScene};

use super::{ConvertError, required};
use crate::v1;

impl From<&Scene> for v1::Scene {
    fn from(scene: &Scene) -> Self {
        let UnitScene { processes, processes_more, sockets, sockets_more, limits } = &scene.processes;
        Self {
            action: scene.action.0,
            decision: scene.decision.0,
            unit: scene.unit.as_str().to_owned(),
            at: Some(scene.at.into()),
            elapsed_ms: scene.elapsed_ms,
            lines: scene.lines.iter().map(Into::into).collect(),
            processes: processes.iter().map(Into::into).collect(),
            processes_more: *processes_more,
            sockets: sockets.iter().map(Into::into).collect(),
            sockets_more: *sockets_more,
            limits: limits.clone(),
            notes: scene.notes.clone(),
        }
    }
}

impl TryFrom<v1::Scene> for Scene {
    type Error = ConvertError;

    fn try_from(scene: v1::Scene) -> Result<Self, ConvertError> {
        Ok(Self {
            action: ActionId(scene.action),
            decision: DecisionId(scene.decision),
            unit: scene.unit.parse().map_err(|error| ConvertError::invalid("unit", error))?,
            at: required("at", scene.at)?,
            elapsed_ms: scene.elapsed_ms,
            lines: scene.lines.into_iter().map(Into::into).collect(),
            processes: UnitScene {
                processes: scene.processes.into_iter().map(Into::into).collect(),
                processes_more: scene.processes_more,
                sockets: scene.sockets.into_iter().map(Into::into).collect(),
                sockets_more: scene.sockets_more,
                limits: scene.limits,
            },
            notes: scene.notes,
        })
    }
}

impl From<&SceneLine> for v1::SceneLine {
    fn from(line: &SceneLine) -> Self {
        Self { wall_ms: line.wall_ms, priority: line.priority.into(), from: line.from.clone(), text: line.text.clone() }
    }
}

impl From<v1::SceneLine> for SceneLine {
    fn from(line: v1::SceneLine) -> Self {
        // There are no priorities beyond debug.
        let priority = u8::try_from(line.priority.min(7)).unwrap_or(7);
        Self { wall_ms: line.wall_ms, priority, from: line.from, text: line.text }
    }
}

impl From<&ProcessScene> for v1::ProcessScene {
    fn from(process: &ProcessScene) -> Self {
        Self {
            pid: process.pid,
            name: process.name.clone(),
            state: process.state.clone(),
            waits_in: process.waits_in.clone(),
            stack: process.stack.clone(),
            threads: process.threads,
            rss_bytes: process.rss_bytes,
            fds: process.fds,
            sockets: process.sockets,
        }
    }
}

impl From<v1::ProcessScene> for ProcessScene {
    fn from(process: v1::ProcessScene) -> Self {
        let v1::ProcessScene { pid, name, state, waits_in, stack, threads, rss_bytes, fds, sockets } = process;
        Self { pid, name, state, waits_in, stack, threads, rss_bytes, fds, sockets }
    }
}

impl From<&SocketScene> for v1::SocketScene {
    fn from(socket: &SocketScene) -> Self {
        Self {
            kind: socket.kind.clone(),
            local: socket.local.clone(),
            remote: socket.remote.clone(),
            unread: socket.unread,
            unsent: socket.unsent,
        }
    }
}

impl From<v1::SocketScene> for SocketScene {
    fn from(socket: v1::SocketScene) -> Self {
        let v1::SocketScene { kind, local, remote, unread, unsent } = socket;
        Self { kind, local, remote, unread, unsent }
    }
}
