//! `/proc/diskstats`: counters of block devices.

use super::{At, ParseError, lines, words};
use crate::sample::Disk;

/// The file counts in sectors of this size, whatever the device's own is.
const SECTOR_BYTES: u64 = 512;

/// Parses the lines of the devices whose name `keep` accepts: the caller knows which are whole
/// devices (those with an entry in `/sys/block`) and worth watching.
///
/// # Errors
/// Where a line that is kept has fewer columns than Linux 2.6 wrote, or one is no number.
pub fn parse(bytes: &[u8], mut keep: impl FnMut(&[u8]) -> bool) -> Result<Vec<Disk>, ParseError> {
    let mut disks = Vec::new();
    for (line, text) in lines(bytes) {
        let at = At { file: "diskstats", line };
        let mut words = words(text).skip(2);
        let name = words.next().ok_or_else(|| at.missing("name"))?;
        if !keep(name) {
            continue;
        }
        let mut next = |field| at.number::<u64>(field, words.next());
        let mut disk = Disk { name: String::from_utf8_lossy(name).into_owned(), ..Disk::default() };
        disk.reads = next("reads")?;
        next("reads merged")?;
        disk.read_bytes = next("sectors read")?.saturating_mul(SECTOR_BYTES);
        disk.read_ms = next("ms reading")?;
        disk.writes = next("writes")?;
        next("writes merged")?;
        disk.written_bytes = next("sectors written")?.saturating_mul(SECTOR_BYTES);
        disk.write_ms = next("ms writing")?;
        disk.in_flight = next("in flight")?;
        disk.io_ms = next("ms of I/O")?;
        disk.weighted_io_ms = next("weighted ms of I/O")?;
        disks.push(disk);
    }
    Ok(disks)
}

/// A line of the file with all the columns that this kernel writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Numbers of the device.
    pub device_number: (u32, u32),
    /// Its kernel name.
    pub name: &'a str,
    /// What is counted: 11 columns, 15 since Linux 4.18, 17 since 5.5.
    pub columns: Vec<u64>,
}

/// Every line.
///
/// # Errors
/// Where a line has no name, or a column is no number.
pub fn all(bytes: &[u8]) -> Result<Vec<Line<'_>>, ParseError> {
    let mut disks = Vec::new();
    for (line, text) in lines(bytes) {
        let at = At { file: "diskstats", line };
        let mut words = words(text);
        let device_number = (at.number("major", words.next())?, at.number("minor", words.next())?);
        let name = at.text("name", words.next())?;
        let columns = words.map(|word| at.number("column", Some(word))).collect::<Result<_, _>>()?;
        disks.push(Line { device_number, name, columns });
    }
    Ok(disks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_devices_that_are_kept() {
        let disks = parse(include_bytes!("fixtures/diskstats.6.18.txt"), |name| name == b"vda").unwrap();
        assert_eq!(disks.len(), 1);
        assert_eq!(disks[0].name, "vda");
        let disks = parse(include_bytes!("fixtures/diskstats.6.1.txt"), |_| true).unwrap();
        assert_eq!((disks[0].name.as_str(), disks[0].reads, disks[0].read_bytes), ("vda", 12, 32 * SECTOR_BYTES));
        assert_eq!((disks[0].writes, disks[0].written_bytes, disks[0].io_ms), (47, 64_058 * SECTOR_BYTES, 136));
        let disks = parse(include_bytes!("fixtures/diskstats.6.18.txt"), |name| name == b"vda").unwrap();
        assert!(disks[0].reads > 0 && disks[0].read_bytes > disks[0].reads * SECTOR_BYTES);
    }

    #[test]
    fn reads_kernels_with_11_15_and_17_columns() {
        let eleven = " 8 0 sda 1 2 3 4 5 6 7 8 9 10 11";
        let fifteen = format!("{eleven} 12 13 14 15");
        let seventeen = format!("{fifteen} 16 17");
        for text in [eleven, &fifteen, &seventeen] {
            let disk = &parse(text.as_bytes(), |_| true).unwrap()[0];
            assert_eq!((disk.reads, disk.read_bytes, disk.weighted_io_ms), (1, 3 * 512, 11));
        }
    }

    #[test]
    fn names_the_column_that_is_missing() {
        let error = parse(b" 8 0 sda 1 2 3\n", |_| true).unwrap_err();
        assert_eq!((error.line, error.field), (1, "ms reading"));
    }

    #[test]
    fn lists_every_device_with_the_columns_that_there_are() {
        let all =
            super::all(b" 8 1 sda1 1 2 3 4 5 6 7 8 9 10 11\n 254 0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n");
        let all = all.unwrap();
        assert_eq!((all[0].device_number, all[0].name, all[0].columns.len()), ((8, 1), "sda1", 11));
        assert_eq!((all[1].columns.len(), all[1].columns[16]), (17, 17));
    }
}
