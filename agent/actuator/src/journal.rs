//! What was begun and how it ended, so that no action is carried out twice under one id.
//!
//! One file of fixed slots, written full of zeros when it is made, so that a full disk cannot stop the cure for a full
//! disk. An action takes two slots: `begun`, synced before anything is touched, and `ended`, synced before the reply
//! leaves. The oldest slot is written over; with [`SLOTS`] of them more actions fit than all limits together allow in two
//! hours. A torn write damages one slot, never the other half of the same action.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use mainstay_core::id::ActionId;
use mainstay_core::verb::{ActionStatus, Detail, HEADER_BYTES, Reply};
use sha2::{Digest, Sha256};

use crate::bytes::{FieldReader, Fields, RECORD_HEADER_BYTES, split_record};

/// Bytes of one slot: the unit in which disks write.
pub const SLOT_BYTES: usize = 4096;

/// Slots of the file, 8 MiB in all.
pub const SLOTS: u32 = 2048;

/// Most bytes of a reply that a slot keeps beside its own fields.
const REPLY_BYTES_MAX: usize = SLOT_BYTES - RECORD_HEADER_BYTES - 64;

const BEGUN: u8 = 1;
const ENDED: u8 = 2;

/// A moment as the journal keeps it: the boot clock within one boot, the wall clock across boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which boot.
    pub boot: [u8; 16],
    /// Nanoseconds since that boot.
    pub boot_ns: u64,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
}

/// What stands against beginning an action.
#[derive(Debug, Clone, PartialEq)]
pub enum Begin {
    /// Nothing: it is journalled as begun, go on.
    Go,
    /// It is being carried out right now.
    Running,
    /// It ended before, so.
    Ended(Reply),
    /// It was begun by a process that died.
    Interrupted,
    /// The id stands for another request.
    IdReused,
}

#[derive(Debug, Clone)]
struct Entry {
    request: [u8; 32],
    verb: String,
    at: Stamp,
    ended: Option<Reply>,
    /// Begun by this process, so that without an end it is running rather than interrupted.
    is_ours: bool,
    slot: u32,
}

/// The journal, open and locked: one process at a time has it.
#[derive(Debug)]
pub struct Journal {
    file: File,
    next_slot: u32,
    next_seq: u64,
    actions: BTreeMap<ActionId, Entry>,
}

impl Journal {
    /// Opens the journal, making it if it is not there, and reads what it holds.
    ///
    /// # Errors
    /// When it cannot be made, read or locked; another process having it open is one.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        if file.metadata()?.len() != u64::from(SLOTS) * SLOT_BYTES as u64 {
            fill_with_zeros(&file)?;
        }
        let mut journal = Self { file, next_slot: 0, next_seq: 1, actions: BTreeMap::new() };
        journal.read_all()?;
        Ok(journal)
    }

    /// Journals an action as begun, unless something stands against it. Durable when it returns [`Begin::Go`].
    ///
    /// # Errors
    /// When the slot cannot be written and synced: then nothing may begin.
    pub fn begin(&mut self, action: ActionId, request: [u8; 32], verb: &str, at: Stamp) -> io::Result<Begin> {
        if let Some(known) = self.known(action, request) {
            return Ok(known);
        }
        let slot = self.next_slot;
        let fields = Fields::new().u64(self.next_seq).u8(BEGUN).u64(action.0).bytes(&request).bytes(verb.as_bytes());
        self.append(fields.bytes(&at.boot).u64(at.boot_ns).i64(at.wall_ms))?;
        let entry = Entry { request, verb: verb.to_owned(), at, ended: None, is_ours: true, slot };
        self.actions.insert(action, entry);
        Ok(Begin::Go)
    }

    /// What is known of an action that is asked for (again); `None` if nothing is.
    #[must_use]
    pub fn known(&self, action: ActionId, request: [u8; 32]) -> Option<Begin> {
        let entry = self.actions.get(&action)?;
        Some(match &entry.ended {
            _ if entry.request != request => Begin::IdReused,
            Some(reply) => Begin::Ended(reply.clone()),
            None if entry.is_ours => Begin::Running,
            None => Begin::Interrupted,
        })
    }

    /// Journals how an action ended. Durable when it returns.
    ///
    /// # Errors
    /// When the slot cannot be written and synced; the end is then known to this process only.
    pub fn end(&mut self, action: ActionId, reply: &Reply) -> io::Result<()> {
        let reply = fitted(reply.clone());
        let frame = reply.to_frame().map_err(io::Error::other)?;
        if let Some(entry) = self.actions.get_mut(&action) {
            entry.ended = Some(reply);
        }
        self.append(Fields::new().u64(self.next_seq).u8(ENDED).u64(action.0).bytes(&frame[HEADER_BYTES..]))
    }

    /// What became of an action.
    #[must_use]
    pub fn status(&self, action: ActionId) -> ActionStatus {
        match self.actions.get(&action) {
            None => ActionStatus::NotSeen,
            Some(Entry { ended: Some(reply), .. }) => ActionStatus::Finished(Box::new(reply.clone())),
            Some(Entry { is_ours: true, .. }) => ActionStatus::Running,
            Some(_) => ActionStatus::Interrupted,
        }
    }

    /// When actions of a verb were begun, for the limits.
    pub fn begun<'j>(&'j self, verb: &'j str) -> impl Iterator<Item = Stamp> + 'j {
        self.actions.values().filter(move |entry| entry.verb == verb).map(|entry| entry.at)
    }

    fn append(&mut self, fields: Fields) -> io::Result<()> {
        let mut slot = fields.into_record();
        if slot.len() > SLOT_BYTES {
            return Err(io::Error::other(format!(
                "journal entry is too large (got {}, at most {SLOT_BYTES})",
                slot.len()
            )));
        }
        slot.resize(SLOT_BYTES, 0);
        self.file.write_all_at(&slot, u64::from(self.next_slot) * SLOT_BYTES as u64)?;
        self.file.sync_data()?;
        // Whatever began in the slot that is gone now is forgotten, as a reader of the file would see it.
        let overwritten = self.next_slot;
        self.actions.retain(|_, entry| entry.slot != overwritten);
        self.next_slot = (self.next_slot + 1) % SLOTS;
        self.next_seq += 1;
        Ok(())
    }

    fn read_all(&mut self) -> io::Result<()> {
        let mut slot_bytes = vec![0; SLOT_BYTES];
        let mut found = Vec::new();
        for slot in 0..SLOTS {
            self.file.read_exact_at(&mut slot_bytes, u64::from(slot) * SLOT_BYTES as u64)?;
            if let Some((seq, record)) = split_record(&slot_bytes).and_then(|(body, _)| read_slot(body, slot)) {
                found.push((seq, slot, record));
            }
        }
        found.sort_by_key(|(seq, ..)| *seq);
        if let Some((seq, slot, _)) = found.last() {
            self.next_seq = seq + 1;
            self.next_slot = (slot + 1) % SLOTS;
        }
        for (_, _, (action, record)) in found {
            match record {
                Record::Begun(entry) => {
                    self.actions.insert(action, entry);
                }
                Record::Ended(reply) => {
                    if let Some(entry) = self.actions.get_mut(&action) {
                        entry.ended = Some(reply);
                    }
                }
            }
        }
        Ok(())
    }
}

enum Record {
    Begun(Entry),
    Ended(Reply),
}

fn read_slot(body: &[u8], slot: u32) -> Option<(u64, (ActionId, Record))> {
    let mut fields = FieldReader::new(body);
    let (seq, kind, action) = (fields.u64()?, fields.u8()?, ActionId(fields.u64()?));
    let record = match kind {
        BEGUN => {
            let request = fields.bytes()?.try_into().ok()?;
            let verb = String::from_utf8(fields.bytes()?.to_vec()).ok()?;
            let boot = fields.bytes()?.try_into().ok()?;
            let at = Stamp { boot, boot_ns: fields.u64()?, wall_ms: fields.i64()? };
            Record::Begun(Entry { request, verb, at, ended: None, is_ours: false, slot })
        }
        ENDED => Record::Ended(Reply::from_body(fields.bytes()?).ok()?),
        _ => return None,
    };
    Some((seq, (action, record)))
}

/// Real zeros rather than `fallocate`: later writes then need no new blocks and no change of extents.
fn fill_with_zeros(file: &File) -> io::Result<()> {
    file.set_len(0)?;
    let zeros = vec![0; SLOT_BYTES * 64];
    let chunks = SLOTS / 64;
    for chunk in 0..chunks {
        file.write_all_at(&zeros, u64::from(chunk) * zeros.len() as u64)?;
    }
    file.sync_all()
}

/// The reply as a slot can keep it: details that are many are cut, what was done stays.
fn fitted(mut reply: Reply) -> Reply {
    let is_small = |reply: &Reply| reply.to_frame().is_ok_and(|frame| frame.len() <= REPLY_BYTES_MAX);
    while !is_small(&reply) {
        match &mut reply {
            Reply::Done(Detail::Undo(done)) if !done.conflicts.is_empty() => {
                done.conflicts.pop();
            }
            Reply::Done(Detail::Reclaim(done)) if done.places.iter().any(|place| !place.skipped.is_empty()) => {
                done.places.iter_mut().for_each(|place| place.skipped.clear());
            }
            Reply::Failed(failure) if failure.text.len() > 1024 => failure.text = cut(&failure.text, 1024),
            Reply::Refused(refusal) if refusal.text.len() > 1024 => refusal.text = cut(&refusal.text, 1024),
            _ => return Reply::failed("the reply was too large to be kept", 0),
        }
    }
    reply
}

fn cut(text: &str, bytes_max: usize) -> String {
    let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// What the journal compares requests by: everything but the decision behind them.
#[must_use]
pub fn request_hash(action: ActionId, verb: &mainstay_core::verb::Verb) -> Option<[u8; 32]> {
    let request = mainstay_core::verb::Request::new(action, verb.clone());
    request.to_frame().ok().map(|frame| Sha256::digest(&frame).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::verb::{Conflict, UndoDone};

    const AT: Stamp = Stamp { boot: [1; 16], boot_ns: 5, wall_ms: 7 };

    fn done() -> Reply {
        Reply::failed("it did not start", 12)
    }

    fn open(dir: &tempfile::TempDir) -> Journal {
        Journal::open(&dir.path().join("journal")).unwrap()
    }

    #[test]
    fn an_action_ends_once_and_its_outcome_is_told_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(&dir);
        assert_eq!(journal.status(ActionId(1)), ActionStatus::NotSeen);
        assert_eq!(journal.begin(ActionId(1), [1; 32], "unit.restart", AT).unwrap(), Begin::Go);
        assert_eq!(journal.begin(ActionId(1), [1; 32], "unit.restart", AT).unwrap(), Begin::Running);
        journal.end(ActionId(1), &done()).unwrap();
        assert_eq!(journal.begin(ActionId(1), [1; 32], "unit.restart", AT).unwrap(), Begin::Ended(done()));
        drop(journal);
        let mut journal = open(&dir);
        assert_eq!(journal.begin(ActionId(1), [1; 32], "unit.restart", AT).unwrap(), Begin::Ended(done()));
        assert_eq!(journal.begun("unit.restart").collect::<Vec<_>>(), [AT]);
    }

    #[test]
    fn what_was_begun_before_a_crash_is_interrupted_and_not_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(&dir);
        journal.begin(ActionId(1), [1; 32], "unit.restart", AT).unwrap();
        drop(journal);
        let mut journal = open(&dir);
        assert_eq!(journal.begin(ActionId(1), [1; 32], "unit.restart", AT).unwrap(), Begin::Interrupted);
        assert_eq!(journal.status(ActionId(1)), ActionStatus::Interrupted);
    }

    #[test]
    fn an_id_stands_for_one_request() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(&dir);
        journal.begin(ActionId(1), [1; 32], "unit.restart", AT).unwrap();
        assert_eq!(journal.begin(ActionId(1), [2; 32], "unit.stop", AT).unwrap(), Begin::IdReused);
    }

    #[test]
    fn a_torn_outcome_leaves_the_beginning_standing() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(&dir);
        journal.begin(ActionId(1), [1; 32], "unit.restart", AT).unwrap();
        journal.end(ActionId(1), &done()).unwrap();
        journal.file.write_all_at(&[0xff; 100], SLOT_BYTES as u64 + 10).unwrap();
        drop(journal);
        assert_eq!(open(&dir).status(ActionId(1)), ActionStatus::Interrupted);
    }

    #[test]
    fn the_oldest_actions_are_forgotten_and_the_file_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(&dir);
        let actions = u64::from(SLOTS);
        for id in 1..=actions {
            journal.begin(ActionId(id), [1; 32], "unit.restart", AT).unwrap();
        }
        assert_eq!(journal.status(ActionId(1)), ActionStatus::Running);
        journal.begin(ActionId(actions + 1), [1; 32], "unit.restart", AT).unwrap();
        assert_eq!(journal.status(ActionId(1)), ActionStatus::NotSeen);
        drop(journal);
        let journal = open(&dir);
        assert_eq!(journal.status(ActionId(1)), ActionStatus::NotSeen);
        assert_eq!(journal.status(ActionId(2)), ActionStatus::Interrupted);
        assert_eq!(journal.file.metadata().unwrap().len(), u64::from(SLOTS) * SLOT_BYTES as u64);
    }

    #[test]
    fn a_second_process_cannot_have_it() {
        let dir = tempfile::tempdir().unwrap();
        let _journal = open(&dir);
        assert!(Journal::open(&dir.path().join("journal")).is_err());
    }

    #[test]
    fn a_reply_with_much_detail_is_cut_to_fit() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(&dir);
        let conflicts =
            (0..32).map(|_| Conflict { path: "/x".repeat(400).as_str().into(), why: "there".into() }).collect();
        let undone = UndoDone { restored_files: 3, restored_bytes: 9, conflicts, conflicts_total: 32 };
        journal.begin(ActionId(1), [1; 32], "undo", AT).unwrap();
        journal.end(ActionId(1), &Reply::Done(Detail::Undo(undone))).unwrap();
        let Begin::Ended(Reply::Done(Detail::Undo(kept))) = journal.begin(ActionId(1), [1; 32], "undo", AT).unwrap()
        else {
            panic!("not ended");
        };
        assert_eq!((kept.restored_files, kept.conflicts_total), (3, 32));
        assert!(!kept.conflicts.is_empty() && kept.conflicts.len() < 32);
    }
}
