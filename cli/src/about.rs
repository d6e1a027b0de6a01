//! `completions` and `man`: what the command line says about itself.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::Cli;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Print a shell's completion script
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  sapwood completions bash > ~/.local/share/bash-completion/completions/sapwood")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Print a manual page
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood man append | man -l -
  sapwood man --out ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The command; the page of sapwood itself when none is given
    command: Option<String>,
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    out: Option<PathBuf>,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sapwood", &mut script);
    print(&script)
}

pub(crate) fn man(args: &ManArgs) -> Result<Exit> {
    let command = Cli::command().disable_help_subcommand(true);
    if let Some(dir) = &args.out {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        clap_mangen::generate_to(command, dir)
            .with_context(|| format!("writing pages to {}", dir.display()))?;
        return Ok(Exit::Ok);
    }
    let command = match &args.command {
        None => command,
        Some(name) => page_of(command, name)?,
    };
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    print(&page)
}

fn page_of(mut command: clap::Command, name: &str) -> Result<clap::Command> {
    command.build();
    command.find_subcommand(name).cloned().ok_or_else(|| {
        let what = format!("there is no command {name:?}; see `sapwood --help`");
        Failure::new(Exit::Missing, what).into()
    })
}

fn print(bytes: &[u8]) -> Result<Exit> {
    let mut out = Output::stdout()?;
    out.bytes(bytes)?;
    out.flush()?;
    Ok(Exit::Ok)
}
