//! What was seen of a unit before it was restarted: as a page for people, as it is for programs.

use mainstay_core::host_query::logs::PRIORITIES;
use mainstay_proto::v1;
use serde::Serialize;

use crate::{view, words};

/// A scene for programs.
#[derive(Debug, Serialize)]
pub(crate) struct SceneDoc {
    action: String,
    unit: String,
    at: Option<String>,
    elapsed_ms: u64,
    journal: Vec<LineDoc>,
    processes: Vec<ProcessDoc>,
    processes_more: u32,
    sockets: Vec<SocketDoc>,
    sockets_more: u32,
    limits: Vec<String>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LineDoc {
    at: Option<String>,
    priority: u32,
    from: String,
    text: String,
}

#[derive(Debug, Serialize)]
struct ProcessDoc {
    pid: u32,
    name: String,
    state: String,
    waits_in: Option<String>,
    stack: Vec<String>,
    threads: u32,
    rss_bytes: u64,
    fds: u32,
    sockets: u32,
}

#[derive(Debug, Serialize)]
struct SocketDoc {
    kind: String,
    local: String,
    remote: Option<String>,
    unread: u64,
    unsent: u64,
}

impl From<&v1::Scene> for SceneDoc {
    fn from(scene: &v1::Scene) -> Self {
        let line = |line: &v1::SceneLine| LineDoc {
            at: view::moment(line.wall_ms),
            priority: line.priority,
            from: line.from.clone(),
            text: line.text.clone(),
        };
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let process = |process: &v1::ProcessScene| ProcessDoc {
            pid: process.pid,
            name: process.name.clone(),
            state: process.state.clone(),
            waits_in: some(&process.waits_in),
            stack: process.stack.clone(),
            threads: process.threads,
            rss_bytes: process.rss_bytes,
            fds: process.fds,
            sockets: process.sockets,
        };
        let socket = |socket: &v1::SocketScene| SocketDoc {
            kind: socket.kind.clone(),
            local: socket.local.clone(),
            remote: some(&socket.remote),
            unread: socket.unread,
            unsent: socket.unsent,
        };
        Self {
            action: mainstay_core::id::ActionId(scene.action).to_string(),
            unit: scene.unit.clone(),
            at: view::moment_of(scene.at.as_ref()),
            elapsed_ms: scene.elapsed_ms,
            journal: scene.lines.iter().map(line).collect(),
            processes: scene.processes.iter().map(process).collect(),
            processes_more: scene.processes_more,
            sockets: scene.sockets.iter().map(socket).collect(),
            sockets_more: scene.sockets_more,
            limits: scene.limits.clone(),
            notes: scene.notes.clone(),
        }
    }
}

/// A scene for people, line by line.
pub(crate) fn lines(scene: &v1::Scene) -> Vec<String> {
    let at = words::clock_ms(scene.at.as_ref().map_or(0, |at| at.wall_ms));
    let mut lines = vec![format!("{at}  {}, seen in {}", scene.unit, words::short(scene.elapsed_ms))];
    lines.extend(scene.notes.iter().map(|note| format!("not seen: {note}")));
    lines.extend(scene.lines.iter().map(|line| {
        format!("{}  {:<7} {}: {}", words::clock(line.wall_ms), priority(line.priority), line.from, line.text)
    }));
    if scene.lines.is_empty() {
        lines.push("the journal has no line of it from the hour before".to_owned());
    }
    for process in &scene.processes {
        lines.push(self::process(process));
        lines.extend(process.stack.iter().map(|call| format!("    {call}")));
    }
    if scene.processes.is_empty() {
        lines.push("it had no process".to_owned());
    }
    lines.extend(more(scene.processes_more, "process", "processes"));
    lines.extend(scene.sockets.iter().map(socket));
    lines.extend(more(scene.sockets_more, "socket", "sockets"));
    if !scene.limits.is_empty() {
        lines.push(format!("limits: {}", scene.limits.join(", ")));
    }
    lines
}

fn process(process: &v1::ProcessScene) -> String {
    let waits = if process.waits_in.is_empty() { String::new() } else { format!(", waits in {}", process.waits_in) };
    format!(
        "pid {} {}: {}{waits}, {}, {}, {} of {} are sockets",
        process.pid,
        process.name,
        process.state,
        words::count(usize::try_from(process.threads).unwrap_or(usize::MAX), "thread"),
        words::bytes(process.rss_bytes),
        process.sockets,
        words::count(usize::try_from(process.fds).unwrap_or(usize::MAX), "descriptor"),
    )
}

fn socket(socket: &v1::SocketScene) -> String {
    let remote = if socket.remote.is_empty() { String::new() } else { format!(" from {}", socket.remote) };
    let is_listening = socket.kind.ends_with("LISTEN");
    let unread = match socket.unread {
        0 => String::new(),
        waiting if is_listening => format!(", {waiting} wait to be accepted"),
        bytes => format!(", {} unread", words::bytes(bytes)),
    };
    let unsent = if socket.unsent == 0 || is_listening {
        String::new()
    } else {
        format!(", {} not acknowledged", words::bytes(socket.unsent))
    };
    format!("{} {}{remote}{unread}{unsent}", socket.kind, socket.local)
}

fn more(count: u32, one: &str, many: &str) -> Option<String> {
    (count > 0).then(|| format!("and {count} more {}", if count == 1 { one } else { many }))
}

/// syslog's word.
fn priority(priority: u32) -> &'static str {
    usize::try_from(priority).ok().and_then(|at| PRIORITIES.get(at)).copied().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> v1::Scene {
        v1::Scene {
            unit: "app.service".into(),
            at: Some(v1::Now { boot_ns: 0, wall_ms: 1_000 }),
            elapsed_ms: 84,
            lines: vec![v1::SceneLine { wall_ms: 500, priority: 3, from: "app".into(), text: "cannot go on".into() }],
            processes: vec![v1::ProcessScene {
                pid: 812,
                name: "app".into(),
                state: "D (disk sleep)".into(),
                waits_in: "folio_wait_bit_common".into(),
                stack: vec!["folio_wait_bit_common+0x13d/0x350".into()],
                threads: 1,
                rss_bytes: 9_158_656,
                fds: 9,
                sockets: 2,
            }],
            processes_more: 3,
            sockets: vec![
                v1::SocketScene {
                    kind: "tcp LISTEN".into(),
                    local: "0.0.0.0:80".into(),
                    unread: 7,
                    ..Default::default()
                },
                v1::SocketScene {
                    kind: "tcp ESTABLISHED".into(),
                    local: "10.0.0.1:80".into(),
                    remote: "10.0.0.9:5000".into(),
                    unread: 2_048,
                    unsent: 0,
                },
            ],
            sockets_more: 1,
            limits: vec!["Max open files 1024 of 4096".into()],
            notes: vec!["journal: it is slow".into()],
            ..Default::default()
        }
    }

    #[test]
    fn a_scene_reads_as_a_person_would_have_noted_it_down() {
        let lines = lines(&scene());
        assert!(lines[0].ends_with("app.service, seen in 0.08s"), "{lines:#?}");
        assert_eq!(lines[1], "not seen: journal: it is slow");
        assert!(lines[2].ends_with("err     app: cannot go on"), "{lines:#?}");
        let rest: Vec<&str> = lines[3..].iter().map(String::as_str).collect();
        assert_eq!(
            rest,
            [
                "pid 812 app: D (disk sleep), waits in folio_wait_bit_common, 1 thread, 8.7 MiB, 2 of 9 descriptors are sockets",
                "    folio_wait_bit_common+0x13d/0x350",
                "and 3 more processes",
                "tcp LISTEN 0.0.0.0:80, 7 wait to be accepted",
                "tcp ESTABLISHED 10.0.0.1:80 from 10.0.0.9:5000, 2.0 KiB unread",
                "and 1 more socket",
                "limits: Max open files 1024 of 4096",
            ]
        );
        let empty = super::lines(&v1::Scene { unit: "app.service".into(), ..Default::default() });
        assert_eq!(empty[1..], ["the journal has no line of it from the hour before", "it had no process"]);
    }

    #[test]
    fn programs_get_it_as_it_is() {
        let doc = serde_json::to_value(SceneDoc::from(&scene())).unwrap();
        assert_eq!(doc["processes"][0]["waits_in"], "folio_wait_bit_common");
        assert_eq!(doc["journal"][0]["priority"], 3);
        assert!(doc["sockets"][0]["remote"].is_null());
    }
}
