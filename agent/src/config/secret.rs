//! Files that are named in settings, and read when they are used because they hold secrets.

use std::path::PathBuf;

use mainstay_core::config::TableReader;

/// A file that holds a secret, or a systemd credential (`credential:NAME`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile(pub String);

impl SecretFile {
    /// Reads the secret.
    ///
    /// # Errors
    /// Names the file, never what is in it.
    pub fn read(&self) -> Result<String, SecretError> {
        let path = self.path();
        std::fs::read_to_string(&path).map_err(|source| SecretError { path, source })
    }

    /// Reads a file with a `Name: value` header on each line.
    ///
    /// # Errors
    /// Names the file or the line, and never quotes one: it may hold a secret.
    pub fn headers(&self) -> Result<Vec<(String, String)>, String> {
        parse_headers(&self.read().map_err(|error| crate::actuate::chain(&error))?)
    }

    fn path(&self) -> PathBuf {
        match self.0.strip_prefix("credential:") {
            Some(name) => PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY").unwrap_or_default()).join(name),
            None => PathBuf::from(&self.0),
        }
    }
}

/// A secret that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the secret in {path}")]
pub struct SecretError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

fn parse_headers(text: &str) -> Result<Vec<(String, String)>, String> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let (name, value) =
                line.split_once(':').ok_or_else(|| format!("headers_file line {number} is not `Name: value`"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// Reads the key that names a secret.
pub(super) fn secret_file(table: &mut TableReader<'_>, key: &str) -> Option<SecretFile> {
    let file = table.opt_str(key)?;
    if file.starts_with('/')
        || file.strip_prefix("credential:").is_some_and(|name| !name.is_empty() && !name.contains('/'))
    {
        return Some(SecretFile(file.value));
    }
    table.problem(&file.place, format!("`{key}` must be an absolute path or `credential:NAME`"));
    None
}

/// Reads the key that names a file.
pub(super) fn absolute(table: &mut TableReader<'_>, key: &str) -> Option<PathBuf> {
    let file = table.opt_str(key)?;
    if file.starts_with('/') {
        return Some(PathBuf::from(file.value));
    }
    table.problem(&file.place, format!("`{key}` must be an absolute path"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_a_wrong_line_is_named_without_its_text() {
        let headers = parse_headers("Authorization: Bearer a:b\n\nX-Team: ops\n").unwrap();
        assert_eq!(headers, [("Authorization".into(), "Bearer a:b".into()), ("X-Team".into(), "ops".into())]);
        let error = parse_headers("X: 1\nhunter2\n").unwrap_err();
        assert_eq!(error, "headers_file line 2 is not `Name: value`");
    }
}
