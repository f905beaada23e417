//! An issuer of tokens, as a region runs one.

use std::process::Command;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use care_invitation::clock::Clock;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

pub const ISSUER: &str = "https://idp.region.example/realms/care";
pub const AUDIENCE: &str = "care-invitation";

/// A key that signs tokens.
pub struct Signer {
    pub id: &'static str,
    pub algorithm: &'static str,
    key: Key,
}

enum Key {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An RSA key in PKCS #8, made once a run by openssl: ring makes none.
fn rsa_key() -> &'static [u8] {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    KEY.get_or_init(|| {
        let made = Command::new("openssl")
            .args(["genpkey", "-quiet", "-algorithm", "RSA"])
            .args(["-pkeyopt", "rsa_keygen_bits:2048"])
            .output();
        let made = made.expect("openssl is installed, as it is with PostgreSQL");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let key = PrivatePkcs8KeyDer::from_pem_slice(&made.stdout).expect("PKCS #8 in PEM");
        key.secret_pkcs8_der().to_vec()
    })
}

impl Signer {
    pub fn rsa(id: &'static str, algorithm: &'static str) -> Self {
        let encoding: &dyn RsaEncoding = match algorithm {
            "RS256" => &RSA_PKCS1_SHA256,
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            "PS256" => &RSA_PSS_SHA256,
            "PS384" => &RSA_PSS_SHA384,
            "PS512" => &RSA_PSS_SHA512,
            other => panic!("{other}"),
        };
        let key = RsaKeyPair::from_pkcs8(rsa_key()).expect("a key");
        let key = Key::Rsa(key, encoding);
        Self { id, algorithm, key }
    }

    pub fn ec(id: &'static str) -> Self {
        Self::on(id, "ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub fn ec384(id: &'static str) -> Self {
        Self::on(id, "ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    fn on(
        id: &'static str,
        algorithm: &'static str,
        curve: &'static str,
        signing: &'static EcdsaSigningAlgorithm,
    ) -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(signing, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(signing, made.as_ref(), &random).expect("a key");
        let key = Key::Ec(key, curve);
        Self { id, algorithm, key }
    }

    pub fn ed(id: &'static str) -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let key = Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("a key");
        let (algorithm, key) = ("EdDSA", Key::Ed(key));
        Self { id, algorithm, key }
    }

    /// The public key, as the issuer publishes it.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Rsa(key, _) => {
                let PublicKeyComponents { n, e } =
                    PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "n": base64(n), "e": base64(e)})
            }
            Key::Ec(key, curve) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": curve, "x": base64(x), "y": base64(y)})
            }
            Key::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64(key.public_key())})
            }
        };
        jwk["kid"] = json!(self.id);
        jwk["alg"] = json!(self.algorithm);
        jwk["use"] = json!("sig");
        jwk
    }

    /// A token with this header and these claims.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = [header, claims].map(|it| base64(it.to_string())).join(".");
        let signature = self.signature(message.as_bytes());
        format!("{message}.{}", base64(signature))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let signed = key.sign(*encoding, &random, message, &mut signature);
                signed.expect("signed");
                signature
            }
            Key::Ec(key, _) => key
                .sign(&random, message)
                .expect("signed")
                .as_ref()
                .to_vec(),
            Key::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    pub fn header(&self) -> Value {
        json!({"alg": self.algorithm, "typ": "at+jwt", "kid": self.id})
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }
}

/// Good claims of a system that may do what staff do.
pub fn claims() -> Value {
    let now = seconds();
    json!({
        "iss": ISSUER, "sub": "booking-system", "aud": [AUDIENCE, "account"], "client_id": "a",
        "iat": now, "nbf": now, "exp": now + 300, "jti": "7",
        "scope": "openid booking.read booking.write worklist.read notification.deliver",
        "care_units": "*",
    })
}

/// The same with another value of a claim; none without it.
pub fn claims_with(name: &str, value: Option<Value>) -> Value {
    let mut claims = claims();
    match value {
        Some(value) => claims[name] = value,
        None => drop(claims.as_object_mut().expect("an object").remove(name)),
    }
    claims
}

/// Now, in seconds since 1970.
pub fn seconds() -> i64 {
    Clock::real().now().timestamp()
}

/// The key set of these signers, with an encryption key beside them, as Keycloak publishes one.
pub fn key_set(signers: &[&Signer]) -> Vec<u8> {
    let mut keys: Vec<_> = signers.iter().map(|it| it.jwk()).collect();
    keys.push(json!({"kty": "RSA", "use": "enc", "alg": "RSA-OAEP", "kid": "e", "n": "AQAB", "e": "AQAB"}));
    json!({"keys": keys}).to_string().into_bytes()
}
