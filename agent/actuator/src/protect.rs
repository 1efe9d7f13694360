//! The units that are never touched, whatever root's file or a policy allows.
//!
//! What a host needs to be reached, logged in to and repaired by a person, and Mainstay itself. Root's file adds to the
//! list and cannot take from it.

use crate::glob::Glob;

/// Globs on unit names. Each names a way in, a way to see what happened, or what everything else stands on.
pub const ALWAYS_PROTECTED: &[&str] = &[
    // The manager and what it needs; journald, logind, networkd, resolved and udevd are among these.
    "init.scope",
    "-.mount",
    "-.slice",
    "system.slice",
    "user.slice",
    "systemd-*",
    "dbus*",
    "polkit*",
    // Ways in.
    "ssh*",
    "dropbear*",
    "getty*",
    "serial-getty*",
    "console-getty*",
    "container-getty*",
    "user@*",
    "user-runtime-dir@*",
    "session-*",
    "rescue*",
    "emergency*",
    "debug-shell*",
    // The network that a person comes in over.
    "networking.service",
    "network*",
    "NetworkManager*",
    "wpa_supplicant*",
    "ifup@*",
    "cloud-init*",
    "cloud-config*",
    "cloud-final*",
    // Whole-system states: starting one of these is a reboot, a halt or a loss of everything else.
    "*.target",
    "*.slice",
    "*.scope",
    "*.mount",
    "*.automount",
    "*.swap",
    "*.device",
    // Mainstay itself.
    "mainstay-*",
];

/// The pattern that protects a unit, if one does.
#[must_use]
pub fn protecting_pattern<'p>(unit: &str, more: &'p [Glob]) -> Option<&'p str> {
    let always = ALWAYS_PROTECTED.iter().copied().find(|pattern| glob_matches(pattern, unit));
    always.or_else(|| more.iter().find(|glob| glob.matches(unit.as_bytes())).map(Glob::as_str))
}

fn glob_matches(pattern: &str, unit: &str) -> bool {
    Glob::new(pattern).is_some_and(|glob| glob.matches(unit.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_in_are_protected_and_services_are_not() {
        for unit in ["sshd.service", "ssh.socket", "systemd-journald.service", "dbus-broker.service", "reboot.target"] {
            assert!(protecting_pattern(unit, &[]).is_some(), "{unit}");
        }
        for unit in ["user@1000.service", "mainstay-agent.service", "getty@tty1.service", "NetworkManager.service"] {
            assert!(protecting_pattern(unit, &[]).is_some(), "{unit}");
        }
        for unit in ["nginx.service", "postgresql@15-main.service", "cron.service", "backup.timer"] {
            assert_eq!(protecting_pattern(unit, &[]), None, "{unit}");
        }
    }

    #[test]
    fn roots_file_adds_to_the_list() {
        let more = [Glob::new("postgresql@*").unwrap()];
        assert_eq!(protecting_pattern("postgresql@15-main.service", &more), Some("postgresql@*"));
    }
}
