//! Cgroups by their ids: the kernel says of a socket in which one it was made by number only.
//!
//! The id of a cgroup is the inode of its folder, and is not used again. So the tree is walked when an id comes up that is
//! not known yet, and not otherwise; reading a folder names its children with their inodes, nothing else is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, open};

/// Most folders of one walk.
const FOLDERS_MAX: usize = 20_000;

/// Deepest folder.
const DEPTH_MAX: usize = 16;

/// Longest path that is kept; what is longer is not known.
const PATH_BYTES_MAX: usize = 512;

/// Where the hierarchy of version two may be mounted below the root: beside version one, or alone.
const MOUNTS: [&str; 2] = ["sys/fs/cgroup/unified", "sys/fs/cgroup"];

/// Paths of cgroups by their ids.
#[derive(Debug)]
pub struct Groups {
    root: PathBuf,
    known: BTreeMap<u64, String>,
    /// Ids that were asked for and are not there any more.
    gone: BTreeSet<u64>,
}

impl Groups {
    /// Looks below `root`: `/` on a real host.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        let mounts = MOUNTS.map(|mount| root.join(mount));
        let alone = mounts[1].clone();
        let root = mounts.into_iter().find(|mount| mount.join("cgroup.procs").exists()).unwrap_or(alone);
        Self { root, known: BTreeMap::new(), gone: BTreeSet::new() }
    }

    /// The paths of these ids, as far as they are there.
    pub fn paths(&mut self, ids: &BTreeSet<u64>) -> &BTreeMap<u64, String> {
        if ids.iter().any(|id| !self.known.contains_key(id) && !self.gone.contains(id)) {
            self.walk();
            // A host has many more cgroups than talk.
            self.known.retain(|id, _| ids.contains(id));
            self.gone = ids.iter().copied().filter(|id| !self.known.contains_key(id)).collect();
        }
        &self.known
    }

    fn walk(&mut self) {
        self.known.clear();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let Ok(root) = open(&self.root, flags, Mode::empty()) else { return };
        if let Ok(stat) = fstat(&root) {
            self.known.insert(stat.st_ino, "/".to_owned());
        }
        let mut waiting: Vec<(OwnedFd, String)> = vec![(root, String::new())];
        while let Some((folder, path)) = waiting.pop() {
            let entries = Dir::read_from(&folder).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| entry.file_type() == FileType::Directory) {
                let name = entry.file_name().to_string_lossy();
                let path = format!("{path}/{name}");
                let is_deep = path.split('/').count() > DEPTH_MAX + 1;
                if name == "." || name == ".." || is_deep || path.len() > PATH_BYTES_MAX {
                    continue;
                }
                if self.known.len() >= FOLDERS_MAX {
                    return;
                }
                self.known.insert(entry.ino(), path.clone());
                if let Ok(child) = rustix::fs::openat(&folder, entry.file_name(), flags, Mode::empty()) {
                    waiting.push((child, path));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_cgroup_is_found_by_the_inode_of_its_folder_also_when_it_is_new() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("sys/fs/cgroup");
        fs::create_dir_all(tree.join("system.slice/app.service/sub")).unwrap();
        fs::write(tree.join("cgroup.procs"), "").unwrap();
        let id = |path: &str| fs::metadata(tree.join(path)).unwrap().ino();
        let mut groups = Groups::at(root.path());
        let (app, sub) = (id("system.slice/app.service"), id("system.slice/app.service/sub"));
        let paths = groups.paths(&BTreeSet::from([app, sub, id("")]));
        assert_eq!(paths[&app], "/system.slice/app.service");
        assert_eq!(paths[&sub], "/system.slice/app.service/sub");
        assert_eq!((paths[&id("")].as_str(), paths.len()), ("/", 3), "what nobody asked for is not kept");
        fs::rename(tree.join("system.slice"), tree.join("moved.slice")).unwrap();
        assert_eq!(
            groups.paths(&BTreeSet::from([app]))[&app],
            "/system.slice/app.service",
            "what is known is not walked for"
        );
        fs::create_dir(tree.join("new.slice")).unwrap();
        let new = id("new.slice");
        assert_eq!(groups.paths(&BTreeSet::from([app, new]))[&new], "/new.slice");
    }

    #[test]
    fn a_cgroup_that_is_gone_has_no_path_and_is_not_looked_for_again() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("sys/fs/cgroup/unified");
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("cgroup.procs"), "").unwrap();
        let mut groups = Groups::at(root.path());
        let root_id = fs::metadata(&tree).unwrap().ino();
        let both = BTreeSet::from([u64::MAX, root_id]);
        assert_eq!(groups.paths(&both).get(&u64::MAX), None);
        groups.root = "/nonexistent".into();
        assert_eq!(groups.paths(&both).len(), 1, "the tree was not walked again");
        assert!(Groups::at(Path::new("/nonexistent")).paths(&BTreeSet::from([1])).is_empty());
    }
}
