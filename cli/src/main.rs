//! `mainstay`: what operators ask of the fleet, and what they order.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = mainstay::Arguments::parse();
    match mainstay::run(arguments).await {
        Ok(code) => code.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
    }
}
