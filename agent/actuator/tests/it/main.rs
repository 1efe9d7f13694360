//! The actuator as a whole: planted trees, hostile neighbours, crashes, and its socket.
//!
//! What needs a filesystem or mounts of its own runs as root in a mount namespace of its own; without root those tests say
//! that they were skipped, and with `CI=true` that is a failure.

mod crash;
mod dependencies;
mod disk;
mod dispatch;
mod property;
mod race;
mod socket;
mod traps;
mod undo;
mod world;
