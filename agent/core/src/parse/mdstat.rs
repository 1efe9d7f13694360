//! `/proc/mdstat`: software RAID.

use super::{At, ParseError, lines, words};

/// One array.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Array {
    /// Kernel name (`md0`).
    pub name: String,
    /// What it does.
    pub activity: Activity,
    /// Disks that take part.
    pub disks_active: u64,
    /// Disks that the array is made for.
    pub disks_required: u64,
    /// Disks that failed.
    pub disks_failed: u64,
    /// Disks that stand by.
    pub disks_spare: u64,
    /// Its size in blocks of 1 KiB.
    pub blocks: u64,
    /// How many of them are in sync.
    pub blocks_synced: u64,
}

/// What an array does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activity {
    /// It is there, in sync or waiting.
    Active,
    /// It is not started.
    #[default]
    Inactive,
    /// A disk is being filled.
    Recovering,
    /// Disks are made equal.
    Resyncing,
    /// Disks are compared.
    Checking,
}

/// The lines of progress, and what they say that the array does.
const PROGRESS: [(&str, Activity); 4] = [
    ("recovery", Activity::Recovering),
    ("resync", Activity::Resyncing),
    ("check", Activity::Checking),
    ("reshape", Activity::Active),
];

/// Parses the file.
///
/// # Errors
/// Where an array has no state or no size, or a number is none.
pub fn parse(bytes: &[u8]) -> Result<Vec<Array>, ParseError> {
    let mut arrays: Vec<Array> = Vec::new();
    for (line, text) in lines(bytes) {
        let at = At { file: "mdstat", line };
        if text.starts_with(b"Personalities") || text.starts_with(b"unused") {
            continue;
        }
        if text[0] != b' ' && text[0] != b'\t' {
            arrays.push(begin(at, text)?);
        } else if let Some(array) = arrays.last_mut() {
            go_on(at, text, array)?;
        }
    }
    Ok(arrays)
}

/// `md0 : active raid1 sdb1[1] sda1[0](F)`
fn begin(at: At, text: &[u8]) -> Result<Array, ParseError> {
    let mut words = words(text);
    let name = at.text("name", words.next())?.to_owned();
    words.next();
    let activity = match words.next().ok_or_else(|| at.missing("state"))? {
        b"active" => Activity::Active,
        _ => Activity::Inactive,
    };
    let disks: Vec<&[u8]> = words.filter(|word| word.contains(&b'[')).collect();
    let marked = |mark: &[u8]| disks.iter().filter(|disk| disk.ends_with(mark)).count() as u64;
    let (disks_failed, disks_spare) = (marked(b"(F)"), marked(b"(S)"));
    // Arrays without redundancy say nothing more of their disks: all of them are needed.
    let disks = if activity == Activity::Active { disks.len() as u64 } else { 0 };
    Ok(Array {
        name,
        activity,
        disks_active: disks,
        disks_required: disks,
        disks_failed,
        disks_spare,
        ..Array::default()
    })
}

fn go_on(at: At, text: &[u8], array: &mut Array) -> Result<(), ParseError> {
    let line = String::from_utf8_lossy(text);
    if let Some(before) = line.split(" blocks").next().filter(|before| before.len() < line.len()) {
        array.blocks = at.number("blocks", before.trim().rsplit(' ').next().map(str::as_bytes))?;
        array.blocks_synced = array.blocks;
        // `[2/1] [U_]`: made for two, one takes part.
        if let Some((required, active)) = line.rsplit("] [").nth(1).and_then(pair_after_bracket) {
            array.disks_required = at.number("disks", Some(required.as_bytes()))?;
            array.disks_active = at.number("disks", Some(active.as_bytes()))?;
        }
        return Ok(());
    }
    let Some((_, activity)) = PROGRESS.iter().find(|(word, _)| line.contains(word)) else { return Ok(()) };
    array.activity = *activity;
    if line.contains("PENDING") || line.contains("DELAYED") || line.contains("REMOTE") {
        array.blocks_synced = 0;
    } else if let Some((synced, _)) = line.split_once('(').and_then(|(_, rest)| rest.split_once('/')) {
        array.blocks_synced = at.number("blocks synced", Some(synced.as_bytes()))?;
    }
    Ok(())
}

/// The two numbers of `… [2/1`.
fn pair_after_bracket(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once('[').and_then(|(_, pair)| pair.split_once('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_arrays_that_are_whole_degraded_and_without_redundancy() {
        let arrays = parse(include_bytes!("fixtures/mdstat.6.1.txt")).unwrap();
        let named = |name: &str| arrays.iter().find(|array| array.name == name).unwrap();
        let whole = named("md0");
        assert_eq!((whole.activity, whole.disks_active, whole.disks_required), (Activity::Active, 2, 2));
        assert_eq!((whole.blocks, whole.blocks_synced), (248_896, 248_896));
        let degraded = named("md3");
        assert_eq!((degraded.activity, degraded.disks_active, degraded.disks_required), (Activity::Recovering, 2, 3));
        assert_eq!((degraded.disks_failed, degraded.disks_spare), (1, 1));
        assert_eq!((degraded.blocks, degraded.blocks_synced), (5_853_468_288, 16_775_552));
        let striped = named("md4");
        assert_eq!((striped.disks_active, striped.disks_required, striped.blocks), (2, 2, 4_883_648));
        let stopped = named("md5");
        assert_eq!((stopped.activity, stopped.disks_required, stopped.blocks), (Activity::Inactive, 0, 7_932_160));
    }

    #[test]
    fn reads_an_older_kernel_with_a_check_and_a_resync_that_waits() {
        let arrays = parse(include_bytes!("fixtures/mdstat.4.19.txt")).unwrap();
        assert_eq!((arrays[0].activity, arrays[0].blocks_synced), (Activity::Checking, 1_048_000));
        assert_eq!((arrays[1].activity, arrays[1].blocks_synced), (Activity::Resyncing, 0));
        assert!(parse(b"Personalities : \nunused devices: <none>\n").unwrap().is_empty());
    }
}
