//! Follows the journal: what the host's log comes to, for the samples.
//!
//! A thread of its own reads journald's files once a second and digests the lines ([`Follower`]); the loop takes the
//! latest reading and never waits. What cannot be read is unknown, with the reason, and so is a journal whose reading
//! hangs. The kernel's log is read here as well: journald has it, and vouches for what came from the kernel.
//! *Invariant:* nothing of a line but counts, templates and few redacted examples leaves this module.

mod file;
mod files;
mod follow;
#[cfg(test)]
mod made;
mod unpack;
mod window;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Sender, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mainstay_core::log::LogReading;

use super::bell::{Bell, bell_and_ear};
use super::clock;

pub use follow::{Follower, LINES_READ_MAX};

/// How often the files are looked at while something is written.
const EVERY: Duration = Duration::from_secs(1);

/// How often they are looked at although nothing is, as far as the kernel tells.
const QUIET_EVERY: Duration = Duration::from_secs(10);

/// How long the thread rests while it is not to read at all.
const PAUSED_EVERY: Duration = Duration::from_secs(3_600);

/// A round that takes longer than this hangs: what the log says is unknown until it is back.
const ROUND_MAX: Duration = Duration::from_secs(15);

/// Longest wait for the thread at the end.
const STOP_MAX: Duration = Duration::from_secs(1);

/// What is asked of the thread.
enum Ask {
    /// To hand out what was learned, to be saved.
    Save,
    /// To read nothing.
    Pause,
    /// To go on with what is written from now on.
    Resume,
    /// To end, and to say what was learned.
    Stop(Sender<Vec<u8>>),
}

/// What the thread hands over.
#[derive(Debug)]
struct Slot {
    /// Since the last one was taken.
    reading: Option<LogReading>,
    /// What is followed, or why nothing is known; `None` before the first round.
    state: Option<Result<String, String>>,
    /// When the last round ended.
    round_at: Instant,
    saved: Option<Vec<u8>>,
}

/// The journal, as the loop has it.
#[derive(Debug)]
pub struct Journal {
    slot: Arc<Mutex<Slot>>,
    asks: Sender<Ask>,
    bell: Bell,
    /// The last reading, without its news.
    last: Option<Arc<LogReading>>,
    is_paused: bool,
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Save => "Save",
            Self::Pause => "Pause",
            Self::Resume => "Resume",
            Self::Stop(_) => "Stop",
        })
    }
}

impl Journal {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where none can be started.
    pub fn start(mut follower: Follower) -> io::Result<Self> {
        let slot = Slot { reading: None, state: None, round_at: Instant::now(), saved: None };
        let slot = Arc::new(Mutex::new(slot));
        let (asks, asked) = mpsc::channel();
        let shared = Arc::clone(&slot);
        let (bell, mut ear) = bell_and_ear()?;
        std::thread::Builder::new().name("journal".to_owned()).stack_size(256 << 10).spawn(move || {
            // When the next reading is made although no line came: what the last one says of a minute has grown old.
            let (mut due, mut is_paused) = (Instant::now(), false);
            loop {
                let begun = Instant::now();
                if ear.news().moved {
                    follower.look_for_files();
                }
                if !is_paused {
                    let lines = follower.lines();
                    let state = follower.round(clock::now().wall_ms);
                    let is_due = state.is_ok() && (follower.lines() > lines || begun >= due);
                    if follower.lines() > lines {
                        // There may be more than one round takes.
                        ear.expect_more();
                    }
                    if is_due {
                        due = begun + QUIET_EVERY;
                    }
                    ear.watch(follower.folders());
                    hand_over(&shared, is_due.then(|| follower.reading(clock::now().wall_ms)), state);
                }
                loop {
                    let seldom = if is_paused { PAUSED_EVERY } else { QUIET_EVERY };
                    match asked.try_recv() {
                        Ok(Ask::Save) => lock(&shared).saved = Some(follower.snapshot()),
                        Ok(Ask::Pause) => is_paused = true,
                        Ok(Ask::Resume) => {
                            follower.begin_anew(clock::now().wall_ms);
                            (due, is_paused) = (begun, false);
                            break;
                        }
                        Ok(Ask::Stop(answer)) => {
                            let _ = answer.send(follower.snapshot());
                            return;
                        }
                        Err(TryRecvError::Disconnected) => return,
                        Err(TryRecvError::Empty) if ear.rest(begun, EVERY, seldom) => {}
                        Err(TryRecvError::Empty) => break,
                    }
                }
            }
        })?;
        Ok(Self { slot, asks, bell, last: None, is_paused: false })
    }

    fn ask(&self, ask: Ask) {
        // A thread that is gone says so by what it does not hand over.
        let _ = self.asks.send(ask);
        self.bell.ring();
    }

    /// Whether it is to be read at all. While it is not, nothing is known of it, and what is written then is not held
    /// against what is usual.
    pub fn set_paused(&mut self, is_paused: bool) {
        if self.is_paused == is_paused {
            return;
        }
        (self.is_paused, self.last) = (is_paused, None);
        let mut slot = lock(&self.slot);
        // What it hands over until it has heard of this is old.
        (slot.reading, slot.state, slot.round_at) = (None, None, Instant::now());
        self.ask(if is_paused { Ask::Pause } else { Ask::Resume });
    }

    /// What the log came to up to now; `None` before it was first read.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn take(&mut self) -> Result<Option<Arc<LogReading>>, String> {
        if self.is_paused {
            return Ok(None);
        }
        let (reading, state, round_at) = {
            let mut slot = lock(&self.slot);
            (slot.reading.take(), slot.state.clone(), slot.round_at)
        };
        let state = if round_at.elapsed() > ROUND_MAX {
            // The same words every time: they are said once.
            Err("reading its files hangs".to_owned())
        } else {
            state.transpose().map(|_| ())
        };
        if let Err(why) = state {
            self.last = None;
            return Err(why);
        }
        let Some(reading) = reading else { return Ok(self.last.clone()) };
        let reading = Arc::new(reading);
        let rest = if reading.has_news() { Arc::new(reading.without_news()) } else { Arc::clone(&reading) };
        self.last = Some(rest);
        Ok(Some(reading))
    }

    /// The last reading, without what was new in it.
    #[must_use]
    pub fn last(&self) -> Option<Arc<LogReading>> {
        self.last.clone()
    }

    /// What is followed, in words, or why nothing is known.
    pub fn describe(&self) -> Result<String, String> {
        if self.is_paused {
            return Err("not read, to keep the agent's budget".to_owned());
        }
        lock(&self.slot).state.clone().unwrap_or_else(|| Err("not read yet".to_owned()))
    }

    /// Asks for what was learned; [`Journal::saved`] has it a moment later.
    pub fn save(&self) {
        self.ask(Ask::Save);
    }

    /// What was learned, once after [`Journal::save`].
    #[must_use]
    pub fn saved(&self) -> Option<Vec<u8>> {
        lock(&self.slot).saved.take()
    }

    /// Ends the thread; gives what was learned, unless it hangs.
    #[must_use]
    pub fn stop(self) -> Option<Vec<u8>> {
        let (answer, answered) = mpsc::channel();
        self.ask(Ask::Stop(answer));
        answered.recv_timeout(STOP_MAX).ok()
    }
}

/// Whether there is a journal below `root` of which this user may read something.
///
/// # Errors
/// Why there is none, in words.
pub fn readable(root: &Path) -> Result<(), String> {
    let mut refused = None;
    for found in files::list(&files::folders(root)?)? {
        match File::open(&found.path) {
            Ok(_) => return Ok(()),
            Err(error) => refused = Some(format!("cannot read {}: {error}", found.path.display())),
        }
    }
    Err(refused.unwrap_or_else(|| "the journal has no files".to_owned()))
}

impl Drop for Journal {
    fn drop(&mut self) {
        // The thread finds its end of the channel alone.
        let (nobody, _) = mpsc::channel();
        self.asks = nobody;
        self.bell.ring();
    }
}

fn hand_over(slot: &Mutex<Slot>, reading: Option<LogReading>, state: Result<String, String>) {
    let mut slot = lock(slot);
    if let Some(mut reading) = reading {
        if let Some(before) = slot.reading.take() {
            reading.follow(&before);
        }
        slot.reading = Some(reading);
    }
    slot.state = Some(state);
    slot.round_at = Instant::now();
}

/// A panic in the thread ends the agent; what stands in the slot is whole in any case.
fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use mainstay_core::log::{Digest, Redaction};
    use mainstay_core::parse::kmsg::KernelEvent;

    use super::made::{Made, MadeFile};
    use super::*;

    /// Waits for a reading that is as wanted.
    fn until(journal: &mut Journal, wanted: impl Fn(&LogReading) -> bool) -> Arc<LogReading> {
        let begun = Instant::now();
        loop {
            if let Ok(Some(reading)) = journal.take()
                && wanted(&reading)
            {
                return reading;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", journal.describe());
            std::thread::yield_now();
        }
    }

    #[test]
    fn news_is_in_one_reading_only_and_what_was_learned_is_handed_out_at_the_end() {
        let host = Made::new();
        let mut file = MadeFile::new(true);
        file.kernel("I/O error, dev sdb, sector 7 op 0x0:(READ)", clock::now().wall_ms + 1);
        host.put("system.journal", &file);
        let digest = Digest::new(Redaction::default());
        let mut journal = Journal::start(Follower::new(host.root(), digest, clock::now().wall_ms)).unwrap();
        let reading = until(&mut journal, LogReading::has_news);
        assert_eq!(reading.events, [KernelEvent::IoError { device: "sdb".into() }]);
        assert!(!journal.last().unwrap().has_news() && !journal.take().unwrap().unwrap().has_news());
        assert_eq!(journal.describe().unwrap(), "1 file");
        let saved = journal.stop().unwrap();
        assert!(Digest::restore(&saved, Redaction::default()).unwrap().seen_ms() > 0);
    }

    #[test]
    fn while_it_is_paused_nothing_is_known_and_what_is_written_then_does_not_count() {
        let host = Made::new();
        let mut file = MadeFile::new(true);
        host.put("system.journal", &file);
        let digest = Digest::new(Redaction::default());
        let mut journal = Journal::start(Follower::new(host.root(), digest, clock::now().wall_ms)).unwrap();
        until(&mut journal, |_| true);
        journal.set_paused(true);
        assert!(journal.take() == Ok(None) && journal.last().is_none());
        assert!(journal.describe().unwrap_err().contains("budget"));
        let before = clock::now().wall_ms;
        for n in 0..50 {
            file.unit("app.service", 3, &format!("cannot open {n}"), before);
        }
        host.put("system.journal", &file);
        // The thread has heard of the pause once it answers what was asked behind it.
        journal.save();
        let begun = Instant::now();
        while journal.saved().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(30));
            std::thread::yield_now();
        }
        assert_eq!(journal.take(), Ok(None));
        while clock::now().wall_ms <= before {
            std::thread::yield_now();
        }
        journal.set_paused(false);
        let reading = until(&mut journal, |_| true);
        assert!(reading.units.values().all(|counts| counts.errors == 0), "{reading:?}");
        assert_eq!(journal.describe().unwrap(), "1 file");
    }

    #[test]
    fn a_host_without_a_journal_says_why() {
        let root = tempfile::tempdir().unwrap();
        let mut journal = Journal::start(Follower::new(root.path(), Digest::default(), 0)).unwrap();
        let begun = Instant::now();
        let why = loop {
            if let Err(why) = journal.take() {
                break why;
            }
            assert!(begun.elapsed() < Duration::from_secs(30));
            std::thread::yield_now();
        };
        assert!(why.contains("etc/machine-id"), "{why}");
        assert_eq!(journal.last(), None);
        assert!(readable(root.path()).unwrap_err().contains("etc/machine-id"));
    }

    #[test]
    fn a_journal_is_readable_where_one_of_its_files_is() {
        let host = Made::new();
        assert!(readable(host.root()).is_err());
        host.put("system.journal", &MadeFile::new(true));
        assert_eq!(readable(host.root()), Ok(()));
    }
}
