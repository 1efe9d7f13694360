//! `mainstay check`: one line and an exit code, as Nagios and all that came after it understand.

use clap::Subcommand;
use mainstay_proto::v1::{GetHostRequest, HostView};

use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::view;

/// What can be checked.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckCommand {
    /// Whether a host is well: 0 ok, 1 warning, 2 critical, 3 unknown
    Host {
        /// Name, id or the beginning of an id
        host: String,
    },
}

/// Carries the command out.
pub(crate) async fn run(command: &CheckCommand, context: &Context) -> Result<Exit, Failure> {
    let CheckCommand::Host { host } = command;
    let (code, line) = match ask(host, context).await {
        Ok(view) => verdict(&view),
        Err(failure) => {
            (UNKNOWN, format!("UNKNOWN - {host}: {}", failure.to_string().trim_start_matches("mainstay: ")))
        }
    };
    output::line_out(&line)?;
    std::process::exit(code);
}

async fn ask(host: &str, context: &Context) -> Result<HostView, Failure> {
    let request = GetHostRequest { host: host.to_owned() };
    Ok(connect::queries(context).await?.get_host(request).await?.into_inner().host.unwrap_or_default())
}

const OK: i32 = 0;
const WARNING: i32 = 1;
const CRITICAL: i32 = 2;
const UNKNOWN: i32 = 3;

fn verdict(host: &HostView) -> (i32, String) {
    let name = host.facts.as_ref().map_or("?", |facts| facts.hostname.as_str());
    if host.state == "silent" || host.state == "revoked" {
        return (UNKNOWN, format!("UNKNOWN - {name} is {}", host.state));
    }
    let open: Vec<_> = host.findings.iter().filter(|finding| finding.state == "open").collect();
    let words: Vec<_> =
        open.iter().map(|finding| format!("{} {}", finding.kind, view::subject(finding.subject.as_ref()))).collect();
    let worst = |severity: &str| open.iter().any(|finding| finding.severity == severity);
    let (code, word) = match () {
        () if worst("critical") => (CRITICAL, "CRITICAL"),
        () if worst("warning") => (WARNING, "WARNING"),
        () => (OK, "OK"),
    };
    let what = if words.is_empty() { "nothing is wrong".to_owned() } else { words.join(", ") };
    (code, format!("{word} - {name}: {what} | findings={}", open.len()))
}

#[cfg(test)]
mod tests {
    use mainstay_proto::v1::{Finding, HostFacts};

    use super::*;

    fn host(state: &str, findings: &[(&str, &str)]) -> HostView {
        HostView {
            facts: Some(HostFacts { hostname: "web-1".into(), ..HostFacts::default() }),
            state: state.into(),
            findings: findings
                .iter()
                .map(|(severity, state)| Finding {
                    kind: "disk.full".into(),
                    severity: (*severity).into(),
                    state: (*state).into(),
                    ..Finding::default()
                })
                .collect(),
            ..HostView::default()
        }
    }

    #[test]
    fn the_worst_open_finding_counts() {
        assert_eq!(verdict(&host("online", &[])).0, OK);
        assert_eq!(verdict(&host("online", &[("warning", "open"), ("critical", "cleared")])).0, WARNING);
        assert_eq!(verdict(&host("healing", &[("warning", "open"), ("critical", "open")])).0, CRITICAL);
    }

    #[test]
    fn a_host_that_is_not_heard_is_unknown_and_never_ok() {
        assert_eq!(verdict(&host("silent", &[])), (UNKNOWN, "UNKNOWN - web-1 is silent".to_owned()));
    }
}
