//! `bootrace completions`: completion scripts for shells.

use super::{Failure, print};

pub(super) const AFTER_HELP: &str = "\
Examples:
  bootrace completions bash > ~/.local/share/bash-completion/completions/bootrace
  bootrace completions zsh > ~/.zfunc/_bootrace
  bootrace completions fish > ~/.config/fish/completions/bootrace.fish";

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Prints the script of a command line for one shell.
///
/// # Errors
/// [`Failure::Run`] when standard output can't be written.
pub fn run(options: &Options, mut command: clap::Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, "bootrace", &mut script);
    print(&String::from_utf8_lossy(&script))
}
