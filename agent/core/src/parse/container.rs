//! Containers by the paths of their cgroups. Each engine has its own way to name them; all name the id.

/// Digits of an id.
const ID_DIGITS: usize = 64;

/// Who runs a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Runtime {
    /// Docker, and what speaks its language.
    Docker,
    /// Podman.
    Podman,
    /// containerd, as Kubernetes uses it.
    Containerd,
    /// CRI-O.
    Crio,
    /// One of those that Kubernetes uses; which one the path does not say.
    Kubernetes,
}

impl Runtime {
    /// Every runtime.
    pub const ALL: [Self; 5] = [Self::Docker, Self::Podman, Self::Containerd, Self::Crio, Self::Kubernetes];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Crio => "cri-o",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// What a path says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerPath<'p> {
    /// Who runs it.
    pub runtime: Runtime,
    /// Its id.
    pub id: &'p str,
    /// The path of its own cgroup: what is below it belongs to it, containers within a container too.
    pub cgroup: &'p str,
}

/// Scopes that systemd makes for containers: what stands before the id.
const SCOPES: [(&str, Runtime); 5] = [
    ("docker-", Runtime::Docker),
    ("libpod-payload-", Runtime::Podman),
    ("libpod-", Runtime::Podman),
    ("cri-containerd-", Runtime::Containerd),
    ("crio-", Runtime::Crio),
];

/// The outermost container that a cgroup belongs to.
#[must_use]
pub fn container(path: &str) -> Option<ContainerPath<'_>> {
    let mut parent = "";
    let mut at = 0;
    for part in path.split('/') {
        let end = at + part.len();
        if let (Some((runtime, id)), Some(cgroup)) = (named(parent, part), path.get(..end)) {
            return Some(ContainerPath { runtime, id, cgroup });
        }
        (parent, at) = (part, end + 1);
    }
    None
}

/// Whether a folder of the hierarchy may hold containers, and is none itself. Everything else need not be looked into.
#[must_use]
pub fn may_hold(name: &str) -> bool {
    let is_pod = |name: &str| name.starts_with("pod");
    name.ends_with(".slice")
        || ["docker", "libpod_parent", "kubepods", "burstable", "besteffort"].contains(&name)
        || is_pod(name)
        // Containers of users lie below the managers of their sessions.
        || (name.starts_with("user@") && name.ends_with(".service"))
}

fn named<'p>(parent: &str, part: &'p str) -> Option<(Runtime, &'p str)> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    for (prefix, runtime) in SCOPES {
        if let Some(id) = name.strip_prefix(prefix).filter(|id| is_id(id)) {
            return Some((runtime, id));
        }
    }
    // Without systemd the id is the whole name.
    let runtime = match parent {
        "docker" => Runtime::Docker,
        pod if pod.starts_with("pod") => Runtime::Kubernetes,
        _ => return None,
    };
    is_id(part).then_some((runtime, part))
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

    #[test]
    fn every_engine_names_its_containers_in_its_own_way() {
        let slice = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1a_2b.slice";
        for (path, runtime) in [
            (format!("/system.slice/docker-{ID}.scope"), Runtime::Docker),
            (format!("/docker/{ID}"), Runtime::Docker),
            (format!("/machine.slice/libpod-{ID}.scope"), Runtime::Podman),
            (format!("/libpod_parent/libpod-{ID}"), Runtime::Podman),
            (format!("/system.slice/web.service/libpod-payload-{ID}"), Runtime::Podman),
            (format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"), Runtime::Podman),
            (format!("{slice}/cri-containerd-{ID}.scope"), Runtime::Containerd),
            (format!("{slice}/crio-{ID}.scope"), Runtime::Crio),
            (format!("/kubepods/burstable/pod1a-2b/{ID}"), Runtime::Kubernetes),
        ] {
            let found = container(&path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((found.runtime, found.id, found.cgroup), (runtime, ID, path.as_str()), "{path}");
            let below = format!("{path}/container/docker/{ID}");
            assert_eq!(container(&below).map(|found| found.cgroup), Some(path.as_str()), "what is in it belongs to it");
        }
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        for path in [
            "/",
            "",
            "/system.slice/docker.service",
            "/docker",
            &format!("/machine.slice/libpod-conmon-{ID}.scope"),
            &format!("/machine.slice/crio-conmon-{ID}.scope"),
            &format!("/system.slice/docker-{}.scope", &ID[1..]),
            &format!("/system.slice/docker-{}.scope", ID.to_uppercase()),
            &format!("/system.slice/{ID}"),
        ] {
            assert_eq!(container(path), None, "{path}");
        }
    }

    #[test]
    fn the_folders_above_a_container_may_hold_it() {
        for path in [
            "/system.slice",
            "/docker",
            "/user.slice/user-1000.slice/user@1000.service/user.slice",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1a_2b.slice",
            "/kubepods/burstable/pod1a-2b",
            "/libpod_parent",
        ] {
            assert!(path.split('/').skip(1).all(may_hold), "{path}");
        }
        assert!(!may_hold("nginx.service") && !may_hold(&format!("docker-{ID}.scope")));
    }

    proptest::proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "[/a-f0-9é.-]{0,80}") {
            if let Some(found) = container(&path) {
                proptest::prop_assert!(path.starts_with(found.cgroup));
            }
        }
    }
}
