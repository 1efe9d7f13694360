//! State files of smartd (`/var/lib/smartmontools/*.state`): what it has read of a disk's own health, and what it warned of.
//!
//! smartd runs as root and reads disks; what it found it leaves for everybody in lines `key = number`. A value of 0 is left
//! out. Unknown keys are skipped: smartd adds some with its releases.

use std::collections::BTreeMap;

use super::{At, ParseError, lines};

/// Rows of a disk's table of attributes.
const ATTRIBUTES_MAX: u64 = 30;

/// What smartd knows of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// What it has sent mail about and has not taken back, as far as it is of [`Warning`].
    pub warnings: Vec<Warning>,
    /// Self-tests of the disk that failed and stand in its log.
    pub self_test_errors: u64,
    /// The disk's own attributes, by their ids; none of NVMe and SCSI.
    pub attributes: BTreeMap<u8, Attribute>,
}

/// What smartd warns of, by the number of its mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// The disk itself says that it fails.
    Health,
    /// It is worn out.
    Usage,
    /// A self-test failed.
    SelfTest,
    /// More errors stand in its log.
    ErrorCount,
    /// Sectors cannot be read at present.
    PendingSectors,
    /// Sectors can be neither read nor repaired.
    Uncorrectable,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attribute {
    /// As its maker rates it: less is worse.
    pub value: u64,
    /// The least that it has been.
    pub worst: u64,
    /// As it is counted.
    pub raw: u64,
}

/// Numbers of mails.
const WARNINGS: [(u64, Warning); 6] = [
    (1, Warning::Health),
    (2, Warning::Usage),
    (3, Warning::SelfTest),
    (4, Warning::ErrorCount),
    (10, Warning::PendingSectors),
    (11, Warning::Uncorrectable),
];

/// Parses the file.
///
/// # Errors
/// Where what should be a number is none.
pub fn parse(bytes: &[u8]) -> Result<State, ParseError> {
    let mut state = State::default();
    let mut rows: BTreeMap<u64, (Option<u8>, Attribute)> = BTreeMap::new();
    for (line, text) in lines(bytes) {
        let at = At { file: "smartd's state", line };
        let Some(equals) = text.iter().position(|b| *b == b'=') else { continue };
        let (key, value) = (text[..equals].trim_ascii(), text[equals + 1..].trim_ascii());
        let parts: Vec<&[u8]> = key.split(|b| *b == b'.').collect();
        match parts[..] {
            [b"self-test-errors"] => state.self_test_errors = at.number("self-test-errors", Some(value))?,
            [b"mail", number, b"count"] => {
                let number: u64 = at.number("number of a mail", Some(number))?;
                let sent: u64 = at.number("count", Some(value))?;
                if let Some((_, warning)) = WARNINGS.iter().find(|(known, _)| *known == number).filter(|_| sent > 0) {
                    state.warnings.push(*warning);
                }
            }
            [b"ata-smart-attribute", number, field] => {
                let number: u64 = at.number("number of an attribute", Some(number))?;
                if number >= ATTRIBUTES_MAX {
                    continue;
                }
                let (id, row) = rows.entry(number).or_default();
                match field {
                    b"id" => *id = Some(at.number("id", Some(value))?),
                    b"val" => row.value = at.number("val", Some(value))?,
                    b"worst" => row.worst = at.number("worst", Some(value))?,
                    b"raw" => row.raw = at.number("raw", Some(value))?,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    state.warnings.sort_unstable();
    state.warnings.dedup();
    state.attributes = rows.into_values().filter_map(|(id, row)| Some((id?, row))).collect();
    Ok(state)
}

/// The disk that a state file is about, as udev writes it into `ID_SERIAL`: model and serial number, whatever is no letter
/// and no digit being `_`. `None` for a file of another name.
#[must_use]
pub fn disk_of(file: &str) -> Option<String> {
    let name = file.strip_prefix("smartd.")?.strip_suffix(".state")?;
    let (disk, _kind) = name.rsplit_once('.')?;
    (!disk.is_empty()).then(|| plain(disk))
}

/// A name with whatever is no letter and no digit as `_`.
#[must_use]
pub fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_disk_that_is_well_and_one_that_is_not() {
        let well = parse(include_bytes!("fixtures/smartd_well.ata.txt")).unwrap();
        assert_eq!((&well.warnings[..], well.self_test_errors, well.attributes.len()), (&[][..], 0, 6));
        assert_eq!(well.attributes[&9], Attribute { value: 99, worst: 99, raw: 1_234 });
        assert_eq!(well.attributes[&197].raw, 0, "what is left out is 0");

        let failing = parse(include_bytes!("fixtures/smartd_failing.ata.txt")).unwrap();
        assert_eq!(failing.warnings, [Warning::Health, Warning::SelfTest, Warning::PendingSectors]);
        assert_eq!(
            (failing.self_test_errors, failing.attributes[&197].raw, failing.attributes[&5].raw),
            (3, 24, 1_816)
        );

        let nvme = parse(include_bytes!("fixtures/smartd.nvme.txt")).unwrap();
        assert_eq!((nvme.warnings, nvme.attributes.len()), (vec![Warning::Health], 0));
    }

    #[test]
    fn a_number_that_is_none_is_named() {
        let error = parse(b"# smartd state file\nself-test-errors = many\n").unwrap_err();
        assert_eq!(error.to_string(), "smartd's state line 2: self-test-errors is `many`, not a number");
        assert_eq!(
            parse(b"some-new-key = many\nmail.99.count = 1\nata-smart-attribute.30.id = 7\n").unwrap(),
            State::default()
        );
    }

    #[test]
    fn a_file_is_named_after_its_disk() {
        assert_eq!(
            disk_of("smartd.WDC_WD40EFRX_68N32N0-WD_WCC7K0AA.ata.state").unwrap(),
            "WDC_WD40EFRX_68N32N0_WD_WCC7K0AA"
        );
        assert_eq!(plain("WDC_WD40EFRX-68N32N0_WD-WCC7K0AA"), "WDC_WD40EFRX_68N32N0_WD_WCC7K0AA");
        for other in ["smartd..ata.state", "smartd.x.state", "attrlog.x-1.ata.csv", "smartd.x-1.ata.state~", "x"] {
            assert_eq!(disk_of(other), None, "{other}");
        }
    }
}
