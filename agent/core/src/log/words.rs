//! A message cut into words: what varies is masked for templates, what is secret is redacted for examples.
//!
//! In: the bytes of a message, which anybody may have written. Out: words, or a line that may leave the host. What a
//! template keeps are plain words; numbers, addresses, paths, identifiers and quoted text become `<*>`. An example
//! keeps numbers and paths, and loses passwords, tokens, mail addresses and all that looks like a key.

use crate::policy::Glob;
use crate::subject::UnitName;

/// What stands for something that varies or is not to be seen.
pub(crate) const MASK: &str = "<*>";

/// Bytes of a message that are looked at.
pub const MESSAGE_BYTES_MAX: usize = 512;

/// Words of a message that are told apart: what follows is one mask.
pub(crate) const WORDS_MAX: usize = 24;

/// Longest example.
const EXAMPLE_BYTES_MAX: usize = 200;

/// A word that is longer than this is no word.
const WORD_BYTES_MAX: usize = 40;

/// From this length on a word of letters and digits is taken for a key.
const KEY_BYTES_MIN: usize = 20;

/// Most words that a quotation goes on for: a single quote mark must not swallow the line.
const QUOTED_WORDS_MAX: usize = 12;

/// Most rules that an operator may add.
pub const RULES_MAX: usize = 64;

/// What in front of `=` or `:` makes a secret of what follows.
const SECRET_KEYS: [&str; 19] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "pass",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "access-key",
    "private_key",
    "authorization",
    "auth",
    "cookie",
    "credential",
    "session",
    "bearer",
];

/// What an operator adds to the rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Redaction {
    /// Globs: a word that matches is masked, and so is what follows a key that matches.
    rules: Vec<Glob>,
}

impl Redaction {
    /// Takes the rules; those beyond [`RULES_MAX`] are left out.
    #[must_use]
    pub fn new(rules: Vec<Glob>) -> Self {
        Self { rules: rules.into_iter().take(RULES_MAX).collect() }
    }

    fn matches(&self, word: &str) -> bool {
        self.rules.iter().any(|rule| rule.matches(word.as_bytes()))
    }

    fn is_secret_key(&self, key: &str) -> bool {
        let ends = |secret: &&str| {
            // The last words of a key say what it is: `db_password`, `x-auth-token`.
            let (key, secret) = (key.as_bytes(), secret.as_bytes());
            key.len() >= secret.len() && key[key.len() - secret.len()..].eq_ignore_ascii_case(secret)
        };
        SECRET_KEYS.iter().any(ends) || self.matches(key)
    }
}

/// Words of one message, made anew for each: the buffers stay.
#[derive(Debug, Default)]
pub(crate) struct Words {
    /// The message as clean text.
    text: String,
    /// Where its masked words are.
    words: Vec<Word>,
    masked: String,
}

#[derive(Debug, Clone, Copy)]
struct Word {
    from: usize,
    to: usize,
}

impl Words {
    /// Cuts a message into words and masks what varies.
    pub(crate) fn mask(&mut self, message: &[u8], redaction: &Redaction) {
        clean(message, &mut self.text);
        self.words.clear();
        self.masked.clear();
        let (mut secrets, mut quotes) = (Secrets::default(), Quotes::default());
        for word in self.text.split_ascii_whitespace() {
            let from = self.masked.len();
            match (quotes.next(word), secrets.next(word, redaction)) {
                (Quote::Inside, _) | (_, Secret::Inside) => continue,
                (Quote::Begins, _) | (_, Secret::From(0)) => self.masked.push_str(MASK),
                (Quote::No, Secret::From(at)) => {
                    let key = &word[..at];
                    // A rule that names the key hides its value.
                    self.masked.push_str(if varies(key, &Redaction::default()) { "" } else { key });
                    self.masked.push_str(MASK);
                }
                (Quote::No, Secret::No) => push_masked(word, redaction, &mut self.masked),
            }
            if self.words.len() == WORDS_MAX {
                self.masked.truncate(from);
                self.masked.push_str(MASK);
                let to = self.masked.len();
                self.words.push(Word { from, to });
                break;
            }
            self.words.push(Word { from, to: self.masked.len() });
        }
    }

    /// The words, masked.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.words.iter().map(|word| &self.masked[word.from..word.to])
    }

    /// Whether the message says of itself that it is about an error: what is logged to standard output has no priority.
    pub(crate) fn says_error(&self) -> bool {
        self.text.split_ascii_whitespace().take(8).any(|word| {
            let level = word.rsplit('=').next().unwrap_or(word);
            let level = level.trim_matches(|c: char| !c.is_ascii_alphabetic());
            ["error", "err", "fatal", "critical", "crit", "panic", "emerg", "alert", "severe"]
                .iter()
                .any(|name| level.eq_ignore_ascii_case(name))
                && (word.starts_with(['[', '<', '('])
                    || word.contains('=')
                    || level.bytes().all(|b| b.is_ascii_uppercase())
                    || word.ends_with(':'))
        })
    }

    /// The message as it may leave the host.
    pub(crate) fn example(&self, redaction: &Redaction) -> String {
        let mut out = String::new();
        let mut secrets = Secrets::default();
        for word in self.text.split_ascii_whitespace() {
            let secret = secrets.next(word, redaction);
            if secret == Secret::Inside {
                continue;
            }
            if !out.is_empty() {
                out.push(' ');
            }
            match secret {
                Secret::From(at) => {
                    let key = &word[..at];
                    out.push_str(if is_private(key, &Redaction::default()) { "" } else { key });
                    out.push_str(MASK);
                }
                _ if is_private(word, redaction) => out.push_str(MASK),
                _ => out.push_str(word),
            }
            if out.len() > EXAMPLE_BYTES_MAX {
                let cut = (0..=EXAMPLE_BYTES_MAX).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0);
                out.truncate(cut);
                out.push('…');
                break;
            }
        }
        out
    }
}

/// Text without control characters, of at most [`MESSAGE_BYTES_MAX`] bytes of the message.
fn clean(message: &[u8], to: &mut String) {
    to.clear();
    let cut = &message[..message.len().min(MESSAGE_BYTES_MAX)];
    for chunk in cut.utf8_chunks() {
        to.extend(chunk.valid().chars().map(|c| if c.is_control() { ' ' } else { c }));
        if !chunk.invalid().is_empty() {
            to.push('\u{fffd}');
        }
    }
}

/// Whether a word is secret, given those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secret {
    No,
    /// From this byte on.
    From(usize),
    /// It is the rest of the secret before.
    Inside,
}

/// Follows keys and their values through a line.
#[derive(Debug, Default)]
struct Secrets {
    /// The mark that ends the secret we are in. A secret without an end is secret to the end.
    quote: Option<char>,
    /// Whether the next word is a secret.
    next_is: bool,
    /// Whether the word before was a key without its sign: `password = x`.
    after_key: bool,
}

impl Secrets {
    fn next(&mut self, word: &str, redaction: &Redaction) -> Secret {
        if let Some(mark) = self.quote {
            if ends_quote(word, mark) {
                self.quote = None;
            }
            return Secret::Inside;
        }
        let after_key = std::mem::take(&mut self.after_key);
        if self.next_is {
            let scheme = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            let schemes = ["", "bearer", "basic", "digest", "token", "is"];
            // A secret that looks like a key may be one: `pass: password: x`.
            let is_key = secret_from(word, redaction).is_some_and(|at| at == word.len());
            self.next_is = is_key || schemes.iter().any(|name| scheme.eq_ignore_ascii_case(name));
            self.quote = opened_quote(word);
            return Secret::From(0);
        }
        let sign = word.strip_prefix([':', '=']).filter(|_| after_key);
        let from = secret_from(word, redaction).or_else(|| sign.map(|value| word.len() - value.len()));
        if let Some(at) = from {
            let value = &word[at..];
            self.next_is = !value.contains(|c: char| c.is_alphanumeric());
            self.quote = opened_quote(value);
            if self.quote.is_some() {
                self.next_is = false;
            }
            return Secret::From(at);
        }
        if after_key && word.eq_ignore_ascii_case("is") {
            self.next_is = true;
            return Secret::No;
        }
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
        self.after_key = redaction.is_secret_key(bare);
        Secret::No
    }
}

/// What a quotation makes of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quote {
    No,
    Begins,
    Inside,
}

/// Follows quotations through a line: each is one mask of a template.
#[derive(Debug, Default)]
struct Quotes {
    /// The mark that ends the quotation we are in, and how many words it may still have.
    open: Option<(char, usize)>,
}

impl Quotes {
    fn next(&mut self, word: &str) -> Quote {
        if let Some((mark, left)) = self.open {
            self.open = if left == 0 || ends_quote(word, mark) { None } else { Some((mark, left - 1)) };
            return Quote::Inside;
        }
        self.open = opened_quote(word).map(|mark| (mark, QUOTED_WORDS_MAX));
        if self.open.is_some() || is_quoted(word) { Quote::Begins } else { Quote::No }
    }
}

fn ends_quote(word: &str, mark: char) -> bool {
    word.trim_end_matches([',', '.', ';', ':', ')', ']', '}', '>']).ends_with(mark)
}

/// The mark of a quotation that begins in this word and does not end in it.
fn opened_quote(word: &str) -> Option<char> {
    let start = word.trim_start_matches(['(', '[', '{', '=', ':', ',', '\\']);
    let mark = start.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    (!start[mark.len_utf8()..].contains(mark)).then_some(mark)
}

fn is_quoted(word: &str) -> bool {
    let core = word.trim_matches([',', '.', ';', ':', '(', ')', '[', ']', '{', '}', '<', '>']);
    let mut chars = core.chars();
    matches!((chars.next(), chars.next_back()), (Some(a @ ('"' | '\'' | '`')), Some(b)) if a == b)
}

/// Where in a word the value of a secret key begins: `password=x`, `"token":"x"`, `?key=x&token=y`.
fn secret_from(word: &str, redaction: &Redaction) -> Option<usize> {
    let bytes = word.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        if !matches!(byte, b'=' | b':') {
            continue;
        }
        let before = word[..at].trim_end_matches(['"', '\'', '\\']);
        let from = before
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
            .map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
        let key = &before[from..];
        if !key.is_empty() && redaction.is_secret_key(key) {
            return Some(at + 1);
        }
    }
    None
}

/// Adds a word to a template.
fn push_masked(word: &str, redaction: &Redaction, to: &mut String) {
    if !varies(word, redaction) {
        to.push_str(word);
        return;
    }
    match word.split_once('=') {
        Some((key, _)) if !key.is_empty() && !varies(key, redaction) => {
            to.push_str(key);
            to.push('=');
            to.push_str(MASK);
        }
        _ => to.push_str(MASK),
    }
}

/// Whether a word is a value rather than a word.
fn varies(word: &str, redaction: &Redaction) -> bool {
    if word.len() > WORD_BYTES_MAX {
        return true;
    }
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '/');
    core.bytes().any(|b| b.is_ascii_digit())
        || (core.contains('/') && core.len() > 4)
        || word.contains(['@', '\\', '"'])
        || !word.is_ascii()
        || (core.len() >= 8 && core.bytes().all(|b| b.is_ascii_hexdigit()))
        || redaction.matches(core)
}

/// Whether a word is a unit such as `app@1.service`, which looks like a mail address. An instance with a dot may be one.
fn is_unit_instance(word: &str) -> bool {
    let instance = word.split_once('@').and_then(|(_, rest)| rest.rsplit_once('.')).map(|(instance, _)| instance);
    instance.is_some_and(|instance| !instance.contains(['.', '@'])) && word.parse::<UnitName>().is_ok()
}

/// Whether a word must not leave the host.
fn is_private(word: &str, redaction: &Redaction) -> bool {
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '/');
    let value = core.rsplit(['=', ':']).next().unwrap_or(core);
    let is_mail = |text: &str| text.split_once('@').is_some_and(|(who, at)| !who.is_empty() && at.contains('.'));
    let looks_like_key = |text: &str| {
        text.len() >= KEY_BYTES_MIN
            && !text.starts_with('/')
            && text.bytes().any(|b| b.is_ascii_digit())
            && text.bytes().any(|b| b.is_ascii_alphabetic())
    };
    let digits = |text: &str| text.len() >= 13 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    (is_mail(core) && !is_unit_instance(core))
        || (core.contains("://") && core.contains('@'))
        || (looks_like_key(value) && !core.contains("://"))
        || (core.contains("://") && core.contains(['?', '&']))
        || digits(value)
        || redaction.matches(core)
        || redaction.matches(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masked(message: &str) -> String {
        let mut words = Words::default();
        words.mask(message.as_bytes(), &Redaction::default());
        words.iter().collect::<Vec<_>>().join(" ")
    }

    fn example(message: &str) -> String {
        let mut words = Words::default();
        words.mask(message.as_bytes(), &Redaction::default());
        words.example(&Redaction::default())
    }

    #[test]
    fn what_varies_is_masked() {
        for (message, want) in [
            ("Accepted connection from 10.1.2.3 port 4711", "Accepted connection from <*> port <*>"),
            ("cannot open /var/lib/app/x: No such file", "cannot open <*> No such file"),
            ("job 7f3a9c1e-0000-4a5b-8c7d-112233445566 done in 12.5ms", "job <*> done in <*>"),
            ("user \"Jane Doe\" of 'x' left", "user <*> of <*> left"),
            ("level=error code=17 msg=timeout", "level=error code=<*> msg=timeout"),
            ("mail to jane@example.org refused", "mail to <*> refused"),
            ("deadbeef cafe", "<*> cafe"),
            ("I/O error", "I/O error"),
        ] {
            assert_eq!(masked(message), want, "{message}");
        }
    }

    #[test]
    fn secrets_leave_neither_by_template_nor_by_example() {
        for message in [
            "login password=hunter failed",
            "login password: hunter failed",
            "password is set",
            "{\"password\":\"hunter\",\"user\":\"x\"}",
            "{\"password\": \"hunter\"}",
            "{\"password\": \"hunter two hunter\", \"a\": 1}",
            "Authorization: Bearer hunter",
            "authorization: Basic hunter==",
            "GET /x?user=a&token=hunter",
            "db_password='hunter x hunter' next",
            "DB_PASSWORD=\"hunter",
            "postgres://app:hunter@db/x",
            "api_key = hunter",
            "export SECRET= hunter",
            "pass: password: hunter",
        ] {
            assert!(!masked(message).contains("hunter"), "{message}: {}", masked(message));
            assert!(!example(message).contains("hunter"), "{message}: {}", example(message));
        }
        for private in ["jane@example.org", "AKIAIOSFODNN7EXAMPLEX", "4111111111111111", "0123456789abcdef01234567"] {
            assert_eq!(example(&format!("see {private} now")), "see <*> now");
        }
    }

    #[test]
    fn an_instance_of_a_unit_is_no_mail_address() {
        assert_eq!(
            example("app@1.service: Failed, see getty@tty1.service."),
            "app@1.service: Failed, see getty@tty1.service."
        );
        for private in ["jane@example.org.service", "jane@x@y.service", "jane@service.org"] {
            assert_eq!(example(&format!("see {private} now")), "see <*> now", "{private}");
        }
    }

    #[test]
    fn an_example_keeps_what_helps_and_an_operator_can_take_more() {
        assert_eq!(example("cannot open /etc/app.toml: 13 of 15"), "cannot open /etc/app.toml: 13 of 15");
        let redaction = Redaction::new(vec![Glob::new("acct-*").unwrap(), Glob::new("iban").unwrap()]);
        let mut words = Words::default();
        words.mask(b"acct-jane has iban=GB and iban: DE", &redaction);
        assert_eq!(words.example(&redaction), "<*> has iban=<*> and iban:<*> <*>");
        assert_eq!(words.iter().collect::<Vec<_>>().join(" "), "<*> has iban=<*> and iban:<*> <*>");
    }

    #[test]
    fn a_line_says_itself_that_it_is_an_error() {
        let says = |message: &str| {
            let mut words = Words::default();
            words.mask(message.as_bytes(), &Redaction::default());
            words.says_error()
        };
        for yes in ["2026-01-02 10:00:00 ERROR cannot", "[error] x", "level=error msg=x", "error: no", "FATAL x"] {
            assert!(says(yes), "{yes}");
        }
        for no in ["no error was found", "errors=0", "the panic room is open", "INFO all well"] {
            assert!(!says(no), "{no}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_never_grows(message in prop::collection::vec(any::<u8>(), 0..700)) {
            let mut words = Words::default();
            words.mask(&message, &Redaction::default());
            prop_assert!(words.iter().len() <= WORDS_MAX + 1);
            prop_assert!(words.example(&Redaction::default()).len() <= EXAMPLE_BYTES_MAX + 3);
        }

        #[test]
        fn no_text_around_a_secret_sets_it_free(
            before in "[ -~]{0,40}",
            key in prop::sample::select(SECRET_KEYS.to_vec()),
            sign in prop::sample::select(vec!["=", ":", ": ", "= ", "=\"", "\":\"", "='"]),
            after in "[ -~]{0,40}",
        ) {
            let message = format!("{before} {key}{sign}zqxj {after}");
            let mut words = Words::default();
            words.mask(message.as_bytes(), &Redaction::default());
            prop_assert!(!words.example(&Redaction::default()).contains("zqxj"), "{}", message);
            prop_assert!(words.iter().all(|word| !word.contains("zqxj")), "{}", message);
        }
    }
}
