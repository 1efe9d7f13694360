//! Network namespaces and the switch between them. Every name carries the run id, every address lives inside a namespace.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::command::must;

/// Address of port `number` (1 to 253) on a fleet's switch. Fleets do not see each other, so all use the same range.
#[must_use]
pub fn address(number: u8) -> String {
    format!("10.99.0.{number}")
}

/// Makes the switch of a run: a bridge in a namespace of its own.
///
/// # Errors
/// When `ip` fails.
pub fn make_switch(run: &str) -> Result<()> {
    let switch = switch_name(run);
    must("ip", &["netns", "add", &switch])?;
    must("ip", &["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
    must("ip", &["-n", &switch, "link", "set", "br0", "up"])?;
    Ok(())
}

/// Makes the namespace `name` of a run and plugs it into the switch at `number`.
///
/// # Errors
/// When `ip` fails.
pub fn plug(run: &str, name: &str, number: u8) -> Result<()> {
    let (switch, space, port) = (switch_name(run), space_name(run, name), port(number));
    must("ip", &["netns", "add", &space])?;
    must("ip", &["link", "add", "eth0", "netns", &space, "type", "veth", "peer", "name", &port, "netns", &switch])?;
    must("ip", &["-n", &switch, "link", "set", &port, "master", "br0", "up"])?;
    must("ip", &["-n", &space, "addr", "add", &format!("{}/24", address(number)), "dev", "eth0"])?;
    must("ip", &["-n", &space, "link", "set", "eth0", "up"])?;
    must("ip", &["-n", &space, "link", "set", "lo", "up"])?;
    Ok(())
}

/// Takes the cable of port `number` out, or puts it back in.
///
/// # Errors
/// When `ip` fails.
pub fn set_port(run: &str, number: u8, state: Cable) -> Result<()> {
    let word = match state {
        Cable::In => "up",
        Cable::Out => "down",
    };
    must("ip", &["-n", &switch_name(run), "link", "set", &port(number), word])?;
    Ok(())
}

/// Whether a host's cable is in the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cable {
    /// Connected.
    In,
    /// Partitioned.
    Out,
}

/// Name of a run's namespace, as `ip netns` knows it.
#[must_use]
pub fn space_name(run: &str, name: &str) -> String {
    format!("{run}-{name}")
}

/// File that stands for a namespace.
#[must_use]
pub fn space_path(space: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(space)
}

/// Moves the calling thread into a namespace for the rest of its life: sockets that it makes belong there.
///
/// # Errors
/// When the namespace is gone or this is not root.
pub fn enter(space: &str) -> Result<()> {
    use std::os::fd::AsFd as _;
    let path = space_path(space);
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("cannot enter {}", path.display()))
}

fn switch_name(run: &str) -> String {
    space_name(run, "switch")
}

fn port(number: u8) -> String {
    format!("p{number}")
}
