//! `life_time` and `pre_eol_info` of an eMMC (`/sys/block/mmcblk*/device`): how worn it says it is.

use super::{At, ParseError, words};

/// How worn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wear {
    /// Tenths of its life that are used at most, of whichever of its two kinds of memory is worn more; 11 is more than its
    /// maker promised. `None` where it does not say.
    pub life_tenths: Option<u8>,
    /// How far its spare blocks are used up.
    pub spare: Spare,
}

/// What is left of the blocks that stand in for worn ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spare {
    /// It does not say.
    #[default]
    Unknown,
    /// Enough.
    Normal,
    /// Four fifths are used.
    Low,
    /// Nine tenths are used.
    Out,
}

/// The two files.
///
/// # Errors
/// Where one holds no hexadecimal number.
pub fn parse(life_time: &[u8], pre_eol_info: &[u8]) -> Result<Wear, ParseError> {
    let at = At { file: "life_time", line: 1 };
    let tenths = words(life_time.trim_ascii()).map(|word| hex(at, "life_time", word)).collect::<Result<Vec<_>, _>>()?;
    let at = At { file: "pre_eol_info", line: 1 };
    let spare = match hex(at, "pre_eol_info", pre_eol_info.trim_ascii())? {
        1 => Spare::Normal,
        2 => Spare::Low,
        3 => Spare::Out,
        _ => Spare::Unknown,
    };
    let worn = tenths.into_iter().filter_map(|tenths| u8::try_from(tenths).ok()).max();
    Ok(Wear { life_tenths: worn.filter(|tenths| (1..=11).contains(tenths)), spare })
}

fn hex(at: At, field: &'static str, word: &[u8]) -> Result<u64, ParseError> {
    at.hex(field, Some(word.strip_prefix(b"0x").unwrap_or(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_how_worn_it_is() {
        let wear = |life: &str, spare: &str| parse(life.as_bytes(), spare.as_bytes()).unwrap();
        assert_eq!(wear("0x02 0x04\n", "0x01\n"), Wear { life_tenths: Some(4), spare: Spare::Normal });
        assert_eq!(wear("0x0b 0x0a\n", "0x03\n"), Wear { life_tenths: Some(11), spare: Spare::Out });
        assert_eq!(wear("0x00 0x00\n", "0x00\n"), Wear::default(), "old ones do not say");
        assert_eq!(wear("0xff\n", "0x02\n"), Wear { life_tenths: None, spare: Spare::Low });
        let error = parse(b"some 0x01\n", b"0x01\n").unwrap_err();
        assert_eq!(error.to_string(), "life_time line 1: life_time is `some`, not a number");
    }
}
