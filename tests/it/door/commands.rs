//! The commands that people use, through the door: TLS, tokens, certificates of clients.

use std::fs;
use std::process::Output;

use care_invitation::auth::Authenticator;
use care_invitation::auth::certificate::Clients;
use care_invitation::auth::keys::Source;
use care_invitation::grpc::middleware::Limits;
use serde_json::json;
use tempfile::TempDir;

use super::by_tokens;
use super::host::{Ca, dns};
use super::issuer::{Signer, claims, key_set};
use super::tls::Secured;
use crate::people::{command, printed, run};
use crate::program::{Program, text};

/// Files for the flags of a command.
struct Files(TempDir);

impl Files {
    fn of(secured: &Secured) -> Self {
        let files = Self(TempDir::new().expect("a folder"));
        files.write("ca.pem", &secured.ca.pem());
        files
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("written");
        path.to_str().expect("a plain name").to_owned()
    }

    /// Runs a command on the service, which it trusts by its CA.
    async fn run(&self, secured: &Secured, arguments: &[&str]) -> Output {
        let mut command = command(self.0.path(), arguments);
        let server = format!("https://{}", secured.address());
        command
            .env("CARE_INVITATION_SERVER", server)
            .env("CARE_INVITATION_TLS_NAME", "localhost")
            .env("CARE_INVITATION_TLS_CA", self.0.path().join("ca.pem"));
        run(&mut command, "").await
    }
}

#[tokio::test]
async fn a_token_from_a_file_lets_a_command_in() {
    let signer = Signer::ec("a");
    let keys = TempDir::new().expect("a folder");
    let path = keys.path().join("keys.json");
    fs::write(&path, key_set(&[&signer])).expect("written");
    let authenticator = by_tokens(Source::File(path)).await;
    let secured = Secured::with(authenticator, None, Limits::default()).await;
    let files = Files::of(&secured);

    assert_eq!(
        printed(&files.run(&secured, &["health"]).await),
        "serving\n"
    );
    let without = files.run(&secured, &["due"]).await;
    assert_eq!(without.status.code(), Some(5), "{}", text(&without.stderr));
    let token = files.write("token", &format!("{}\n", signer.token(&claims())));
    let with = files.run(&secured, &["due", "--token-file", &token]).await;
    printed(&with);
    let bad = files.write("bad", "Tm90IGEgdG9rZW4");
    let refused = files.run(&secured, &["due", "--token-file", &bad]).await;
    assert_eq!(refused.status.code(), Some(5));
    assert!(!text(&refused.stderr).contains("Tm90"), "it is not quoted");

    // Somebody else's CA does not vouch for the server.
    files.write("ca.pem", &Ca::new().pem());
    let distrusted = files.run(&secured, &["due", "--token-file", &token]).await;
    let said = text(&distrusted.stderr);
    assert_eq!(distrusted.status.code(), Some(4), "{said}");
    assert!(
        said.contains("a certificate of a CA that --tls-ca does not name"),
        "{said}"
    );
}

#[tokio::test]
async fn a_command_says_that_a_server_shows_the_certificate_of_a_ca() {
    let files = Files(TempDir::new().expect("a folder"));
    let pair = Ca::of_itself();
    let certificate = files.write("server.pem", &pair.certificate);
    let key = files.write("server.key", &pair.key);
    let flags = ["--tls-cert", &certificate, "--tls-key", &key];
    let program = Program::start(files.0.path(), &flags).await;
    let server = ["--server", &program.address, "--tls-ca", &certificate];
    let arguments = [&["health"], &server[..]].concat();
    let refused = run(&mut command(files.0.path(), &arguments), "").await;
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("it needs one with CA:FALSE"), "{said}");
}

#[tokio::test]
async fn a_check_finds_keys_that_cannot_be_fetched() {
    let files = Files(TempDir::new().expect("a folder"));
    let ca = files.write("ca.pem", &Ca::new().pem());
    let arguments = [
        "check",
        "--auth-issuer",
        "https://idp.example",
        "--auth-audience",
        "care-invitation",
        "--auth-jwks",
        "https://127.0.0.1:1/keys",
        "--auth-jwks-ca",
        &ca,
    ];
    let checked = run(&mut command(files.0.path(), &arguments), "").await;
    let said = text(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    let bad = "BAD   access    --auth-jwks cannot be fetched: no connection: ";
    assert!(said.contains(bad), "{said}");
    let logged = text(&checked.stderr);
    assert!(!logged.contains("those before"), "{logged}");
}

#[tokio::test]
async fn a_certificate_lets_a_command_in() {
    let (ca, folder) = (Ca::new(), TempDir::new().expect("a folder"));
    let path = folder.path().join("clients.json");
    let listed = json!({"clients": [
        {"subject": "support.example", "scope": "worklist.read notification.deliver", "care_units": "*"},
    ]});
    fs::write(&path, listed.to_string()).expect("written");
    let clients = Clients::open(path).expect("good settings");
    let authenticator = Authenticator::by_certificates(clients);
    let secured = Secured::with(authenticator, Some(&ca), Limits::default()).await;
    let files = Files::of(&secured);

    let pair = ca.issue(vec![dns("support.example")]);
    let certificate = files.write("cert.pem", &pair.certificate);
    let key = files.write("key.pem", &pair.key);
    let arguments = [
        "worklist",
        "--client-cert",
        &certificate,
        "--client-key",
        &key,
    ];
    printed(&files.run(&secured, &arguments).await);
    let without = files.run(&secured, &["worklist"]).await;
    assert_eq!(without.status.code(), Some(4), "{}", text(&without.stderr));
    let half = files.run(&secured, &arguments[..3]).await;
    assert_eq!(half.status.code(), Some(2));
}
