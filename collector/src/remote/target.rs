//! Settings of whom series are handed on to: `[remote_write.NAME]` in collector.toml.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use mainstay_core::config::{Spanned, TableReader};
use mainstay_promql::parse_selector;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::notify;

/// Most targets.
pub const TARGETS_MAX: usize = 8;
/// Headers that are ours to set.
const OURS: [&str; 5] =
    ["host", "content-type", "content-encoding", "content-length", "x-prometheus-remote-write-version"];

/// Whom series are handed on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteWrite {
    /// What its marks are kept under.
    pub name: String,
    /// Where it takes them.
    pub url: String,
    /// Sent with each request, an authorization among them.
    pub headers: Headers,
    /// The only certificates that its own may be signed by; the machine's if there are none.
    pub roots: Vec<Vec<u8>>,
    /// Which series; empty is all.
    pub series: String,
}

/// Headers, which may hold secrets: they stand in no log.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers(pub BTreeMap<String, HeaderValue>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Reads all targets.
pub fn read(table: &mut TableReader<'_>) -> Vec<RemoteWrite> {
    let tables = table.named_tables("remote_write");
    if let Some(over) = tables.get(TARGETS_MAX) {
        table.problem(over.place(), format!("`remote_write` has more than {TARGETS_MAX} targets"));
    }
    tables.into_iter().filter_map(one).collect()
}

fn one(mut table: TableReader<'_>) -> Option<RemoteWrite> {
    let name = table.name().to_owned();
    let url = table.str("url");
    let headers = table.opt_str_map("headers");
    let (user, secret) = (table.opt_str("user"), table.opt_str("secret_file"));
    let roots = table.opt_str("ca_file");
    let series = table.opt_str("series");
    if let Some(url) = &url
        && let Err(error) = notify::Target::parse(&url.value)
    {
        table.problem(&url.place, format!("`url` {error}"));
    }
    if let Some(series) = &series
        && let Err(error) = parse_selector(&series.value)
    {
        table.problem(&series.place, format!("`series` must be a selector such as {{__name__=~\"node_.*\"}}: {error}"));
    }
    if let (Some(user), None) = (&user, &secret) {
        table.problem(&user.place, "`user` needs a `secret_file` with the password");
    }
    let mut known = Headers::default();
    for (name, value) in headers.map(|headers| headers.value).unwrap_or_default() {
        match header(&name, &value.value) {
            Ok(value) => {
                known.0.insert(name, value);
            }
            Err(why) => table.problem(&value.place, why),
        }
    }
    if let Some(secret) = secret {
        match authorization(user.as_ref().map(|user| user.value.as_str()), &secret.value) {
            Ok(value) => {
                known.0.insert(AUTHORIZATION.to_string(), value);
            }
            Err(why) => table.problem(&secret.place, format!("`secret_file` must name {why}")),
        }
    }
    let roots = roots.map_or_else(Vec::new, |roots| certificates(&table, &roots));
    table.finish();
    Some(RemoteWrite {
        name,
        url: url?.value,
        headers: known,
        roots,
        series: series.map(|s| s.value).unwrap_or_default(),
    })
}

fn header(name: &str, value: &str) -> Result<HeaderValue, String> {
    let parsed: HeaderName = name.parse().map_err(|_| format!("`{name}` is no name of a header"))?;
    if OURS.contains(&parsed.as_str()) {
        return Err(format!("the header `{name}` is not one to set"));
    }
    HeaderValue::from_str(value).map_err(|_| format!("the value of the header `{name}` has bytes that none may have"))
}

/// A bearer token, or with a user's name a password.
fn authorization(user: Option<&str>, file: &str) -> Result<HeaderValue, String> {
    let secret = fs::read_to_string(file).map_err(|error| format!("a file that can be read: {error}"))?;
    let secret = secret.trim();
    if secret.is_empty() {
        return Err("a file with a token in it".to_owned());
    }
    let text = match user {
        Some(user) => format!("Basic {}", STANDARD.encode(format!("{user}:{secret}"))),
        None => format!("Bearer {secret}"),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| "a file with one line of text".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn certificates(table: &TableReader<'_>, file: &Spanned<String>) -> Vec<Vec<u8>> {
    let read = || -> Result<Vec<Vec<u8>>, String> {
        let pem = fs::read(&file.value).map_err(|error| format!("a file that can be read: {error}"))?;
        let all =
            CertificateDer::pem_slice_iter(&pem).map(|one| one.map(|one| one.to_vec())).collect::<Result<Vec<_>, _>>();
        let all = all.map_err(|error| format!("certificates in PEM: {error}"))?;
        if all.is_empty() { Err("a file with certificates in PEM".to_owned()) } else { Ok(all) }
    };
    read().unwrap_or_else(|why| {
        table.problem(&file.place, format!("`ca_file` must name {why}"));
        Vec::new()
    })
}
