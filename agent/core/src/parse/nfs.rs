//! `/proc/net/rpc/{nfs,nfsd}`: calls of the NFS client and server.

use std::collections::BTreeMap;

use super::{At, ParseError, lines, words};

/// The rows of a file: by key (`proc3`), its numbers without the count that stands before them.
pub type Rows<'a> = BTreeMap<&'a str, Vec<f64>>;

/// Parses the statistics of the client.
///
/// # Errors
/// Where a value is no number, or `net` or `rpc` is missing.
pub fn client(bytes: &[u8]) -> Result<Rows<'_>, ParseError> {
    rows("net/rpc/nfs", bytes, &[("net", 4), ("rpc", 3)])
}

/// Parses the statistics of the server.
///
/// # Errors
/// Where a value is no number, or a row that every kernel writes is missing.
pub fn server(bytes: &[u8]) -> Result<Rows<'_>, ParseError> {
    rows("net/rpc/nfsd", bytes, &[("rc", 3), ("fh", 1), ("io", 2), ("th", 1), ("net", 4), ("rpc", 5)])
}

fn rows<'a>(file: &'static str, bytes: &'a [u8], needed: &[(&'static str, usize)]) -> Result<Rows<'a>, ParseError> {
    let mut rows = Rows::new();
    let mut last = At { file, line: 1 };
    for (line, text) in lines(bytes) {
        last.line = line;
        let mut words = words(text);
        let key = last.text("key", words.next())?;
        let counted = key.starts_with("proc");
        let numbers = words.skip(usize::from(counted)).map(|word| last.number("value", Some(word)));
        rows.insert(key, numbers.collect::<Result<_, _>>()?);
    }
    for (key, count) in needed {
        if rows.get(key).is_none_or(|row| row.len() < *count) {
            return Err(last.missing(key));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_client_of_two_kernels() {
        let old = client(include_bytes!("fixtures/nfs.4.19.txt")).unwrap();
        assert_eq!((old["net"][2], old["rpc"][1]), (69.0, 1.0));
        assert_eq!((old["proc2"].len(), old["proc3"].len(), old["proc4"].len()), (18, 22, 58));
        let new = client(include_bytes!("fixtures/nfs.6.1.txt")).unwrap();
        assert_eq!((new["proc3"][1], new["proc4"].len()), (40_847.0, 69));
    }

    #[test]
    fn reads_the_server_of_two_kernels() {
        let old = server(include_bytes!("fixtures/nfsd.4.19.txt")).unwrap();
        assert_eq!((old["th"][0], old["ra"][0], old["proc4ops"].len()), (8.0, 32.0, 59));
        let new = server(include_bytes!("fixtures/nfsd.6.1.txt")).unwrap();
        assert!(!new.contains_key("ra"), "gone since Linux 5.19");
        assert_eq!(new["proc4ops"].len(), 76);
    }

    #[test]
    fn names_the_row_that_is_missing() {
        assert_eq!(client(b"net 0 0 0 0\n").unwrap_err().field, "rpc");
        assert_eq!(server(b"rc 0 0\n").unwrap_err().field, "rc");
    }
}
