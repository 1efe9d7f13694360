//! Exports that wait to be sent: the oldest go first, on their way and when there is no more room.

use std::collections::VecDeque;

use hyper::body::Bytes;

/// Most exports that wait: ten minutes of a receiver that is away, at the default pace.
const EXPORTS_MAX: usize = 10;

/// Most bytes of them: an export of a host of a hundred units has some 100 KB.
const BYTES_MAX: usize = 2 << 20;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    exports: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    /// Puts an export behind the others. Says how many had to go for it; the newest itself always stays.
    pub(super) fn put(&mut self, export: Bytes) -> u64 {
        self.bytes += export.len();
        self.exports.push_back(export);
        let mut gone = 0;
        while self.exports.len() > 1 && (self.exports.len() > EXPORTS_MAX || self.bytes > BYTES_MAX) {
            self.take();
            gone += 1;
        }
        gone
    }

    /// Takes the oldest.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let export = self.exports.pop_front()?;
        self.bytes -= export.len();
        Some(export)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.exports.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_the_newest_stays() {
        let mut queue = Queue::default();
        let export = |n: u8, bytes| Bytes::from(vec![n; bytes]);
        for n in 0..12 {
            assert_eq!(queue.put(export(n, 1)), u64::from(n >= 10));
        }
        assert_eq!((queue.len(), queue.take().unwrap()[0]), (EXPORTS_MAX, 2));
        assert_eq!(queue.put(export(90, BYTES_MAX - 9)), 0);
        assert_eq!(queue.put(export(91, 3)), 3, "as many as are in the way");
        assert_eq!(queue.put(export(92, BYTES_MAX + 1)), 8, "all others");
        assert_eq!((queue.len(), queue.take().unwrap()[0], queue.take()), (1, 92, None));
        assert_eq!(queue.bytes, 0);
    }
}
