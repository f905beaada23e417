//! The settings of what one subject may do: calls a second, streams, rows a minute.

use std::num::NonZeroU32;

use clap::Args;

use super::{BadSetting, take};

/// Default limit on calls a second.
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(2_000).expect("not zero");
/// Default limit on open streams.
const STREAMS: NonZeroU32 = NonZeroU32::new(512).expect("not zero");
/// Default limit on rows a minute.
const ROWS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(600_000).expect("not zero");
/// Largest limit that can be set.
const LIMIT_MAX: u32 = 1_000_000_000;
/// Text in place of a limit that stands for none.
const OFF: &str = "off";

/// Limits on what one subject may do. None is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Calls a second.
    pub calls_per_second: Option<NonZeroU32>,
    /// Open streams.
    pub streams: Option<NonZeroU32>,
    /// Rows in answers and streams a minute.
    pub rows_per_minute: Option<NonZeroU32>,
}

/// Flags of what one subject may do.
#[derive(Debug, Args)]
pub struct RatesArgs {
    /// Calls a second of one subject, streams that it opens included, or off. Without it
    /// 2000, and off where calls are not authenticated and only this machine makes them.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "CALLS",
        env = "CARE_INVITATION_SUBJECT_CALLS_PER_SECOND"
    )]
    subject_calls_per_second: Option<String>,
    /// Open streams of one subject, or off. Without it 512, and off as above.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "STREAMS",
        env = "CARE_INVITATION_SUBJECT_STREAMS"
    )]
    subject_streams: Option<String>,
    /// Rows a minute in the answers and streams of one subject, or off. Without it 600000,
    /// and off as above.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "ROWS",
        env = "CARE_INVITATION_SUBJECT_ROWS_PER_MINUTE"
    )]
    subject_rows_per_minute: Option<String>,
}

impl RatesArgs {
    /// Returns the limits: those that are set, and else the defaults, or none where everybody is anonymous and
    /// nobody else can reach the service.
    pub fn validate(&self, is_private: bool, bad: &mut Vec<BadSetting>) -> Option<Rates> {
        let or = |default: NonZeroU32| (!is_private).then_some(default);
        let mut limit = |flag, text: &Option<String>, default| match text {
            Some(text) => take(bad, flag, parse(text)),
            None => Some(or(default)),
        };
        let calls = &self.subject_calls_per_second;
        let calls = limit("subject-calls-per-second", calls, CALLS_PER_SECOND);
        let streams = limit("subject-streams", &self.subject_streams, STREAMS);
        let rows = &self.subject_rows_per_minute;
        let rows = limit("subject-rows-per-minute", rows, ROWS_PER_MINUTE);
        Some(Rates {
            calls_per_second: calls?,
            streams: streams?,
            rows_per_minute: rows?,
        })
    }
}

/// Parses a limit, or the text for none.
fn parse(text: &str) -> Result<Option<NonZeroU32>, String> {
    if text == OFF {
        return Ok(None);
    }
    let limit = text.parse::<NonZeroU32>().ok();
    let limit = limit.filter(|limit| limit.get() <= LIMIT_MAX);
    limit
        .map(Some)
        .ok_or_else(|| format!("must be a number from 1 to {LIMIT_MAX}, or {OFF}; it is {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Config, Error};
    use super::*;

    const TOKENS: [&str; 3] = ["--auth-issuer=a", "--auth-audience=b", "--auth-jwks=c"];

    /// Returns the limits as a command line sets them, or the flags at fault.
    fn rates(line: &[&str]) -> Result<[Option<u32>; 3], Vec<&'static str>> {
        match Config::read([&["care-invitation"], line].concat()) {
            Ok(config) => match config.command {
                Command::Serve(serve) => Ok([
                    serve.rates.calls_per_second,
                    serve.rates.streams,
                    serve.rates.rows_per_minute,
                ]
                .map(|it| it.map(NonZeroU32::get))),
                other => panic!("it serves, not {other:?}"),
            },
            Err(Error::Settings(bad)) => Err(bad.iter().map(|it| it.flag).collect()),
            Err(Error::Usage(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn there_are_limits_but_for_anonymous_callers_of_this_machine() {
        let defaults = [Some(2_000), Some(512), Some(600_000)];
        assert_eq!(rates(&[]), Ok([None; 3]));
        assert_eq!(rates(&TOKENS), Ok(defaults));
        let exposed = ["--listen=0.0.0.0:1", "--insecure"];
        assert_eq!(rates(&exposed), Ok(defaults));
    }

    #[test]
    fn each_limit_is_set_or_off() {
        let set = [
            "--subject-calls-per-second=1",
            "--subject-streams=off",
            "--subject-rows-per-minute=1000000000",
        ];
        let expected = [Some(1), None, Some(1_000_000_000)];
        assert_eq!(rates(&set), Ok(expected));
        assert_eq!(rates(&[&TOKENS[..], &set].concat()), Ok(expected));
        for bad in ["0", "-1", "1000000001", "many", "", "1.5", "OFF"] {
            let flags = [
                "subject-calls-per-second",
                "subject-streams",
                "subject-rows-per-minute",
            ];
            let line = flags.map(|flag| format!("--{flag}={bad}"));
            let line: Vec<_> = line.iter().map(String::as_str).collect();
            assert_eq!(rates(&line), Err(flags.to_vec()), "{bad}");
        }
    }
}
