//! The demo: what an operator would do in a first hour, in a few minutes, on real hosts.
//!
//! It observes first and shows what would have been done; then acting is switched on, a service is killed and a disk is
//! filled, and the same words of `mainstay explain` that an operator reads at night tell how both healed and why.

mod screen;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::hosts::listen::forward_to;
use crate::hosts::{Host, interrupt, wait_until};
use crate::site::{COLLECTOR, Decision, Site};
use screen::Screen;

/// The hosts that are looked after.
const AGENTS: [&str; 3] = ["web-1", "web-2", "web-3"];

/// Longest that a repair with its verification may take before the demo calls it missing.
const HEALED_MAX: Duration = Duration::from_secs(120);

/// A policy as the operator writes it. `MODE` is what changes between observing and acting.
const POLICY: &str = include_str!("web.toml");

/// What root allows on web-2: the outer bound, which no policy can widen.
const ROOTS_LIMITS: &str = include_str!("actuator.toml");

/// A demo that is up, until it is dropped.
#[derive(Debug)]
pub struct Demo {
    site: Site,
    screen: Screen,
}

/// Plays the whole demo. True when everything that was broken healed.
///
/// # Errors
/// When something fails that has nothing to do with healing: a host does not boot, a command is refused.
pub fn run() -> Result<(Demo, bool)> {
    let mut screen = Screen::new();
    screen.chapter("Four machines boot, each with its own systemd, network and disk");
    let began = Instant::now();
    let site = Site::installed(&AGENTS, None)?;
    interrupt::clean_up_on_signal(site.fleet.dir().to_owned())?;
    for host in site.fleet.hosts() {
        let package = if host.name() == COLLECTOR { "mainstay-collector, mainstay" } else { "mainstay-agent" };
        screen.say(&format!("{:<10} {:<12} {package} installed from the deb", host.name(), host.address()));
    }
    screen.say(&format!("up and installed in {:.1} s", began.elapsed().as_secs_f64()));

    let mut demo = Demo { site, screen };
    demo.enrol()?;
    demo.observe()?;
    let service = demo.heal_service()?;
    let disk = demo.heal_disk()?;
    demo.account(service && disk)?;
    Ok((demo, service && disk))
}

impl Demo {
    fn enrol(&mut self) -> Result<()> {
        self.screen.chapter("The operator gets a certificate, makes a key for policies, and enrols the hosts");
        let (site, screen) = (&self.site, &self.screen);
        site.make_operator()?;
        screen.typed("root@collector", "mainstay operator create ops --role admin");
        screen.typed("ops", "mainstay policy keygen");
        site.make_policy_key()?;
        screen.typed("ops", "mainstay token create --uses 3 --ttl 1h > token");
        let token = site.token(3)?;
        for agent in AGENTS {
            screen.typed(&format!("root@{agent}"), "mainstay-agent enrol --token-file - < token");
            let done = site.enrol(agent, &token)?;
            screen.output(&format!("{}{}", done.stdout, done.stderr));
            done.ok()?;
        }
        for agent in AGENTS {
            site.wait_online(agent)?;
        }
        self.type_and_show(&["hosts"])
    }

    /// With a policy that only observes, a killed service stays down, and it is shown what would have been done.
    fn observe(&mut self) -> Result<()> {
        self.screen.chapter("First the policy only observes: a service is killed, and nothing is done");
        for agent in AGENTS {
            self.site.host(agent).must("systemctl start nginx.service")?;
        }
        self.enforce("observe")?;
        let host = self.site.host("web-1");
        self.screen.typed("root@web-1", "systemctl kill --signal=SIGKILL nginx.service");
        host.must("systemctl kill --signal=SIGKILL nginx.service")?;
        let held = self.site.wait_decision("web-1", "a decision about nginx", HEALED_MAX, |decision| {
            decision.is_about("service.failed", "nginx.service")
        })?;
        self.type_and_show(&["explain", &held.id])?;
        self.screen
            .say(&format!("nginx.service on web-1 is still {}", host.unit_property("nginx.service", "ActiveState")?));
        Ok(())
    }

    /// With acting switched on it heals; then once more, with a stop watch.
    fn heal_service(&mut self) -> Result<bool> {
        self.screen.chapter("Acting is switched on, by a policy that the operator signs");
        self.enforce("auto")?;
        let host = self.site.host("web-1");
        host.wait_unit("nginx.service", "active", HEALED_MAX)?;
        self.screen.good("nginx.service on web-1 was still down, and is active again");
        self.wait_helped("web-1", "service.failed", "nginx.service", None)?;

        self.screen.chapter("The service is killed again, against the clock");
        let before = self.newest("web-1")?;
        let pid = host.unit_property("nginx.service", "MainPID")?;
        self.screen.typed("root@web-1", "systemctl kill --signal=SIGKILL nginx.service");
        let began = Instant::now();
        host.must("systemctl kill --signal=SIGKILL nginx.service")?;
        let again = wait_until(HEALED_MAX, "nginx.service to be active again", || {
            let now = host.must("systemctl show --value -p MainPID -p ActiveState nginx.service")?;
            let is_new = now.contains("active") && !now.contains("inactive") && !now.lines().any(|line| line == pid);
            Ok((is_new && !now.lines().any(|line| line == "0")).then(|| began.elapsed()))
        });
        match again {
            Ok(down) => self.screen.good(&format!("active again after {:.2} s", down.as_secs_f64())),
            Err(error) => {
                self.screen.bad(&format!("{error:#}"));
                return Ok(false);
            }
        }
        let Some(helped) = self.wait_helped("web-1", "service.failed", "nginx.service", before)? else {
            return Ok(false);
        };
        self.type_and_show(&["explain", &helped.id])?;
        Ok(true)
    }

    /// A disk of web-2 is filled; old logs go, under what root allows, and come back on request.
    fn heal_disk(&mut self) -> Result<bool> {
        self.screen.chapter("A disk fills up on web-2");
        let host = self.site.host("web-2");
        fill_disk(host)?;
        self.screen.typed("root@web-2", "df -h /srv/data");
        self.screen.output(&host.must("df -h /srv/data")?);
        let Some(helped) = self.wait_helped("web-2", "disk.", "/srv/data", None)? else { return Ok(false) };
        self.screen.typed("root@web-2", "df -h /srv/data");
        self.screen.output(&host.must("df -h /srv/data")?);
        self.type_and_show(&["explain", &helped.id])?;
        let kept = host.run("test -s /srv/data/logs/today.log && test -s /srv/data/fill")?.is_success();
        match kept {
            true => self.screen.good("today's log and the data that nobody listed were not touched"),
            false => self.screen.bad("something was touched that should not have been"),
        }

        self.screen.say("the old logs can be brought back for a day; once there is room again:");
        host.must("rm /srv/data/fill")?;
        let step = helped.steps.iter().find(|step| step.kind == "disk.reclaim").context("a reclaim has a step")?;
        self.type_and_show(&["undo", &step.action, "--host", "web-2", "--reason", "wanted for the demo"])?;
        let back = wait_until(HEALED_MAX, "the old logs to be back", || {
            Ok(host.run("test -s /srv/data/logs/old-1.log")?.is_success().then_some(()))
        });
        match &back {
            Ok(()) => self.screen.good("the old logs are back"),
            Err(error) => self.screen.bad(&format!("{error:#}")),
        }
        Ok(kept && back.is_ok())
    }

    /// The fleet as a whole, and the proof that its records are complete.
    fn account(&mut self, healed: bool) -> Result<()> {
        self.screen.chapter("What the operator has in the end");
        self.type_and_show(&["hosts"])?;
        self.type_and_show(&["decisions"])?;
        for agent in ["web-1", "web-2"] {
            self.type_and_show(&["ledger", "verify", "--host", agent])?;
        }
        println!();
        match healed {
            true => self.screen.good("both healed: a killed service, and a full disk"),
            false => self.screen.bad("not everything healed"),
        }
        Ok(())
    }

    /// Leaves it all up to look at, until Ctrl-C.
    pub fn stay_up(mut self) {
        self.screen.chapter("It stays up to look at, until Ctrl-C");
        let operator = self.site.fleet.operator();
        let mainstay = crate::hosts::packages::binary("mainstay").unwrap_or_default();
        self.screen.say("the operator's command line:");
        self.screen.say(&format!(
            "  sudo nsenter --net=/run/netns/{} env HOME={} {} hosts",
            operator.netns(),
            operator.home().display(),
            mainstay.display()
        ));
        self.screen.say("a shell on a host:");
        for host in self.site.fleet.hosts() {
            if let Ok(leader) = host.leader() {
                self.screen.say(&format!("  sudo nsenter -t {leader} -a bash   # {}", host.name()));
            }
        }
        let inside = ([127, 0, 0, 1], 7444).into();
        if let Ok(address) = forward_to(&self.site.collector().netns(), inside) {
            self.screen.say(&format!(
                "the collector's metrics and health: http://{address}/metrics  http://{address}/-/ready"
            ));
        }
        loop {
            std::thread::park();
        }
    }

    fn enforce(&self, mode: &str) -> Result<()> {
        let policy = POLICY.replace("MODE", mode);
        self.screen.say(&format!("every rule of web.toml says: mode = \"{mode}\""));
        self.screen.typed("ops", "mainstay policy push web.toml");
        self.site.enforce(&[("web.toml", &policy)], &AGENTS)?;
        self.type_and_show(&["policy", "status"])
    }

    fn type_and_show(&self, args: &[&str]) -> Result<()> {
        let quoted = |word: &&str| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() };
        let words: Vec<_> = args.iter().map(quoted).collect();
        self.screen.typed("ops", &format!("mainstay {}", words.join(" ")));
        let done = self.site.mainstay(args)?;
        self.screen.output(&format!("{}{}", done.stdout, done.stderr));
        done.ok().map(drop)
    }

    fn newest(&self, host: &str) -> Result<Option<String>> {
        Ok(self.site.decisions(host)?.into_iter().find(|decision| decision.choice == "act").map(|decision| decision.id))
    }

    /// Waits for a decision that acted and helped, other than `not`.
    fn wait_helped(&self, host: &str, kind: &str, subject: &str, not: Option<String>) -> Result<Option<Decision>> {
        let wanted = |decision: &Decision| {
            decision.kind.starts_with(kind)
                && decision.subject == subject
                && decision.helped()
                && Some(&decision.id) != not.as_ref()
        };
        match self.site.wait_decision(host, "a repair that helped", HEALED_MAX, wanted) {
            Ok(decision) => Ok(Some(decision)),
            Err(error) => {
                self.screen.bad(&format!("{error:#}"));
                Ok(None)
            }
        }
    }
}

/// A small disk with old logs, a log of today and data, filled to 95 %.
fn fill_disk(host: &Host) -> Result<()> {
    host.disk(128, "/srv/data")?;
    host.push_file("/etc/mainstay/actuator.d/10-data.toml", ROOTS_LIMITS, 0o644)?;
    host.must("mkdir /srv/data/logs")?;
    host.must("for n in 1 2 3 4; do yes \"day $n\" | head -c 20M > /srv/data/logs/old-$n.log; done")?;
    host.must("touch -d '3 days ago' /srv/data/logs/old-*.log && yes today | head -c 4M > /srv/data/logs/today.log")?;
    // Whatever is left up to 95 %, in data that no policy lists.
    host.must(
        "set -- $(df --output=used,avail -B1 /srv/data | tail -1); \
         head -c $(( ($1 + $2) * 95 / 100 - $1 + 1048576 )) /dev/urandom > /srv/data/fill; sync -f /srv/data",
    )?;
    Ok(())
}
