//! `make demo`: a collector and three hosts on this machine that heal themselves, and say why.
//!
//! Exit status: 0 when everything that was broken healed, 1 when something did not, 130 after Ctrl-C in the middle.

use std::process::ExitCode;

fn main() -> ExitCode {
    let ends_by_itself = std::env::var_os("DEMO_EXIT").is_some_and(|value| !value.is_empty() && value != "0");
    match mainstay_tests::demo::run() {
        Ok((demo, healed)) => {
            if !ends_by_itself {
                demo.stay_up();
            }
            if healed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
