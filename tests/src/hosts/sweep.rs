//! Removes everything that a run of hosts made: processes, mounts, loop devices, namespaces, cgroups, files.
//!
//! One road for the orderly end, for a panic and for what a killed run left. A run is dead when nobody holds the lock on its
//! `owner` file; the kernel drops that lock with the process, so no PID can be mistaken.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use super::command::must;
use super::netns;
use super::wait::wait_for;

/// Longest that killed processes may take to be gone; one in a dead filesystem call can take its time.
const KILL_MAX: Duration = Duration::from_secs(20);

/// Folder of all runs.
#[must_use]
pub fn runs_dir() -> PathBuf {
    super::cache_dir().join("fleets")
}

/// Makes the folder of a new run and marks it as owned by this process until the returned file is dropped.
///
/// # Errors
/// When the cache folder cannot be written.
pub fn claim(run: &str) -> Result<(PathBuf, File)> {
    let _guard = lock_runs()?;
    let dir = runs_dir().join(run);
    fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let owner = File::create(dir.join("owner"))?;
    flock(&owner, FlockOperation::NonBlockingLockExclusive).context("a new run has no other owner")?;
    Ok((dir, owner))
}

/// Cleans up after every dead run. A run that cannot be cleaned is left for the next sweep and named on standard error.
///
/// # Errors
/// When the cache folder cannot be read.
pub fn sweep() -> Result<()> {
    let _guard = lock_runs()?;
    for entry in fs::read_dir(runs_dir())? {
        let dir = entry?.path();
        let Ok(owner) = File::open(dir.join("owner")) else {
            continue;
        };
        if flock(&owner, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        if let Err(error) = remove_run(&dir) {
            eprintln!("hosts: left-overs of {} stay: {error:#}", dir.display());
        }
    }
    Ok(())
}

/// Ends and removes one run, whatever state it is in.
///
/// # Errors
/// Names the first thing that could not be removed; the rest has been tried all the same.
pub fn remove_run(dir: &Path) -> Result<()> {
    let run = dir.file_name().context("a run has a name")?.to_string_lossy().into_owned();
    let steps = [
        cgroup_of(&run).and_then(|cgroup| remove_cgroup(&cgroup)),
        unmount(dir),
        detach_loops(dir),
        remove_spaces(&run),
        remove_propagation(&run),
    ];
    for step in steps {
        step?;
    }
    fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}

/// Where the cgroups of a run live: under the root of the unified hierarchy, wherever that is mounted.
///
/// # Errors
/// When the machine has no cgroup v2.
pub fn cgroup_of(run: &str) -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let root = mounts
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.get(2) == Some(&"cgroup2"))
        .context("no cgroup2 is mounted on this machine")?;
    Ok(Path::new(root[1]).join(format!("mainstay-{run}")))
}

/// Kills every process in a cgroup and below, waits until they are gone, and removes the tree. Absent is fine.
///
/// # Errors
/// When processes stay.
pub fn remove_cgroup(cgroup: &Path) -> Result<()> {
    if !cgroup.exists() {
        return Ok(());
    }
    fs::write(cgroup.join("cgroup.kill"), "1").context("cannot kill a cgroup (kernel before 5.14?)")?;
    wait_for(KILL_MAX, &format!("the processes in {} to end", cgroup.display()), || {
        Ok(fs::read_to_string(cgroup.join("cgroup.events"))?.contains("populated 0"))
    })?;
    remove_tree(cgroup)
}

fn remove_tree(cgroup: &Path) -> Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup).with_context(|| format!("cannot remove {}", cgroup.display()))
}

/// Takes down every mount at or below `dir`, the latest first.
fn unmount(dir: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let inside =
        mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|at| Path::new(at).starts_with(dir));
    for mountpoint in inside {
        must("umount", &["--lazy", mountpoint])?;
    }
    Ok(())
}

/// Frees loop devices whose image lies in `dir`; those that were mounted free themselves.
fn detach_loops(dir: &Path) -> Result<()> {
    for line in must("losetup", &["--list", "--noheadings", "--output", "NAME,BACK-FILE"])?.lines() {
        let mut words = line.split_whitespace();
        if let (Some(device), Some(image)) = (words.next(), words.next())
            && Path::new(image).starts_with(dir)
        {
            must("losetup", &["--detach", device])?;
        }
    }
    Ok(())
}

fn remove_spaces(run: &str) -> Result<()> {
    let prefix = netns::space_name(run, "");
    for entry in fs::read_dir("/run/netns").into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&prefix) {
            must("ip", &["netns", "delete", &name])?;
        }
    }
    Ok(())
}

/// Empty folders that a killed nspawn leaves under /run.
fn remove_propagation(run: &str) -> Result<()> {
    let prefix = netns::space_name(run, "");
    for entry in fs::read_dir("/run/systemd/nspawn/propagate").into_iter().flatten() {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Held while runs are made or judged, so that nobody takes a run for dead between its folder and its lock.
fn lock_runs() -> Result<File> {
    let dir = runs_dir();
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let lock = File::create(dir.with_extension("lock"))?;
    flock(&lock, FlockOperation::LockExclusive).context("cannot lock the folder of runs")?;
    Ok(lock)
}
