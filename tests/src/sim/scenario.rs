//! Golden scenarios: a script for one host, and what it is to say.
//!
//! A script opens with an English sentence. Then come commands, one a line; `policy` is followed
//! by TOML up to a line `end`. Below a line of dashes stands what was seen, with the seconds since
//! the end of the preparations (`ready`). [`run`] gives the whole text as it should be.
//!
//! ```text
//! service NAME sound|broken|dies-after SECONDS    before `ready`; without any, web.service
//! ready                                           the host has run its policy's trial
//! run SECONDS | until WORDS                       the words stand in a line that was seen
//! kill UNIT | freeze UNIT | fill PERCENT
//! crash agent | crash actuator | reboot | clock SECONDS
//! ledger fails | ledger works | root allows nothing | hold file | no hold file | collector away | collector back
//! hold SCOPE SECONDS | release SCOPE | approve | deny | undo
//! offer policy | offer policy of a stranger | offer policy of generation N   (TOML up to `end`)
//! ```

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ed25519_dalek::SigningKey;
use mainstay_core::agent::{Input, OrderId};
use mainstay_core::decision::{Choice, HoldReason};
use mainstay_core::plan::{Plan, Step};
use mainstay_core::policy::bundle::Bundle;
use mainstay_core::policy::order::{HoldScope, Order};
use mainstay_core::policy::signed::Signed;
use mainstay_core::record::{Author, Body, Record};

use super::check::Seen;
use super::fault::{Fault, Trouble};
use super::machine::Nature;
use super::world::{Event, MILLI, SECOND, World};
use super::{Config, plan};

/// As long as a policy is on trial, and a little more.
const TRIAL: u64 = 400 * SECOND;

/// Milliseconds after which `until` gives up.
const UNTIL_MAX: u64 = 600_000;

/// Far in the future of simulated wall clocks.
const NOT_AFTER_MS: i64 = 4_000_000_000_000;

/// Runs a scenario and gives its text with what was seen.
///
/// # Errors
/// Where the script cannot be understood; the line is named.
pub fn run(text: &str) -> Result<String> {
    let script = text.split("\n----").next().unwrap_or_default();
    let mut stage = Stage::default();
    let mut lines = script.lines().skip(1);
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let takes_toml = words.first() == Some(&"policy") || words.starts_with(&["offer"]);
        let toml = if takes_toml { lines.by_ref().take_while(|line| *line != "end").collect() } else { Vec::new() };
        stage.command(&words, &toml.join("\n")).with_context(|| format!("`{line}`"))?;
    }
    Ok(format!("{}\n----\n{}", script.trim_end(), stage.told()))
}

/// The one host of a scenario.
#[derive(Debug, Default)]
struct Stage {
    services: Vec<(&'static str, Nature)>,
    policy: Option<String>,
    world: Option<World>,
    ready_at: u64,
    orders: u64,
}

impl Stage {
    fn command(&mut self, words: &[&str], toml: &str) -> Result<()> {
        match words {
            [] => {}
            ["policy"] => self.policy = Some(toml.to_owned()),
            ["service", name, nature @ ..] => {
                // A scenario is read once and its names live as long as the test.
                self.services.push((Box::leak((*name).to_owned().into_boxed_str()), nature_of(nature)?));
            }
            ["ready"] => self.ready(),
            ["run", seconds] => {
                let time: f64 = seconds.parse().context("not a number of seconds")?;
                let nanos = Duration::try_from_secs_f64(time).context("not a time")?.as_nanos();
                self.world()?.run_for(u64::try_from(nanos)?);
            }
            ["until", words @ ..] => self.until(&words.join(" "))?,
            ["kill", unit] => self.befall(Event::Trouble(0, Trouble::Kill(unit.parse()?)))?,
            ["freeze", unit] => self.befall(Event::Trouble(0, Trouble::Freeze(unit.parse()?)))?,
            ["fill", percent] => self.befall(Event::Trouble(0, Trouble::Fill(number(percent)? * 10)))?,
            ["crash", "agent"] => self.befall(Event::Fault(Fault::Agent(0)))?,
            ["crash", "actuator"] => self.befall(Event::Fault(Fault::Actuator(0)))?,
            ["reboot"] => self.befall(Event::Fault(Fault::Reboot(0)))?,
            ["clock", seconds] => {
                let seconds: i64 = seconds.parse().context("not a number of seconds")?;
                self.befall(Event::Fault(Fault::Clock(0, seconds * 1_000)))?;
            }
            ["ledger", "fails"] => self.world()?.nodes[0].disk_full = true,
            ["ledger", "works"] => self.world()?.nodes[0].disk_full = false,
            ["root", "allows", "nothing"] => self.world()?.nodes[0].actuator.allows_nothing = true,
            ["hold", "file"] => self.tell(Input::HoldFile(true))?,
            ["no", "hold", "file"] => self.tell(Input::HoldFile(false))?,
            ["collector", "away"] => self.befall(Event::Fault(Fault::Collector(1_000_000 * SECOND)))?,
            ["collector", "back"] => self.befall(Event::Fault(Fault::CollectorBack))?,
            ["hold", scope, seconds] => self.hold(scope, Some(number(seconds)?))?,
            ["release", scope] => self.hold(scope, None)?,
            ["approve"] => self.answer(true)?,
            ["deny"] => self.answer(false)?,
            ["undo"] => self.undo()?,
            ["offer", "policy"] => self.offer(None, toml, &plan::key())?,
            ["offer", "policy", "of", "a", "stranger"] => self.offer(None, toml, &SigningKey::from_bytes(&[9; 32]))?,
            ["offer", "policy", "of", "generation", n] => self.offer(Some(number(n)?), toml, &plan::key())?,
            _ => bail!("no such command"),
        }
        Ok(())
    }

    fn world(&mut self) -> Result<&mut World> {
        self.world.as_mut().context("comes before `ready`")
    }

    fn ready(&mut self) {
        let mut config = Config::quiet(1);
        config.services = std::mem::take(&mut self.services);
        if config.services.is_empty() {
            config.services.push(("web.service", Nature::Sound));
        }
        if let Some(policy) = self.policy.take() {
            config.policy = policy;
        }
        let mut world = World::new(config, 1);
        world.run_for(TRIAL);
        world.turn_rough();
        world.history = Some(Vec::new());
        self.ready_at = world.at;
        self.world = Some(world);
    }

    fn befall(&mut self, event: Event) -> Result<()> {
        let world = self.world()?;
        world.after(0, event);
        world.run_for(0);
        Ok(())
    }

    /// Lets time pass until something is seen that has not been seen before.
    fn until(&mut self, words: &str) -> Result<()> {
        let world = self.world()?;
        let seen_before = world.history.iter().flatten().count();
        for _ in 0..UNTIL_MAX {
            let fresh = world.history.iter().flatten().skip(seen_before);
            if fresh.filter_map(|(_, _, seen)| line(seen)).any(|line| line.contains(words)) {
                return Ok(());
            }
            world.run_for(MILLI);
        }
        bail!("not seen within {} s", UNTIL_MAX / 1_000)
    }

    fn tell(&mut self, input: Input) -> Result<()> {
        let life = self.world()?.nodes[0].life;
        self.befall(Event::Tell(0, life, Box::new(input)))
    }

    fn order(&mut self, order: &Order) -> Result<()> {
        self.orders += 1;
        let id = OrderId(self.orders);
        self.tell(Input::Order { id, signed: Box::new(order.sign(&plan::key())) })
    }

    fn hold(&mut self, scope: &str, seconds: Option<u64>) -> Result<()> {
        let world = self.world()?;
        let (host, now) = (world.nodes[0].id, world.now(0));
        let scope = match scope {
            "fleet" => HoldScope::Fleet,
            "host" => HoldScope::Host(host),
            unit => HoldScope::Unit(host, unit.parse()?),
        };
        let until_ms = seconds.map(|seconds| now.plus(Duration::from_secs(seconds)).wall_ms);
        self.order(&Order::Hold { scope, until_ms, held: seconds.is_some(), not_after_ms: NOT_AFTER_MS, by: ana() })
    }

    /// Answers the last decision that asked.
    fn answer(&mut self, approved: bool) -> Result<()> {
        let asks = |record: &Record| match &record.body {
            Body::Decided(decided) => match &decided.choice {
                Choice::Hold { reason: HoldReason::NeedsApproval, would: Some(plan) } => {
                    Some((decided.id, plan.hash()))
                }
                _ => None,
            },
            _ => None,
        };
        let ledger = &self.world()?.nodes[0].disk.ledger;
        let (decision, plan_hash) = ledger.iter().rev().find_map(asks).context("nothing waits for an answer")?;
        self.order(&Order::Approval { decision, plan_hash, until_ms: NOT_AFTER_MS, approved, by: ana() })
    }

    /// Undoes the last action.
    fn undo(&mut self) -> Result<()> {
        let world = self.world()?;
        let host = world.nodes[0].id;
        let acted = |record: &Record| match &record.body {
            Body::Intent { action, .. } => Some(*action),
            _ => None,
        };
        let action = world.nodes[0].disk.ledger.iter().rev().find_map(acted).context("nothing was done yet")?;
        self.order(&Order::Undo { host, action, not_after_ms: NOT_AFTER_MS, by: ana() })
    }

    fn offer(&mut self, generation: Option<u64>, toml: &str, key: &SigningKey) -> Result<()> {
        let world = self.world()?;
        let last = Bundle::decode(&world.policy.bytes).map_or(0, |bundle| bundle.generation);
        let generation = generation.unwrap_or(last + 1);
        let bundle = Bundle {
            fleet_id: plan::FLEET,
            generation,
            prev_hash: [0; 32],
            not_after_ms: NOT_AFTER_MS,
            files: vec![("fleet.toml".to_owned(), toml.as_bytes().to_vec())],
        };
        let signed = Signed::sign(bundle.encode(), key);
        world.policy = signed.clone();
        self.tell(Input::PolicyOffered(Box::new(signed)))
    }

    /// What was seen since `ready`, one line each.
    fn told(&self) -> String {
        let mut text = String::new();
        let Some(world) = &self.world else { return text };
        for (at, _, seen) in world.history.iter().flatten() {
            if let Some(line) = line(seen) {
                // Tenths: what takes milliseconds may take others tomorrow.
                let tenths = (at - self.ready_at) / (SECOND / 10);
                let _ = writeln!(text, "{:>6}.{} {line}", tenths / 10, tenths % 10);
            }
        }
        text
    }
}

fn ana() -> Author {
    Author { name: "ana".to_owned(), reason: "because".to_owned() }
}

fn number(word: &str) -> Result<u64> {
    word.parse().with_context(|| format!("`{word}` is not a number"))
}

fn nature_of(words: &[&str]) -> Result<Nature> {
    Ok(match words {
        ["sound"] => Nature::Sound,
        ["broken"] => Nature::Broken,
        ["dies-after", seconds] => Nature::DiesAfter(Duration::from_secs(number(seconds)?)),
        _ => bail!("a service is sound, broken or dies-after SECONDS"),
    })
}

/// What was seen, for a person.
fn line(seen: &Seen) -> Option<String> {
    Some(match seen {
        Seen::Durable(record) => record_line(&record.body)?,
        Seen::HandedOver(_) => "runs".to_owned(),
        Seen::Acted { .. } | Seen::Granted(_) => return None,
        Seen::Told(to, subject) => format!("tells {to}: {subject}"),
        Seen::Answered(true, text) => format!("order carried out: {text}"),
        Seen::Answered(false, text) => format!("order refused: {text}"),
        Seen::Started => "agent starts".to_owned(),
        Seen::Struck(what) => format!("! {what}"),
    })
}

fn record_line(body: &Body) -> Option<String> {
    Some(match body {
        Body::Started { .. } => return None,
        Body::Decided(decided) => match &decided.choice {
            Choice::Act(plan) => format!("{}: act: {}", decided.kind, steps(plan)),
            Choice::Hold { reason, .. } => {
                let refused = decided.verdicts.iter().find(|verdict| !verdict.pass);
                let why = refused.map_or(String::new(), |verdict| format!(" ({})", verdict.text));
                format!("{}: hold: {reason}{why}", decided.kind)
            }
        },
        Body::Intent { step, .. } => format!("intent {step}"),
        Body::Outcome { outcome, .. } => format!("{:?}: {}", outcome.ended, outcome.text).to_lowercase(),
        Body::Verified { verification, .. } => {
            let verdict = if verification.recovered { "recovered" } else { "not recovered" };
            format!("{verdict}: {}", verification.text)
        }
        Body::Policy { policy, refused: None } => format!("policy {} in force", policy.generation),
        Body::Policy { policy, refused: Some(why) } => format!("policy {} refused: {why}", policy.generation),
        Body::Answered { approved, by, .. } => {
            format!("{} by {}", if *approved { "approved" } else { "denied" }, by.name)
        }
        Body::Hold { scope, held, by, .. } => {
            format!("{scope} {} by {}", if *held { "held" } else { "released" }, by.name)
        }
        Body::Learning { change, by, .. } => format!("{change:?} by {}", by.name),
        Body::Undone { outcome, by, .. } => format!("undone for {}: {}", by.name, outcome.text),
    })
}

fn steps(plan: &Plan) -> String {
    plan.steps.iter().map(|planned| Step::to_string(&planned.step)).collect::<Vec<_>>().join(", then ")
}
