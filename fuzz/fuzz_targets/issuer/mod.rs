//! An issuer of access tokens, and the service that trusts it.

use std::io::Write;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use care_invitation::auth::Refusal;
use care_invitation::auth::keys::{Keys, Source};
use care_invitation::auth::token::Tokens;
use care_invitation::clock::Clock;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use tokio::runtime::{Builder, Runtime};

/// The issuer, and the service that trusts it.
pub struct Issuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
    /// Its time goes on by itself whenever it waits.
    runtime: Runtime,
    tokens: Tokens,
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(Issuer::new);

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let key = key.expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random);
        let key = key.expect("a key");
        // The point, uncompressed: a byte that says so, then x and y.
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|it| URL_SAFE_NO_PAD.encode(it));
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let set = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}]}}"#);
        file.write_all(set.as_bytes()).expect("written");
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let keys = runtime.block_on(Keys::open(Source::File(file.path().to_owned())));
        let keys = keys.expect("keys");
        let [issuer, audience] = ["issuer", "care"].map(str::to_owned);
        Self {
            tokens: Tokens::new(issuer, audience, keys, Clock::real()),
            key,
            random,
            runtime,
        }
    }

    /// Verifies a token.
    pub fn verify(token: &str) -> Result<(), Refusal> {
        let verified = ISSUER.runtime.block_on(ISSUER.tokens.verify(token));
        verified.map(|_| ())
    }

    /// Signs a header and claims.
    #[allow(dead_code, reason = "one of the targets signs nothing")]
    pub fn sign(header: &str, claims: &str) -> String {
        let [header, claims] = [header, claims].map(|it| URL_SAFE_NO_PAD.encode(it));
        let signed = format!("{header}.{claims}");
        let signature = ISSUER.key.sign(&ISSUER.random, signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.expect("signed"));
        format!("{signed}.{signature}")
    }
}
