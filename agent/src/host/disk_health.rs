//! What is known of the health of disks without asking them: only root may, and a question can wake a sleeping disk. The
//! kernel tells of software RAID (`/proc/mdstat`) and of an eMMC, smartd of what it reads as root, in files for everybody.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_core::parse::{ParseError, emmc, mdstat, smartd, udev};
use mainstay_core::sample::{DiskHealth, HealthReport};
use rustix::fs::{Mode, OFlags, open};

use super::ReadErrors;
use super::file::read_below;

/// Every so many samples it is looked at.
const EVERY: u64 = 60;

/// Most disks and arrays, and most entries of a folder that are looked through for them.
const DISKS_MAX: usize = 256;
const ENTRIES_MAX: usize = 4096;

const MDSTAT: &str = "proc/mdstat";
const BLOCK: &str = "sys/block";
const SMARTD: &str = "var/lib/smartmontools";

/// Looks at what is said of disks.
#[derive(Debug)]
pub struct DiskHealths {
    root: PathBuf,
    last: Option<Arc<Vec<DiskHealth>>>,
    round: u64,
}

impl DiskHealths {
    /// Looks below `root`: `/` on a real host.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), last: None, round: 0 }
    }

    /// The same, as it was when it was last looked at.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Vec<DiskHealth>>> {
        self.last.clone()
    }

    /// What is known; `None` where nobody would say anything. What cannot be read or understood is noted and left out.
    pub fn read(&mut self, errors: &mut ReadErrors) -> Option<Arc<Vec<DiskHealth>>> {
        if self.round.is_multiple_of(EVERY) {
            self.last = look(&self.root, |path, why| errors.note(path, why)).map(Arc::new);
        }
        self.round += 1;
        self.last.clone()
    }
}

/// Looks once; `note` is told what could not be read or understood.
pub fn look(root: &Path, note: impl FnMut(&str, String)) -> Option<Vec<DiskHealth>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = open(root, flags, Mode::empty()).ok()?;
    let mut look = Look { root, folder, buffer: Vec::new(), found: Vec::new(), note };
    // All three, whichever of them are there.
    let is_known = [look.arrays(), look.flash(), look.smart()].contains(&true);
    look.found.truncate(DISKS_MAX);
    is_known.then_some(look.found)
}

struct Look<'a, N> {
    root: &'a Path,
    folder: OwnedFd,
    buffer: Vec<u8>,
    found: Vec<DiskHealth>,
    note: N,
}

impl<N: FnMut(&str, String)> Look<'_, N> {
    fn arrays(&mut self) -> bool {
        let Some(arrays) = self.parsed(MDSTAT, mdstat::parse) else { return false };
        let health = |array: mdstat::Array| DiskHealth {
            name: array.name.clone(),
            file: None,
            report: HealthReport::Array(array),
        };
        self.found.extend(arrays.into_iter().map(health));
        true
    }

    fn flash(&mut self) -> bool {
        let is_card = |name: &String| {
            let number = name.strip_prefix("mmcblk").unwrap_or_default();
            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
        };
        let before = self.found.len();
        for name in self.names(BLOCK).into_iter().flatten().filter(is_card) {
            // A plain card says nothing of its wear.
            let Some(life_time) = self.bytes(&format!("{BLOCK}/{name}/device/life_time")) else { continue };
            let wear = self.parsed(&format!("{BLOCK}/{name}/device/pre_eol_info"), |eol| emmc::parse(&life_time, eol));
            if let Some(wear) = wear {
                self.found.push(DiskHealth { name, file: None, report: HealthReport::Flash(wear) });
            }
        }
        self.found.len() > before
    }

    fn smart(&mut self) -> bool {
        let Some(files) = self.names(SMARTD) else { return false };
        let files: Vec<_> = files.into_iter().filter_map(|file| Some((smartd::disk_of(&file)?, file))).collect();
        let names = if files.is_empty() { BTreeMap::new() } else { self.names_by_serial() };
        for (serial, file) in files {
            let Some(state) = self.parsed(&format!("{SMARTD}/{file}"), smartd::parse) else { continue };
            let report = HealthReport::Smart(state);
            self.found.push(match names.get(&serial) {
                Some(name) => DiskHealth { name: name.clone(), file: None, report },
                None => DiskHealth { name: serial, file: Some(format!("/{SMARTD}/{file}")), report },
            });
        }
        true
    }

    /// Kernel names of disks by what udev calls their serial numbers.
    fn names_by_serial(&mut self) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        for name in self.names(BLOCK).into_iter().flatten() {
            let Some(number) = self.bytes(&format!("{BLOCK}/{name}/dev")) else { continue };
            let number = String::from_utf8_lossy(number.trim_ascii()).into_owned();
            let Some(known) = self.bytes(&format!("run/udev/data/b{number}")) else { continue };
            if let Some(serial) = udev::properties(&known).get("ID_SERIAL") {
                names.insert(smartd::plain(serial), name);
            }
        }
        names
    }

    fn names(&self, folder: &str) -> Option<Vec<String>> {
        let entries = fs::read_dir(self.root.join(folder)).ok()?.take(ENTRIES_MAX);
        let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort_unstable();
        Some(names)
    }

    fn bytes(&mut self, path: &str) -> Option<Vec<u8>> {
        self.parsed(path, |bytes| Ok(bytes.to_vec()))
    }

    fn parsed<T>(&mut self, path: &str, parse: impl FnOnce(&[u8]) -> Result<T, ParseError>) -> Option<T> {
        let read: io::Result<Option<&[u8]>> = read_below(&self.folder, path, &mut self.buffer);
        let why = match read {
            Ok(bytes) => match parse(bytes?) {
                Ok(value) => return Some(value),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        (self.note)(path, why);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn where_nobody_says_anything_nothing_is_known() {
        assert_eq!(look(host(&[("sys/block/vda/dev", "254:0\n")]).path(), |_, why| panic!("{why}")), None);
        let empty = host(&[(MDSTAT, "Personalities : \nunused devices: <none>\n")]);
        assert_eq!(look(empty.path(), |_, why| panic!("{why}")), Some(Vec::new()));
    }

    #[test]
    fn arrays_flash_and_disks_of_smartd_are_known_by_their_names() {
        let root = host(&[
            (
                MDSTAT,
                "Personalities : [raid1]\nmd0 : active raid1 sdb1[1] sda1[0](F)\n      248896 blocks [2/1] [_U]\n",
            ),
            ("sys/block/mmcblk0/device/life_time", "0x0a 0x01\n"),
            ("sys/block/mmcblk0/device/pre_eol_info", "0x01\n"),
            ("sys/block/mmcblk0boot0/device/life_time", "0x0a 0x01\n"),
            ("sys/block/sda/dev", "8:0\n"),
            ("run/udev/data/b8:0", "E:ID_SERIAL=WDC_WD40-68N_WD-W1\n"),
            ("var/lib/smartmontools/smartd.WDC_WD40_68N-WD_W1.ata.state", "self-test-errors = 1\n"),
            ("var/lib/smartmontools/smartd.ACME-7.ata.state", "self-test-errors = 2\n"),
            ("var/lib/smartmontools/smartd.ACME-7.ata.state~", "self-test-errors = 9\n"),
            ("var/lib/smartmontools/smartd.BAD-8.ata.state", "self-test-errors = no\n"),
        ]);
        let mut noted = Vec::new();
        let found = look(root.path(), |path, why| noted.push(format!("{path}: {why}"))).unwrap();
        let names: Vec<_> = found.iter().map(|disk| (disk.name.as_str(), disk.file.as_deref())).collect();
        let gone = "/var/lib/smartmontools/smartd.ACME-7.ata.state";
        assert_eq!(names, [("md0", None), ("mmcblk0", None), ("ACME_7", Some(gone)), ("sda", None)]);
        let HealthReport::Array(array) = &found[0].report else { panic!("{found:?}") };
        assert_eq!((array.disks_active, array.disks_required), (1, 2));
        assert_eq!(noted.len(), 1);
        assert!(noted[0].ends_with("smartd's state line 1: self-test-errors is `no`, not a number"), "{noted:?}");
    }

    #[test]
    fn it_is_looked_at_once_a_minute() {
        let root = host(&[(MDSTAT, "Personalities : \n")]);
        let mut healths = DiskHealths::at(root.path());
        let mut errors = ReadErrors::default();
        assert!(healths.read(&mut errors).unwrap().is_empty());
        fs::write(root.path().join(MDSTAT), "md0 : active raid0 sda1[0]\n      8 blocks\n").unwrap();
        let seen: Vec<_> = (0..EVERY).map(|_| healths.read(&mut errors).unwrap().len()).collect();
        assert_eq!(seen.iter().sum::<usize>(), 1, "{seen:?}");
        assert_eq!(seen.last(), Some(&1));
    }
}
