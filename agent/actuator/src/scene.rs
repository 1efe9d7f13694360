//! `scene`: what a person would have looked at before a unit is restarted, of its processes.
//!
//! Out of the unit's `cgroup.procs` and, for each process, `/proc/PID/{status,wchan,limits}`, where its descriptors
//! lead, the tables of sockets of the first one's network, and what [`crate::stacks`] is told. A closed list of files, none
//! of which holds contents, arguments or environment; and none of which waits for a lock that a process hung in the kernel
//! may hold, as `cmdline` and `maps` do. Bounded in processes, bytes and time: what is not seen by then is counted.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_core::scene::{self, PROCESSES_MAX, ProcessScene, SOCKETS_MAX, SocketScene, UnitScene};

use crate::stacks::Stacks;

/// Longest look: the action waits for it.
const TIME_MAX: Duration = Duration::from_millis(800);

/// Most bytes that are read of one file; a table of sockets of a busy host is longer, and its end is left out.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Most descriptors of one process that are looked at.
const FDS_MAX: usize = 4_096;

/// Most folders below the unit's own that are looked into: a unit may split itself into more groups.
const GROUPS_MAX: usize = 64;

/// Most processes that are counted.
const COUNTED_MAX: usize = 65_536;

/// Tables of sockets that are read of the first process's network.
const TABLES: [&str; 4] = ["tcp", "tcp6", "udp", "udp6"];

/// Looks at the processes of the control group at `group`. `ask` asks for the kernel stacks of some, and what it gives waits
/// for them: they are read while all else is looked at.
#[must_use]
pub fn take<L: FnOnce() -> Stacks>(proc: &Path, group: &Path, ask: impl FnOnce(&[u32]) -> L) -> UnitScene {
    let begun = Instant::now();
    let pids = processes(group);
    let looked_at = &pids[..pids.len().min(PROCESSES_MAX)];
    let stacks = ask(looked_at);
    let mut scene = UnitScene::default();
    let mut inodes = BTreeSet::new();
    for pid in looked_at {
        if begun.elapsed() >= TIME_MAX {
            break;
        }
        // One that has ended meanwhile is not there to be looked at.
        scene.processes.extend(process(&proc.join(pid.to_string()), *pid, &mut inodes));
    }
    scene.processes_more = u32::try_from(pids.len() - scene.processes.len()).unwrap_or(u32::MAX);
    if let Some(first) = scene.processes.first().map(|process| proc.join(process.pid.to_string())) {
        scene.limits = read(&first.join("limits")).map(|text| scene::limits(&text)).unwrap_or_default();
        list_sockets(&first, &inodes, begun, &mut scene);
    }
    let stacks = stacks();
    for process in &mut scene.processes {
        process.stack = stacks.get(&process.pid).map(|stack| scene::stack(stack)).unwrap_or_default();
    }
    scene
}

/// The processes of a group and of those below it.
fn processes(group: &Path) -> Vec<u32> {
    let mut pids = Vec::new();
    let mut waiting = VecDeque::from([group.to_owned()]);
    for _ in 0..GROUPS_MAX {
        let Some(group) = waiting.pop_front() else { break };
        let text = read(&group.join("cgroup.procs")).unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n');
        pids.extend(lines.filter_map(|line| std::str::from_utf8(line).ok()?.parse::<u32>().ok()));
        let folders = fs::read_dir(&group).into_iter().flatten().flatten();
        waiting.extend(folders.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
    }
    pids.truncate(COUNTED_MAX);
    pids
}

fn process(dir: &Path, pid: u32, inodes: &mut BTreeSet<u64>) -> Option<ProcessScene> {
    let mut process = ProcessScene { pid, ..ProcessScene::default() };
    scene::status(&read(&dir.join("status"))?, &mut process);
    // One that does not wait says 0.
    let waits_in = read(&dir.join("wchan")).map(|text| scene::word(&text)).unwrap_or_default();
    process.waits_in = if waits_in == "0" { String::new() } else { waits_in };
    let fds = fs::read_dir(dir.join("fd")).into_iter().flatten().flatten();
    for fd in fds.take(FDS_MAX) {
        process.fds += 1;
        if let Some(inode) = fs::read_link(fd.path()).ok().and_then(|target| socket_of(&target)) {
            process.sockets += 1;
            inodes.insert(inode);
        }
    }
    Some(process)
}

/// The inode of `socket:[4711]`.
fn socket_of(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn list_sockets(first: &Path, inodes: &BTreeSet<u64>, begun: Instant, scene: &mut UnitScene) {
    if inodes.is_empty() {
        return;
    }
    let mut found: Vec<SocketScene> = Vec::new();
    let mut more = 0u32;
    for table in TABLES.into_iter().take_while(|_| begun.elapsed() < TIME_MAX) {
        let text = read(&first.join("net").join(table)).unwrap_or_default();
        for socket in scene::sockets(&text, table, inodes) {
            if found.len() < SOCKETS_MAX { found.push(socket) } else { more = more.saturating_add(1) }
        }
    }
    (scene.sockets, scene.sockets_more) = (found, more);
}

/// At most [`FILE_BYTES_MAX`] bytes of a file.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut text).ok()?;
    Some(text)
}

/// The folder of a control group, as systemd names it, below the root of the hierarchy; `None` for a name that leads
/// anywhere else.
#[must_use]
pub fn folder(root: &Path, group: &str) -> Option<PathBuf> {
    let rest = group.strip_prefix('/').filter(|rest| !rest.is_empty())?;
    let is_clean = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    rest.split('/').all(is_clean).then(|| root.join(rest))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use mainstay_core::verb::{Detail, Reply};

    use super::*;

    fn plant(proc: &Path, pid: u32, state: &str, sockets: &[u64]) {
        let dir = proc.join(pid.to_string());
        fs::create_dir_all(dir.join("fd")).unwrap();
        fs::create_dir_all(dir.join("net")).unwrap();
        fs::write(dir.join("status"), format!("Name:\tapp\nState:\t{state}\nThreads:\t3\nVmRSS:\t 8 kB\n")).unwrap();
        fs::write(dir.join("wchan"), "do_wait").unwrap();
        fs::write(
            dir.join("limits"),
            format!(
                "{:<26}{:<21}{:<21}{}\n{:<26}{:<21}{:<21}files\n",
                "Limit", "Soft Limit", "Hard Limit", "Units", "Max open files", 1024, 4096
            ),
        )
        .unwrap();
        for (fd, inode) in sockets.iter().enumerate() {
            symlink(format!("socket:[{inode}]"), dir.join("fd").join(fd.to_string())).unwrap();
        }
        symlink("/dev/null", dir.join("fd/99")).unwrap();
        let line = |inode| format!("  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:0 0 1000 0 {inode} 1\n");
        let tcp: String = (1..200).map(line).collect();
        fs::write(dir.join("net/tcp"), format!("  sl  local\n{tcp}")).unwrap();
    }

    /// Of each process that is asked for, a long one.
    fn stacks(pids: &[u32]) -> impl FnOnce() -> Stacks + use<> {
        assert!(pids.len() <= PROCESSES_MAX, "{}", pids.len());
        let stacks = pids.iter().map(|pid| (*pid, b"[<0>] do_wait+0x5c/0xa0\n".repeat(40))).collect();
        move || stacks
    }

    #[test]
    fn the_processes_of_a_unit_are_seen_with_where_they_wait_and_whom_they_talk_to() {
        let root = tempfile::tempdir().unwrap();
        let (proc, group) = (root.path().join("proc"), root.path().join("group"));
        plant(&proc, 10, "D (disk sleep)", &[4, 5, 777]);
        plant(&proc, 11, "S (sleeping)", &[6]);
        plant(&proc, 12, "R (running)", &[7]);
        fs::create_dir_all(group.join("part")).unwrap();
        fs::write(group.join("cgroup.procs"), "10\n13\n").unwrap();
        fs::write(group.join("part/cgroup.procs"), "11\n").unwrap();
        let scene = take(&proc, &group, stacks);
        let seen: Vec<_> = scene.processes.iter().map(|p| (p.pid, p.state.as_str(), p.fds, p.sockets)).collect();
        assert_eq!(seen, [(10, "D (disk sleep)", 4, 3), (11, "S (sleeping)", 2, 1)]);
        assert_eq!(scene.processes_more, 1, "one has ended meanwhile");
        let first = &scene.processes[0];
        assert_eq!((first.waits_in.as_str(), first.threads, first.rss_bytes), ("do_wait", 3, 8_192));
        assert_eq!(first.stack, vec!["do_wait+0x5c/0xa0"; scene::STACK_MAX]);
        assert_eq!(scene.limits, ["Max open files 1024 of 4096"]);
        assert_eq!((scene.sockets.len(), scene.sockets_more), (3, 0), "{:?}", scene.sockets);
        assert_eq!(scene.sockets[0].local, "127.0.0.1:8080");
    }

    #[test]
    fn a_scene_of_many_processes_and_sockets_fits_a_frame() {
        let root = tempfile::tempdir().unwrap();
        let (proc, group) = (root.path().join("proc"), root.path().join("group"));
        fs::create_dir_all(&group).unwrap();
        let pids: String = (1..=100).map(|pid| format!("{pid}\n")).collect();
        fs::write(group.join("cgroup.procs"), pids).unwrap();
        (1..=100).for_each(|pid| plant(&proc, pid, &"x".repeat(500), &[u64::from(pid), u64::from(pid) + 100]));
        let scene = take(&proc, &group, stacks);
        assert!(scene.processes.len() <= PROCESSES_MAX);
        assert_eq!(scene.processes.len() + usize::try_from(scene.processes_more).unwrap(), 100);
        assert!(scene.sockets.len() <= SOCKETS_MAX);
        assert!(Reply::Done(Detail::Scene(scene)).to_frame().is_ok());
    }

    #[test]
    fn a_group_leads_nowhere_but_below_its_root() {
        let root = Path::new("/sys/fs/cgroup");
        let good = folder(root, "/system.slice/app.service");
        assert_eq!(good.as_deref(), Some(Path::new("/sys/fs/cgroup/system.slice/app.service")));
        for bad in ["", "/", "system.slice", "/../etc", "/a/../../etc", "/a//b", "//etc", "/a/./b"] {
            assert_eq!(folder(root, bad), None, "{bad:?}");
        }
        assert_eq!(take(Path::new("/nonexistent"), Path::new("/nonexistent"), stacks), UnitScene::default());
    }
}
