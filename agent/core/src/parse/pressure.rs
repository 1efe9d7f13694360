//! `/proc/pressure/*` and `*.pressure` of a cgroup: pressure stall information.

use super::{At, ParseError, lines, words};
use crate::sample::{Pressure, Stall};

/// Parses the file. `full` is absent for CPU before Linux 5.13.
///
/// # Errors
/// Where the `some` line is missing, or a value is no number.
pub fn parse(bytes: &[u8]) -> Result<Pressure, ParseError> {
    let mut some = None;
    let mut full = None;
    for (line, text) in lines(bytes) {
        let at = At { file: "pressure", line };
        let mut words = words(text);
        match words.next() {
            Some(b"some") => some = Some(stall(at, words)?),
            Some(b"full") => full = Some(stall(at, words)?),
            _ => {}
        }
    }
    let some = some.ok_or_else(|| At { file: "pressure", line: 1 }.missing("some"))?;
    Ok(Pressure { some, full })
}

/// Parses `avg10=0.00 avg60=0.00 avg300=0.00 total=0`. The averages are per cent.
fn stall<'a>(at: At, words: impl Iterator<Item = &'a [u8]>) -> Result<Stall, ParseError> {
    let (mut avg10, mut avg60, mut avg300, mut total) = (None, None, None, None);
    for word in words {
        let Some(equals) = word.iter().position(|b| *b == b'=') else { continue };
        let value = Some(&word[equals + 1..]);
        match &word[..equals] {
            b"avg10" => avg10 = Some(at.number::<f64>("avg10", value)?),
            b"avg60" => avg60 = Some(at.number::<f64>("avg60", value)?),
            b"avg300" => avg300 = Some(at.number::<f64>("avg300", value)?),
            b"total" => total = Some(at.number("total", value)?),
            _ => {}
        }
    }
    let ratio = |percent: Option<f64>, field| Ok(percent.ok_or_else(|| at.missing(field))? / 100.0);
    Ok(Stall {
        avg10_ratio: ratio(avg10, "avg10")?,
        avg60_ratio: ratio(avg60, "avg60")?,
        avg300_ratio: ratio(avg300, "avg300")?,
        total_us: total.ok_or_else(|| at.missing("total"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_this_kernel_writes_as_ratios() {
        let pressure = parse(include_bytes!("fixtures/pressure.6.18.txt")).unwrap();
        assert_eq!(pressure.some.avg10_ratio, 0.3569);
        assert_eq!(pressure.some.total_us, 851_835_681);
        assert_eq!(pressure.full.unwrap().total_us, 0);
        let pressure = parse(include_bytes!("fixtures/pressure.6.1.txt")).unwrap();
        assert!((pressure.some.avg10_ratio - 0.0201).abs() < 1e-12, "{pressure:?}");
        assert_eq!(pressure.some.total_us, 376_768);
        assert_eq!(pressure.full.unwrap().total_us, 374_174);
    }

    #[test]
    fn reads_a_kernel_without_full_for_cpu() {
        let pressure = parse(b"some avg10=1.00 avg60=0.50 avg300=0.10 total=42\n").unwrap();
        assert_eq!((pressure.some.total_us, pressure.full), (42, None));
    }

    #[test]
    fn refuses_a_line_without_total() {
        assert_eq!(parse(b"some avg10=1.00 avg60=0.50 avg300=0.10\n").unwrap_err().field, "total");
    }
}
