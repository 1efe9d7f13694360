//! `/proc/PID/cgroup`, and what the path of a cgroup says: whose it is.

use super::lines;

/// Names of units end in one of these; slices only group them.
const UNIT_SUFFIXES: [&str; 6] = [".service", ".scope", ".socket", ".mount", ".swap", ".slice"];

/// The path of cgroup v2: the line that begins with `0::`.
#[must_use]
pub fn v2(bytes: &[u8]) -> Option<&[u8]> {
    lines(bytes).find_map(|(_, line)| line.strip_prefix(b"0::"))
}

/// The unit of the system's manager that a cgroup belongs to: the first part of its path that is no slice. A path of
/// slices only belongs to the last of them. `None` where no unit stands in it, as in the root.
#[must_use]
pub fn unit(path: &str) -> Option<&str> {
    let mut slice = None;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let is_unit = UNIT_SUFFIXES.iter().any(|suffix| part.len() > suffix.len() && part.ends_with(suffix));
        match (is_unit, part.ends_with(".slice")) {
            (true, true) => slice = Some(part),
            (true, false) => return Some(part),
            // What is below no unit of the manager's is not the manager's.
            (false, _) => break,
        }
    }
    slice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_version_two_is_found_among_those_of_version_one() {
        assert_eq!(v2(include_bytes!("fixtures/pid_cgroup.hybrid.txt")), Some(&b"/system.slice/cron.service"[..]));
        assert_eq!(
            v2(include_bytes!("fixtures/pid_cgroup.v2.txt")),
            Some(&b"/user.slice/user-0.slice/session-1.scope"[..])
        );
        assert_eq!(v2(b"1:name=systemd:/\n"), None);
        assert_eq!(v2(b"0::\n"), Some(&b""[..]));
    }

    #[test]
    fn a_cgroup_belongs_to_the_first_unit_that_is_no_slice() {
        for (path, of) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/app.service/worker", Some("app.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("/user.slice/user-0.slice/session-1.scope", Some("session-1.scope")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service", Some("user@1000.service")),
            ("/machine.slice/libpod-0f.scope/container", Some("libpod-0f.scope")),
            ("/init.scope", Some("init.scope")),
            ("/system.slice", Some("system.slice")),
            ("/docker/0f1e", None),
            ("/.service", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(unit(path), of, "{path}");
        }
    }
}
