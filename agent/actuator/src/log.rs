//! One line to the journal, with the priority that journald takes from `<N>` at its start.

use std::fmt::Display;

/// An action, a refusal or a change of state.
pub fn info(message: impl Display) {
    line(6, &message);
}

/// Something went wrong, and was coped with.
pub fn warn(message: impl Display) {
    line(4, &message);
}

/// Somebody is needed.
pub fn error(message: impl Display) {
    line(3, &message);
}

fn line(priority: u8, message: &impl Display) {
    // A line break in a text from outside must not begin a line of its own.
    let message = message.to_string().replace(['\n', '\r'], " ");
    eprintln!("<{priority}>{message}");
}
