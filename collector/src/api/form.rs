//! Parameters of a request: percent-encoded pairs, times and durations as Prometheus takes them.

use std::time::Duration;

use mainstay_promql::{duration_ms, moment_ms};

use super::Refused;
use crate::query::TIMEOUT;

/// Parameters in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Form {
    pairs: Vec<(String, String)>,
}

impl Form {
    /// Adds those of a URL's query or of a body.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        for pair in bytes.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let value = pair.get(at + 1..).unwrap_or_default();
            self.pairs.push((decoded_bytes(&pair[..at]), decoded_bytes(value)));
        }
    }

    /// The first of a name, if it is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// All of a name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Refused> {
        self.get(name).ok_or_else(|| Refused::bad_data(format!("invalid parameter {name:?}: it is missing")))
    }

    /// A time, if it is there.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, Refused> {
        let read = |text| {
            moment_ms(text).ok_or_else(|| {
                Refused::bad_data(format!("invalid parameter {name:?}: cannot parse {text:?} to a valid timestamp"))
            })
        };
        self.get(name).map(read).transpose()
    }

    pub(super) fn required_time(&self, name: &str) -> Result<i64, Refused> {
        self.required(name)?;
        Ok(self.time(name)?.unwrap_or_default())
    }

    /// How long the answer may take: what is asked for, but no longer than we allow.
    pub(super) fn timeout(&self) -> Result<Duration, Refused> {
        let Some(text) = self.get("timeout") else { return Ok(TIMEOUT) };
        let ms = duration_ms(text).and_then(|ms| u64::try_from(ms).ok());
        let ms =
            ms.ok_or_else(|| Refused::bad_data(format!("invalid parameter \"timeout\": {text:?} is no duration")))?;
        Ok(Duration::from_millis(ms).min(TIMEOUT))
    }
}

/// Percent-decoding.
pub(super) fn decoded(text: &str) -> String {
    decoded_bytes(text.as_bytes())
}

fn decoded_bytes(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = hex.filter(|_| *first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let mut form = Form::default();
        form.read(b"query=sum%28up%29+%2B+1&match[]=a&match%5B%5D=b%7Bc%3D%22%C3%A9%22%7D&empty=&100%=%zz");
        assert_eq!(form.get("query"), Some("sum(up) + 1"));
        assert_eq!(form.all("match[]").collect::<Vec<_>>(), ["a", "b{c=\"é\"}"]);
        assert_eq!(form.get("empty"), None);
        assert_eq!(form.get("100%"), Some("%zz"));
        assert!(form.required("nothing").is_err());
    }

    #[test]
    fn a_timeout_can_be_shorter_but_not_longer() {
        let timeout = |text: &[u8]| {
            let mut form = Form::default();
            form.read(text);
            form.timeout()
        };
        assert_eq!(timeout(b"timeout=5s").unwrap(), Duration::from_secs(5));
        assert_eq!(timeout(b"timeout=1h").unwrap(), TIMEOUT);
        assert_eq!(timeout(b"").unwrap(), TIMEOUT);
        assert!(timeout(b"timeout=soon").is_err());
    }
}
