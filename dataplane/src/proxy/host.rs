//! The one host of a request: parsed once, and used by the check of the TLS name, the router, the upstream's `Host`,
//! `X-Forwarded-Host` and the log. Two readings of a host are how requests slip past a route.

use http::HeaderValue;
use sluice_model::authority;

use crate::guard::rule::Rule;

/// A host as it was sent, and what it means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Host {
    sent: HeaderValue,
    name: Name,
}

/// Lower case, without port and trailing dot.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Name {
    /// So many of the bytes that were sent: nothing is copied for the usual host.
    Sent(usize),
    /// Not as it was sent.
    Lowered(Box<str>),
}

impl Host {
    /// Parses `host` or `host:port`. Goes on as it was sent, but for a colon without a port, which not everybody takes for
    /// a host.
    pub(super) fn parse(sent: &HeaderValue) -> Result<Self, Rule> {
        let text = sent.to_str().map_err(|_| Rule::HostInvalid)?;
        let authority = authority::parse(text).map_err(|_| Rule::HostInvalid)?;
        let name = match authority.host {
            std::borrow::Cow::Borrowed(name) => Name::Sent(name.len()),
            std::borrow::Cow::Owned(name) => Name::Lowered(name.into()),
        };
        let sent = match text.strip_suffix(':') {
            Some(plain) => HeaderValue::from_str(plain).map_err(|_| Rule::HostInvalid)?,
            None => sent.clone(),
        };
        Ok(Self { sent, name })
    }

    /// As routes, certificates and logs write it.
    pub(crate) fn name(&self) -> &str {
        match &self.name {
            // What was parsed is ASCII and begins with the name.
            Name::Sent(len) => self
                .sent
                .to_str()
                .ok()
                .and_then(|text| text.get(..*len))
                .unwrap_or_default(),
            Name::Lowered(name) => name,
        }
    }

    /// As the upstream gets it.
    pub(crate) fn sent(&self) -> &HeaderValue {
        &self.sent
    }

    /// The port beside it, if one was written.
    pub(super) fn port(&self) -> Option<u16> {
        authority::parse(self.sent.to_str().ok()?).ok()?.port
    }

    /// Whether both mean the same host and port.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.name() == other.name() && self.port() == other.port()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading() {
        let check = |sent: &'static str, name: &str, goes_on: &str| {
            let host = Host::parse(&HeaderValue::from_static(sent)).unwrap();
            assert_eq!((host.name(), host.sent().to_str().unwrap()), (name, goes_on), "{sent}");
        };
        check("a.test", "a.test", "a.test");
        check("A.Test:80", "a.test", "A.Test:80");
        check("a.test.", "a.test", "a.test.");
        check("a.test:", "a.test", "a.test");
        check("[::1]:8080", "[::1]", "[::1]:8080");
        for bad in ["", "u@a", "a/b", "a, b", "a:0", "a:99999", "a:8x", "a b"] {
            assert_eq!(
                Host::parse(&HeaderValue::from_static(bad)),
                Err(Rule::HostInvalid),
                "{bad}"
            );
        }
        let same = |one, other| {
            Host::parse(&HeaderValue::from_static(one))
                .unwrap()
                .is_same(&Host::parse(&HeaderValue::from_static(other)).unwrap())
        };
        assert!(same("A.test.", "a.test") && !same("a.test:1", "a.test:2") && !same("a.test", "b.test"));
    }
}
