//! `mainstay-actuator`: started by its socket; also checks root's file and asks for a purge.
#![forbid(unsafe_code)]

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use mainstay_actuator::client::Client;
use mainstay_actuator::dispatch::{Actuator, Paths};
use mainstay_actuator::load::Ownership;
use mainstay_actuator::server;
use mainstay_actuator::units::Systemd;
use mainstay_actuator::{check, log, stacks, sys};
use mainstay_core::id::ActionId;
use mainstay_core::verb::{Reply, Request, Verb};

const USAGE: &str = "usage: mainstay-actuator [serve | check-config [FILE] | purge | stacks | --version]

  serve         answer on the socket that systemd passes (default)
  check-config  name every mistake in actuator.toml, its drop-ins and probes.d, and exit with 1 if there is one
  purge         have the running actuator delete what is past its undo time
  stacks        read numbers of processes, one line, and write their kernel stacks (mainstay-stacks.socket)";

/// Longest that a purge is waited for.
const PURGE_DEADLINE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        [] | ["serve"] => serve(),
        ["check-config"] => check::run(&Paths::default()),
        ["check-config", file] => check::run(&Paths { config: file.into(), ..Paths::default() }),
        ["purge"] => purge(),
        ["stacks"] => stacks(),
        ["--version"] => {
            println!("mainstay-actuator {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn serve() -> ExitCode {
    // A panic is a bug: end at once, so that systemd starts afresh and the journal says `interrupted`.
    std::panic::set_hook(Box::new(|info| {
        log::error(info);
        std::process::abort();
    }));
    let socket = sys::take_activation_socket().and_then(|socket| {
        sys::block_signals()?;
        socket.ok_or_else(|| std::io::Error::other("no socket: start mainstay-actuator.socket"))
    });
    let actuator = Arc::new(Actuator::new(Paths::default(), Ownership::Root, Box::new(Systemd::default())));
    let idle = actuator.settings().map_or(Duration::from_secs(5), |settings| settings.idle_exit);
    match socket.and_then(|socket| server::serve(UnixListener::from(socket), actuator, idle)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(error);
            ExitCode::FAILURE
        }
    }
}

fn stacks() -> ExitCode {
    match stacks::answer(Path::new("/proc"), &mut std::io::stdin().lock(), &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // Who asked does not wait any longer.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            log::warn(format_args!("stacks: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn purge() -> ExitCode {
    let request = Request::new(ActionId(0), Verb::PurgeExpired);
    match Client::default().call(&request, PURGE_DEADLINE) {
        Ok(reply @ Reply::Done(_)) => {
            println!("{reply}");
            ExitCode::SUCCESS
        }
        Ok(reply) => {
            eprintln!("mainstay-actuator: {reply}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("mainstay-actuator: {error}");
            ExitCode::FAILURE
        }
    }
}
