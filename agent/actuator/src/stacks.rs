//! `stacks`: kernel stacks of processes, read by a program of its own.
//!
//! The kernel shows them to `CAP_SYS_ADMIN` alone, which the program that takes requests must not have. So systemd starts
//! this one for each question over a socket that only root may open (`mainstay-stacks.socket`), with nothing to write to.
//! In: numbers of processes, in one line. Out: of each that can be read, `= NUMBER` and the lines of `/proc/NUMBER/stack`,
//! one after the other: a process that hangs in the kernel may keep it waiting. Who asked looks at other things meanwhile, waits
//! for [`TIME_MAX`] at most, and takes what has come by then.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_core::scene::PROCESSES_MAX;

use crate::log;

/// Where the question is asked. Not in `/run/mainstay`, where the agent could put another one before this is there.
pub const SOCKET: &str = "/run/mainstay-stacks.sock";

/// Longest from the question to the end of the answer: a program is started for it.
const TIME_MAX: Duration = Duration::from_millis(400);

/// Most bytes of a question, and of the stack of one process.
const QUESTION_BYTES_MAX: usize = 1024;
const STACK_BYTES_MAX: usize = 16 * 1024;

/// Stacks as the kernel writes them, by process.
pub type Stacks = BTreeMap<u32, Vec<u8>>;

/// Asks for the stacks of some processes, [`PROCESSES_MAX`] at most; what this gives waits for the answer. A scene without
/// stacks is better than none: why some are missing goes to the journal, unless root does not want them (the socket is masked).
pub fn later(socket: &Path, pids: &[u32]) -> impl FnOnce() -> Stacks + use<> {
    let until = Instant::now() + TIME_MAX;
    let asked = (!pids.is_empty()).then(|| ask(socket, pids));
    move || {
        let mut answer = Vec::new();
        let end = asked.map_or(Ok(()), |asked| hear(asked?, until, &mut answer));
        if let Err(error) = end
            && error.kind() != io::ErrorKind::NotFound
        {
            let why = match error.kind() {
                // What a socket says whose time has passed.
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    format!("not all were told within {} ms", TIME_MAX.as_millis())
                }
                _ => error.to_string(),
            };
            log::warn(format_args!(
                "kernel stacks are missing from a scene: {why}; see journalctl -u 'mainstay-stacks@*' -u mainstay-stacks.socket"
            ));
        }
        // What came before it failed is as true as all of it.
        parse(&answer)
    }
}

fn ask(socket: &Path, pids: &[u32]) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(TIME_MAX))?;
    let words: Vec<String> = pids.iter().map(u32::to_string).collect();
    writeln!(stream, "{}", words.join(" "))?;
    Ok(stream)
}

fn hear(mut stream: UnixStream, until: Instant, answer: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 4096];
    while answer.len() < STACK_BYTES_MAX * PROCESSES_MAX {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => break,
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    Ok(())
}

fn parse(answer: &[u8]) -> Stacks {
    let mut stacks = Stacks::new();
    let mut of = None;
    // A line that has no end was cut off.
    for line in answer.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        if let Some(pid) = line.strip_prefix(b"= ") {
            of = std::str::from_utf8(pid.trim_ascii()).ok().and_then(|pid| pid.parse().ok());
            stacks.extend(of.map(|pid| (pid, Vec::new())));
        } else if let Some(stack) = of.and_then(|pid| stacks.get_mut(&pid)) {
            stack.extend_from_slice(line);
        }
    }
    stacks
}

/// Answers one question.
///
/// # Errors
/// If the question cannot be read or is none, or the answer cannot be written.
pub fn answer(proc: &Path, question: &mut impl Read, into: &mut impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        if line.len() >= QUESTION_BYTES_MAX || question.read(&mut byte)? == 0 {
            return Err(io::Error::other(format!("a question is one line of at most {QUESTION_BYTES_MAX} bytes")));
        }
        line.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&line);
    let number = |word: &str| {
        word.parse::<u32>().map_err(|_| io::Error::other(format!("`{}` is no process", word.escape_default())))
    };
    let pids: Vec<u32> = text.split_ascii_whitespace().map(number).collect::<io::Result<_>>()?;
    if pids.len() > PROCESSES_MAX {
        return Err(io::Error::other(format!("{} processes, at most {PROCESSES_MAX} at once", pids.len())));
    }
    for pid in pids {
        // One that has ended, or that may not be looked at, has none.
        let Ok(stack) = read(&proc.join(pid.to_string()).join("stack")) else { continue };
        writeln!(into, "= {pid}")?;
        into.write_all(&stack)?;
        // Those that follow may take their time.
        into.flush()?;
    }
    Ok(())
}

/// A stack, with a line break at its end.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut stack = Vec::new();
    File::open(path)?.take(STACK_BYTES_MAX as u64).read_to_end(&mut stack)?;
    if stack.last() != Some(&b'\n') {
        stack.push(b'\n');
    }
    Ok(stack)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    fn proc() -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for (pid, stack) in [(7, "[<0>] do_wait+0x5c/0xa0\n[<0>] kernel_wait4+0x9d/0x130\n"), (8, "")] {
            std::fs::create_dir(proc.path().join(pid.to_string())).unwrap();
            std::fs::write(proc.path().join(pid.to_string()).join("stack"), stack).unwrap();
        }
        proc
    }

    fn answered(question: &str) -> io::Result<String> {
        let mut out = Vec::new();
        answer(proc().path(), &mut question.as_bytes(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_question_is_one_line_of_processes() {
        let both = "= 8\n\n= 7\n[<0>] do_wait+0x5c/0xa0\n[<0>] kernel_wait4+0x9d/0x130\n";
        assert_eq!(answered("8 7 9\n").unwrap(), both, "one has ended");
        assert_eq!(answered("\n").unwrap(), "");
        for (question, why) in [
            ("7", "one line"),
            ("../../etc/shadow\n", "`../../etc/shadow` is no process"),
            ("-7\n", "`-7` is no process"),
            ("7 ".repeat(40).as_str(), "one line"),
            (format!("{}\n", "7 ".repeat(40)).as_str(), "40 processes, at most 32"),
            ("7".repeat(2_000).as_str(), "at most 1024 bytes"),
        ] {
            let error = answered(question).unwrap_err().to_string();
            assert!(error.contains(why), "{question:?}: {error}");
        }
    }

    #[test]
    fn a_process_that_hangs_keeps_back_those_behind_it_and_holds_nothing_up_for_long() {
        let (folder, proc) = (tempfile::tempdir().unwrap(), proc());
        // Whoever opens it to read waits for somebody who writes.
        let hung = proc.path().join("9/stack");
        std::fs::create_dir(proc.path().join("9")).unwrap();
        assert!(Command::new("mkfifo").arg(&hung).status().unwrap().success());
        let socket = folder.path().join("stacks.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (stream, _) = listener.accept().unwrap();
                // Nobody listens any more when it goes on.
                let _ = answer(proc.path(), &mut &stream, &mut &stream);
            });
            let began = Instant::now();
            let stacks = later(&socket, &[7, 9, 8])();
            assert!(began.elapsed() >= TIME_MAX && began.elapsed() < TIME_MAX * 10, "{:?}", began.elapsed());
            assert_eq!(stacks.keys().copied().collect::<Vec<_>>(), [7]);
            assert_eq!(mainstay_core::scene::stack(&stacks[&7]), ["do_wait+0x5c/0xa0", "kernel_wait4+0x9d/0x130"]);
            drop(File::options().write(true).open(&hung).unwrap());
        });
    }

    #[test]
    fn where_nobody_answers_there_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("stacks.sock");
        assert_eq!(later(&socket, &[7])(), Stacks::new(), "nobody is there");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(later(&socket, &[7])(), Stacks::new(), "nobody says anything");
        let began = Instant::now();
        assert_eq!(later(&socket, &[])(), Stacks::new());
        assert!(began.elapsed() < TIME_MAX, "there was nothing to ask");
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_taken(answer in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let bytes: usize = parse(&answer).values().map(Vec::len).sum();
            proptest::prop_assert!(bytes <= answer.len());
        }

        #[test]
        fn what_is_cut_off_is_a_beginning(cut in 0usize..120) {
            let mut whole = Vec::new();
            answer(proc().path(), &mut b"7 8 7\n".as_slice(), &mut whole).unwrap();
            let all = parse(&whole);
            proptest::prop_assert_eq!(mainstay_core::scene::stack(&all[&7]).len(), 2, "one that was asked for twice");
            for (pid, stack) in &parse(&whole[..cut.min(whole.len())]) {
                proptest::prop_assert!(all[pid].starts_with(stack));
            }
        }
    }
}
