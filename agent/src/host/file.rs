//! Reads kernel files into reused buffers.
//!
//! A file of `/proc` or of a cgroup is made by the kernel at every read from its start, so one
//! that is read every second is opened once and read with `pread` from 0. A file that is not there
//! is `None`, never an error: kernels and controllers differ.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::path::Arg;

/// First guess at the size of a kernel file; a buffer that proves too small is doubled.
const READ_BYTES_MIN: usize = 4096;

/// Most bytes taken of one kernel file. `/proc/stat` of a machine with 1000 CPUs has some 300 KiB.
const READ_BYTES_MAX: usize = 4 << 20;

/// The kernel hands lines out a page at a time and only whole ones: a reading that leaves so much of its page was the last,
/// where no line is longer. That it was is otherwise known only by another reading that gives nothing.
const LINE_BYTES_MAX: usize = 1 << 10;
const PAGE_BYTES: usize = 4096;

/// How long the lines of a file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lines {
    /// At most [`LINE_BYTES_MAX`], or the whole file is made at once.
    Short,
    Any,
}

/// A kernel file that stays open from the first read on.
#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    lines: Lines,
    file: Option<File>,
}

impl KeptFile {
    /// Names the file; it is opened when it is first read.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, lines: Lines::Short, file: None }
    }

    /// Names a file whose lines may be of any length, as those of the mount table are.
    #[must_use]
    pub fn of_long_lines(path: PathBuf) -> Self {
        Self { path, lines: Lines::Any, file: None }
    }

    /// The path that it was named by.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Reads the whole file as it is now. `None` if there is no such file.
    ///
    /// # Errors
    /// What the kernel says, other than that there is no such file.
    pub fn read<'b>(&mut self, buffer: &'b mut Vec<u8>) -> io::Result<Option<&'b [u8]>> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if is_absent(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let Some(file) = &self.file else { return Ok(None) };
        match read_at_start(file, self.lines, buffer) {
            Ok(bytes) => Ok(Some(&buffer[..bytes])),
            Err(error) => {
                // Whatever it was, the next reading starts with a fresh handle.
                self.file = None;
                if is_absent(&error) { Ok(None) } else { Err(error) }
            }
        }
    }

    /// The open handle, to wait on for changes; `None` before the first read.
    #[must_use]
    pub fn handle(&self) -> Option<&File> {
        self.file.as_ref()
    }
}

/// Reads a whole file below an open folder, one without long lines, without keeping it open. `None` if it is not there.
///
/// # Errors
/// What the kernel says, other than that there is no such file.
pub fn read_below(folder: impl AsFd, name: impl Arg, buffer: &mut Vec<u8>) -> io::Result<Option<&[u8]>> {
    let opened = rustix::fs::openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let file = match opened.map_err(io::Error::from) {
        Ok(fd) => File::from(fd),
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    match read_at_start(&file, Lines::Short, buffer) {
        Ok(bytes) => Ok(Some(&buffer[..bytes])),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Fills the buffer from offset 0 to the end of the file; says how many bytes there are.
fn read_at_start(file: &File, lines: Lines, buffer: &mut Vec<u8>) -> io::Result<usize> {
    if buffer.len() < READ_BYTES_MIN {
        buffer.resize(READ_BYTES_MIN, 0);
    }
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            if buffer.len() >= READ_BYTES_MAX {
                return Ok(filled);
            }
            buffer.resize(buffer.len() * 2, 0);
        }
        match rustix::io::pread(file, &mut buffer[filled..], filled as u64) {
            Ok(0) => return Ok(filled),
            Ok(bytes) => {
                filled += bytes;
                let is_last = lines == Lines::Short && bytes + LINE_BYTES_MAX <= PAGE_BYTES && filled < buffer.len();
                if is_last {
                    return Ok(filled);
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// No such file; a process or cgroup that went away while it was read; a pressure file of a kernel
/// that was booted with `psi=0`.
fn is_absent(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [libc::ENOENT, libc::ESRCH, libc::ENODEV, libc::EOPNOTSUPP, libc::ENOTDIR].iter().any(|c| code == Some(*c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_file_is_read_anew_from_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loadavg");
        std::fs::write(&path, "one").unwrap();
        let mut buffer = Vec::new();
        let mut file = KeptFile::new(path.clone());
        assert_eq!(file.read(&mut buffer).unwrap(), Some(&b"one"[..]));
        std::fs::write(&path, "x".repeat(10_000)).unwrap();
        assert_eq!(file.read(&mut buffer).unwrap().map(<[u8]>::len), Some(10_000));
    }

    /// What a plain reader makes of a file.
    fn plainly(path: &str) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn files_of_the_kernel_are_read_to_their_end() {
        // These do not change while the test runs, and are made line by line, some of several pages.
        for path in
            ["/proc/filesystems", "/proc/misc", "/proc/modules", "/proc/devices", "/proc/cpuinfo", "/proc/self/limits"]
        {
            let Ok(want) = std::fs::read_to_string(path) else { continue };
            // The frequency of a CPU does change.
            let lines =
                |text: &str| text.lines().filter(|line| !line.contains("MHz")).map(str::to_owned).collect::<Vec<_>>();
            let mut buffer = Vec::new();
            let read = KeptFile::new(path.into()).read(&mut buffer).unwrap().unwrap().to_vec();
            assert_eq!(lines(std::str::from_utf8(&read).unwrap()), lines(&want), "{path}");
            let root = File::open("/").unwrap();
            let below = read_below(&root, &path[1..], &mut buffer).unwrap().unwrap();
            assert_eq!(below, read, "{path}");
        }
        let names =
            |text: &str| text.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect::<Vec<_>>();
        let mut buffer = Vec::new();
        let read = KeptFile::new("/proc/vmstat".into()).read(&mut buffer).unwrap().unwrap().to_vec();
        assert_eq!(names(std::str::from_utf8(&read).unwrap()), names(&plainly("/proc/vmstat")));
        let mounts =
            KeptFile::of_long_lines("/proc/self/mountinfo".into()).read(&mut buffer).unwrap().unwrap().to_vec();
        assert_eq!(mounts, plainly("/proc/self/mountinfo").as_bytes());
    }

    #[test]
    fn a_file_that_is_not_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut buffer = Vec::new();
        assert!(KeptFile::new(folder.path().join("pressure/cpu")).read(&mut buffer).unwrap().is_none());
        let handle = File::open(folder.path()).unwrap();
        assert!(read_below(&handle, "memory.current", &mut buffer).unwrap().is_none());
    }
}
