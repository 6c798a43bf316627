//! The program: parses the command line, runs it, and exits with its code.

use std::process::ExitCode;

use bootrace::{
    cli::{self, Cli},
    probe::kvm,
};
use clap::Parser;

fn main() -> ExitCode {
    if let Some(code) = kvm::child() {
        return code;
    }
    // No file is writable for others, whatever the user's umask is.
    let mask = rustix::process::umask(rustix::fs::Mode::all());
    rustix::process::umask(mask | rustix::fs::Mode::from_raw_mode(0o022));
    let done = match Cli::try_parse() {
        Ok(cli) => {
            cli::log(cli.verbose);
            cli.command.run()
        }
        Err(answer) => cli::answer(&answer),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code())
        }
    }
}
