//! Debian's own agents that sample a host, set up to do so once a second.

use anyhow::Result;
use mainstay_tests::hosts::Host;

/// Debian's packages of the peers.
pub(crate) const PACKAGES: &[&str] =
    &["monit", "prometheus-node-exporter", "collectd-core", "zabbix-agent2", "netdata-core"];

const COLLECTD: &str = "BaseDir \"/run/bench\"\nPIDFile \"/run/bench/collectd.pid\"\nInterval 1\n\
    LoadPlugin cpu\nLoadPlugin memory\nLoadPlugin load\nLoadPlugin swap\nLoadPlugin df\nLoadPlugin disk\n\
    LoadPlugin interface\nLoadPlugin processes\nLoadPlugin vmem\nLoadPlugin tcpconns\nLoadPlugin uptime\n\
    LoadPlugin contextswitch\n<Plugin processes>\n ProcessMatch \"all\" \".*\"\n</Plugin>\n";

const MONIT: &str = "set daemon 1\nset idfile /run/bench/monit.id\nset statefile /run/bench/monit.state\n\
    set log /run/bench/monit.log\ncheck system host\n  if cpu usage > 95% for 10 cycles then alert\n\
    \x20 if memory usage > 95% then alert\ncheck filesystem root with path /\n  if space usage > 99% then alert\n\
    check network lo with interface lo\ncheck process idle with matching \"sleep infinity\"\n";

const ZABBIX: &str = "Server=127.0.0.1\nListenIP=127.0.0.1\nListenPort=20050\nLogType=console\nHostname=bench\n\
    ControlSocket=/run/bench/zabbix.sock\n";

const NETDATA: &str = "[global]\n run as user = root\n[directories]\n cache = /run/bench\n lib = /run/bench\n\
    log = /run/bench\n[web]\n bind to = 127.0.0.1:29999\n[ml]\n enabled = yes\n";

/// A peer: what is shown, how it is started, what is fetched from it once a second.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    command: &'static str,
    fetch: Option<&'static str>,
}

pub(crate) const PEERS: &[Peer] = &[
    Peer {
        name: "node_exporter",
        command: "prometheus-node-exporter --web.listen-address=127.0.0.1:29100 --collector.processes",
        fetch: Some("http://127.0.0.1:29100/metrics"),
    },
    Peer { name: "collectd", command: "collectd -f -C /run/bench/collectd.conf", fetch: None },
    Peer { name: "monit", command: "monit -I -c /run/bench/monitrc", fetch: None },
    Peer { name: "zabbix_agent2 (idle)", command: "zabbix_agent2 -f -c /run/bench/zabbix.conf", fetch: None },
    Peer { name: "netdata (with ml)", command: "netdata -D -c /run/bench/netdata.conf", fetch: None },
];

/// Writes their settings.
///
/// # Errors
/// When the host is off.
pub(crate) fn prepare(host: &Host) -> Result<()> {
    host.must("mkdir -p /run/bench")?;
    for (name, text) in
        [("collectd.conf", COLLECTD), ("monitrc", MONIT), ("zabbix.conf", ZABBIX), ("netdata.conf", NETDATA)]
    {
        host.push_file(&format!("/run/bench/{name}"), text, 0o600)?;
    }
    Ok(())
}

impl Peer {
    /// Starts it in a unit of its own and gives the unit's name; `None`, said aloud, where it is not installed.
    ///
    /// # Errors
    /// When the host is off.
    pub(crate) fn start(&self, host: &Host) -> Result<Option<String>> {
        let program = self.command.split(' ').next().unwrap_or_default();
        if !host.run(&format!("command -v {program}"))?.is_success() {
            println!("{} is not installed: not measured", self.name);
            return Ok(None);
        }
        host.start(&format!("peer-{program}"), &format!("exec {}", self.command))?;
        if let Some(url) = self.fetch {
            let fetch = format!("while sleep 1; do curl -s -o /dev/null {url}; done");
            host.start(&format!("fetch-{program}"), &fetch)?;
        }
        Ok(Some(format!("peer-{program}.service")))
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the host is off.
    pub(crate) fn stop(&self, host: &Host) -> Result<()> {
        let program = self.command.split(' ').next().unwrap_or_default();
        // Whichever of the two is there.
        host.run(&format!("systemctl stop peer-{program}.service fetch-{program}.service")).map(drop)
    }
}
