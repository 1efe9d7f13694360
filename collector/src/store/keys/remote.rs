//! Remote write: who brings series, and how far what is handed on has been taken.

super::key! {
    /// By what it is, then by a number, a time and a name where it has them.
    RemoteKey in Meta as 21 {
        /// One of the constants below.
        part: u8,
        /// A short number: of a source, or of the host that a mark is of.
        number: u32,
        /// When a row came late; 0 of all others.
        at_ms: i64,
        /// Of a target.
        target: String,
    }
}

impl RemoteKey {
    /// A source of series, under its short number.
    pub const SOURCE: u8 = 1;
    /// How far a host's rows are sent to a target; of host 0, since when that is done at all.
    pub const MARK: u8 = 2;
    /// A row of a host that came after later ones and is still to be sent to a target.
    pub const LATE: u8 = 3;

    /// Numbers of sources begin here; those of hosts count from 1.
    pub const SOURCES_FROM: u32 = 1 << 31;

    /// All of one kind.
    #[must_use]
    pub fn all(part: u8) -> Vec<u8> {
        super::prefix!(RemoteKey, part)
    }
}
