//! How the demo looks on a terminal: numbered headings with the time, what the operator types, and what comes back.

use std::io::IsTerminal as _;
use std::time::Instant;

/// The terminal, with a clock that started when the demo did.
#[derive(Debug)]
pub(super) struct Screen {
    began: Instant,
    chapter: u32,
    is_colourful: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { began: Instant::now(), chapter: 0, is_colourful: std::io::stdout().is_terminal() && !no_color }
    }

    /// A new chapter.
    pub(super) fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        let head = format!("{}. {title}", self.chapter);
        let clock = format!("[{:5.1} s]", self.began.elapsed().as_secs_f64());
        println!("\n{} {}", self.paint("1;36", &head), self.paint("2", &clock));
    }

    /// What happens now, in a sentence.
    pub(super) fn say(&self, text: &str) {
        println!("   {text}");
    }

    /// Something that came out well.
    pub(super) fn good(&self, text: &str) {
        println!("   {} {text}", self.paint("1;32", "✓"));
    }

    /// Something that did not.
    pub(super) fn bad(&self, text: &str) {
        println!("   {} {text}", self.paint("1;31", "✗"));
    }

    /// What is typed, and where.
    pub(super) fn typed(&self, prompt: &str, command: &str) {
        println!("\n   {} {}", self.paint("2", &format!("{prompt}$")), self.paint("1", command));
    }

    /// What came back.
    pub(super) fn output(&self, text: &str) {
        for line in text.trim_end().lines() {
            println!("   {line}");
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.is_colourful { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
