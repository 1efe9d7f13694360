//! Messages on disk: one file each, named by the action that sent it.
//!
//! `ACTION.json` waits; `ACTION.done` was delivered and is kept for a while, so that a message is
//! not sent again when the agent asks after a crash what became of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mainstay_core::id::ActionId;
use serde::{Deserialize, Serialize};

use crate::durable;

/// Most messages that wait. What comes when it is full is refused, and the ledger says so: an
/// operator who cannot be reached a thousand times is not reached by one more message.
pub const MESSAGES_MAX: usize = 1_000;

/// Most delivered messages that are remembered; the oldest are forgotten first.
const DONE_MAX: usize = 256;

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The action that it is, as text.
    pub action: String,
    /// The decision that it is about, as text.
    pub decision: String,
    /// The target, by the name of the configuration.
    pub to: String,
    /// What is said: its first line is the subject.
    pub text: String,
    /// Name of the host.
    pub hostname: String,
    /// When it was put here, in milliseconds since 1970.
    pub created_ms: i64,
}

impl Message {
    /// The first line.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.text.lines().next().unwrap_or("Mainstay")
    }
}

/// Whether a message was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It waits.
    New,
    /// It had been put before; nothing has changed.
    Known,
}

/// Why a message cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// Nobody was reached for long.
    #[error("outbox is full ({MESSAGES_MAX} messages wait)")]
    Full,
    /// The disk says no.
    #[error("cannot keep the message in {path}: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The messages of a host.
#[derive(Debug)]
pub struct Outbox {
    folder: PathBuf,
    waiting: BTreeMap<String, Message>,
    done: Vec<String>,
    damaged: u64,
}

impl Outbox {
    /// Opens the outbox in `folder`, with whatever the agent before left there. A file that cannot
    /// be understood is set aside as `.bad` and counted.
    ///
    /// # Errors
    /// Where the folder cannot be made or listed.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut outbox = Self { folder: folder.to_owned(), waiting: BTreeMap::new(), done: Vec::new(), damaged: 0 };
        let mut done = Vec::new();
        for entry in fs::read_dir(folder)?.flatten() {
            let path = entry.path();
            let Some(action) = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned) else { continue };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => outbox.take_file(&path, action)?,
                Some("done") => done.push((entry.metadata()?.modified()?, action)),
                _ => {}
            }
        }
        done.sort();
        outbox.done = done.into_iter().map(|(_, action)| action).collect();
        Ok(outbox)
    }

    fn take_file(&mut self, path: &Path, action: String) -> io::Result<()> {
        match serde_json::from_slice::<Message>(&fs::read(path)?) {
            Ok(message) => {
                self.waiting.insert(action, message);
                Ok(())
            }
            Err(_) => {
                self.damaged += 1;
                fs::rename(path, path.with_extension("bad"))
            }
        }
    }

    /// Keeps a message durably.
    ///
    /// # Errors
    /// [`OutboxError`]: then nothing is kept.
    pub fn put(&mut self, action: ActionId, message: Message) -> Result<Put, OutboxError> {
        let name = action.to_string();
        if self.holds(action) {
            return Ok(Put::Known);
        }
        if self.waiting.len() >= MESSAGES_MAX {
            return Err(OutboxError::Full);
        }
        let path = self.folder.join(format!("{name}.json"));
        let disk = |source| OutboxError::Disk { path: path.clone(), source };
        let bytes = serde_json::to_vec(&message).map_err(|error| disk(io::Error::other(error)))?;
        durable::write_atomic(&path, &bytes, 0o600).map_err(disk)?;
        self.waiting.insert(name, message);
        Ok(Put::New)
    }

    /// Whether the message of this action waits here or was delivered lately.
    #[must_use]
    pub fn holds(&self, action: ActionId) -> bool {
        let name = action.to_string();
        self.waiting.contains_key(&name) || self.done.contains(&name)
    }

    /// The messages that wait, by action.
    pub fn waiting(&self) -> impl Iterator<Item = (&str, &Message)> {
        self.waiting.iter().map(|(action, message)| (action.as_str(), message))
    }

    /// How many files could not be understood when it was opened.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// A message was delivered, or given up.
    ///
    /// # Errors
    /// Where the disk says no; the message then is delivered once more after a restart.
    pub fn finish(&mut self, action: &str) -> io::Result<()> {
        if self.waiting.remove(action).is_none() {
            return Ok(());
        }
        let path = self.folder.join(format!("{action}.json"));
        fs::rename(&path, path.with_extension("done"))?;
        self.done.push(action.to_owned());
        while self.done.len() > DONE_MAX {
            let oldest = self.done.remove(0);
            fs::remove_file(self.folder.join(format!("{oldest}.done")))?;
        }
        durable::sync_dir(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(to: &str) -> Message {
        Message {
            action: ActionId(1).to_string(),
            decision: "d-0000000000000002".to_owned(),
            to: to.to_owned(),
            text: "app.service failed\nmore".to_owned(),
            hostname: "h1".to_owned(),
            created_ms: 5,
        }
    }

    #[test]
    fn a_message_survives_a_restart_and_is_known_after_it_was_delivered() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path()).unwrap();
        assert_eq!(outbox.put(ActionId(1), message("ops")).unwrap(), Put::New);
        assert_eq!(outbox.put(ActionId(1), message("ops")).unwrap(), Put::Known);

        let mut outbox = Outbox::open(folder.path()).unwrap();
        let waiting: Vec<_> = outbox.waiting().map(|(action, m)| (action.to_owned(), m.clone())).collect();
        assert_eq!(waiting, [(ActionId(1).to_string(), message("ops"))]);
        assert_eq!(waiting[0].1.subject(), "app.service failed");
        outbox.finish(&waiting[0].0).unwrap();

        let mut outbox = Outbox::open(folder.path()).unwrap();
        assert_eq!(outbox.waiting().count(), 0);
        assert!(outbox.holds(ActionId(1)) && !outbox.holds(ActionId(2)));
        assert_eq!(outbox.put(ActionId(1), message("ops")).unwrap(), Put::Known);
    }

    #[test]
    fn a_full_outbox_refuses_and_a_damaged_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a-1.json"), "{").unwrap();
        let mut outbox = Outbox::open(folder.path()).unwrap();
        assert_eq!((outbox.damaged(), outbox.waiting().count()), (1, 0));
        assert!(folder.path().join("a-1.bad").exists());
        outbox.waiting = (0..MESSAGES_MAX).map(|n| (n.to_string(), message("ops"))).collect();
        assert!(matches!(outbox.put(ActionId(7), message("ops")), Err(OutboxError::Full)));
    }
}
