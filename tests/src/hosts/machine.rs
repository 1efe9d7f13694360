//! A whole machine with its own kernel, emulated by qemu: for memory limits, a real OOM kill and a reboot, which
//! namespaces cannot show.
//!
//! It is some ten times slower than the machine it runs on, so a test does as much as it can in one boot and times
//! nothing. The machine runs one script at every boot and talks through its serial line: what the script prints as
//! `MACHINE: …` reaches the test as it comes. It has no network.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::base::Base;
use super::command::{must, run};
use super::fleet::new_run_name;
use super::sweep;
use super::wait::wait_until;

/// What a line for the test begins with.
const MARK: &str = "MACHINE: ";

/// Memory of the machine in MiB: enough for Debian, little enough to be filled quickly under emulation.
const MEMORY_MIB: u32 = 768;

/// Runs the script at every boot, when the system is up.
const UNIT: &str = "\
[Unit]
Description=What the test does on this machine
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/bin/bash /test-script
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
";

/// A machine, off until [`Machine::boot`]. Dropping it pulls its plug and removes it.
#[derive(Debug)]
pub struct Machine {
    dir: PathBuf,
    boots: u32,
    running: Option<Child>,
    /// The lock that says this run is alive. Last, so that it is dropped last.
    _owner: File,
}

impl Machine {
    /// Makes a machine with these packages installed, these files (path, content) in place, and `script` to run at every
    /// boot.
    ///
    /// # Errors
    /// When the disk cannot be made; no qemu or kernel is named.
    pub fn make(debs: &[PathBuf], files: &[(&str, &str)], script: &str) -> Result<Self> {
        sweep::sweep()?;
        let base = Base::with_packages(&["udev"])?;
        let (dir, owner) = sweep::claim(&new_run_name()?)?;
        let machine = Self { dir, boots: 0, running: None, _owner: owner };
        let root = machine.dir.join("root");
        must("cp", &["-a", &base.path().to_string_lossy(), &root.to_string_lossy()])?;
        install(&root, debs)?;
        let unit = ("etc/systemd/system/machine-test.service", UNIT);
        for (path, content) in files.iter().chain([&unit, &("test-script", script)]) {
            let path = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().context("a file has a folder")?)?;
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
        // `Type=oneshot` wanted by the target that it waits for: pulled in, not waited for.
        let wants = root.join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants)?;
        std::os::unix::fs::symlink("../machine-test.service", wants.join("machine-test.service"))?;
        let disk = machine.disk();
        must("truncate", &["-s", "2G", &disk.to_string_lossy()])?;
        must("mkfs.ext4", &["-q", "-d", &root.to_string_lossy(), &disk.to_string_lossy()])?;
        fs::remove_dir_all(&root).context("cannot remove the machine's folder")?;
        Ok(machine)
    }

    /// Switches it on. It is off again when its script says `poweroff` or `reboot`; booting it once more is the reboot.
    ///
    /// # Errors
    /// When qemu or a kernel is missing.
    pub fn boot(&mut self) -> Result<()> {
        ensure!(self.running.is_none(), "the machine is on already");
        self.boots += 1;
        let kernel = newest_in_boot("vmlinuz-")?;
        let initrd = newest_in_boot("initrd.img-")?;
        let line = "console=ttyS0 root=/dev/vda rw quiet mitigations=off systemd.mask=serial-getty@ttyS0.service";
        let child = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", &MEMORY_MIB.to_string()])
            .args(["-display", "none", "-monitor", "none", "-no-reboot", "-nic", "none", "-append", line])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initrd)
            .args(["-drive", &format!("file={},format=raw,if=virtio", self.disk().display())])
            .args(["-serial", &format!("file:{}", self.serial().display())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.dir.join("qemu.log"))?)
            .spawn()
            .context("cannot start qemu-system-x86_64 (apt-get install qemu-system-x86)")?;
        self.running = Some(child);
        Ok(())
    }

    /// Waits until the script has said `line`, and returns everything it has said on this boot.
    ///
    /// # Errors
    /// After `deadline`, or when the machine is off without having said it; the end of its serial line is in the error.
    pub fn wait_for(&mut self, line: &str, deadline: Duration) -> Result<Vec<String>> {
        let serial = self.serial();
        let child = self.running.as_mut().context("the machine is off")?;
        let mut off = false;
        let said = wait_until(deadline, &format!("the machine to say `{line}`"), || {
            // Looked at before the line is read: what it said last is not missed.
            off = child.try_wait()?.is_some();
            let said = said_in(&fs::read(&serial).unwrap_or_default());
            Ok((off || said.iter().any(|one| one == line)).then_some(said))
        });
        let tail = || tail(&serial);
        let said = said.with_context(tail)?;
        ensure!(said.iter().any(|one| one == line), "the machine is off and never said `{line}`\n{}", tail());
        Ok(said)
    }

    /// Waits until the machine has switched itself off.
    ///
    /// # Errors
    /// When it has not by `deadline`.
    pub fn wait_off(&mut self, deadline: Duration) -> Result<()> {
        let serial = self.serial();
        let child = self.running.as_mut().context("the machine is off")?;
        wait_until(deadline, "the machine to switch itself off", || Ok(child.try_wait()?))
            .with_context(|| tail(&serial))?;
        self.running = None;
        Ok(())
    }

    fn disk(&self) -> PathBuf {
        self.dir.join("disk.img")
    }

    fn serial(&self) -> PathBuf {
        self.dir.join(format!("serial-{}.log", self.boots))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Err(error) = sweep::remove_run(&self.dir) {
            eprintln!("hosts: left-overs of {} stay: {error:#}", self.dir.display());
        }
    }
}

/// Installs packages into a root that is no running system: nothing is started.
fn install(root: &Path, debs: &[PathBuf]) -> Result<()> {
    for deb in debs {
        let name = deb.file_name().context("a package has a name")?;
        fs::copy(deb, root.join(name)).with_context(|| format!("cannot copy {}", deb.display()))?;
        let inside = Path::new("/").join(name);
        run(Command::new("chroot")
            .arg(root)
            .args(["dpkg", "-i"])
            .arg(&inside)
            .env("DEBIAN_FRONTEND", "noninteractive"))?
        .ok()?;
        fs::remove_file(root.join(name))?;
    }
    Ok(())
}

fn newest_in_boot(prefix: &str) -> Result<PathBuf> {
    let mut found: Vec<_> = fs::read_dir("/boot")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect();
    found.sort();
    found.pop().with_context(|| format!("no /boot/{prefix}* (apt-get install linux-image-cloud-amd64)"))
}

/// The lines for the test in what came over the serial line.
fn said_in(serial: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(serial)
        .lines()
        .filter_map(|line| Some(line.split_once(MARK)?.1.trim_end().to_owned()))
        .collect()
}

fn tail(serial: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(serial).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    format!("serial line, its end:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::said_in;

    #[test]
    fn hears_what_the_script_says_among_what_the_kernel_says() {
        let serial = b"[    0.1] Linux\r\nMACHINE: up=1\r\n[  3.0] oom\xff\r\n[  3.1] x MACHINE: done\r\nMACHINE: cut";
        assert_eq!(said_in(serial), ["up=1", "done", "cut"]);
    }
}
