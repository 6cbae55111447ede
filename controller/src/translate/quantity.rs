//! Durations, percentages and ratios: text → exact integers. No floats: `0.1%` is exactly 1,000 parts per million.

use sluice_crds::NumberOrText;

use crate::rollout::PerMillion;

/// Why a text is not the quantity that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a duration.
    #[error("{0:?} is not a duration")]
    Duration(String),
    /// Not a percentage.
    #[error("{0:?} is not a percentage")]
    Percent(String),
    /// Not a size.
    #[error("{0:?} is not a size in bytes")]
    Size(String),
    /// Not a ratio.
    #[error("{0:?} is not a ratio")]
    Ratio(String),
}

/// `1h30m15s500ms` in milliseconds.
pub(super) fn millis(text: &str) -> Result<u64, QuantityError> {
    let wrong = || QuantityError::Duration(text.chars().take(80).collect());
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        // "ms" before "m": the longer unit is the one that is meant.
        let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
        let (unit, factor) = units
            .into_iter()
            .find(|(unit, _)| tail.starts_with(unit))
            .ok_or_else(wrong)?;
        total = number
            .checked_mul(factor)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        rest = tail.strip_prefix(unit).unwrap_or_default();
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// `10` or `"0.5%"`.
pub(super) fn percent(value: &NumberOrText) -> Result<PerMillion, QuantityError> {
    let wrong = || QuantityError::Percent(value.to_string().chars().take(80).collect());
    let share = match value {
        NumberOrText::Number(number) => u32::try_from(*number)
            .ok()
            .and_then(|number| number.checked_mul(10_000)),
        NumberOrText::Text(text) => text.strip_suffix('%').and_then(decimal::<4>),
    };
    share
        .map(PerMillion)
        .filter(|share| *share <= PerMillion::ALL)
        .ok_or_else(wrong)
}

/// `32768` or `32Ki`, in bytes.
pub(super) fn bytes(value: &NumberOrText) -> Result<u64, QuantityError> {
    let size = match value {
        NumberOrText::Number(number) => u64::try_from(*number).ok(),
        NumberOrText::Text(text) => {
            let units = [("Ki", 10), ("Mi", 20), ("", 0)];
            let parts = units
                .into_iter()
                .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
            parts.and_then(|(number, shift)| number.parse::<u64>().ok()?.checked_mul(1 << shift))
        }
    };
    size.ok_or_else(|| QuantityError::Size(value.to_string().chars().take(80).collect()))
}

/// `"1.5"` in thousandths.
pub(super) fn thousandths(text: &str) -> Result<u32, QuantityError> {
    decimal::<3>(text).ok_or_else(|| QuantityError::Ratio(text.chars().take(80).collect()))
}

/// A decimal with at most `PLACES` places, times ten to the power of that.
fn decimal<const PLACES: usize>(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > PLACES || !digits(whole) || !digits(fraction) {
        return None;
    }
    format!("{whole}{fraction:0<PLACES$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("5s", 5_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1m1ms", 60_001),
            ("0s", 0),
        ] {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "1.5s",
            "5d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(millis(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let text = |text: &str| bytes(&NumberOrText::Text(text.into())).ok();
        for (written, expected) in [("32Ki", 32_768), ("1Mi", 1 << 20), ("4096", 4_096)] {
            assert_eq!(text(written), Some(expected), "{written}");
        }
        for wrong in ["", "Ki", "-1Ki", "1.5Ki", "32k", "18446744073709551615Mi"] {
            assert_eq!(text(wrong), None, "{wrong}");
        }
        assert_eq!(bytes(&NumberOrText::Number(7)), Ok(7));
        assert!(bytes(&NumberOrText::Number(-7)).is_err());
    }

    #[test]
    fn percentages_and_ratios_are_exact() {
        let check = |text: &str, ppm| assert_eq!(percent(&NumberOrText::Text(text.into())).ok(), ppm, "{text}");
        check("0.1%", Some(PerMillion(1_000)));
        check("99.9999%", Some(PerMillion(999_999)));
        check("100%", Some(PerMillion::ALL));
        for text in ["101%", "0.00001%", "%", ".5%", "1", "-1%", "1e2%"] {
            check(text, None);
        }
        assert_eq!(percent(&NumberOrText::Number(10)), Ok(PerMillion(100_000)));
        assert!(percent(&NumberOrText::Number(101)).is_err() && percent(&NumberOrText::Number(-1)).is_err());
        assert_eq!((thousandths("1.5"), thousandths("20")), (Ok(1_500), Ok(20_000)));
        assert!(thousandths("1.5x").is_err());
    }
}
