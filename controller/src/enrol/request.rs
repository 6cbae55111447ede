//! A signing request: whoever sent it holds the other half of its key. Nothing else of it is looked at; names and uses
//! that it asks for are as good as anybody's wishes.

use rcgen::{
    CertificateSigningRequestParams, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKey,
    SignatureAlgorithm,
};

/// What keys may be of.
const ALGORITHMS: [&SignatureAlgorithm; 3] = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519];

/// Why a signing request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// Not PKCS#10, or not signed by its own key.
    #[error("the signing request is not one (PKCS#10, DER), or not signed by its own key: {0}")]
    Unreadable(#[from] rcgen::Error),
    /// A key that is not made here.
    #[error("the signing request is for a key that is neither ECDSA on P-256 or P-384 nor Ed25519")]
    Algorithm,
}

/// The public key in a signing request, which its owner has signed.
pub(super) fn public_key(der: &[u8]) -> Result<PublicKey, RequestError> {
    let request = CertificateSigningRequestParams::from_der(&der.into())?;
    let key = request.public_key;
    if ALGORITHMS.contains(&key.algorithm()) {
        Ok(key)
    } else {
        Err(RequestError::Algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, IsCa, KeyPair, PublicKeyData};

    fn request(pair: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["somebody.else".to_owned()]).unwrap();
        params.is_ca = IsCa::ExplicitNoCa;
        params.serialize_request(pair).unwrap().der().to_vec()
    }

    #[test]
    fn its_key_is_taken() {
        for algorithm in ALGORITHMS {
            let pair = KeyPair::generate_for(algorithm).unwrap();
            assert_eq!(public_key(&request(&pair)).unwrap().der_bytes(), pair.der_bytes());
        }
    }

    #[test]
    fn no_flipped_bit_gives_another_key() {
        let pair = KeyPair::generate().unwrap();
        let good = request(&pair);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            // A bit that nobody signs and nobody reads, as in how the signature's algorithm is spelled.
            let taken = public_key(&bad);
            let is_another = taken.is_ok_and(|key| key.der_bytes() != pair.der_bytes());
            assert!(!is_another, "byte {at}");
        }
        for cut in 0..good.len() {
            assert!(public_key(&good[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn other_keys_are_named() {
        let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256);
        let Ok(pair) = pair else { return }; // not every build makes such keys
        let error = public_key(&request(&pair)).unwrap_err().to_string();
        assert!(error.contains("P-256"), "{error}");
    }
}
