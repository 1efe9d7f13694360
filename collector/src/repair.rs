//! `mainstay-collector repair`: a damaged store built anew of what can be read of it, while no collector runs.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::backup::name;
use crate::clock;
use crate::run::Paths;
use crate::store::lost::{Told, Whose, told};
use crate::store::rebuild::{Rebuilt, rebuild};
use crate::store::room::Room;

/// Left free besides what the new store takes.
const SPARE_BYTES: u64 = 256 * 1024 * 1024;

/// Builds the store below the settings' folder anew and puts it in the damaged one's place, which stays beside it.
///
/// # Errors
/// What is in the way. The store is then as it was.
pub fn run(paths: &Paths) -> anyhow::Result<()> {
    let settings = paths.load()?;
    if UnixStream::connect(&settings.admin_socket).is_ok() {
        bail!("a collector runs on this machine: stop it first (`systemctl stop mainstay-collector`)");
    }
    let repaired = repair(&settings.data, clock::wall_ms(), &mut |done, total| {
        eprintln!("{done} of some {total} MiB");
    })?;
    println!("{} entries are kept ({} MiB)", repaired.rebuilt.entries, repaired.rebuilt.bytes >> 20);
    if repaired.rebuilt.lost.is_empty() {
        println!("nothing is lost");
    }
    for (column, lost) in &repaired.rebuilt.lost {
        told(*column, lost).iter().for_each(|told| println!("lost: {}", words(told)));
    }
    println!("what was there is in {}: remove it when all is well", repaired.damaged.display());
    println!("start it with `systemctl start mainstay-collector`");
    Ok(())
}

/// What came of it.
#[derive(Debug)]
pub struct Repaired {
    /// What is kept and what is lost.
    pub rebuilt: Rebuilt,
    /// Where the damaged store is now.
    pub damaged: PathBuf,
}

/// Repairs the store of a data folder. `tell` hears how many MiB are done, of some.
///
/// # Errors
/// What is in the way. The store is then as it was.
pub fn repair(data: &Path, now_ms: i64, tell: &mut dyn FnMut(u64, u64)) -> anyhow::Result<Repaired> {
    let (db, new) = (data.join("db"), data.join("db.repairing"));
    let damaged = data.join(format!("db.damaged-{}", name::of(now_ms)));
    let bytes = size(&db).with_context(|| format!("cannot read {}", db.display()))?;
    let free = Room::new(data, 0).free_bytes();
    ensure!(
        free > bytes.saturating_add(SPARE_BYTES),
        "{} MiB are free in {}, and the new store takes some {} MiB beside the old one: make room",
        free >> 20,
        data.display(),
        (bytes + SPARE_BYTES) >> 20
    );
    // What an earlier repair that broke off has left.
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", new.display()));
        }
        _ => {}
    }
    let (mut done, mut told) = (0_u64, 0);
    let rebuilt = rebuild(&db, &new, &mut |read| {
        done += read;
        if done >> 28 != told {
            told = done >> 28;
            tell(done >> 20, bytes >> 20);
        }
    });
    let rebuilt = rebuilt.with_context(|| {
        format!(
            "what {} holds cannot be told without the file that is named here: restore a backup (`mainstay backup restore`)",
            db.display()
        )
    })?;
    let owner = fs::metadata(&db)?;
    for path in fs::read_dir(&new)?.map(|entry| Ok(entry?.path())).chain([Ok(new.clone())]) {
        let path: io::Result<PathBuf> = path;
        chown(path?, Some(owner.uid()), Some(owner.gid()))?;
    }
    exchange(&db, &new, &damaged)?;
    fs::File::open(data)?.sync_all()?;
    Ok(Repaired { rebuilt, damaged })
}

/// Puts the new store in the damaged one's place, at once where the filesystem can: a collector that started where there is
/// none would make an empty one.
fn exchange(db: &Path, new: &Path, damaged: &Path) -> anyhow::Result<()> {
    let rename = |from: &Path, to: &Path| {
        fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
    };
    rename(new, damaged)?;
    match renameat_with(CWD, damaged, CWD, db, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rename(damaged, new)?;
            rename(db, damaged)?;
            rename(new, db)
        }
        Err(error) => Err(error).with_context(|| format!("cannot exchange {} and {}", db.display(), damaged.display())),
    }
}

fn size(folder: &Path) -> io::Result<u64> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

fn words(told: &Told) -> String {
    let mut said = told.what.to_owned();
    match told.span_ms {
        None => {}
        Some((from, i64::MAX)) => said.push_str(&format!(", {} and later", name::of(from))),
        Some((from, to)) => said.push_str(&format!(", {} to {}", name::of(from), name::of(to))),
    }
    match told.whose {
        Whose::Anyone => {}
        Whose::Numbers(first, last) => said.push_str(&format!(", hosts of numbers {first} to {last}")),
        Whose::Hosts(first, last) => said.push_str(&format!(", hosts from {first} to {last}")),
    }
    said
}
