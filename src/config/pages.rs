//! Pages about the program that are made from its flags: completions of shells, and man pages.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Line;

/// Pages that are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pages {
    /// The script by which a shell completes commands and flags.
    Completions(Shell),
    /// A man page for each command, in this folder.
    Man(PathBuf),
}

/// Flags of completions.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Flags of man pages.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder for the pages, which is created when it is missing.
    folder: PathBuf,
}

impl From<CompletionsArgs> for Pages {
    fn from(args: CompletionsArgs) -> Self {
        Self::Completions(args.shell)
    }
}

impl From<ManArgs> for Pages {
    fn from(args: ManArgs) -> Self {
        Self::Man(args.folder)
    }
}

/// Writes pages: completions to `output`, man pages to their folder.
///
/// # Errors
///
/// They cannot be written.
pub fn write(pages: &Pages, output: &mut impl io::Write) -> io::Result<()> {
    let mut line = Line::command();
    match pages {
        Pages::Completions(shell) => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut line, "care-invitation", &mut script);
            output.write_all(&script)
        }
        Pages::Man(folder) => {
            fs::create_dir_all(folder)?;
            clap_mangen::generate_to(line, folder)
        }
    }
}
