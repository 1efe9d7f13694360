//! `/proc/spl/kstat/zfs/**`: statistics of ZFS, in the two forms that its kernel module writes.

use super::{At, ParseError, lines, words};

/// Types of a value that are whole numbers: `KSTAT_DATA_INT64` and `KSTAT_DATA_UINT64`.
const WHOLE: [&[u8]; 2] = [b"3", b"4"];

/// Parses `name type data` lines below a heading: the numbers, and the one text that matters.
///
/// # Errors
/// Where there is no heading, or what is said to be a number is none.
pub fn named(bytes: &[u8]) -> Result<Vec<(&str, Value<'_>)>, ParseError> {
    let mut values = Vec::new();
    let mut last = At { file: "kstat", line: 1 };
    let mut heading = false;
    for (line, text) in lines(bytes) {
        last.line = line;
        let mut words = words(text);
        match (words.next(), words.next(), words.next()) {
            (Some(b"name"), Some(b"type"), Some(b"data")) => heading = true,
            (Some(name), Some(kind), data) if heading => {
                let name = last.text("name", Some(name))?;
                if name == "dataset_name" {
                    values.push((name, Value::Text(last.text("dataset_name", data)?)));
                } else if WHOLE.contains(&kind) {
                    values.push((name, Value::Number(last.number("data", data)?)));
                }
            }
            _ => {}
        }
    }
    if heading { Ok(values) } else { Err(last.missing("heading")) }
}

/// A value of a named kstat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A whole number.
    Number(f64),
    /// The name of a dataset.
    Text(&'a str),
}

/// Parses the I/O statistics of a pool: a line of names, then a line of numbers.
///
/// # Errors
/// Where a number is missing or none.
pub fn columns(bytes: &[u8]) -> Result<Vec<(&str, f64)>, ParseError> {
    let mut rows = lines(bytes).skip_while(|(_, text)| words(text).next() != Some(b"nread"));
    let (Some((line, names)), Some((_, numbers))) = (rows.next(), rows.next()) else { return Ok(Vec::new()) };
    let at = At { file: "kstat", line };
    let mut numbers = words(numbers);
    words(names).map(|name| Ok((at.text("name", Some(name))?, at.number("value", numbers.next())?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_numbers_of_a_named_kstat() {
        let values = named(include_bytes!("fixtures/kstat_arc.txt")).unwrap();
        assert_eq!(values[0], ("hits", Value::Number(8_772_612.0)));
        assert!(values.iter().any(|(name, value)| *name == "c_max" && *value == Value::Number(8_367_976_448.0)));
        assert!(values.iter().all(|(name, _)| *name != "nothing"), "a type that is no whole number");
    }

    #[test]
    fn reads_the_name_of_a_dataset() {
        let text = b"41 1 0x01 4 1088 1 2\nname type data\ndataset_name 7 pool1/data\nwrites 4 5\n";
        assert_eq!(named(text).unwrap(), [("dataset_name", Value::Text("pool1/data")), ("writes", Value::Number(5.0))]);
    }

    #[test]
    fn reads_the_columns_of_a_pool() {
        let columns = columns(include_bytes!("fixtures/kstat_io.txt")).unwrap();
        assert_eq!((columns.len(), columns[0], columns[11]), (12, ("nread", 1_884_160.0), ("rcnt", 0.0)));
        assert_eq!(super::columns(b"nread nwritten\n1\n").unwrap_err().field, "value");
    }
}
