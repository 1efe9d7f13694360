//! Whether the host waits for a reboot: packages of Debian and its relatives leave a file that says so.

use std::path::{Path, PathBuf};

/// Every so many samples it is looked at: it says so once in weeks.
const EVERY: u64 = 60;

/// The file, and what is there where somebody would leave it.
const REQUIRED: &str = "run/reboot-required";
const WHO_WOULD: &str = "var/lib/dpkg/status";

/// Looks for the file.
#[derive(Debug)]
pub struct Reboot {
    required: PathBuf,
    who_would: PathBuf,
    last: Option<bool>,
    round: u64,
}

impl Reboot {
    /// Looks below `root`: `/` on a real host.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { required: root.join(REQUIRED), who_would: root.join(WHO_WOULD), last: None, round: 0 }
    }

    /// Whether it waits; `None` where nobody would say so.
    pub fn read(&mut self) -> Option<bool> {
        if self.round.is_multiple_of(EVERY) {
            let is_required = self.required.exists();
            self.last = (is_required || self.who_would.exists()).then_some(is_required);
        }
        self.round += 1;
        self.last
    }

    /// The same, as it was when it was last looked at.
    #[must_use]
    pub fn last(&self) -> Option<bool> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn it_is_known_where_somebody_would_say_so_and_looked_at_once_a_minute() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Reboot::at(root.path()).read(), None);
        fs::create_dir_all(root.path().join("var/lib/dpkg")).unwrap();
        fs::create_dir_all(root.path().join("run")).unwrap();
        fs::write(root.path().join(WHO_WOULD), "").unwrap();
        let mut reboot = Reboot::at(root.path());
        assert_eq!((reboot.last(), reboot.read(), reboot.last()), (None, Some(false), Some(false)));
        fs::write(root.path().join(REQUIRED), "").unwrap();
        let said: Vec<_> = (0..EVERY).map(|_| reboot.read()).collect();
        assert!(said[..said.len() - 1].iter().all(|said| *said == Some(false)));
        assert_eq!(said.last(), Some(&Some(true)));
    }
}
