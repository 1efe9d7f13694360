//! What is said of it: what is over, how far down the agent is, what it no longer sees, what can be done about it.

use super::{Budget, Depth, Over};
use crate::detect::words::{bytes, float, measured, percent, said};
use crate::finding::Evidence;

/// The evidence of `agent.degraded`; empty while everything is read. It says the same until the agent moves.
pub(crate) fn evidence(budget: &Budget) -> Vec<Evidence> {
    let Some(over) = budget.over().filter(|_| budget.depth() > Depth::Whole) else { return Vec::new() };
    let mut evidence = vec![what(over), said(how_far(budget))];
    let given_up = Depth::ALL.into_iter().filter(|depth| *depth <= budget.depth()).filter_map(given_up);
    evidence.extend(given_up.map(|text| said(text.to_owned())));
    evidence.push(said(advice(over).to_owned()));
    evidence
}

fn what(over: Over) -> Evidence {
    match over {
        Over::Cpu { ratio, limit } => {
            let text = format!(
                "the agent used {} of a core over a minute, {:.1} times its limit of {}",
                percent(ratio),
                ratio / limit,
                percent(limit)
            );
            measured(text, "own_cpu_ratio", ratio, Some(limit))
        }
        Over::Memory { bytes: held, limit } => {
            let (more, of) = (bytes(held.saturating_sub(limit)), bytes(limit));
            let text = format!("the agent holds {} of memory, {more} more than its limit of {of}", bytes(held));
            measured(text, "own_rss_bytes", float(held), Some(float(limit)))
        }
    }
}

fn how_far(budget: &Budget) -> String {
    let (at, of) = (budget.depth().steps(), Depth::CoreOnly.steps());
    let beyond = if budget.is_beyond() { ", and even so it is over" } else { "" };
    format!("so it reads less, step {at} of {of}{beyond}; what policy heals is still read and healed")
}

/// What is given up with a step.
fn given_up(depth: Depth) -> Option<&'static str> {
    Some(match depth {
        Depth::Whole => return None,
        Depth::WithoutProcesses => {
            "no longer seen: processes one by one, so zombies, open files, and tasks and memory where the kernel does not count them"
        }
        Depth::Slower => {
            "the host is read a fifth as often, every ten seconds at least: what is not told by systemd is found later"
        }
        Depth::CoreOnly => {
            "no longer seen: the journal, what is unusual, and CPU, memory and tasks of units that no rule acts on for them"
        }
    })
}

fn advice(over: Over) -> &'static str {
    match over {
        Over::Cpu { .. } => {
            "it goes up again by itself where there is room; or raise `cpu` of [budget] in agent.toml and reload mainstay-agent"
        }
        Over::Memory { .. } => {
            "it goes up again by itself where there is room; or raise `memory` of [budget] in agent.toml and reload mainstay-agent, or \
             restart it"
        }
    }
}
