//! `[otlp]`: where metrics are sent, and how often.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_core::config::TableReader;

use super::secret::{SecretFile, absolute, secret_file};
use crate::http::Url;

/// Where OTLP/HTTP takes metrics, below the endpoint.
const PATH: &str = "/v1/metrics";

/// A receiver of metrics that speaks OTLP/HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpSettings {
    /// `http://…` or `https://…`, with the path that takes metrics.
    pub url: String,
    /// How often metrics are sent (default 60 s, from 10 s to an hour).
    pub every: Duration,
    /// A file with a `Name: value` header on each line, such as an authorization.
    pub headers_file: Option<SecretFile>,
    /// Certificates to trust (PEM) instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Reads the table; without it nothing is sent.
pub(super) fn read_otlp(top: &mut TableReader<'_>) -> Option<OtlpSettings> {
    let mut table = top.opt_table("otlp")?;
    let endpoint = table.str("endpoint");
    let every = table.opt_duration("every");
    let every = table.within("every", every, Duration::from_secs(10)..=Duration::from_secs(3_600));
    let headers_file = secret_file(&mut table, "headers_file");
    let ca_file = absolute(&mut table, "ca_file");
    let url = endpoint.and_then(|endpoint| match url(&endpoint) {
        Ok(url) => Some(url),
        Err(text) => {
            table.problem(&endpoint.place, format!("`endpoint` {text}"));
            None
        }
    });
    table.finish();
    let every = every.map_or(Duration::from_secs(60), |every| every.value);
    Some(OtlpSettings { url: url?, every, headers_file, ca_file })
}

/// The endpoint as every exporter has it is the part before the path; whoever names the path means the same.
fn url(endpoint: &str) -> Result<String, String> {
    let url = Url::parse(endpoint)?;
    if url.path.contains('?') {
        return Err("must have no query".to_owned());
    }
    let base = endpoint.trim_end_matches('/');
    Ok(if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") })
}

#[cfg(test)]
mod tests {
    use mainstay_core::config::{Document, Problems};

    use super::*;

    fn parsed(text: &str) -> Result<Option<OtlpSettings>, Vec<String>> {
        let document = Document::parse("agent.toml", text).unwrap();
        let problems = Problems::new();
        let mut top = document.reader(&problems);
        let settings = read_otlp(&mut top);
        top.finish();
        problems.into_result(settings).map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_the_table_nothing_is_sent() {
        assert_eq!(parsed(""), Ok(None));
    }

    #[test]
    fn the_endpoint_is_completed_by_the_path_for_metrics() {
        for (endpoint, want) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/metrics"),
            ("https://otel.example/", "https://otel.example/v1/metrics"),
            ("https://otel.example/team-a/", "https://otel.example/team-a/v1/metrics"),
            ("https://otel.example/v1/metrics", "https://otel.example/v1/metrics"),
        ] {
            let settings = parsed(&format!("[otlp]\nendpoint = \"{endpoint}\"\n")).unwrap().unwrap();
            assert_eq!((settings.url.as_str(), settings.every), (want, Duration::from_secs(60)));
        }
        let text = "[otlp]\nendpoint = \"http://a\"\nevery = \"10s\"\nheaders_file = \"credential:otlp\"\nca_file = \"/a.pem\"\n";
        let settings = parsed(text).unwrap().unwrap();
        assert_eq!(settings.every, Duration::from_secs(10));
        assert_eq!(settings.headers_file, Some(SecretFile("credential:otlp".to_owned())));
        assert_eq!(settings.ca_file, Some(PathBuf::from("/a.pem")));
    }

    #[test]
    fn names_what_is_wrong_with_its_place() {
        let wrong = parsed(
            "[otlp]\nendpoint = \"grpc://a:4317\"\nevery = \"1s\"\nheaders_file = \"token\"\nca_file = \"a.pem\"\ngzip = true\n",
        )
        .unwrap_err();
        let lines: Vec<&str> = wrong.iter().map(|text| text.split(':').nth(1).unwrap()).collect();
        assert_eq!(lines, ["2", "3", "4", "5", "6"], "{wrong:#?}");
        assert!(wrong[0].contains("`endpoint` must begin with http:// or https://"), "{wrong:#?}");
        let wrong = parsed("[otlp]\nevery = \"30s\"\n").unwrap_err();
        assert!(wrong.len() == 1 && wrong[0].contains("endpoint"), "{wrong:#?}");
        let wrong = parsed("[otlp]\nendpoint = \"http://a/?x=1\"\n").unwrap_err();
        assert!(wrong[0].starts_with("agent.toml:2:12: `endpoint` must have no query"), "{wrong:#?}");
    }
}
