//! Messages to people through real servers with TLS: nginx before a webhook, aiosmtpd with STARTTLS and a login.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mainstay_tests::hosts::{self, Base, Fleet, FleetOptions, Host, listen::Listener, packages, wait::wait_for};
use mainstay_tests::site::services::{self, SLEEPER};

/// Longest until a message is there, or the agent has said why not: a few rounds of its backoff.
const SOON: Duration = Duration::from_secs(90);

/// Who may send mail, as the file for the agent has it and as the server wants it.
const LOGIN: (&str, &str) = ("mainstay", "correct horse battery");

/// A CA and a server certificate in `/etc/tls`, and another CA under which nobody has one.
const CERTIFICATES: &str =
    "mkdir -p /etc/tls && cd /etc/tls && ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes' &&
    openssl req -x509 $ec -days 2 -subj /CN=ours -keyout ca.key -out ca.pem &&
    openssl req -x509 $ec -days 2 -subj /CN=other -keyout other.key -out other.pem &&
    openssl req $ec -subj /CN=desk -keyout desk.key -out desk.csr &&
    echo subjectAltName=DNS:desk > desk.ext &&
    openssl x509 -req -in desk.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile desk.ext -out desk.pem";

const MAIL_SERVER: &str = r#"
import ssl, threading
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

class Keep:
    async def handle_DATA(self, server, session, envelope):
        with open("/srv/mails", "ab") as mails:
            head = "protected=%s authenticated=%s\n" % (session.ssl is not None, session.authenticated)
            mails.write(head.encode() + envelope.content + b"\n")
        return "250 kept"

def login(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"USER", b"PASSWORD"), handled=False)

tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain("/etc/tls/desk.pem", "/etc/tls/desk.key")
Controller(Keep(), hostname="0.0.0.0", port=587, tls_context=tls, require_starttls=True,
           authenticator=login, auth_required=True).start()
threading.Event().wait()
"#;

#[test]
fn messages_go_over_tls_to_whom_the_ca_vouches_for_and_to_nobody_else() -> Result<()> {
    if !hosts::may_run("messages_go_over_tls_to_whom_the_ca_vouches_for_and_to_nobody_else") {
        return Ok(());
    }
    let desk = Desk::boot()?;
    let (host, server) = (desk.host(), desk.server());
    // A mail server that offers no STARTTLS, as a man in the middle would have it.
    let operator = desk.fleet.operator();
    let stripped = Listener::smtp(&operator.netns(), &format!("{}:0", operator.address()))?;
    let more = format!(
        "{}{}",
        mail("stripped", &operator.address(), stripped.address().port(), "login"),
        mail("guest", "desk", 587, "guest")
    );
    desk.trust("other")?;
    desk.install(&["page", "mail", "stripped", "guest"], &more)?;

    services::kill(host, "sleeper-1.service")?;
    for target in ["page", "mail"] {
        desk.wait_said(target, "UnknownIssuer")?;
    }
    desk.wait_said("stripped", "STARTTLS")?;
    // Signed by a stranger means told to nobody: neither server has seen more than a handshake.
    ensure!(desk.webhook.received().is_empty(), "{:?}", desk.webhook.received());
    server.run("test -e /srv/mails")?.refused()?;

    // The files are read when they are used: the next try has the right CA.
    desk.trust("ca")?;
    desk.wait_told("sleeper-1.service")?;
    desk.wait_said("guest", "535")?;
    let told = desk.webhook.received().join("\n");
    assert!(told.starts_with("POST /page HTTP/1."), "{told}");
    assert!(told.to_lowercase().contains("authorization: bearer of good news"), "{told}");
    let mails = server.must("cat /srv/mails")?;
    assert!(mails.contains("protected=True authenticated=True"), "{mails}");
    assert!(mails.contains("To: oncall@example.org") && mails.contains("Subject: "), "{mails}");
    let seen = stripped.received().join("\n");
    assert!(!seen.contains("MAIL FROM") && !seen.contains("AUTH"), "told without protection:\n{seen}");

    let journal = host.must("journalctl --no-pager -q -u mainstay-agent")?;
    for secret in [LOGIN.1, "good news", "wrong horse"] {
        assert!(!journal.contains(secret), "`{secret}` stands in the journal");
    }
    Ok(())
}

#[test]
fn a_message_outlives_its_receivers_absence_and_the_agents_death() -> Result<()> {
    if !hosts::may_run("a_message_outlives_its_receivers_absence_and_the_agents_death") {
        return Ok(());
    }
    let desk = Desk::boot()?;
    let (host, server) = (desk.host(), desk.server());
    desk.trust("ca")?;
    desk.install(&["page", "mail"], "")?;
    server.must("systemctl stop nginx.service mail-server.service")?;

    services::kill(host, "sleeper-1.service")?;
    for target in ["page", "mail"] {
        desk.wait_said(target, "onnection refused")?;
    }
    host.must("systemctl kill --signal=SIGKILL mainstay-agent.service")?;
    host.wait_unit("mainstay-agent.service", "active", SOON)?;
    desk.start_servers()?;
    desk.wait_told("sleeper-1.service")?;

    // Once each: what was delivered is remembered over the next death too.
    host.must("systemctl kill --signal=SIGKILL mainstay-agent.service")?;
    host.wait_unit("mainstay-agent.service", "active", SOON)?;
    services::start(host, "sleeper-2.service", SLEEPER)?;
    services::kill(host, "sleeper-2.service")?;
    desk.wait_told("sleeper-2.service")?;
    assert_eq!(desk.webhook.received().len(), 2, "{:?}", desk.webhook.received());
    assert_eq!(server.must("cat /srv/mails")?.matches("Subject: ").count(), 2);
    Ok(())
}

/// A host with an agent, and a machine that takes messages: nginx with TLS before a listener, and a mail server.
struct Desk {
    webhook: Listener,
    fleet: Fleet,
}

impl Desk {
    fn boot() -> Result<Self> {
        let base = Some(Base::with_packages(&["python3-aiosmtpd"])?);
        let fleet = Fleet::boot_with(FleetOptions { names: vec!["web-1".to_owned(), "desk".to_owned()], base })?;
        let operator = fleet.operator();
        let webhook = Listener::webhook(&operator.netns(), &format!("{}:0", operator.address()))?;
        let desk = Self { webhook, fleet };
        let server = desk.server();
        server.must(CERTIFICATES)?;
        let site = format!(
            "server {{ listen 8443 ssl; ssl_certificate /etc/tls/desk.pem; ssl_certificate_key /etc/tls/desk.key;\n\
             location / {{ proxy_pass http://{}; }} }}\n",
            desk.webhook.address()
        );
        server.push_file("/etc/nginx/conf.d/tls.conf", site, 0o644)?;
        server.push_file("/srv/mail.py", MAIL_SERVER.replace("USER", LOGIN.0).replace("PASSWORD", LOGIN.1), 0o644)?;
        let unit = "[Service]\nExecStart=/usr/bin/python3 /srv/mail.py\n";
        server.push_file("/etc/systemd/system/mail-server.service", unit, 0o644)?;
        desk.start_servers()?;
        Ok(desk)
    }

    fn host(&self) -> &Host {
        self.fleet.host("web-1")
    }

    fn server(&self) -> &Host {
        self.fleet.host("desk")
    }

    fn start_servers(&self) -> Result<()> {
        let server = self.server();
        server.must("systemctl daemon-reload && systemctl start nginx.service mail-server.service")?;
        wait_for(SOON, "the servers to listen", || {
            Ok(server.must("ss -Hltn '( sport = :8443 or sport = :587 )'")?.lines().count() >= 2)
        })
        .with_context(|| server.journal_tail("mail-server"))
    }

    /// Has the agent believe whom this CA of the server's vouches for.
    fn trust(&self, ca: &str) -> Result<()> {
        let pem = self.server().must(&format!("cat /etc/tls/{ca}.pem"))?;
        self.host().push_file("/etc/mainstay/desk-ca.pem", pem, 0o644)
    }

    /// An agent that nobody enrolled, whose own rule tells these targets, and a service that runs.
    fn install(&self, targets: &[&str], more: &str) -> Result<()> {
        let host = self.host();
        let rungs = targets.iter().map(|to| format!("{{ do = \"notify\", to = \"{to}\" }}")).collect::<Vec<_>>();
        let rule = format!(
            "version = 1\n[[rule]]\nname = \"tell\"\non = [\"service.failed\"]\nunits = [\"sleeper-*.service\"]\n\
             mode = \"suggest\"\nladder = [{}]\n",
            rungs.join(", ")
        );
        let page = "[notify.page]\ntype = \"webhook\"\nurl = \"https://desk:8443/page\"\n\
                    headers_file = \"/etc/mainstay/page.headers\"\nca_file = \"/etc/mainstay/desk-ca.pem\"\n";
        let targets = format!("{page}{}{more}", mail("mail", "desk", 587, "login"));
        host.push_file("/etc/mainstay/agent.d/10-notify.toml", targets, 0o644)?;
        host.push_file("/etc/mainstay/policy.d/tell.toml", rule, 0o644)?;
        host.install_deb(&packages::deb("mainstay-agent")?)?;
        for (name, text) in [
            ("page.headers", "Authorization: Bearer of good news\n".to_owned()),
            ("login", format!("{}\n{}\n", LOGIN.0, LOGIN.1)),
            ("guest", format!("{}\nwrong horse\n", LOGIN.0)),
        ] {
            host.push_file(&format!("/etc/mainstay/{name}"), text, 0o640)?;
            host.must(&format!("chgrp mainstay /etc/mainstay/{name}"))?;
        }
        services::start(host, "sleeper-1.service", SLEEPER)
    }

    /// The agent says in its journal that this target was not reached, and why.
    fn wait_said(&self, target: &str, why: &str) -> Result<()> {
        let host = self.host();
        let lines = format!("journalctl --no-pager -q -u mainstay-agent | grep 'not delivered' | grep '\"{target}\"'");
        wait_for(SOON, &format!("`{why}` about {target}"), || Ok(host.run(&lines)?.stdout.contains(why)))
            .with_context(|| host.agent_story())
    }

    /// Webhook and mail both have a message about this unit.
    fn wait_told(&self, unit: &str) -> Result<()> {
        wait_for(SOON, &format!("the webhook to be told of {unit}"), || {
            Ok(self.webhook.received().iter().any(|text| text.contains(unit)))
        })
        .with_context(|| self.host().agent_story())?;
        wait_for(SOON, &format!("a mail about {unit}"), || {
            Ok(self.server().run("cat /srv/mails")?.stdout.contains(unit))
        })
        .with_context(|| format!("{}\n{}", self.server().journal_tail("mail-server"), self.host().agent_story()))
    }
}

/// A mail target with STARTTLS.
fn mail(name: &str, server: &str, port: u16, login: &str) -> String {
    format!(
        "[notify.{name}]\ntype = \"smtp\"\nhost = \"{server}\"\nport = {port}\ntls = \"starttls\"\n\
         from = \"mainstay@example.org\"\nto = [\"oncall@example.org\"]\n\
         credentials_file = \"/etc/mainstay/{login}\"\nca_file = \"/etc/mainstay/desk-ca.pem\"\n"
    )
}
