//! One real host: a Debian with its own PID 1, started by systemd-nspawn over an overlay of the [`Base`](super::Base).
//!
//! Commands enter it by `nsenter`. Its disk outlives its power: [`Host::kill_power`] and [`Host::boot`] again is a crash.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::command::{self, Output, must};
use super::netns::{self, Cable};
use super::sweep;
use super::wait::{wait_for, wait_until};

/// Longest a host may take from power to `running`; alone it needs under one second, beside a full build more.
const BOOT_MAX: Duration = Duration::from_secs(90);

/// Size of a host's own disk. The image is sparse: it takes what the host has written.
const DISK_MIB: u64 = 8192;

/// Longest an orderly end may take before it counts as hung.
const POWEROFF_MAX: Duration = Duration::from_secs(60);

/// A host of a fleet.
#[derive(Debug)]
pub struct Host {
    run: String,
    name: String,
    number: u8,
    dir: PathBuf,
    power: Mutex<Option<Power>>,
}

/// The processes that are the host while it is on.
#[derive(Debug)]
struct Power {
    nspawn: Child,
    /// The host's PID 1, as this machine numbers it.
    leader: u32,
}

impl Host {
    /// Makes the disk and the network of a host, and leaves it off.
    pub(super) fn make(run: &str, run_dir: &Path, base: &Path, name: &str, number: u8) -> Result<Self> {
        let dir = run_dir.join("hosts").join(name);
        for part in ["disk", "root", "disks"] {
            fs::create_dir_all(dir.join(part))?;
        }
        // A disk of its own, or a host would find the disk of this machine full.
        let (image, disk) = (dir.join("disk.img"), dir.join("disk"));
        make_image(&image, DISK_MIB)?;
        must("mount", &["-o", "loop", &image.to_string_lossy(), &disk.to_string_lossy()])?;
        for part in ["upper", "work"] {
            fs::create_dir(disk.join(part))?;
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            base.display(),
            disk.join("upper").display(),
            disk.join("work").display()
        );
        must("mount", &["-t", "overlay", "overlay", "-o", &layers, &dir.join("root").to_string_lossy()])?;
        let etc = dir.join("root/etc");
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        // Not empty, or every boot would be a first boot and turn on what the base has turned off.
        fs::write(etc.join("machine-id"), format!("{}\n", uuid.trim().replace('-', "")))?;
        fs::write(etc.join("hostname"), format!("{name}\n"))?;
        netns::plug(run, name, number)?;
        Ok(Self { run: run.to_owned(), name: name.to_owned(), number, dir, power: Mutex::new(None) })
    }

    /// Host name, as the host itself knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the fleet's switch.
    #[must_use]
    pub fn address(&self) -> String {
        netns::address(self.number)
    }

    /// Its network namespace, as `ip netns` knows it.
    #[must_use]
    pub fn netns(&self) -> String {
        netns::space_name(&self.run, &self.name)
    }

    /// Turns the host on and waits until systemd says `running`.
    ///
    /// # Errors
    /// When it is on already, does not come up, or comes up with failed units (they are named).
    pub fn boot(&self) -> Result<()> {
        let mut power = self.power.lock().expect("no panic while power is switched");
        ensure!(power.is_none(), "host {} is on already", self.name);
        let mut nspawn = self.start_nspawn()?;
        let leader = wait_until(BOOT_MAX, &format!("PID 1 of {}", self.name), || {
            if let Some(status) = nspawn.try_wait()? {
                bail!("systemd-nspawn ended with {status}; {}", self.console_tail());
            }
            Ok(leader_of(nspawn.id()))
        })?;
        *power = Some(Power { nspawn, leader });
        drop(power);
        let state = wait_until(BOOT_MAX, &format!("{} to be up", self.name), || {
            let state = self.run("systemctl is-system-running")?.stdout.trim().to_owned();
            Ok(matches!(state.as_str(), "running" | "degraded").then_some(state))
        })
        .with_context(|| self.console_tail())?;
        if state == "degraded" {
            bail!("{} came up degraded:\n{}", self.name, self.run("systemctl --failed --no-legend")?.stdout);
        }
        Ok(())
    }

    /// Ends the host in order, as an operator would.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn power_off(&self) -> Result<()> {
        self.run("systemctl poweroff --no-block")?;
        self.wait_for_end()
    }

    /// Cuts the power: every process is gone at once, what was not yet written by a process is lost.
    /// The machine's page cache survives, so this shows lost steps, not lost disk writes.
    ///
    /// # Errors
    /// When the host was off.
    pub fn kill_power(&self) -> Result<()> {
        let leader = Pid::from_raw(i32::try_from(self.leader()?)?).context("a leader has a PID")?;
        kill_process(leader, Signal::KILL).context("cannot kill the host's PID 1")?;
        self.wait_for_end()
    }

    /// Runs a shell script in the host as root, with a plain environment.
    ///
    /// # Errors
    /// When the host is off.
    pub fn run(&self, script: &str) -> Result<Output> {
        command::run(&mut self.command(script)?)
    }

    /// Runs a shell script and asks for success; gives its standard output.
    ///
    /// # Errors
    /// When the host is off or the script failed: what it said is in the error.
    pub fn must(&self, script: &str) -> Result<String> {
        self.run(script)?.ok().with_context(|| format!("on {}", self.name))
    }

    /// Runs a shell script with `input` on its standard input.
    ///
    /// # Errors
    /// When the host is off.
    pub fn run_with_input(&self, script: &str, input: &[u8]) -> Result<Output> {
        command::run_with_input(&mut self.command(script)?, input)
    }

    /// Starts a script that goes on beside the test, in a unit of its own inside the host, and gives the unit's name.
    ///
    /// # Errors
    /// When systemd refuses it.
    pub fn start(&self, unit: &str, script: &str) -> Result<()> {
        let script = script.replace('\'', "'\\''");
        self.must(&format!("systemd-run --quiet --unit={unit} --collect -- sh -c '{script}'"))?;
        Ok(())
    }

    /// Writes a file in the host, making the folders above it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn push_file(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        self.run_with_input(&format!("install -D -m {mode:o} /dev/stdin '{path}'"), content.as_ref())?.ok()?;
        Ok(())
    }

    /// Copies a file of this machine into the host.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn copy_in(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.push_file(to, content, mode)
    }

    /// Copies a package in and installs it with dpkg, keeping changed config files, as an operator's upgrade does.
    ///
    /// # Errors
    /// When dpkg or a maintainer script fails; its whole output is in the error.
    pub fn install_deb(&self, deb: &Path) -> Result<String> {
        let name = deb.file_name().context("a package has a file name")?.to_string_lossy();
        let there = format!("/var/cache/{name}");
        self.copy_in(deb, &there, 0o644)?;
        self.must(&format!(
            "DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i '{there}' 2>&1; rc=$?; rm '{there}'; exit $rc"
        ))
    }

    /// Puts a new, empty ext4 disk of `mib` MiB at `mountpoint`: a disk that really fills.
    ///
    /// # Errors
    /// When there is no free loop device or the mount fails.
    pub fn disk(&self, mib: u64, mountpoint: &str) -> Result<()> {
        let image = self.dir.join("disks").join(format!("{}.img", mountpoint.trim_matches('/').replace('/', "-")));
        make_image(&image, mib)?;
        let device = must("losetup", &["--find", "--show", &image.to_string_lossy()])?;
        let minor = device.strip_prefix("/dev/loop").context("losetup names a loop device")?.to_owned();
        // The host's /dev has no loop devices; a node of its own for the time of the mount is enough.
        let script = format!(
            "mkdir -p '{mountpoint}' && mknod /dev/new-disk b 7 {minor} && mount /dev/new-disk '{mountpoint}'; rc=$?; rm -f /dev/new-disk; exit $rc"
        );
        let leader = self.leader()?.to_string();
        let mounted = must("nsenter", &["-t", &leader, "-m", "--", "sh", "-c", &script]);
        // From here on the device goes when the last mount of it goes.
        must("losetup", &["--detach", &device])?;
        mounted.map(drop)
    }

    /// Takes the host's network cable out.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn partition(&self) -> Result<()> {
        netns::set_port(&self.run, self.number, Cable::Out)
    }

    /// Puts the host's network cable back in.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn heal(&self) -> Result<()> {
        netns::set_port(&self.run, self.number, Cable::In)
    }

    /// A property of a unit, as systemd shows it.
    ///
    /// # Errors
    /// When systemctl fails.
    pub fn unit_property(&self, unit: &str, property: &str) -> Result<String> {
        self.must(&format!("systemctl show --value -p {property} '{unit}'"))
    }

    /// Waits until a unit is in `state` (`ActiveState`).
    ///
    /// # Errors
    /// After `deadline`, with the unit's status.
    pub fn wait_unit(&self, unit: &str, state: &str, deadline: Duration) -> Result<()> {
        wait_for(deadline, &format!("{unit} on {} to be {state}", self.name), || {
            let now = self.unit_property(unit, "ActiveState")?;
            if now == state { Ok(true) } else { bail!("it is {now}") }
        })
    }

    /// The last lines of the host's journal, for error texts.
    #[must_use]
    pub fn journal_tail(&self, unit: &str) -> String {
        let script = format!("journalctl --no-pager -q -o short-precise -n 60 -u '{unit}'");
        self.run(&script).map_or_else(|error| format!("{error:#}"), |output| output.stdout)
    }

    /// What the agent on this host says of itself and its last steps, for error texts.
    #[must_use]
    pub fn agent_story(&self) -> String {
        let status =
            self.run("mainstay-agent status 2>&1").map_or_else(|error| format!("{error:#}"), |said| said.stdout);
        format!("agent of {}:\n{status}\n{}", self.name, self.journal_tail("mainstay-agent"))
    }

    /// PID of the host's init as this machine numbers it.
    ///
    /// # Errors
    /// When the host is off.
    pub fn leader(&self) -> Result<u32> {
        let power = self.power.lock().expect("no panic while power is switched");
        power.as_ref().map(|power| power.leader).with_context(|| format!("host {} is off", self.name))
    }

    /// Takes note of an end that somebody else has brought about.
    pub(super) fn reap(&self) {
        if let Ok(mut power) = self.power.lock()
            && let Some(mut on) = power.take()
        {
            // Killed already; a zombie is all that is left. One that cannot be waited for goes with this process.
            let _ = on.nspawn.try_wait();
        }
    }

    fn command(&self, script: &str) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.leader()?.to_string(), "-a", "--", "sh", "-c", script]);
        command.env_clear().envs(plain_environment());
        Ok(command)
    }

    fn start_nspawn(&self) -> Result<Child> {
        let cgroup = sweep::cgroup_of(&self.run)?.join(&self.name);
        sweep::remove_cgroup(&cgroup)?;
        fs::create_dir_all(&cgroup)?;
        let machine = netns::space_name(&self.run, &self.name);
        let log = File::create(self.dir.join("console.log"))?;
        // A cgroup of its own for each host: they would else share the caller's, and could not be ended as a whole.
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ > \"$0\" && exec systemd-nspawn \"$@\""])
            .arg(cgroup.join("cgroup.procs"))
            .arg(format!("--directory={}", self.dir.join("root").display()))
            .arg(format!("--machine={machine}"))
            .arg(format!("--hostname={}", self.name))
            .arg(format!("--network-namespace-path={}", netns::space_path(&machine).display()))
            .args(["--boot", "--register=no", "--keep-unit", "--console=pipe", "--quiet"])
            .args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"])
            .arg("--capability=CAP_NET_ADMIN,CAP_SYS_PTRACE")
            .env_clear()
            .envs(plain_environment())
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // Not in the terminal's process group: Ctrl-C is for the test, which then ends its hosts in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().context("cannot start systemd-nspawn (apt-get install systemd-container)")
    }

    fn wait_for_end(&self) -> Result<()> {
        let mut power = self.power.lock().expect("no panic while power is switched");
        let on = power.as_mut().with_context(|| format!("host {} is off", self.name))?;
        wait_for(POWEROFF_MAX, &format!("{} to end", self.name), || Ok(on.nspawn.try_wait()?.is_some()))?;
        *power = None;
        Ok(())
    }

    fn console_tail(&self) -> String {
        let log = fs::read_to_string(self.dir.join("console.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("console of {}:\n{}", self.name, lines[lines.len().saturating_sub(30)..].join("\n"))
    }
}

/// A new, empty ext4 filesystem in a sparse file. No blocks are reserved: used% is then what a reader of df expects.
fn make_image(image: &Path, mib: u64) -> Result<()> {
    File::create_new(image)?.set_len(mib * 1024 * 1024)?;
    must("mkfs.ext4", &["-q", "-m", "0", &image.to_string_lossy()]).map(drop)
}

/// What a command in a host sees of an environment, whatever the test was started with.
fn plain_environment() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("SYSTEMD_PAGER", ""),
    ])
}

/// The host's PID 1: the child of nspawn that is PID 1 of a namespace of its own. While nspawn is still setting up, none is.
fn leader_of(nspawn: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    children.split_whitespace().filter_map(|word| word.parse().ok()).find(|pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let is_init = inner
            .is_some_and(|pids| pids.split_whitespace().last() == Some("1") && pids.split_whitespace().count() > 1);
        is_init && status.lines().next() == Some("Name:\tsystemd")
    })
}
