//! A working Mainstay on a fleet of real hosts: a collector, agents from the packages, an operator with keys.
//!
//! What an operator does by hand, in the same order and with the same commands, so that the tests, the demo and the
//! benchmarks all stand on the documented way in.

mod answers;
pub mod churn;
pub mod learning;
pub mod services;
mod wire;
pub mod workload;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub use answers::{Decision, HostRow, PolicyRow, Step};

use crate::hosts::command::Output;
use crate::hosts::{Base, Fleet, FleetOptions, Host, packages, wait_until};

/// Name of the collector's host.
pub const COLLECTOR: &str = "collector";

/// Longest an agent may take to be seen at the collector after it enrolled.
const SEEN_MAX: Duration = Duration::from_secs(60);

/// Longest a pushed policy may take to be in force on a host that is connected.
const POLICY_MAX: Duration = Duration::from_secs(60);

/// A collector and the hosts that it looks after.
#[derive(Debug)]
pub struct Site {
    /// The hosts; the collector's is named [`COLLECTOR`].
    pub fleet: Fleet,
}

impl Site {
    /// Boots a collector and `agents`, installs the packages, makes the operator and the policy key, and enrols.
    ///
    /// # Errors
    /// When any step fails that an operator would do.
    pub fn enrolled(agents: &[&str]) -> Result<Self> {
        let site = Self::installed(agents, None)?;
        site.make_operator()?;
        site.make_policy_key()?;
        for agent in agents {
            let token = site.token(1)?;
            site.enrol(agent, &token)?.ok()?;
        }
        for agent in agents {
            site.wait_online(agent)?;
        }
        Ok(site)
    }

    /// Boots a collector and `agents` and installs the packages; nobody is enrolled.
    ///
    /// # Errors
    /// When a host does not boot or a package does not install.
    pub fn installed(agents: &[&str], base: Option<Base>) -> Result<Self> {
        let names = std::iter::once(COLLECTOR).chain(agents.iter().copied()).map(str::to_owned).collect();
        let site = Self { fleet: Fleet::boot_with(FleetOptions { names, base })? };
        site.collector().install_deb(&packages::deb("mainstay-collector")?)?;
        site.collector().install_deb(&packages::deb("mainstay")?)?;
        for agent in agents {
            site.host(agent).install_deb(&packages::deb("mainstay-agent")?)?;
        }
        Ok(site)
    }

    /// The collector's host.
    #[must_use]
    pub fn collector(&self) -> &Host {
        self.fleet.host(COLLECTOR)
    }

    /// A host by its name.
    #[must_use]
    pub fn host(&self, name: &str) -> &Host {
        self.fleet.host(name)
    }

    /// Runs `mainstay args…` at the operator's seat.
    ///
    /// # Errors
    /// When the binary is not built; a refusal is in the output.
    pub fn mainstay(&self, args: &[&str]) -> Result<Output> {
        self.fleet.operator().mainstay(args)
    }

    /// The operator's folder, where the command line looks for its certificate and keys.
    #[must_use]
    pub fn operator_folder(&self) -> PathBuf {
        self.fleet.operator().home().join(".config/mainstay")
    }

    /// The policy key's private half: only the operator has it.
    #[must_use]
    pub fn policy_key(&self) -> PathBuf {
        self.operator_folder().join("policy.key")
    }

    /// First certificate, made on the collector's machine as root, then carried to the operator's seat.
    ///
    /// # Errors
    /// When the collector does not come up or refuses.
    pub fn make_operator(&self) -> Result<()> {
        let collector = self.collector();
        wait_until(SEEN_MAX, "the collector to make an operator", || {
            Ok(Some(collector.must("rm -rf /root/ops && mainstay operator create ops --role admin --out /root/ops")?))
        })
        .with_context(|| collector.journal_tail("mainstay-collector"))?;
        let folder = self.operator_folder();
        fs::create_dir_all(&folder)?;
        for name in collector.must("ls /root/ops")?.lines() {
            let path = folder.join(name);
            fs::write(&path, collector.must(&format!("cat /root/ops/{name}"))? + "\n")?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        collector.must("rm -rf /root/ops")?;
        fs::write(folder.join("collector"), self.collector_address() + "\n")?;
        Ok(())
    }

    /// The key that policies and orders are signed with. The collector never has it.
    ///
    /// # Errors
    /// When the command line refuses.
    pub fn make_policy_key(&self) -> Result<()> {
        self.mainstay(&["policy", "keygen"])?.ok()?;
        Ok(())
    }

    /// Where agents and operators reach the collector: on the switch, whatever it thinks its own name is.
    fn collector_address(&self) -> String {
        format!("{}:7443", self.collector().address())
    }

    /// A token for `uses` hosts.
    ///
    /// # Errors
    /// When the collector refuses.
    pub fn token(&self, uses: u32) -> Result<String> {
        let address = self.collector_address();
        let uses = uses.to_string();
        self.mainstay(&[
            "token",
            "create",
            "--uses",
            &uses,
            "--ttl",
            "1h",
            "--label",
            "role=web",
            "--address",
            &address,
        ])?
        .ok()
    }

    /// Enrols a host with a token on its standard input.
    ///
    /// # Errors
    /// When the host is off; a refusal is in the output.
    pub fn enrol(&self, name: &str, token: &str) -> Result<Output> {
        self.host(name).run_with_input("mainstay-agent enrol --token-file -", token.as_bytes())
    }

    /// Waits until the collector lists the host as online or healing.
    ///
    /// # Errors
    /// When it does not come.
    pub fn wait_online(&self, name: &str) -> Result<()> {
        self.wait_state(name, &["online", "healing"], SEEN_MAX).with_context(|| self.host(name).agent_story())?;
        // A host is listed as soon as it has enrolled; what happens on it counts once its agent has noticed.
        wait_until(SEEN_MAX, &format!("the session of {name}"), || {
            let said = self.host(name).must("mainstay-agent status")?;
            Ok(said.contains("collector connected").then_some(()))
        })
        .with_context(|| self.host(name).agent_story())
    }

    /// Waits until the collector lists the host in one of `states`.
    ///
    /// # Errors
    /// When it does not get there in time.
    pub fn wait_state(&self, name: &str, states: &[&str], deadline: Duration) -> Result<()> {
        wait_until(deadline, &format!("{name} to be {}", states.join(" or ")), || {
            let rows = self.hosts()?;
            Ok(rows.iter().any(|row| row.host == name && states.contains(&row.state.as_str())).then_some(()))
        })
    }

    /// `mainstay hosts`.
    ///
    /// # Errors
    /// When the collector does not answer.
    pub fn hosts(&self) -> Result<Vec<HostRow>> {
        answers::parse(&self.mainstay(&["-o", "json", "hosts"])?.ok()?)
    }

    /// `mainstay decisions --host NAME`, newest first.
    ///
    /// # Errors
    /// When the collector does not answer.
    pub fn decisions(&self, name: &str) -> Result<Vec<Decision>> {
        answers::parse(&self.mainstay(&["-o", "json", "decisions", "--host", name])?.ok()?)
    }

    /// `mainstay approvals list`.
    ///
    /// # Errors
    /// When the collector does not answer.
    pub fn approvals(&self) -> Result<Vec<Decision>> {
        answers::parse(&self.mainstay(&["-o", "json", "approvals", "list"])?.ok()?)
    }

    /// What `mainstay policy status` says of a host.
    ///
    /// # Errors
    /// When the collector does not answer, or does not know the host.
    pub fn policy_of(&self, name: &str) -> Result<PolicyRow> {
        let rows: Vec<PolicyRow> = answers::parse(&self.mainstay(&["-o", "json", "policy", "status"])?.ok()?)?;
        rows.into_iter().find(|row| row.host == name).with_context(|| format!("{name} is not listed"))
    }

    /// Waits until the collector shows that a host has refused what it was offered, and gives the words.
    ///
    /// # Errors
    /// When `words` do not come: what is shown instead is in the error.
    pub fn wait_policy_refused(&self, name: &str, words: &str) -> Result<PolicyRow> {
        wait_until(POLICY_MAX, &format!("{name} to refuse: {words}"), || {
            let row = self.policy_of(name)?;
            ensure!(row.refused.as_ref().is_some_and(|why| why.contains(words)), "{row:?}");
            Ok(Some(row))
        })
        .with_context(|| self.host(name).agent_story())
    }

    /// Waits for a decision on a host that `wanted` accepts.
    ///
    /// # Errors
    /// When none comes in time: all decisions of the host are in the error.
    pub fn wait_decision(
        &self,
        name: &str,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Decision) -> bool,
    ) -> Result<Decision> {
        let found = wait_until(deadline, what, || Ok(self.decisions(name)?.into_iter().find(&wanted)));
        found.with_context(|| {
            let seen = self.mainstay(&["decisions", "--host", name, "-o", "wide"]).map(|output| output.stdout);
            format!("decisions of {name}:\n{}\n{}", seen.unwrap_or_default(), self.host(name).agent_story())
        })
    }

    /// `mainstay explain ID`, as an operator reads it.
    ///
    /// # Errors
    /// When there is no such decision.
    pub fn explain(&self, id: &str) -> Result<String> {
        self.mainstay(&["explain", id])?.ok()
    }

    /// Signs and pushes policy files, given as (name, text).
    ///
    /// # Errors
    /// When a file cannot be written; a refusal is in the output.
    pub fn push_policy(&self, files: &[(&str, &str)]) -> Result<Output> {
        let folder = self.fleet.operator().home().join("policy");
        fs::create_dir_all(&folder)?;
        let mut paths = Vec::new();
        for (name, text) in files {
            let path = folder.join(name);
            fs::write(&path, text)?;
            paths.push(path.to_string_lossy().into_owned());
        }
        let mut args = vec!["policy", "push", "--yes"];
        args.extend(paths.iter().map(String::as_str));
        self.mainstay(&args)
    }

    /// Pushes policy files and waits until every named host says that they are in force.
    ///
    /// # Errors
    /// When the push is refused, or a host does not take the policy.
    pub fn enforce(&self, files: &[(&str, &str)], hosts: &[&str]) -> Result<()> {
        let before = self.hosts()?.iter().map(HostRow::generation).max().unwrap_or(0);
        self.push_policy(files)?.ok()?;
        for host in hosts {
            wait_until(POLICY_MAX, &format!("the new policy on {host}"), || {
                let rows = self.hosts()?;
                let row = rows.iter().find(|row| row.host == *host).context("host is not listed")?;
                ensure!(row.generation() > before, "{} is in force", row.policy);
                Ok(Some(()))
            })
            .with_context(|| self.host(host).agent_story())?;
        }
        Ok(())
    }
}
