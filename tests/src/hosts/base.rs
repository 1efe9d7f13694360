//! The root filesystem that every host of a fleet stands on: Debian 12, made once, kept in the cache folder, never written to.
//!
//! In: package names. Out: a folder that is complete, or an error. Two runs at once build it once: the second waits for the
//! lock, and a build that was cut off leaves only a `.part` folder, which the next build removes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use super::command::{must, run};

/// Release under test: what the project's users run, and what the packages are built for.
const SUITE: &str = "bookworm";

/// Raised when the recipe in this file changes, so that bases made by an older one are not used.
const RECIPE: u32 = 4;

/// On every host: systemd and what the tests look with.
const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "procps",
    "iproute2",
    "nftables",
    "ca-certificates",
    "curl",
    "python3-minimal",
    "nginx-light",
];

/// Timers and services of Debian that would work on the disk or wait for a network during a test.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "systemd-networkd-wait-online.service",
    "systemd-timesyncd.service",
    "console-getty.service",
];

/// A finished root filesystem.
#[derive(Debug, Clone)]
pub struct Base {
    path: PathBuf,
}

impl Base {
    /// The base of the tests; made first if it is not there (about a minute, needs a Debian mirror).
    ///
    /// # Errors
    /// When debootstrap fails; its log is named.
    pub fn standard() -> Result<Self> {
        Self::with_packages(&[])
    }

    /// A base with more Debian packages, their services off. The benchmarks put the peers into theirs.
    ///
    /// # Errors
    /// As [`Base::standard`].
    pub fn with_packages(more: &[&str]) -> Result<Self> {
        let mut packages: Vec<&str> = PACKAGES.iter().chain(more).copied().collect();
        packages.sort_unstable();
        packages.dedup();
        let hash = Sha256::digest(format!("{SUITE} {RECIPE} {}", packages.join(",")));
        let name = format!("base-{}", hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>());
        let cache = super::cache_dir();
        fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let path = cache.join(&name);
        if path.exists() {
            return Ok(Self { path });
        }
        let lock = File::create(cache.join(format!("{name}.lock")))?;
        flock(&lock, FlockOperation::LockExclusive).context("cannot lock the base")?;
        if !path.exists() {
            match more {
                [] => build(&path, |part, log| bootstrap(part, log, &packages))?,
                _ => {
                    let standard = Self::standard()?;
                    build(&path, |part, log| extend(standard.path(), part, log, more))?;
                }
            }
        }
        Ok(Self { path })
    }

    /// The folder. Hosts see it as the lower layer of an overlay.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Fills a `.part` folder, then puts it in its place in one step.
fn build(path: &Path, fill: impl FnOnce(&Path, File) -> Result<()>) -> Result<()> {
    let part = path.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).context("cannot remove an unfinished base")?;
    }
    let log = path.with_extension("log");
    eprintln!("hosts: making {} (Debian {SUITE}, once)", path.display());
    fill(&part, File::create(&log)?).with_context(|| format!("see {}", log.display()))?;
    prepare(&part)?;
    fs::rename(&part, path).with_context(|| format!("cannot put {} in its place", path.display()))
}

fn bootstrap(part: &Path, log: File, packages: &[&str]) -> Result<()> {
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", &format!("--include={}", packages.join(",")), SUITE]).arg(part).arg(mirror());
    logged(command, log).context("is debootstrap installed?")
}

/// A copy of `standard` with more packages. Nothing is started: it is a folder, not a host.
fn extend(standard: &Path, part: &Path, log: File, more: &[&str]) -> Result<()> {
    must("cp", &["-a", &standard.to_string_lossy(), &part.to_string_lossy()])?;
    fs::copy("/etc/resolv.conf", part.join("etc/resolv.conf")).context("cannot give the base a resolver")?;
    let policy = part.join("usr/sbin/policy-rc.d");
    fs::write(&policy, "#!/bin/sh\nexit 101\n")?;
    must("chmod", &["755", &policy.to_string_lossy()])?;
    let mut update = Command::new("chroot");
    update.arg(part).args(["apt-get", "-qq", "update"]);
    logged(update, log.try_clone()?)?;
    let mut install = Command::new("chroot");
    install.arg(part).args(["apt-get", "-qq", "install", "-y", "--no-install-recommends"]).args(more);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    logged(install, log)?;
    fs::remove_file(policy).context("cannot remove policy-rc.d")
}

fn logged(mut command: Command, log: File) -> Result<()> {
    let status = command.stdout(log.try_clone()?).stderr(log).status()?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().to_string_lossy());
    }
    Ok(())
}

/// Makes a fresh Debian a quiet host: nothing on but systemd's own, no machine id, quick dpkg.
fn prepare(root: &Path) -> Result<()> {
    for target in ["multi-user", "default", "sockets", "timers"] {
        let wants = root.join(format!("etc/systemd/system/{target}.target.wants"));
        for entry in fs::read_dir(&wants).into_iter().flatten() {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "remote-fs.target" {
                fs::remove_file(entry.path())?;
            }
        }
    }
    // Services that still have a start script only: systemd would take them up at every boot.
    for level in ["rc2.d", "rc3.d", "rc4.d", "rc5.d"] {
        for entry in fs::read_dir(root.join("etc").join(level)).into_iter().flatten() {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('S') {
                fs::remove_file(entry.path())?;
            }
        }
    }
    for unit in MASKED {
        must("systemctl", &["--root", &root.to_string_lossy(), "mask", unit])?;
    }
    fs::write(root.join("etc/machine-id"), "")?;
    fs::write(root.join("etc/dpkg/dpkg.cfg.d/unsafe-io"), "force-unsafe-io\n")?;
    fs::write(root.join("etc/resolv.conf"), "")?;
    run(Command::new("chroot").arg(root).args(["apt-get", "clean"]))?.ok()?;
    Ok(())
}

/// The mirror that this machine uses itself, else Debian's.
fn mirror() -> String {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .find_map(|text| mirror_in(&text))
        .unwrap_or_else(|| "http://deb.debian.org/debian".to_owned())
}

/// First address in an apt source file that ends in `/debian`: other archives hold no suite to bootstrap.
fn mirror_in(text: &str) -> Option<String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.starts_with("http") && word.ends_with("/debian"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::mirror_in;

    #[test]
    fn takes_the_mirror_of_the_machine_and_no_other_archive() {
        let deb822 =
            "Types: deb\n# http://snapshot.debian.org/debian\nURIs: http://mirror.example/debian/\nSuites: bookworm\n";
        assert_eq!(mirror_in(deb822).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(mirror_in("deb http://packages.example/apt cloud main\n"), None);
        assert_eq!(
            mirror_in("deb http://a.example/debian bookworm main\n").as_deref(),
            Some("http://a.example/debian")
        );
    }
}
