//! The command lines of the commands that call a server.

use clap::Args;

use super::BadSetting;
use super::client::{
    Action, Client, DemoArgs, DueArgs, ImportArgs, OutputArgs, ServerArgs, WorklistArgs,
};

#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Print JSON in place of a word.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub struct ListRequests {
    #[command(flatten)]
    query: WorklistArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Request, as in SE2321000131-1003/0197..., or its whole name.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub struct ListMessages {
    #[command(flatten)]
    query: DueArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub struct ImportFile {
    #[command(flatten)]
    file: ImportArgs,
    /// Print JSON in place of a sentence.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub struct PlayYear {
    #[command(flatten)]
    year: DemoArgs,
    /// Print JSON in place of a sentence.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

impl ImportFile {
    /// Returns the call, and adds what cannot be used to the bad settings.
    pub fn call(self, bad: &mut Vec<BadSetting>) -> Option<Client> {
        let action = Some(Action::Import(self.file.into()));
        call(self.server, OutputArgs::plain(self.json), action, bad)
    }
}

impl PlayYear {
    /// Returns the call, and adds what cannot be used to the bad settings.
    pub fn call(self, bad: &mut Vec<BadSetting>) -> Option<Client> {
        let action = Some(Action::Demo(self.year.into()));
        call(self.server, OutputArgs::plain(self.json), action, bad)
    }
}

impl HealthArgs {
    /// Returns the call, and adds what cannot be used to the bad settings.
    pub fn call(self, bad: &mut Vec<BadSetting>) -> Option<Client> {
        let output = OutputArgs::plain(self.json);
        call(self.server, output, Some(Action::Health), bad)
    }
}

impl ListRequests {
    /// Returns the call, and adds what cannot be used to the bad settings.
    pub fn call(self, bad: &mut Vec<BadSetting>) -> Option<Client> {
        let action = Some(Action::Worklist(self.query.into()));
        call(self.server, self.output, action, bad)
    }
}

impl ShowArgs {
    /// Returns the call, and adds what cannot be used to the bad settings.
    pub fn call(self, bad: &mut Vec<BadSetting>) -> Option<Client> {
        call(self.server, self.output, Some(Action::Show(self.name)), bad)
    }
}

impl ListMessages {
    /// Returns the call, and adds what cannot be used to the bad settings.
    pub fn call(self, bad: &mut Vec<BadSetting>) -> Option<Client> {
        let action = self.query.validate(bad).map(Action::Due);
        call(self.server, self.output, action, bad)
    }
}

fn call(
    server: ServerArgs,
    output: OutputArgs,
    action: Option<Action>,
    bad: &mut Vec<BadSetting>,
) -> Option<Client> {
    let server = server.validate(bad);
    Some(Client {
        server: server?,
        output: output.output(),
        action: action?,
    })
}
