//! Hosts that see each other, and an operator beside them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{FlockOperation, flock};

use super::base::Base;
use super::command::{self, Output};
use super::host::Host;
use super::{netns, packages, sweep};

/// The operator's place on the switch; hosts count up from 1.
const OPERATOR_NUMBER: u8 = 253;

/// Most hosts of one fleet: each has an address of its own below the operator's.
pub const HOSTS_MAX: usize = 250;

/// What this machine must have free before hosts are made: their disks are sparse and written to as they run.
const ROOM_MIN: u64 = 2 << 30;

/// What a fleet is made of.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Host names, in order of their addresses.
    pub names: Vec<String>,
    /// What the hosts stand on; `None` for the standard base.
    pub base: Option<Base>,
}

/// Booted hosts on one switch. Dropping it ends and removes all of it.
#[derive(Debug)]
pub struct Fleet {
    dir: PathBuf,
    hosts: Vec<Host>,
    operator: Operator,
    /// The lock that says this run is alive. Last, so that it is dropped last.
    owner: File,
}

impl Fleet {
    /// Boots `count` hosts named `host-1`, `host-2` …
    ///
    /// # Errors
    /// When a host does not come up; what was made is removed again.
    pub fn boot(count: usize) -> Result<Self> {
        let names = (1..=count).map(|number| format!("host-{number}")).collect::<Vec<_>>();
        Self::boot_with(FleetOptions { names, base: None })
    }

    /// Boots hosts with these names.
    ///
    /// # Errors
    /// As [`Fleet::boot`].
    pub fn boot_named(names: &[&str]) -> Result<Self> {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Self::boot_with(FleetOptions { names, base: None })
    }

    /// Boots a fleet as described, all hosts at once, after sweeping up what dead runs left.
    ///
    /// # Errors
    /// As [`Fleet::boot`].
    pub fn boot_with(options: FleetOptions) -> Result<Self> {
        ensure!(options.names.len() <= HOSTS_MAX, "a fleet has at most {HOSTS_MAX} hosts");
        sweep::sweep()?;
        let base = match options.base {
            Some(base) => base,
            None => Base::standard()?,
        };
        let run = new_run_name()?;
        let (dir, owner) = sweep::claim(&run)?;
        ensure_room(&dir)?;
        let operator = Operator { run: run.clone(), home: dir.join("operator") };
        let mut fleet = Self { dir, hosts: Vec::new(), operator, owner };
        fs::create_dir_all(&fleet.operator.home)?;
        netns::make_switch(&run)?;
        netns::plug(&run, "operator", OPERATOR_NUMBER)?;
        for (number, name) in (1..).zip(&options.names) {
            fleet.hosts.push(Host::make(&run, &fleet.dir, base.path(), name, number)?);
        }
        fleet.write_hosts_files()?;
        fleet.boot_all()?;
        Ok(fleet)
    }

    /// The host with this name.
    ///
    /// # Panics
    /// When there is none: the test is wrong.
    #[must_use]
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.name() == name).unwrap_or_else(|| panic!("no host {name} in this fleet"))
    }

    /// All hosts, in order.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The operator's seat.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Folder of this run; a signal handler can hand it to [`sweep::remove_run`].
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Leaves everything as a killed process leaves it: running, and owned by nobody.
    ///
    /// # Errors
    /// When the lock cannot be given up.
    pub fn abandon(self) -> Result<()> {
        let fleet = std::mem::ManuallyDrop::new(self);
        flock(&fleet.owner, FlockOperation::Unlock).context("cannot give the run up")
    }

    /// Hosts know each other by name: there is no DNS on the switch.
    fn write_hosts_files(&self) -> Result<()> {
        let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
        for host in &self.hosts {
            text.push_str(&format!("{} {}\n", host.address(), host.name()));
        }
        for host in &self.hosts {
            fs::write(self.dir.join("hosts").join(host.name()).join("root/etc/hosts"), &text)?;
        }
        Ok(())
    }

    fn boot_all(&self) -> Result<()> {
        on_all(&self.hosts, Host::boot)
    }
}

/// Says so before a host fails for want of room in a way that nobody understands.
fn ensure_room(dir: &Path) -> Result<()> {
    let disk = rustix::fs::statvfs(dir).with_context(|| format!("cannot ask for the room at {}", dir.display()))?;
    let free = disk.f_bavail * disk.f_frsize;
    ensure!(
        free >= ROOM_MIN,
        "{} MiB are free at {}, hosts need {}: make room there or set XDG_CACHE_HOME to another disk",
        free >> 20,
        dir.display(),
        ROOM_MIN >> 20
    );
    Ok(())
}

/// Does something on several hosts at once; the first error counts.
///
/// # Errors
/// What it met, and where a thread panicked.
pub fn on_all<'h>(
    hosts: impl IntoIterator<Item = &'h Host>,
    what: impl Fn(&'h Host) -> Result<()> + Sync,
) -> Result<()> {
    let what = &what;
    std::thread::scope(|scope| {
        let doing: Vec<_> = hosts.into_iter().map(|host| scope.spawn(move || what(host))).collect();
        doing.into_iter().try_for_each(|done| done.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Err(error) = sweep::remove_run(&self.dir) {
            // The next run's sweep tries again.
            eprintln!("hosts: {} is not fully removed: {error:#}", self.dir.display());
        }
        for host in &self.hosts {
            host.reap();
        }
    }
}

/// The operator: a namespace on the switch and a home folder, in which the `mainstay` command line runs.
#[derive(Debug)]
pub struct Operator {
    run: String,
    home: PathBuf,
}

impl Operator {
    /// Home folder: keys, certificates and policies of the operator lie here.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Address on the switch, where listeners of the operator are reached.
    #[must_use]
    pub fn address(&self) -> String {
        netns::address(OPERATOR_NUMBER)
    }

    /// The network namespace, as `ip netns` knows it.
    #[must_use]
    pub fn netns(&self) -> String {
        netns::space_name(&self.run, "operator")
    }

    /// Runs `mainstay args…` at the operator's seat.
    ///
    /// # Errors
    /// When the binary is not built.
    pub fn mainstay<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Output> {
        command::run(&mut self.mainstay_command(args)?)
    }

    /// Runs `mainstay args…` with `input` on its standard input.
    ///
    /// # Errors
    /// As [`Operator::mainstay`].
    pub fn mainstay_with_input<S: AsRef<OsStr>>(&self, args: &[S], input: &[u8]) -> Result<Output> {
        command::run_with_input(&mut self.mainstay_command(args)?, input)
    }

    /// `mainstay args…` at the operator's seat, to be started by the caller.
    ///
    /// # Errors
    /// As [`Operator::mainstay`].
    pub fn mainstay_command<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Command> {
        let mut command = self.command(packages::binary("mainstay")?);
        command.args(args);
        Ok(command)
    }

    /// Any program of this machine, in the operator's namespace and home.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", netns::space_path(&self.netns()).display())).arg("--").arg(program);
        command.current_dir(&self.home).env_clear().env("HOME", &self.home).env("LANG", "C.UTF-8").env("NO_COLOR", "1");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }
}

/// A name that no other run has: short, as it becomes part of namespace and machine names.
pub(super) fn new_run_name() -> Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").context("cannot read a random name")?;
    Ok(format!("ms{}", &uuid[..6]))
}
