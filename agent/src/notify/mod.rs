//! Tells people: a message is made durable first and delivered afterwards, however long that takes.
//!
//! In: messages from decisions ([`Outbox::put`]). Out: webhooks and mails. A message that was taken
//! is delivered at least once, also across restarts, and given up only after three days.

mod deliver;
mod outbox;
mod smtp;
mod webhook;

pub use deliver::{Sender, deliver};
pub use outbox::{MESSAGES_MAX, Message, Outbox, OutboxError, Put};
