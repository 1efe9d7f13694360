//! Which series moved by how much in the summary that is being written or read: two that move alike are likely to again.

/// Places, of which each keeps the last series that belongs there.
const PLACES: usize = 256;

/// A step, and whether it is a gauge's.
type Move = (i64, bool);

/// Steps of one summary so far.
#[derive(Debug)]
pub(super) struct Seen {
    places: [Option<(Move, u16)>; PLACES],
}

impl Seen {
    pub(super) fn new() -> Self {
        Self { places: [None; PLACES] }
    }

    /// Notes a step, and gives an earlier series that made the same one.
    pub(super) fn note(&mut self, step: Move, at: u16) -> Option<u16> {
        // The upper bits of the product depend on all bits of the step.
        let place = step.0.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        let before = self.places[place as usize & (PLACES - 1)].replace((step, at));
        before.filter(|(of, _)| *of == step).map(|(_, at)| at)
    }
}
