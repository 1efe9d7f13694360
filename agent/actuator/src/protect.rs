//! The units that are never touched, whatever root's file or a policy allows.
//!
//! What a host needs to be reached, logged in to and repaired by a person, and Mainstay itself. Root's file adds to the
//! list and cannot take from it.

use mainstay_core::policy::{Glob, PROTECTED_UNITS};

/// Globs on unit names, besides [`PROTECTED_UNITS`] of the policies. This list stands behind every policy, so it is wider:
/// more ways in, and whatever brings up the network that a person comes in over.
pub const MORE_PROTECTED: [&str; 22] = [
    "-.mount",
    "*.automount",
    "dbus*",
    "polkit*",
    "ssh*",
    "dropbear*",
    "getty*",
    "serial-getty*",
    "console-getty*",
    "container-getty*",
    "session-*",
    "rescue*",
    "emergency*",
    "debug-shell*",
    "network*",
    "NetworkManager*",
    "wpa_supplicant*",
    "ifup@*",
    "cloud-init*",
    "cloud-config*",
    "cloud-final*",
    "plymouth*",
];

/// The pattern that protects a unit, if one does.
#[must_use]
pub fn protecting_pattern<'p>(unit: &str, more: &'p [Glob]) -> Option<&'p str> {
    let always = PROTECTED_UNITS.into_iter().chain(MORE_PROTECTED).find(|pattern| glob_matches(pattern, unit));
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
