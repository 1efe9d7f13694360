//! What the agent reads of the kernel, and how often, told from a trace of its system calls: the plan of `bench/floor.c`.
//!
//! In: what strace writes of each thread (`-ff -y -s 0`, with [`CALLS`]). Out: files of `/proc` and `/sys` that were read,
//! listed or asked for their attributes, and filesystems that were asked for their room, with how often. What else the agent
//! asks of the kernel is counted and left out, so that the floor is never higher than what was read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The system calls to be traced.
pub const CALLS: &str = "open,openat,read,pread64,readv,close,getdents64,newfstatat,statx,statfs,fstatfs,readlink,\
    readlinkat,clock_adjtime,adjtimex,sendto,sendmsg,recvfrom,recvmsg,write,writev,pwrite64";

/// How something is read. The words are those of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    /// A file that stays open, from its start.
    Kept,
    /// A file that is opened, read and closed.
    Opened,
    /// A folder.
    Listed,
    /// The attributes of a file; the size of `/proc/PID/fd` is a count.
    Sized,
    /// `statfs`.
    Room,
}

impl How {
    fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Opened => "opened",
            Self::Listed => "listed",
            Self::Sized => "sized",
            Self::Room => "room",
        }
    }
}

/// Something that is read: how, below which open folder (`-` for none), under which name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Read {
    how: How,
    folder: String,
    name: String,
}

/// What was read in a time, and what is left out of it.
#[derive(Debug)]
pub struct Plan {
    agent: String,
    seconds: f64,
    reads: BTreeMap<Read, u32>,
    left_out: BTreeMap<&'static str, u32>,
}

/// A file that was opened in the trace.
struct Open {
    folder: String,
    name: String,
    /// Nothing was read of it yet.
    is_fresh: bool,
}

impl Plan {
    /// Nothing yet, of a trace of so many seconds of the agent with this process id.
    #[must_use]
    pub fn new(agent: u32, seconds: f64) -> Self {
        Self { agent: format!("/proc/{agent}/"), seconds, reads: BTreeMap::new(), left_out: BTreeMap::new() }
    }

    /// Takes in what one thread did.
    pub fn take(&mut self, trace: &str) {
        let mut open: BTreeMap<&str, Open> = BTreeMap::new();
        for call in trace.lines().filter_map(Call::parse) {
            self.call(&call, &mut open);
        }
    }

    fn call<'t>(&mut self, call: &Call<'t>, open: &mut BTreeMap<&'t str, Open>) {
        match call.name {
            "open" | "openat" => {
                let Some((fd, path)) = handle(call.result) else { return self.leave_out("opens of what is not there") };
                if !is_kernels(&path) {
                    return self.leave_out("opens of other files");
                }
                let (folder, name) = match (handle(call.first), call.path()) {
                    (Some((_, folder)), Some(name)) if !name.starts_with('/') && name != "." => (folder, name),
                    _ => ("-".to_owned(), path),
                };
                open.insert(fd, Open { folder, name, is_fresh: true });
            }
            "read" | "readv" | "pread64" | "getdents64" => self.read(call, open),
            "close" => {
                if let Some((fd, _)) = handle(call.first) {
                    open.remove(fd);
                }
            }
            "statx" | "newfstatat" => {
                let folder = handle(call.first).map(|(_, folder)| folder);
                match (folder, call.path()) {
                    // The attributes of an open file: nothing is read by that.
                    (_, Some(name)) if name.is_empty() => {}
                    (_, Some(name)) if is_kernels(&name) && !call.has_failed() => self.add(How::Sized, "-", &name),
                    (Some(folder), Some(name))
                        if is_kernels(&folder) && !name.starts_with('/') && !call.has_failed() =>
                    {
                        self.add(How::Sized, &folder, &name);
                    }
                    _ => self.leave_out("attributes of other files"),
                }
            }
            "statfs" => match call.path() {
                Some(path) if !call.has_failed() => self.add(How::Room, "-", &path),
                _ => self.leave_out("other calls"),
            },
            "sendto" | "sendmsg" | "recvfrom" | "recvmsg" => {
                self.leave_out("sends and receives: netlink, bus, collector")
            }
            "clock_adjtime" | "adjtimex" => self.leave_out("questions for the clock"),
            "write" | "writev" | "pwrite64" => self.leave_out("writes"),
            _ => self.leave_out("other calls"),
        }
    }

    fn read<'t>(&mut self, call: &Call<'t>, open: &mut BTreeMap<&'t str, Open>) {
        let Some((fd, path)) = handle(call.first) else { return };
        if !is_kernels(&path) {
            return self.leave_out("reads of other files");
        }
        match open.get_mut(fd) {
            Some(file) if file.is_fresh => {
                file.is_fresh = false;
                let how = if call.name == "getdents64" { How::Listed } else { How::Opened };
                let (folder, name) = (file.folder.clone(), file.name.clone());
                self.add(how, &folder, &name);
            }
            // From its start once more; from further on it is the rest of the same reading.
            _ if call.name == "pread64" && call.is_at_start() => {
                // Its own folder is that of whoever reads.
                let name = match path.strip_prefix(&self.agent) {
                    Some(rest) => format!("/proc/self/{rest}"),
                    None => path,
                };
                self.add(How::Kept, "-", &name);
            }
            _ => {}
        }
    }

    fn add(&mut self, how: How, folder: &str, name: &str) {
        *self.reads.entry(Read { how, folder: folder.to_owned(), name: name.to_owned() }).or_default() += 1;
    }

    fn leave_out(&mut self, what: &'static str) {
        *self.left_out.entry(what).or_default() += 1;
    }

    /// The plan as `bench/floor.c` reads it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (Read { how, folder, name }, times) in &self.reads {
            let rate = f64::from(*times) / self.seconds;
            // A name with a tab or a line end could not be told from two; the kernel has none.
            if !name.contains(['\t', '\n']) {
                // Writing into a string does not fail.
                let _ = writeln!(text, "{}\t{rate:.5}\t{folder}\t{name}", how.as_str());
            }
        }
        text
    }

    /// How many are read in a second, by how they are read.
    #[must_use]
    pub fn per_second(&self) -> Vec<(&'static str, f64)> {
        let mut sums: BTreeMap<How, u32> = BTreeMap::new();
        self.reads.iter().for_each(|(read, times)| *sums.entry(read.how).or_default() += times);
        sums.into_iter().map(|(how, times)| (how.as_str(), f64::from(times) / self.seconds)).collect()
    }

    /// What is left out, times a second.
    #[must_use]
    pub fn left_out(&self) -> Vec<(&'static str, f64)> {
        self.left_out.iter().map(|(what, times)| (*what, f64::from(*times) / self.seconds)).collect()
    }
}

/// One line of a trace.
#[derive(Debug)]
struct Call<'t> {
    name: &'t str,
    /// What stands first between the brackets.
    first: &'t str,
    /// All between the brackets.
    arguments: &'t str,
    result: &'t str,
}

impl<'t> Call<'t> {
    fn parse(line: &'t str) -> Option<Self> {
        let (name, rest) = line.split_once('(')?;
        let (arguments, result) = rest.rsplit_once(" = ")?;
        let arguments = arguments.trim_end().strip_suffix(')')?;
        let first = arguments.split(',').next().unwrap_or_default();
        Some(Self { name, first, arguments, result })
    }

    fn has_failed(&self) -> bool {
        self.result.starts_with('-')
    }

    /// The first argument in quotes.
    fn path(&self) -> Option<String> {
        let (_, rest) = self.arguments.split_once('"')?;
        Some(unescaped(rest.split('"').next()?))
    }

    /// Whether the last argument, which is where `pread64` reads, is 0.
    fn is_at_start(&self) -> bool {
        self.arguments.rsplit(", ").next() == Some("0")
    }
}

/// `15</proc/stat>`: the descriptor and what it stands for.
fn handle(text: &str) -> Option<(&str, String)> {
    let (fd, path) = text.split_once('<')?;
    Some((fd, unescaped(path.strip_suffix('>')?)))
}

/// Whether the kernel makes what lies there when it is read.
fn is_kernels(path: &str) -> bool {
    ["/proc", "/sys"]
        .iter()
        .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// strace writes a backslash as two, and what is no letter as its number in octal.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        let mut number = None;
        for _ in 0..3 {
            let Some(digit) = rest.peek().and_then(|next| next.to_digit(8)) else { break };
            number = Some(number.unwrap_or(0) * 8 + digit);
            rest.next();
        }
        out.extend(match number {
            Some(number) => char::from_u32(number),
            None => rest.next(),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// As strace 6.1 wrote it, shortened.
    const TRACE: &str = r#"statx(AT_FDCWD</>, "/etc/mainstay/hold", AT_STATX_SYNC_AS_STAT, STATX_ALL, 0x7ff) = -1 ENOENT (No such file or directory)
pread64(14</proc/7314/statm>, ""..., 4096, 0) = 29
pread64(14</proc/7314/statm>, "", 4067, 29) = 0
pread64(24</proc/7314/net/dev>, ""..., 8192, 0) = 697
pread64(24</proc/7314/net/dev>, "", 7495, 697) = 0
clock_adjtime(CLOCK_REALTIME, {modes=0, offset=0, time={tv_sec=1, tv_usec=2}}) = 5 (TIME_ERROR)
open("/proc", O_RDONLY|O_CLOEXEC|O_DIRECTORY) = 32</proc>
openat(32</proc>, ".", O_RDONLY|O_CLOEXEC|O_DIRECTORY) = 33</proc>
getdents64(33</proc>, 0x55ad /* 12 entries */, 768) = 352
getdents64(33</proc>, 0x55ad /* 0 entries */, 1536) = 0
openat(32</proc>, "17/stat", O_RDONLY|O_CLOEXEC) = 34</proc/17/stat>
pread64(34</proc/17/stat>, ""..., 8192, 0) = 97
pread64(34</proc/17/stat>, "", 8095, 97) = 0
close(34</proc/17/stat>)                = 0
close(33</proc>)                        = 0
close(32</proc>)                        = 0
openat(35</sys/fs/cgroup/a\\x2db.mount>, "io.stat", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)
openat(35</sys/fs/cgroup/a\\x2db.mount>, "cpu.stat", O_RDONLY|O_CLOEXEC) = 34</sys/fs/cgroup/a\\x2db.mount/cpu.stat>
pread64(34</sys/fs/cgroup/a\\x2db.mount/cpu.stat>, ""..., 8192, 0) = 97
close(34</sys/fs/cgroup/a\\x2db.mount/cpu.stat>) = 0
newfstatat(36</proc>, "17/fd", {st_mode=S_IFDIR|0500, st_size=4, ...}, 0) = 0
openat(AT_FDCWD</>, "/proc/sys/kernel/osrelease", O_RDONLY|O_CLOEXEC) = 34</proc/sys/kernel/osrelease>
statx(34</proc/sys/kernel/osrelease>, "", AT_EMPTY_PATH, STATX_ALL, {stx_size=0, ...}) = 0
read(34</proc/sys/kernel/osrelease>, ""..., 32) = 16
read(34</proc/sys/kernel/osrelease>, "", 32) = 0
close(34</proc/sys/kernel/osrelease>)   = 0
statfs("/srv/with space", {f_type=EXT2_SUPER_MAGIC, f_bsize=4096, ...}) = 0
recvmsg(20<socket:[3829420]>, {msg_namelen=0}, 0) = -1 EAGAIN (Resource temporarily unavailable)
read(9<anon_inode:[eventfd]>, ""..., 8) = 8
--- SIGCHLD {si_signo=SIGCHLD} ---
+++ exited with 0 +++
"#;

    #[test]
    fn what_is_read_is_told_from_a_trace_and_the_rest_is_counted() {
        let mut plan = Plan::new(7_314, 4.0);
        plan.take(TRACE);
        plan.take(TRACE);
        let want = "kept\t0.50000\t-\t/proc/self/net/dev\n\
            kept\t0.50000\t-\t/proc/self/statm\n\
            opened\t0.50000\t-\t/proc/sys/kernel/osrelease\n\
            opened\t0.50000\t/proc\t17/stat\n\
            opened\t0.50000\t/sys/fs/cgroup/a\\x2db.mount\tcpu.stat\n\
            listed\t0.50000\t-\t/proc\n\
            sized\t0.50000\t/proc\t17/fd\n\
            room\t0.50000\t-\t/srv/with space\n";
        assert_eq!(plan.text(), want);
        assert_eq!(plan.per_second(), [("kept", 1.0), ("opened", 1.5), ("listed", 0.5), ("sized", 0.5), ("room", 0.5)]);
        let left_out = plan.left_out();
        assert_eq!(left_out.len(), 5, "{left_out:?}");
        assert!(
            left_out.contains(&("reads of other files", 0.5)) && left_out.contains(&("questions for the clock", 0.5))
        );
        assert!(left_out.contains(&("opens of what is not there", 0.5)), "{left_out:?}");
    }

    #[test]
    fn the_floor_reads_a_plan_and_says_what_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/floor.c");
        let floor = folder.path().join("floor");
        let built =
            Command::new("cc").args(["-O2", "-Wall", "-Werror", "-o"]).args([&floor, &source]).status().unwrap();
        assert!(built.success());
        let plan = folder.path().join("plan");
        let check = |text: &str| {
            std::fs::write(&plan, text).unwrap();
            Command::new(&floor).arg(&plan).arg("check").output().unwrap()
        };
        let mut read = Plan::new(7_314, 4.0);
        read.take(&TRACE.replace("17/", "self/").replace("a\\\\x2db.mount", "nowhere"));
        let said = check(&read.text());
        assert_eq!(String::from_utf8_lossy(&said.stdout), "8 entries, 2 are not there\n", "{said:?}");
        let said = check("kept\t1\t-\n");
        assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("line 1"), "{said:?}");
    }
}
