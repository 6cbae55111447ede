//! How certificates are made: what is in them, and from when to when they count.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use sluice_model::limits::{CA_DAYS, MAX_CLOCK_SKEW_SECONDS};
use x509_parser::parse_x509_certificate;
use x509_parser::pem::parse_x509_pem;

use super::Pem;

const SECONDS_PER_DAY: i64 = 86_400;

/// From when to when a certificate counts, in seconds of Unix time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Validity {
    pub(super) from: u64,
    pub(super) until: u64,
}

impl Validity {
    /// From `now` on for so long. A little earlier too: clocks differ.
    pub(super) fn of_seconds(now: u64, seconds: u64) -> Self {
        Self {
            from: now.saturating_sub(MAX_CLOCK_SKEW_SECONDS),
            until: now.saturating_add(seconds),
        }
    }

    /// From now on for so many days.
    pub(super) fn of_days(days: i64) -> Self {
        let seconds = days.saturating_mul(SECONDS_PER_DAY);
        Self::of_seconds(now(), u64::try_from(seconds).unwrap_or(0))
    }
}

pub(super) fn now() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

/// A new authority.
///
/// # Errors
/// When none can be made.
pub(super) fn authority() -> Result<Pem, rcgen::Error> {
    let pair = KeyPair::generate()?;
    let mut params = named("sluice", Validity::of_days(CA_DAYS));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(Pem {
        certificate: params.self_signed(&pair)?.pem(),
        key: pair.serialize_pem(),
    })
}

/// What an authority vouches for.
pub(super) fn leaf(name: &str, usage: ExtendedKeyUsagePurpose, validity: Validity) -> CertificateParams {
    let mut params = named(name, validity);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params
}

fn named(name: &str, validity: Validity) -> CertificateParams {
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = epoch + Duration::from_secs(validity.from);
    params.not_after = epoch + Duration::from_secs(validity.until);
    params
}

/// Whole days until a certificate ends; negative or zero if it has, or cannot be read.
pub(crate) fn days_left(pem: &str) -> i64 {
    let Ok((_, pem)) = parse_x509_pem(pem.as_bytes()) else {
        return 0;
    };
    let Ok((_, certificate)) = parse_x509_certificate(&pem.contents) else {
        return 0;
    };
    let left = certificate.validity().not_after.timestamp() - Timestamp::now().as_second();
    left / SECONDS_PER_DAY
}
