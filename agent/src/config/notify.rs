//! `[notify.NAME]`: who can be told, and how.
//!
//! What must stay secret (headers, passwords) is named by file and read when it is used.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mainstay_core::config::{Spanned, TableReader};

use super::secret::{SecretFile, absolute, secret_file};

/// Most targets.
const TARGETS_MAX: usize = 32;

/// One receiver of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An HTTP POST of a JSON object.
    Webhook(WebhookTarget),
    /// A mail.
    Smtp(SmtpTarget),
}

/// `type = "webhook"`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookTarget {
    /// `http://…` or `https://…`
    pub url: String,
    /// A file with a `Name: value` header on each line, such as an authorization.
    pub headers_file: Option<SecretFile>,
    /// Certificates to trust (PEM) instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// `type = "smtp"`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpTarget {
    /// Host of the mail server.
    pub host: String,
    /// Its port; by default 587, 465 with `tls = "tls"`, 25 with `tls = "none"`.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// Sender.
    pub from: String,
    /// Receivers; never empty.
    pub to: Vec<String>,
    /// A file with the user on its first line and the password on the second.
    pub credentials_file: Option<SecretFile>,
    /// Certificates to trust (PEM) instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// It begins in the clear and must be upgraded.
    Starttls,
    /// It is protected from the first byte.
    Tls,
    /// Not at all: for a relay on this host.
    None,
}

/// Reads all targets.
pub(super) fn read_targets(top: &mut TableReader<'_>) -> BTreeMap<String, Target> {
    let mut targets = BTreeMap::new();
    for (at, mut table) in top.named_tables("notify").into_iter().enumerate() {
        if at == TARGETS_MAX {
            table.problem(table.place(), format!("more than {TARGETS_MAX} targets"));
        }
        let target = match table.choice("type", &[("webhook", true), ("smtp", false)]).map(|kind| kind.value) {
            Some(true) => read_webhook(&mut table).map(Target::Webhook),
            Some(false) => read_smtp(&mut table).map(Target::Smtp),
            None => continue,
        };
        let name = table.name().to_owned();
        table.finish();
        targets.extend(target.map(|target| (name, target)));
    }
    targets
}

fn read_webhook(table: &mut TableReader<'_>) -> Option<WebhookTarget> {
    let url = table.str("url");
    let headers_file = secret_file(table, "headers_file");
    let ca_file = absolute(table, "ca_file");
    let url = url?;
    if let Err(text) = crate::http::Url::parse(&url.value) {
        table.problem(&url.place, format!("`url` {text}"));
        return None;
    }
    Some(WebhookTarget { url: url.value, headers_file, ca_file })
}

fn read_smtp(table: &mut TableReader<'_>) -> Option<SmtpTarget> {
    let host = table.str("host");
    let tls = [("starttls", SmtpTls::Starttls), ("tls", SmtpTls::Tls), ("none", SmtpTls::None)];
    let tls = table.opt_choice("tls", &tls).map_or(SmtpTls::Starttls, |tls| tls.value);
    let port = table.opt_u64("port");
    let port = table.within("port", port, 1..=u64::from(u16::MAX));
    let default_port = match tls {
        SmtpTls::Starttls => 587,
        SmtpTls::Tls => 465,
        SmtpTls::None => 25,
    };
    let from = table.str("from").filter(|from| is_address(table, "from", from));
    let to = table.strs("to");
    let credentials_file = secret_file(table, "credentials_file");
    let ca_file = absolute(table, "ca_file");
    let to = to?;
    if to.value.is_empty() {
        table.problem(&to.place, "`to` must name somebody");
    }
    let receivers = to.value.into_iter().filter(|address| is_address(table, "to", address));
    Some(SmtpTarget {
        to: receivers.map(|address| address.value).collect(),
        host: host?.value,
        port: port.and_then(|port| u16::try_from(port.value).ok()).unwrap_or(default_port),
        tls,
        from: from?.value,
        credentials_file,
        ca_file,
    })
}

fn is_address(table: &TableReader<'_>, key: &str, address: &Spanned<String>) -> bool {
    let is_valid = address.parse::<lettre::message::Mailbox>().is_ok();
    if !is_valid {
        table.problem(&address.place, format!("`{key}` must be a mail address, not {:?}", address.value));
    }
    is_valid
}

#[cfg(test)]
mod tests {
    use mainstay_core::config::{Document, Problems};

    use super::*;

    fn parsed(text: &str) -> Result<BTreeMap<String, Target>, Vec<String>> {
        let document = Document::parse("agent.toml", text).unwrap();
        let problems = Problems::new();
        let targets = read_targets(&mut document.reader(&problems));
        problems.into_result(targets).map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn reads_both_types() {
        let targets = parsed(
            "[notify.ops]\ntype = \"webhook\"\nurl = \"https://chat.example/hook\"\nheaders_file = \"credential:ops\"\n\
             [notify.mail]\ntype = \"smtp\"\nhost = \"mail.example\"\nfrom = \"mainstay@example.org\"\nto = [\"a@example.org\"]\n",
        )
        .unwrap();
        let Target::Smtp(mail) = &targets["mail"] else { panic!("{targets:?}") };
        assert_eq!((mail.port, mail.tls), (587, SmtpTls::Starttls));
        assert!(matches!(&targets["ops"], Target::Webhook(hook) if hook.headers_file.is_some()));
    }

    #[test]
    fn names_what_is_wrong_with_its_place() {
        let wrong = parsed(
            "[notify.ops]\ntype = \"webhook\"\nurl = \"ftp://x\"\n[notify.mail]\ntype = \"smtp\"\nhost = \"m\"\n\
             from = \"nobody\"\nto = []\ncredentials_file = \"pw\"\n[notify.x]\ntype = \"pager\"\n",
        )
        .unwrap_err();
        let lines: Vec<&str> = wrong.iter().map(|text| text.split(':').nth(1).unwrap()).collect();
        assert_eq!(lines, ["3", "7", "8", "9", "11"], "{wrong:#?}");
    }
}
