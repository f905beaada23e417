//! The settings of the commands that call a server as everybody else does.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, ValueEnum};
use http::Uri;

use super::value::{civil_date, instant};
use super::{BadSetting, take};

/// A command that calls a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Server that is called.
    pub server: Server,
    /// Form of what is printed.
    pub output: Output,
    /// Its purpose.
    pub action: Action,
}

/// A server, and how it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Address, http or https.
    pub uri: Uri,
    /// File with the bearer token of each call; none sends none.
    pub token_file: Option<PathBuf>,
    /// PEM file with the CAs that the server is trusted by; none for those of the system.
    pub ca: Option<PathBuf>,
    /// Name that the server's certificate must have; none for the host of the address.
    pub name: Option<String>,
    /// PEM files of the certificate of this client and of its key.
    pub pair: Option<(PathBuf, PathBuf)>,
}

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// True for JSON, false for tables.
    pub json: bool,
    /// True unless colours were turned off by `NO_COLOR`.
    pub may_colour: bool,
    /// True if identity numbers and texts are printed too.
    pub personal_data: bool,
}

/// Purpose of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask whether the server is ready.
    Health,
    /// List requests, or count them.
    Worklist(Worklist),
    /// Show one request: `careUnits/{HSA-id}/bookingRequests/{uuid}`, of which the collections may be left out.
    Show(String),
    /// List messages that wait.
    Due(Due),
    /// Create the requests of a file.
    Import(Import),
    /// Play a year in a sandbox.
    Demo(Demo),
}

/// A file of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The file.
    pub file: PathBuf,
    /// Its form; none when its name says it.
    pub format: Option<FileFormat>,
    /// Care unit of the lines that name none.
    pub care_unit: Option<String>,
    /// Name of the system that the lines come from: part of the ids of their calls.
    pub source: String,
    /// File for refused lines; none for one beside the file.
    pub refused: Option<PathBuf>,
}

impl Import {
    /// Returns true for CSV, false for NDJSON.
    pub fn is_csv(&self) -> bool {
        match self.format {
            Some(FileFormat::Csv) => true,
            Some(FileFormat::Ndjson) => false,
            None => self
                .file
                .extension()
                .is_some_and(|it| it.eq_ignore_ascii_case("csv")),
        }
    }

    /// Returns the file for refused lines.
    pub fn refused_file(&self) -> PathBuf {
        let ending = match self.is_csv() {
            true => "refused.csv",
            false => "refused.ndjson",
        };
        let beside = || self.file.with_extension(ending);
        self.refused.clone().unwrap_or_else(beside)
    }
}

/// Form of a file of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// Headings and records, with commas or semicolons.
    Csv,
    /// A JSON object a line.
    Ndjson,
}

/// A year that is played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demo {
    /// Care unit, which should be one of a test.
    pub care_unit: String,
    /// Number of requests.
    pub requests: u32,
    /// Number of days.
    pub days: u32,
}

/// Requests that are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worklist {
    /// Lists; empty to count them all.
    pub lists: Vec<List>,
    /// Care units; empty for all that the caller may see.
    pub care_units: Vec<String>,
    /// Referral that is looked for; empty for all.
    pub referral: String,
    /// Patient whose number is read from standard input.
    pub patient: Option<Patient>,
    /// Maximum number of requests.
    pub limit: usize,
}

/// Kind of a patient's identity number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patient {
    /// Kind of the number.
    pub kind: PatientNumber,
    /// OID of the series of a local reserve number, otherwise empty.
    pub issuer: String,
}

/// Messages that are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Care units; empty for all that the caller may see.
    pub care_units: Vec<String>,
    /// Time before which they are due; none for all.
    pub until: Option<Until>,
    /// States that they are in; empty for all that wait.
    pub states: Vec<Waiting>,
    /// Maximum number of messages.
    pub limit: usize,
}

/// The end of an interval, not included in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The end of a day in Sweden.
    EndOf(NaiveDate),
    /// An instant.
    Instant(DateTime<Utc>),
}

/// A worklist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum List {
    /// Wait for staff to book or invite.
    BookingRequests,
    /// Invited, no answer yet.
    CareInvitations,
    /// Somebody must follow up.
    FollowUp,
    /// Held or parked.
    ManualHandling,
    /// No suitable time.
    SlotIssues,
    /// The patient declined.
    Declined,
    /// The care guarantee ends within 14 days, or has ended.
    GuaranteeAtRisk,
    /// Every request, with --patient or --referral.
    All,
    /// Every invitation.
    AllInvitations,
    /// Every request that is no invitation.
    AllBookingRequests,
}

/// A state of a message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Waiting {
    /// For its due time, a consumer, or a hold to be lifted.
    Scheduled,
    /// A consumer has it.
    Leased,
    /// It may be handed over now.
    Dispatching,
    /// For ReleaseHold.
    Parked,
}

/// Kind of an identity number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PatientNumber {
    /// Personal identity number.
    Personnummer,
    /// Coordination number.
    Samordningsnummer,
    /// Reserve number of a region or a system, with --issuer.
    LocalReserveNumber,
    /// National reserve number.
    NationalReserveNumber,
}

/// Flags of the server that is called.
#[derive(Debug, Args)]
#[command(next_help_heading = "The server to call")]
pub struct ServerArgs {
    /// Address of the server.
    #[arg(
        long,
        hide_env_values = true,
        value_name = "URL",
        env = "CARE_INVITATION_SERVER",
        default_value = "http://127.0.0.1:50051"
    )]
    server: String,
    /// File with the token of each call. It is read at the start.
    #[arg(
        long,
        hide_env_values = true,
        value_name = "FILE",
        env = "CARE_INVITATION_TOKEN_FILE"
    )]
    token_file: Option<PathBuf>,
    /// CAs by which an https server is trusted, a PEM file. Without it those of the system are.
    #[arg(
        long,
        hide_env_values = true,
        value_name = "FILE",
        env = "CARE_INVITATION_TLS_CA"
    )]
    tls_ca: Option<PathBuf>,
    /// Name in the server's certificate, when it is not the host of the address.
    #[arg(
        long,
        hide_env_values = true,
        value_name = "NAME",
        env = "CARE_INVITATION_TLS_NAME"
    )]
    tls_name: Option<String>,
    /// Certificate of this client, a PEM file.
    #[arg(
        long,
        hide_env_values = true,
        value_name = "FILE",
        env = "CARE_INVITATION_CLIENT_CERT"
    )]
    client_cert: Option<PathBuf>,
    /// Private key of that certificate, a PEM file.
    #[arg(
        long,
        hide_env_values = true,
        value_name = "FILE",
        env = "CARE_INVITATION_CLIENT_KEY"
    )]
    client_key: Option<PathBuf>,
}

impl ServerArgs {
    /// Returns the server, and adds what cannot be used to the bad settings.
    pub fn validate(self, bad: &mut Vec<BadSetting>) -> Option<Server> {
        let uri = take(bad, "server", server(&self.server));
        let is_plain = uri
            .as_ref()
            .is_some_and(|uri| uri.scheme_str() == Some("http"));
        let tls = [
            ("tls-ca", self.tls_ca.is_some()),
            ("tls-name", self.tls_name.is_some()),
            ("client-cert", self.client_cert.is_some()),
            ("client-key", self.client_key.is_some()),
        ];
        for (flag, _) in tls
            .into_iter()
            .filter(|(_, is_given)| is_plain && *is_given)
        {
            let why = "needs a --server whose address begins with https://".to_owned();
            bad.push(BadSetting { flag, why });
        }
        let pair = match (self.client_cert, self.client_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (certificate, _) => {
                let flag = match certificate {
                    Some(_) => "client-key",
                    None => "client-cert",
                };
                let why = "must be given with the other of --client-cert and --client-key";
                bad.push(BadSetting {
                    flag,
                    why: why.to_owned(),
                });
                None
            }
        };
        Some(Server {
            uri: uri?,
            token_file: self.token_file,
            ca: self.tls_ca,
            name: self.tls_name,
            pair,
        })
    }
}

/// Flags of what is printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArgs {
    /// Print JSON, as protobuf has it, in place of tables. Lists are one object a line.
    #[arg(long)]
    json: bool,
    /// Print identity numbers and texts too. What the caller may not see, the server leaves out.
    #[arg(long)]
    personal_data: bool,
}

impl OutputArgs {
    /// Returns the form of what holds no personal data.
    pub fn plain(json: bool) -> Self {
        let personal_data = false;
        Self {
            json,
            personal_data,
        }
    }

    /// Returns the form of what is printed.
    pub fn output(self) -> Output {
        Output {
            json: self.json,
            may_colour: std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()),
            personal_data: self.personal_data,
        }
    }
}

/// Flags of a worklist.
#[derive(Debug, Args)]
pub struct WorklistArgs {
    /// Lists whose requests are printed, those of several as one. Without any, how many each has.
    #[arg(value_name = "LIST")]
    lists: Vec<List>,
    /// Care unit, an HSA-id. May be given several times. Without it, all that the caller may see.
    #[arg(long, value_name = "HSA-ID")]
    care_unit: Vec<String>,
    /// Requests of this referral alone.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    referral: String,
    /// Requests of one patient alone, whose identity number of this kind is read from standard
    /// input: a command line can be seen by others, and is kept.
    #[arg(long, verbatim_doc_comment, value_name = "KIND", num_args = 0..=1, default_missing_value = "personnummer")]
    patient: Option<PatientNumber>,
    /// Issuer of a local reserve number, an OID.
    #[arg(
        long,
        value_name = "OID",
        default_value = "",
        hide_default_value = true,
        requires = "patient"
    )]
    issuer: String,
    /// Print this many at most.
    #[arg(long, value_name = "COUNT", default_value = "200")]
    limit: usize,
}

impl From<WorklistArgs> for Worklist {
    fn from(args: WorklistArgs) -> Self {
        let issuer = args.issuer;
        Self {
            lists: args.lists,
            care_units: args.care_unit,
            referral: args.referral,
            patient: args.patient.map(|kind| Patient { kind, issuer }),
            limit: args.limit,
        }
    }
}

/// Flags of a list of messages that wait.
#[derive(Debug, Args)]
pub struct DueArgs {
    /// Messages due before this instant, or on this day in Sweden and before, as in 2026-04-06.
    /// Without it, all that are planned.
    #[arg(long, verbatim_doc_comment, value_name = "TIME")]
    until: Option<String>,
    /// Care unit, an HSA-id. May be given several times. Without it, all that the caller may see.
    #[arg(long, value_name = "HSA-ID")]
    care_unit: Vec<String>,
    /// Messages in this state. May be given several times. Without it, in any of them.
    #[arg(long)]
    state: Vec<Waiting>,
    /// Print this many at most.
    #[arg(long, value_name = "COUNT", default_value = "200")]
    limit: usize,
}

impl DueArgs {
    /// Returns the messages that are asked for, and adds what cannot be used to the bad settings.
    pub fn validate(self, bad: &mut Vec<BadSetting>) -> Option<Due> {
        let until = self.until.as_deref().map(until).transpose();
        Some(Due {
            care_units: self.care_unit,
            until: take(bad, "until", until)?,
            states: self.state,
            limit: self.limit,
        })
    }
}

/// Flags of an import.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// File with a request a line: CSV with headings, or NDJSON.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Form of the file. Without it, CSV when its name ends in .csv, otherwise NDJSON.
    #[arg(long)]
    format: Option<FileFormat>,
    /// Care unit of the lines that name none, an HSA-id.
    #[arg(long, value_name = "HSA-ID")]
    care_unit: Option<String>,
    /// System that the lines come from. The same line of the same system is created once.
    #[arg(long, value_name = "NAME", default_value = "import")]
    source: String,
    /// File for the lines that are refused, with the reasons. Without it, one beside the file,
    /// whose name ends in .refused.csv or .refused.ndjson.
    #[arg(long, verbatim_doc_comment, value_name = "FILE")]
    refused: Option<PathBuf>,
}

impl From<ImportArgs> for Import {
    fn from(args: ImportArgs) -> Self {
        Self {
            file: args.file,
            format: args.format,
            care_unit: args.care_unit,
            source: args.source,
            refused: args.refused,
        }
    }
}

/// Flags of a year that is played.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Care unit, an HSA-id.
    #[arg(long, value_name = "HSA-ID", default_value = "TSTNMT2321000156-1003")]
    care_unit: String,
    /// Number of requests that come in.
    #[arg(long, value_name = "COUNT", default_value = "300", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    requests: u32,
    /// Number of days that pass.
    #[arg(long, value_name = "DAYS", default_value = "365", value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,
}

impl From<DemoArgs> for Demo {
    fn from(args: DemoArgs) -> Self {
        Self {
            care_unit: args.care_unit,
            requests: args.requests,
            days: args.days,
        }
    }
}

/// Parses the end of an interval.
fn until(text: &str) -> Result<Until, String> {
    let day = civil_date(text).map(Until::EndOf);
    day.or_else(|_| instant(text).map(Until::Instant)).map_err(|_| {
        format!("must be a date such as 2026-04-06 or an instant such as 2026-04-06T07:00:00Z; it is {text:?}")
    })
}

/// Parses the address of a server. The error does not quote it.
fn server(text: &str) -> Result<Uri, String> {
    let uri = text.parse::<Uri>().ok();
    let is_web = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
    let is_plain = |uri: &Uri| uri.authority().is_some_and(|it| !it.as_str().contains('@'));
    let uri = uri.filter(|uri| is_web(uri) && is_plain(uri) && uri.path() == "/");
    uri.ok_or_else(|| {
        "must be an address such as http://127.0.0.1:50051 or https://care.example".to_owned()
    })
}
