//! Signatures of tokens, verified by ring, which TLS uses too. jsonwebtoken brings other cryptography, or
//! takes what it is given here.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use signature::{Error, Verifier};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes jsonwebtoken verify signatures here, in the whole process.
pub fn install() {
    // From the second time on it is there already.
    let _ = PROVIDER.install_default();
}

/// A way to verify signatures.
enum Way {
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

struct RingVerifier {
    algorithm: Algorithm,
    way: Way,
    key: DecodingKey,
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(RingVerifier {
        algorithm: *algorithm,
        way: way(*algorithm).ok_or(ErrorKind::UnsupportedAlgorithm)?,
        key: key.clone(),
    }))
}

/// Returns the way to verify signatures of this algorithm; none for a symmetric one.
fn way(algorithm: Algorithm) -> Option<Way> {
    Some(match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => return None,
        Algorithm::RS256 => Way::Rsa(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Way::Rsa(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Way::Rsa(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Way::Rsa(&RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Way::Rsa(&RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Way::Rsa(&RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => Way::Other(&ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Way::Other(&ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Way::Other(&ED25519),
        // The library may come to know others.
        _ => return None,
    })
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let verified = match (&self.way, self.key.kind()) {
            (Way::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Way::Other(algorithm), DecodingKeyKind::SecretOrDer(key)) => {
                UnparsedPublicKey::new(*algorithm, key).verify(message, signature)
            }
            (Way::Rsa(_), DecodingKeyKind::SecretOrDer(_))
            | (Way::Other(_), DecodingKeyKind::RsaModulusExponent { .. }) => {
                Err(ring::error::Unspecified)
            }
        };
        verified.map_err(|_| Error::new())
    }
}
