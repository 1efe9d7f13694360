//! Units that are never acted on, whatever a policy says.

use super::Glob;
use crate::subject::UnitName;

/// What a host cannot be reached, or Mainstay cannot work, without; and unit types whose stop takes others along.
pub const PROTECTED_UNITS: [&str; 24] = [
    "systemd-*",
    "mainstay-*",
    "dbus.*",
    "dbus-broker.*",
    "ssh.*",
    "sshd.*",
    "ssh@*",
    "sshd@*",
    "init.scope",
    "user@*",
    "user-runtime-dir@*",
    "getty@*",
    "serial-getty@*",
    "polkit.service",
    "NetworkManager.service",
    "networking.service",
    "emergency.service",
    "rescue.service",
    "*.target",
    "*.mount",
    "*.swap",
    "*.slice",
    "*.scope",
    "*.device",
];

/// Whether a unit is on the list.
#[must_use]
pub fn is_protected(unit: &UnitName) -> bool {
    PROTECTED_UNITS.iter().filter_map(|glob| Glob::new(glob)).any(|glob| glob.matches(unit.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_hangs_on_is_protected() {
        for name in [
            "systemd-journald.service",
            "dbus.service",
            "dbus.socket",
            "sshd.service",
            "ssh.socket",
            "sshd@1.service",
            "mainstay-agent.service",
            "-.mount",
            "multi-user.target",
            "user@0.service",
            "system.slice",
        ] {
            assert!(is_protected(&name.parse().unwrap()), "{name}");
        }
        for name in ["nginx.service", "postgresql@15-main.service", "cron.service", "sshguard.service"] {
            assert!(!is_protected(&name.parse().unwrap()), "{name}");
        }
    }
}
