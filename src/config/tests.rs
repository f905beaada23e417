use super::*;

fn read(line: &[&str]) -> Result<Config, Error> {
    Config::read([&["care-invitation"], line].concat())
}

/// Returns the settings with which the program serves after this line.
fn serve(line: &[&str]) -> Serve {
    match read(line).expect("a good line").command {
        Command::Serve(serve) => *serve,
        other => panic!("it serves, not {other:?}"),
    }
}

#[test]
fn the_command_line_is_sound_and_every_flag_is_a_variable_of_its_name() {
    let command = Line::command();
    command.clone().debug_assert();
    for arg in command.get_arguments() {
        let name = arg.get_id().as_str();
        if matches!(name, "help" | "version") {
            continue;
        }
        let variable = format!("CARE_INVITATION_{}", name.to_uppercase());
        assert_eq!(arg.get_env(), Some(variable.as_ref()), "{name}");
    }
}

#[test]
fn without_a_word_it_serves_on_the_defaults() {
    let config = read(&[]).expect("the defaults");
    assert_eq!(config.database_url.expose(), "sqlite://care-invitation.db");
    let serve = serve(&[]);
    assert_eq!(serve.listen.to_string(), "127.0.0.1:50051");
    assert!(!serve.migrate);
    assert_eq!(serve.sandbox, None);
    assert_eq!(serve.send_clock.to_string(), "09:00:00");
    assert_eq!(serve.guarantee_days, 90);
    assert!(serve.drain_delay.is_zero());
    assert_eq!(config.log_format, LogFormat::Text);
    assert_eq!(config.log_level, LevelFilter::INFO);
}

#[test]
fn flags_stand_before_the_command_behind_it_or_without_it() {
    for line in [
        ["--listen", "[::1]:0", "serve"],
        ["serve", "--listen", "[::1]:0"],
        ["--listen=[::1]:0", "--send-clock", "06:00"],
    ] {
        assert_eq!(serve(&line).listen.to_string(), "[::1]:0", "{line:?}");
    }
    assert!(matches!(read(&["work"]), Err(Error::Usage(_))));
    assert!(matches!(read(&["--port", "1"]), Err(Error::Usage(_))));
}

#[test]
fn a_value_is_taken_or_refused() {
    for (flag, value, good) in [
        ("--listen", "localhost", false),
        ("--listen", "127.0.0.1:65536", false),
        ("--database-url", "sqlite://x.db", true),
        ("--database-url", "postgres://care:s3cret@db/care", true),
        ("--database-url", "postgresql://db/care", true),
        ("--database-url", "postgres:db", false),
        ("--database-url", "postgres://db/care?sslmode=require", true),
        (
            "--database-url",
            "postgres://db/care?options[role]=a&",
            true,
        ),
        (
            "--database-url",
            "postgres://db/care?options%5Brole%5D=a",
            true,
        ),
        (
            "--database-url",
            "postgres://db/care?ssl%2Dmode=require",
            true,
        ),
        ("--database-url", "postgres://db/care?sslpassword=a", false),
        (
            "--database-url",
            "postgres://db/care?user=a&channel=b",
            false,
        ),
        ("--database-url", "postgres://db/care?options[role=a", false),
        ("--database-url", "sqlite://x.db?mode=rwc", true),
        ("--database-url", "", false),
        ("--sandbox-clock", "2026-03-02T10:00:00+01:00", true),
        ("--sandbox-clock", "2026-03-02T09:00:00", false),
        ("--sandbox-clock", "0001-01-01T00:00:00Z", false),
        ("--changes-days", "1", true),
        ("--changes-days", "35", true),
        ("--changes-days", "0", false),
        ("--changes-days", "36", false),
        ("--heartbeat", "1", true),
        ("--heartbeat", "300", true),
        ("--heartbeat", "0", false),
        ("--heartbeat", "301", false),
        ("--drain-delay", "300", true),
        ("--drain-delay", "301", false),
        ("--drain-delay", "-1", false),
        ("--send-clock", "06:00", true),
        ("--send-clock", "22:00", true),
        ("--send-clock", "05:59", false),
        ("--send-clock", "22:01", false),
        ("--send-clock", "9:00", false),
        ("--send-clock", "24:00", false),
        ("--guarantee-days", "1", true),
        ("--guarantee-days", "365", true),
        ("--guarantee-days", "0", false),
        ("--guarantee-days", "366", false),
        ("--guarantee-days", "-1", false),
        ("--otlp-endpoint", "http://127.0.0.1:4317", true),
        ("--otlp-endpoint", "https://collector.example", true),
        ("--otlp-endpoint", "127.0.0.1:4317", false),
        (
            "--otlp-endpoint",
            "http://collector.example/v1/traces",
            false,
        ),
        ("--otlp-endpoint", "grpc://collector.example", false),
        ("--trace-ratio", "0", true),
        ("--trace-ratio", "0.001", true),
        ("--trace-ratio", "1.1", false),
        ("--trace-ratio", "NaN", false),
        ("--trace-ratio", "a tenth", false),
        ("--log-format", "json", true),
        ("--log-format", "JSON", false),
        ("--log-level", "debug", true),
        ("--log-level", "loud", false),
    ] {
        let config = read(&[&format!("{flag}={value}")]);
        assert_eq!(config.is_ok(), good, "{flag} {value}");
    }
}

#[test]
fn migrating_and_purging_are_commands_of_their_own() {
    assert!(serve(&["serve", "--migrate"]).migrate);
    let migrate = read(&["migrate", "--database-url", "postgres://db/care"]).expect("good");
    let plain = Migrate { distribute: false };
    assert_eq!(migrate.command, Command::Migrate(plain));
    let spread = read(&["migrate", "--distribute"]).expect("good");
    let distribute = Migrate { distribute: true };
    assert_eq!(spread.command, Command::Migrate(distribute));
    assert_eq!(migrate.database_url.expose(), "postgres://db/care");
    let date = |text: &str| text.parse::<NaiveDate>().expect("a date");
    for (line, history_before) in [
        (&["purge", "--before", "2025-01-31"][..], None),
        (
            &[
                "purge",
                "--before=2025-01-31",
                "--history-before=2016-01-31",
            ],
            Some(date("2016-01-31")),
        ),
    ] {
        let purge = Purge {
            before: date("2025-01-31"),
            history_before,
            access_before: None,
        };
        let config = read(line).expect("good");
        assert_eq!(config.command, Command::Purge(purge), "{line:?}");
    }
    let since = "2026-03-02T09:00:00Z";
    let lost = read(&["after-restore", "--since", since]).expect("good");
    let expected = AfterRestore {
        since: since.parse().expect("an instant"),
    };
    assert_eq!(lost.command, Command::AfterRestore(expected));
    let refused = read(&["after-restore", "--since", "yesterday"]).expect_err("bad");
    assert!(refused.to_string().contains("--since must be"), "{refused}");
    assert!(matches!(read(&["purge"]), Err(Error::Usage(_))));
    let refused = read(&["purge", "--before=31/1", "--history-before=2025-2-1"]);
    let text = refused.expect_err("both are bad").to_string();
    assert!(text.contains("--before must be a date"), "{text}");
    assert!(text.contains("--history-before must be a date"), "{text}");
}

#[test]
fn every_bad_setting_is_named_at_once_and_no_password_is_printed() {
    let refused = read(&[
        "--listen=here",
        "--database-url=mysql://care:s3cret@db/care",
        "--sandbox-clock=noon",
        "--send-clock=23:00",
        "--guarantee-days=many",
        "--log-format=xml",
        "--log-level=loud",
    ]);
    let text = refused.expect_err("all are bad").to_string();
    assert!(!text.contains("s3cret"), "{text}");
    assert_eq!(text.lines().count(), 8, "{text}");
    for named in [
        "--listen (CARE_INVITATION_LISTEN) must be an IP address",
        "--database-url (CARE_INVITATION_DATABASE_URL) must begin with",
        "--sandbox-clock (CARE_INVITATION_SANDBOX_CLOCK) must be an instant",
        "--send-clock (CARE_INVITATION_SEND_CLOCK) must be HH:MM",
        "--guarantee-days (CARE_INVITATION_GUARANTEE_DAYS) must be a number",
        "--log-format (CARE_INVITATION_LOG_FORMAT) must be text or json",
        "--log-level (CARE_INVITATION_LOG_LEVEL) must be off",
    ] {
        assert!(text.contains(named), "{named} in {text}");
    }
    assert_eq!(format!("{:?}", DatabaseUrl("s3cret".into())), "DatabaseUrl");
}

#[test]
fn an_unknown_parameter_of_the_address_is_named_without_its_value() {
    for (url, named) in [
        (
            "postgres://db/care?sslpassword=s3cret",
            "not known: sslpassword;",
        ),
        ("postgres://care:x?s3cret@db/care", "written %3F"),
        ("postgres://care:x?s3cret=s3cret@db/care", "written %3F"),
        ("postgres://db/care?s3cret%20=1", "written %3F"),
    ] {
        let refused = read(&["--database-url", url]).expect_err("unknown");
        let text = refused.to_string();
        assert!(text.contains(named), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}
