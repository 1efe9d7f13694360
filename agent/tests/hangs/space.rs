//! Tests that need mounts or an environment of their own: run again as a process of their own.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;

use rustix::mount::{MountFlags, mount};

/// Set in the process that a test is run again in.
const AGAIN: &str = "MAINSTAY_TEST_AGAIN";

/// Runs the named test again as root in a mount namespace of its own; true there. Without root says that it is skipped.
pub(crate) fn in_own_mounts(test: &str) -> bool {
    if std::env::var_os(AGAIN).is_some() {
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} needs root");
        println!("SKIPPED {test}: needs root");
        return false;
    }
    let mut unshare = Command::new("unshare");
    run_again(unshare.args(["--mount", "--propagation", "private", "--"]).arg(std::env::current_exe().unwrap()), test);
    false
}

/// Runs the named test again with the system's bus at a socket of its own; gives the socket's path there.
pub(crate) fn with_own_bus(test: &str) -> Option<std::path::PathBuf> {
    if std::env::var_os(AGAIN).is_some() {
        let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap();
        return Some(address.strip_prefix("unix:path=").unwrap().into());
    }
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:path={}", folder.path().join("bus").display());
    run_again(Command::new(std::env::current_exe().unwrap()).env("DBUS_SYSTEM_BUS_ADDRESS", address), test);
    None
}

fn run_again(command: &mut Command, test: &str) {
    let status = command.args(["--exact", test, "--nocapture"]).env(AGAIN, "1").status().unwrap();
    assert!(status.success(), "{test} failed in a process of its own");
}

/// Mounts a filesystem whose server never answers. While the file is open, whoever asks it anything waits; once it is
/// closed they get an error.
pub(crate) fn dead_mount(at: &Path) -> File {
    let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let options = CString::new(options).unwrap();
    mount("server:/export", at, "fuse", MountFlags::empty(), &*options).unwrap();
    device
}

/// Mounts a filesystem of so many bytes.
pub(crate) fn small_disk(at: &Path, bytes: u64) {
    let options = CString::new(format!("size={bytes}")).unwrap();
    mount("small", at, "tmpfs", MountFlags::empty(), &*options).unwrap();
}
