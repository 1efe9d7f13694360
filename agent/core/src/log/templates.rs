//! Templates of one unit's messages, mined as they come (Drain, He et al. 2017), in a bounded tree.
//!
//! In: the masked words of a message. Out: the template that it belongs to, new or known. As in Drain the tree asks for
//! the number of words and the first of them, then takes the template that most words agree with; what disagrees
//! becomes a mask. The two levels are one key here and the leaves a short list, since a unit has few templates
//! ([`TEMPLATES_MAX`]): the one that was seen longest ago makes room.

use super::words::MASK;

/// Most templates of one unit.
pub const TEMPLATES_MAX: usize = 64;

/// Share of the words that must agree (Drain's `st`).
const SIMILAR_MIN: f64 = 0.5;

/// Length of one window of [`Template::recent`].
pub(crate) const WINDOW_MS: i64 = 60_000;

/// One kind of message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    pub(crate) words: Vec<Box<str>>,
    key: u64,
    /// Messages since it was first seen.
    pub(crate) lines: u64,
    /// When it was first and last seen, milliseconds since 1970.
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    /// Whether its messages are errors.
    pub(crate) error: bool,
    /// Whether it came up when the unit was already known.
    pub(crate) novel: bool,
    /// Whether that was said.
    pub(crate) told: bool,
    /// The first of its messages, redacted.
    pub(crate) example: Box<str>,
    /// Messages in the window that began at `window_ms`, and in the one before it.
    window_ms: i64,
    window: [u32; 2],
}

impl Template {
    /// The template as text.
    pub(crate) fn text(&self) -> String {
        self.words.join(" ")
    }

    /// Messages in about the last minute.
    pub(crate) fn recent(&self, now_ms: i64) -> u32 {
        match now_ms.saturating_sub(self.window_ms) {
            passed if passed < WINDOW_MS => self.window[0].saturating_add(self.window[1]),
            passed if passed < 2 * WINDOW_MS => self.window[0],
            _ => 0,
        }
    }

    fn seen(&mut self, at_ms: i64) {
        self.lines += 1;
        self.last_ms = self.last_ms.max(at_ms);
        let passed = at_ms.saturating_sub(self.window_ms);
        if passed >= WINDOW_MS {
            self.window = [0, if passed < 2 * WINDOW_MS { self.window[0] } else { 0 }];
            self.window_ms = at_ms;
        }
        self.window[0] = self.window[0].saturating_add(1);
    }
}

/// The templates of one unit.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Templates {
    list: Vec<Template>,
    /// How many were forgotten to make room.
    pub(crate) evicted: u64,
    /// When that last happened.
    pub(crate) evicted_ms: Option<i64>,
}

impl Templates {
    /// Takes a message; gives its template, and whether that is new.
    pub(crate) fn add<'w>(
        &mut self,
        words: impl ExactSizeIterator<Item = &'w str> + Clone,
        at_ms: i64,
    ) -> (&mut Template, bool) {
        let key = key(words.clone());
        let mut best: Option<(usize, usize)> = None;
        for (at, template) in self.list.iter().enumerate().filter(|(_, template)| template.key == key) {
            let same = template.words.iter().zip(words.clone()).filter(|(have, word)| ***have == **word).count();
            if best.is_none_or(|(most, _)| same > most) {
                best = Some((same, at));
            }
        }
        #[allow(clippy::cast_precision_loss, reason = "at most some twenty words")]
        let similar = |same: usize| same as f64 >= SIMILAR_MIN * words.len() as f64;
        if let Some((same, at)) = best.filter(|(same, _)| similar(*same)) {
            let template = &mut self.list[at];
            if same < template.words.len() {
                for (have, word) in template.words.iter_mut().zip(words) {
                    if **have != *word {
                        *have = MASK.into();
                    }
                }
            }
            template.seen(at_ms);
            return (template, false);
        }
        let mut template = Template {
            words: words.map(Into::into).collect(),
            key,
            lines: 0,
            first_ms: at_ms,
            last_ms: at_ms,
            error: false,
            novel: false,
            told: false,
            example: "".into(),
            window_ms: at_ms,
            window: [0; 2],
        };
        template.seen(at_ms);
        let at = self.room(at_ms);
        self.list.insert(at, template);
        (&mut self.list[at], true)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Template> {
        self.list.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self, at_ms: i64) {
        self.evicted += self.list.len() as u64;
        self.evicted_ms = Some(at_ms);
        self.list.clear();
    }

    /// Where a new template goes.
    fn room(&mut self, at_ms: i64) -> usize {
        if self.list.len() < TEMPLATES_MAX {
            return self.list.len();
        }
        let oldest = self.list.iter().enumerate().min_by_key(|(_, template)| template.last_ms);
        let at = oldest.map_or(0, |(at, _)| at);
        self.list.remove(at);
        self.evicted += 1;
        self.evicted_ms = Some(at_ms);
        at
    }

    /// Puts back a template that was saved.
    pub(crate) fn restore(&mut self, words: Vec<Box<str>>, lines: u64, span_ms: (i64, i64), flags: [bool; 3]) {
        if self.list.len() >= TEMPLATES_MAX {
            return;
        }
        let key = key(words.iter().map(|word| &**word));
        let [error, novel, told] = flags;
        self.list.push(Template {
            words,
            key,
            lines,
            first_ms: span_ms.0,
            last_ms: span_ms.1,
            error,
            novel,
            told,
            example: "".into(),
            window_ms: span_ms.1,
            window: [0; 2],
        });
    }
}

/// Number of words and the first of them: FNV-1a, which is the same at every start.
fn key<'w>(words: impl ExactSizeIterator<Item = &'w str>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ words.len() as u64;
    for byte in words.into_iter().next().unwrap_or_default().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mined(messages: &[&str]) -> Vec<(String, u64)> {
        let mut templates = Templates::default();
        for message in messages {
            let words: Vec<&str> = message.split(' ').collect();
            templates.add(words.iter().copied(), 0);
        }
        templates.iter().map(|template| (template.text(), template.lines)).collect()
    }

    #[test]
    fn messages_that_differ_in_a_word_are_one_template() {
        let found =
            mined(&["user jane logged in", "user joe logged in", "user joe logged out", "disk is full", "user"]);
        let want = [("user <*> logged <*>", 3), ("disk is full", 1), ("user", 1)];
        assert_eq!(found, want.map(|(text, lines)| (text.to_owned(), lines)));
    }

    #[test]
    fn nothing_but_masks_is_one_template_too() {
        assert_eq!(mined(&["<*> <*>", "<*> <*>", "<*> <*>"]), [("<*> <*>".to_owned(), 3)]);
    }

    #[test]
    fn the_longest_unseen_makes_room() {
        let mut templates = Templates::default();
        let name = |n: usize| format!("w{}", "x".repeat(n));
        for n in 0..TEMPLATES_MAX {
            templates.add([name(n).as_str()].into_iter(), n as i64);
        }
        templates.add([name(0).as_str()].into_iter(), 1_000);
        assert!(templates.add(["new"].into_iter(), 1_001).1);
        assert_eq!((templates.iter().count(), templates.evicted), (TEMPLATES_MAX, 1));
        assert!(!templates.add([name(0).as_str()].into_iter(), 1_002).1, "it was seen again, so it stayed");
        assert!(templates.add([name(1).as_str()].into_iter(), 1_003).1, "this one made room");
    }

    #[test]
    fn a_rate_is_that_of_the_last_minutes() {
        let mut templates = Templates::default();
        for second in 0..30 {
            templates.add(["x"].into_iter(), second * 1_000);
        }
        let template = templates.iter().next().unwrap();
        assert_eq!(template.recent(31_000), 30);
        assert_eq!(template.recent(100_000), 30);
        assert_eq!(template.recent(300_000), 0);
    }
}
