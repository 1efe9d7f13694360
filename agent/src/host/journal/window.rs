//! A stretch of a file that is written while it is read.
//!
//! A line and the fields that only it has stand next to each other, so that one `pread` brings several lines of them.
//! Nothing is mapped: a file that is cut short while it is read ends a read early, and nothing else.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes of the window.
const WINDOW_BYTES: usize = 32 << 10;

/// Of those, how many before what is looked for: the fields of a line stand before it.
const BEFORE_BYTES: u64 = 8 << 10;

/// The window, and room for what is outside of it.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    at: u64,
    aside: Vec<u8>,
}

impl Window {
    /// Forgets what was read: another file, or a later moment.
    pub(super) fn forget(&mut self) {
        self.bytes.clear();
    }

    /// The bytes from `offset` on, `want` of them or as many as there are. The window moves there.
    pub(super) fn read(&mut self, file: &File, offset: u64, want: usize) -> io::Result<&[u8]> {
        if !self.holds(offset, want) {
            self.at = offset.saturating_sub(BEFORE_BYTES);
            fill(file, self.at, WINDOW_BYTES, &mut self.bytes)?;
        }
        Ok(self.held(offset, want))
    }

    /// The same, without moving the window.
    pub(super) fn peek(&mut self, file: &File, offset: u64, want: usize) -> io::Result<&[u8]> {
        if self.holds(offset, want) {
            return Ok(self.held(offset, want));
        }
        fill(file, offset, want, &mut self.aside)?;
        Ok(&self.aside)
    }

    fn holds(&self, offset: u64, want: usize) -> bool {
        offset >= self.at && offset.saturating_add(want as u64) <= self.at.saturating_add(self.bytes.len() as u64)
    }

    fn held(&self, offset: u64, want: usize) -> &[u8] {
        let from = usize::try_from(offset.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let rest = self.bytes.get(from..).unwrap_or_default();
        &rest[..rest.len().min(want)]
    }
}

/// Fills the buffer with what is there, at most `most` bytes.
fn fill(file: &File, at: u64, most: usize, to: &mut Vec<u8>) -> io::Result<()> {
    to.resize(most, 0);
    let mut filled = 0;
    while filled < most {
        match file.read_at(&mut to[filled..], at.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                to.clear();
                return Err(error);
            }
        }
    }
    to.truncate(filled);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn reads_what_is_there_wherever_the_window_is() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        let mut window = Window::default();
        for (at, want) in [(0usize, 10), (50_000, 100), (45_000, 10), (99_990, 100), (20, 64), (200_000, 5)] {
            let end = (at + want).min(bytes.len()).max(at.min(bytes.len()));
            let expected = &bytes[at.min(bytes.len())..end];
            assert_eq!(window.peek(&file, at as u64, want).unwrap(), expected, "{at}");
            assert_eq!(window.read(&file, at as u64, want).unwrap(), expected, "{at}");
        }
        file.write_all(b"new").unwrap();
        window.forget();
        assert_eq!(window.read(&file, 100_000, 10).unwrap(), b"new");
    }
}
