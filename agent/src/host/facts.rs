//! What is known of a host once per start: its name, boot, kernel and system.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mainstay_core::id::BootId;
use mainstay_core::sample::HostFacts;

/// Reads the facts below `root` (`/` on a real host). What cannot be read is empty.
#[must_use]
pub fn read(root: &Path, labels: &BTreeMap<String, String>) -> HostFacts {
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default().trim().to_owned();
    HostFacts {
        hostname: text("proc/sys/kernel/hostname"),
        boot: boot_id(root),
        kernel: text("proc/sys/kernel/osrelease"),
        os: pretty_name(&text("etc/os-release")).unwrap_or_else(|| "Linux".to_owned()),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: labels.clone(),
    }
}

/// This boot; all zeroes where the kernel does not say.
#[must_use]
pub fn boot_id(root: &Path) -> BootId {
    let text = fs::read_to_string(root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// The machine's id, as systemd keeps it; empty where it has none.
#[must_use]
pub fn machine_id(root: &Path) -> String {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let is_id = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ids = ["etc/machine-id", "var/lib/dbus/machine-id"].map(|path| read(path).trim().to_owned());
    ids.into_iter().find(|id| is_id(id)).unwrap_or_default()
}

fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_leaves_the_rest_empty() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/sys/kernel/random")).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("proc/sys/kernel/hostname"), "web-1\n").unwrap();
        fs::write(root.path().join("etc/os-release"), "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n").unwrap();
        let boot = "0f0e0d0c-0b0a-0908-0706-050403020100";
        fs::write(root.path().join("proc/sys/kernel/random/boot_id"), format!("{boot}\n")).unwrap();
        let facts = read(root.path(), &BTreeMap::from([("role".to_owned(), "web".to_owned())]));
        assert_eq!(facts.hostname, "web-1");
        assert_eq!(facts.os, "Debian GNU/Linux 12");
        assert_eq!(facts.boot.to_string(), boot);
        assert_eq!(facts.kernel, "");
        assert_eq!(facts.labels["role"], "web");
    }

    #[test]
    fn an_image_that_was_not_booted_yet_has_no_machine_id() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        assert_eq!(machine_id(root.path()), "");
        fs::write(root.path().join("etc/machine-id"), "uninitialized\n").unwrap();
        assert_eq!(machine_id(root.path()), "");
        let id = "0f0e0d0c0b0a09080706050403020100";
        fs::write(root.path().join("etc/machine-id"), format!("{id}\n")).unwrap();
        assert_eq!(machine_id(root.path()), id);
    }
}
