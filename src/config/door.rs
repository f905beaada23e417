//! The settings of who gets in: TLS, authentication, and what may do without either.
//!
//! The door is closed by default: on an address that others can reach, the service wants TLS and
//! authentication, unless it is told to do without.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use clap::builder::FalseyValueParser;
use http::{HeaderValue, Uri};

use super::{BadSetting, take};

/// Settings of who gets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Files of TLS; none for plain text.
    pub tls: Option<Tls>,
    /// Authentication of calls.
    pub authentication: Authentication,
    /// Origins of web pages that may call; none if no page may.
    pub web_origins: Vec<HeaderValue>,
    /// True if others can reach the service, and it lacks TLS or authentication.
    pub is_insecure: bool,
}

/// PEM files of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificate of the server, and those between it and its CA.
    pub certificate: PathBuf,
    /// Private key of the certificate.
    pub key: PathBuf,
    /// CAs that issue the certificates of clients; none if clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// Authentication of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Every call is taken.
    Open,
    /// By the tokens of an issuer.
    Tokens {
        /// Issuer, as in the claim `iss`.
        issuer: String,
        /// This service, as in the claim `aud`.
        audience: String,
        /// Keys of the issuer.
        keys: Keys,
    },
    /// By the certificates of clients, whose rights stand in this file.
    Certificates(PathBuf),
}

/// Place of the keys of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// A file.
    File(PathBuf),
    /// A page, and the PEM file of CAs that its host is trusted by; none for those of the system.
    Page(Uri, Option<PathBuf>),
}

/// Flags of who gets in.
#[derive(Debug, Args)]
pub struct DoorArgs {
    /// Certificate of the server, a PEM file with the ones between it and its CA. TLS
    /// 1.2 and 1.3. Its files are read again when they change.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "FILE",
        env = "CARE_INVITATION_TLS_CERT"
    )]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, a PEM file.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "FILE",
        env = "CARE_INVITATION_TLS_KEY"
    )]
    tls_key: Option<PathBuf>,
    /// CAs of clients, a PEM file: a client without a certificate of theirs is refused.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "FILE",
        env = "CARE_INVITATION_TLS_CLIENT_CA"
    )]
    tls_client_ca: Option<PathBuf>,
    /// Issuer of the tokens that calls bring, as in their claim iss.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "ISSUER",
        env = "CARE_INVITATION_AUTH_ISSUER"
    )]
    auth_issuer: Option<String>,
    /// This service, as in the claim aud of tokens.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "AUDIENCE",
        env = "CARE_INVITATION_AUTH_AUDIENCE"
    )]
    auth_audience: Option<String>,
    /// Public keys of the issuer, a JSON Web Key Set: a file, which is read again when it
    /// changes, or an https URL, which is fetched every five minutes.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "FILE or URL",
        env = "CARE_INVITATION_AUTH_JWKS"
    )]
    auth_jwks: Option<String>,
    /// CAs by which the host of that URL is trusted, a PEM file. Without it those of the
    /// system are.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "FILE",
        env = "CARE_INVITATION_AUTH_JWKS_CA"
    )]
    auth_jwks_ca: Option<PathBuf>,
    /// Rights of clients by the subjects of their certificates, a JSON file, which is read
    /// again when it changes: authentication without tokens.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "FILE",
        env = "CARE_INVITATION_AUTH_CLIENTS"
    )]
    auth_clients: Option<PathBuf>,
    /// Origin of web pages that may call by gRPC-Web, such as `https://worklist.example`;
    /// several are separated by commas. Without it no page may.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "ORIGIN",
        value_delimiter = ',',
        env = "CARE_INVITATION_CORS_ORIGIN"
    )]
    cors_origin: Vec<String>,
    /// Listen where others reach the service although TLS or authentication is missing.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        env = "CARE_INVITATION_INSECURE",
        value_parser = FalseyValueParser::new()
    )]
    insecure: bool,
}

impl DoorArgs {
    /// Returns the settings for a service at this address, and adds what is missing to the bad ones.
    pub fn validate(&self, listen: Option<SocketAddr>, bad: &mut Vec<BadSetting>) -> Option<Door> {
        let before = bad.len();
        let tls = self.tls(bad);
        let authentication = self.authentication(bad);
        let web_origins = self.web_origins(bad);
        let is_exposed = listen.is_some_and(|it| !it.ip().to_canonical().is_loopback());
        let missing = self.missing();
        let is_insecure = is_exposed && !missing.is_empty();
        if is_insecure && !self.insecure {
            let why = format!(
                "can be reached by others, which needs TLS and authentication; missing: {}. \
                 --insecure does without",
                missing.join(", ")
            );
            let flag = "listen";
            bad.push(BadSetting { flag, why });
        }
        (before == bad.len()).then_some(Door {
            tls,
            authentication: authentication?,
            web_origins,
            is_insecure,
        })
    }

    /// Returns the origins of web pages that may call.
    fn web_origins(&self, bad: &mut Vec<BadSetting>) -> Vec<HeaderValue> {
        let parsed = self.cors_origin.iter().map(|text| origin(text));
        let origins = parsed.filter_map(|origin| take(bad, "cors-origin", origin));
        origins.collect()
    }

    /// Returns the flags that a service which others can reach lacks.
    fn missing(&self) -> Vec<&'static str> {
        let tls = [
            ("--tls-cert", self.tls_cert.is_some()),
            ("--tls-key", self.tls_key.is_some()),
        ];
        let tokens = [
            ("--auth-issuer", self.auth_issuer.is_some()),
            ("--auth-audience", self.auth_audience.is_some()),
            ("--auth-jwks", self.auth_jwks.is_some()),
        ];
        let certificates = [
            ("--tls-client-ca", self.tls_client_ca.is_some()),
            ("--auth-clients", self.auth_clients.is_some()),
        ];
        let authentication = match self.auth_clients {
            Some(_) => &certificates[..],
            None => &tokens[..],
        };
        let flags = tls.iter().chain(authentication);
        let missing = flags.filter(|(_, is_given)| !is_given);
        missing.map(|(flag, _)| *flag).collect()
    }

    fn tls(&self, bad: &mut Vec<BadSetting>) -> Option<Tls> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                return Some(Tls {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    client_ca: self.tls_client_ca.clone(),
                });
            }
            (Some(_), None) => bad.push(together("tls-key", "--tls-cert")),
            (None, Some(_)) => bad.push(together("tls-cert", "--tls-key")),
            (None, None) if self.tls_client_ca.is_some() => {
                bad.push(together("tls-cert", "--tls-client-ca"));
            }
            (None, None) => {}
        }
        None
    }

    fn authentication(&self, bad: &mut Vec<BadSetting>) -> Option<Authentication> {
        let issuer = self.auth_issuer.as_ref();
        let (audience, jwks) = (self.auth_audience.as_ref(), self.auth_jwks.as_ref());
        if let Some(clients) = &self.auth_clients {
            if issuer.or(audience).or(jwks).is_some() {
                let why = "cannot be given with --auth-issuer, --auth-audience and --auth-jwks";
                bad.push(BadSetting {
                    flag: "auth-clients",
                    why: why.to_owned(),
                });
            }
            if self.tls_client_ca.is_none() {
                bad.push(together("tls-client-ca", "--auth-clients"));
            }
            return Some(Authentication::Certificates(clients.clone()));
        }
        match (issuer, audience, jwks) {
            (None, None, None) => {
                if self.auth_jwks_ca.is_some() {
                    bad.push(together("auth-jwks", "--auth-jwks-ca"));
                }
                return Some(Authentication::Open);
            }
            (Some(issuer), Some(audience), Some(jwks)) => {
                return Some(Authentication::Tokens {
                    issuer: take(bad, "auth-issuer", text(issuer))?,
                    audience: take(bad, "auth-audience", text(audience))?,
                    keys: take(bad, "auth-jwks", self.keys(jwks))?,
                });
            }
            (issuer, audience, jwks) => {
                for (flag, is_given) in [
                    ("auth-issuer", issuer.is_some()),
                    ("auth-audience", audience.is_some()),
                    ("auth-jwks", jwks.is_some()),
                ] {
                    if !is_given {
                        let others = "--auth-issuer, --auth-audience and --auth-jwks together";
                        bad.push(together(flag, others));
                    }
                }
            }
        }
        None
    }

    /// Parses the place of the keys.
    fn keys(&self, text: &str) -> Result<Keys, String> {
        let Some((scheme, _)) = text.split_once("://") else {
            return match (text.is_empty(), &self.auth_jwks_ca) {
                (true, _) => Err("must be a file or an https URL; it is empty".to_owned()),
                (false, Some(_)) => Err("must be an https URL with --auth-jwks-ca".to_owned()),
                (false, None) => Ok(Keys::File(text.into())),
            };
        };
        let url = text.parse::<Uri>().ok();
        let host = |url: &Uri| url.host().is_some_and(|host| !host.is_empty());
        let plain = |url: &Uri| url.authority().is_some_and(|it| !it.as_str().contains('@'));
        url.filter(|url| scheme == "https" && host(url) && plain(url))
            .map(|url| Keys::Page(url, self.auth_jwks_ca.clone()))
            .ok_or_else(|| "must be a file or an https URL without a user".to_owned())
    }
}

/// Returns the fault of a setting that others need.
fn together(flag: &'static str, others: &str) -> BadSetting {
    let why = format!("must be given with {others}");
    BadSetting { flag, why }
}

/// Parses a text that must not be empty.
fn text(text: &str) -> Result<String, String> {
    match text.is_empty() {
        true => Err("must not be empty".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// Parses an origin as browsers send it.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let uri = text.parse::<Uri>().ok();
    let host = uri.as_ref().and_then(Uri::host).filter(|it| !it.is_empty());
    let scheme = uri.as_ref().and_then(Uri::scheme_str).unwrap_or_default();
    let port = uri.as_ref().and_then(Uri::port_u16);
    let sent = host.map(|host| match (scheme, port) {
        ("https", None | Some(443)) | ("http", None | Some(80)) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
        (_, None) => String::new(),
    });
    let is_origin = matches!(scheme, "http" | "https")
        && sent.is_some_and(|it| it == text && it == it.to_lowercase());
    let origin = HeaderValue::from_str(text).ok().filter(|_| is_origin);
    origin.ok_or_else(|| {
        format!(
            "must be an origin as browsers send it, such as https://worklist.example or \
             http://localhost:5173; it is {text:?}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Config, Error};
    use super::*;

    const CERT: &str = "--tls-cert=a";
    const KEY: &str = "--tls-key=b";
    const CA: &str = "--tls-client-ca=c";
    const CLIENTS: &str = "--auth-clients=d";
    const ISSUER: &str = "--auth-issuer=e";
    const AUDIENCE: &str = "--auth-audience=f";
    const JWKS: &str = "--auth-jwks=g";

    /// Returns the settings of a command line, or the flags at fault with their faults.
    fn door(listen: &str, line: &[&str]) -> Result<Door, Vec<String>> {
        let listen = format!("--listen={listen}:1");
        let line = [&["care-invitation", &listen], line].concat();
        match Config::read(line) {
            Ok(config) => match config.command {
                Command::Serve(serve) => Ok(serve.door),
                other => panic!("it serves, not {other:?}"),
            },
            Err(Error::Settings(bad)) => Err(bad
                .iter()
                .map(|it| format!("{} {}", it.flag, it.why))
                .collect()),
            Err(Error::Usage(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn on_loopback_nothing_is_asked_for() {
        for listen in ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
            let door = door(listen, &[]).expect("good");
            assert_eq!(door.authentication, Authentication::Open);
            assert_eq!((door.tls, door.is_insecure), (None, false));
        }
        assert!(door("127.0.0.1", &[ISSUER, AUDIENCE, JWKS]).is_ok());
        assert!(door("127.0.0.1", &[CERT, KEY]).is_ok());
    }

    #[test]
    fn where_others_reach_it_what_is_missing_is_named() {
        let tokens = "--auth-issuer, --auth-audience, --auth-jwks";
        for listen in [
            "0.0.0.0",
            "[::]",
            "10.0.0.1",
            "[2001:db8::1]",
            "[::ffff:10.0.0.1]",
        ] {
            for (line, missing) in [
                (&[][..], format!("--tls-cert, --tls-key, {tokens}")),
                (&[CERT, KEY], tokens.to_owned()),
                (&[CERT, KEY, CA], tokens.to_owned()),
                (
                    &[ISSUER, AUDIENCE, JWKS],
                    "--tls-cert, --tls-key".to_owned(),
                ),
            ] {
                let bad = door(listen, line).expect_err("closed");
                let expected = format!(
                    "listen can be reached by others, which needs TLS and authentication; \
                     missing: {missing}. --insecure does without"
                );
                assert_eq!(bad, [expected], "{listen} {line:?}");
                let line = [line, &["--insecure"]].concat();
                assert!(door(listen, &line).expect("told to").is_insecure);
            }
            for line in [
                &[CERT, KEY, ISSUER, AUDIENCE, JWKS][..],
                &[CERT, KEY, CA, CLIENTS],
                &[CERT, KEY, CA, ISSUER, AUDIENCE, JWKS, "--insecure"],
            ] {
                assert!(!door(listen, line).expect("all is there").is_insecure);
            }
        }
    }

    #[test]
    fn settings_that_belong_together_are_given_together() {
        for (line, flags) in [
            (&[CERT][..], &["tls-key"][..]),
            (&[KEY], &["tls-cert"]),
            (&[CA], &["tls-cert"]),
            (&[ISSUER], &["auth-audience", "auth-jwks"]),
            (&[JWKS, AUDIENCE], &["auth-issuer"]),
            (&[CLIENTS], &["tls-client-ca"]),
            (&[CERT, KEY, CA, CLIENTS, ISSUER], &["auth-clients"]),
            (&["--auth-jwks-ca=h"], &["auth-jwks"]),
            (
                &[ISSUER, AUDIENCE, JWKS, "--auth-jwks-ca=h"],
                &["auth-jwks"],
            ),
            (&[AUDIENCE, JWKS, "--auth-issuer="], &["auth-issuer"]),
        ] {
            let bad = door("127.0.0.1", line).expect_err("incomplete");
            let named: Vec<_> = bad.iter().filter_map(|it| it.split(' ').next()).collect();
            assert_eq!(named, flags, "{line:?}");
        }
    }

    #[test]
    fn keys_are_in_a_file_or_at_an_https_url() {
        for (text, good) in [
            ("keys.json", true),
            ("/etc/care/keys.json", true),
            ("https://idp.example/certs", true),
            ("https://idp.example:8443/realms/a/certs?x=y", true),
            ("https://[::1]:1/certs", true),
            ("http://idp.example/certs", false),
            ("https://user:secret@idp.example/certs", false),
            ("https:///certs", false),
            ("https://", false),
            ("file:///etc/keys.json", false),
            ("", false),
        ] {
            let jwks = format!("--auth-jwks={text}");
            let read = door("127.0.0.1", &[ISSUER, AUDIENCE, &jwks]);
            assert_eq!(read.is_ok(), good, "{text}");
            assert!(!format!("{read:?}").contains("secret"));
        }
    }

    #[test]
    fn an_origin_is_written_as_browsers_send_it() {
        for (text, good) in [
            ("https://worklist.example", true),
            ("http://localhost:5173", true),
            ("https://[::1]:8443", true),
            ("https://a.example,http://b.example:81", true),
            ("*", false),
            ("null", false),
            ("worklist.example", false),
            ("https://worklist.example/", false),
            ("https://worklist.example/path", false),
            ("https://worklist.example?x=y", false),
            ("https://Worklist.example", false),
            ("https://worklist.example:443", false),
            ("http://worklist.example:80", false),
            ("https://user@worklist.example", false),
            ("ftp://worklist.example", false),
            ("https://a.example,", false),
            ("https://", false),
            ("", false),
        ] {
            let read = door("127.0.0.1", &[&format!("--cors-origin={text}")]);
            assert_eq!(read.is_ok(), good, "{text}");
        }
        assert!(door("127.0.0.1", &[]).expect("good").web_origins.is_empty());
    }
}
