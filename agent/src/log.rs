//! Logging: one line for an event, to standard error, which systemd gives to the journal.
//!
//! Under systemd a line begins with its priority (`<4>`) and has no time of its own. What goes
//! wrong at every sample is said once and counted from then on: [`Causes`].

use std::collections::BTreeMap;
use std::fmt;

use tracing::{Event, Level, Subscriber, info, warn};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, FormatEvent, FormatFields, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, layer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, LogSettings};

/// Starts logging. Later calls change nothing.
pub fn start(settings: &LogSettings) {
    let filter = filter(&settings.level).unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let filtered = Registry::default().with(filter);
    let lines = layer().with_writer(std::io::stderr).with_ansi(false);
    let to_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let _ = match (settings.format, to_journal) {
        (LogFormat::Json, _) => filtered.with(lines.json().flatten_event(true)).try_init(),
        (LogFormat::Text, true) => {
            filtered.with(lines.event_format(ForJournal(Format::default().with_target(false)))).try_init()
        }
        (LogFormat::Text, false) => filtered.with(lines.with_target(false)).try_init(),
    };
}

/// What is logged, by module: `info,mainstay_agent::uplink=debug`. `None` where the text is none.
#[must_use]
pub fn filter(text: &str) -> Option<Targets> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    // An empty part would stand for everything.
    if parts.contains(&"") {
        return None;
    }
    parts.join(",").parse().ok()
}

/// A line that journald understands.
struct ForJournal(Format<Full>);

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.clone().without_time().with_level(false).format_event(context, writer, event)
    }
}

/// Most causes that are told apart; further ones are counted only.
const CAUSES_MAX: usize = 256;

/// What keeps going wrong: said when it begins, when its text changes and when it is over.
#[derive(Debug, Default)]
pub struct Causes {
    standing: BTreeMap<String, Standing>,
    total: u64,
}

#[derive(Debug)]
struct Standing {
    text: String,
    times: u64,
}

impl Causes {
    /// `what` goes wrong, in the way that `text` says.
    pub fn begin(&mut self, what: &str, text: &str) {
        self.total += 1;
        let is_full = self.standing.len() >= CAUSES_MAX;
        match self.standing.get_mut(what) {
            Some(standing) => {
                standing.times += 1;
                if standing.text != text {
                    text.clone_into(&mut standing.text);
                    warn!(what, error = text, "still failing, in another way");
                }
            }
            None if !is_full => {
                warn!(what, error = text, "failing; said once until it is over");
                self.standing.insert(what.to_owned(), Standing { text: text.to_owned(), times: 1 });
            }
            None => {}
        }
    }

    /// Everything that is not in `still` is over.
    pub fn end_all_but(&mut self, still: impl Fn(&str) -> bool) {
        self.standing.retain(|what, standing| {
            let stays = still(what);
            if !stays {
                info!(what, times = standing.times, "works again");
            }
            stays
        });
    }

    /// `what` is over.
    pub fn end(&mut self, what: &str) {
        self.end_all_but(|standing| standing != what);
    }

    /// How many causes stand.
    #[must_use]
    pub fn standing(&self) -> usize {
        self.standing.len()
    }

    /// How often anything went wrong since the start.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_levels_by_module() {
        let enabled = |text: &str, target: &str, level| filter(text).unwrap().would_enable(target, &level);
        assert!(enabled("info", "h2::codec", Level::INFO) && !enabled("info", "h2::codec", Level::DEBUG));
        let text = "warn, mainstay_agent::uplink=debug";
        assert!(enabled(text, "mainstay_agent::uplink::session", Level::DEBUG));
        assert!(!enabled(text, "mainstay_agent::run", Level::INFO));
        for wrong in ["", "info,", "mainstay_agent=loud", "a=b=info"] {
            assert!(filter(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_cause_is_counted_until_it_is_over() {
        let mut causes = Causes::default();
        causes.begin("proc/stat", "no");
        causes.begin("proc/stat", "no");
        causes.begin("dbus", "closed");
        assert_eq!((causes.standing(), causes.total()), (2, 3));
        causes.end_all_but(|what| what == "dbus");
        assert_eq!(causes.standing(), 1);
        causes.end("dbus");
        assert_eq!((causes.standing(), causes.total()), (0, 3));
    }
}
