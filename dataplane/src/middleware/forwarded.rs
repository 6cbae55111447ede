//! `X-Forwarded-For`, `-Proto`, `-Host`: what the upstream is told about the client. The address is appended to what
//! came; protocol and host are this hop's own and replace what came, since nothing says yet which hops to trust.

use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};
pub use sluice_model::target::Scheme;

/// The addresses a request came through.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// How it came here.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host it asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What its certificate says, where a route tells that.
pub const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Sets all of them but the last.
pub fn apply(headers: &mut HeaderMap, client: &HeaderValue, scheme: Scheme, host: Option<&HeaderValue>) {
    let all = join(headers, client);
    headers.insert(X_FORWARDED_FOR, all);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str()));
    match (host, headers.entry(X_FORWARDED_HOST)) {
        (Some(host), entry) => set(entry, host),
        (None, Entry::Occupied(entry)) => drop(entry.remove()),
        (None, Entry::Vacant(_)) => {}
    }
}

fn set(entry: Entry<'_, HeaderValue>, host: &HeaderValue) {
    match entry {
        Entry::Occupied(mut entry) => drop(entry.insert(host.clone())),
        Entry::Vacant(entry) => {
            entry.insert(host.clone());
        }
    }
}

/// What came, all lines of it, and the client's address.
fn join(headers: &HeaderMap, client: &HeaderValue) -> HeaderValue {
    let mut came = headers.get_all(X_FORWARDED_FOR).iter().peekable();
    if came.peek().is_none() {
        return client.clone();
    }
    let mut all = Vec::with_capacity(64);
    for line in came {
        all.extend_from_slice(line.as_bytes());
        all.extend_from_slice(b", ");
    }
    all.extend_from_slice(client.as_bytes());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(all)).unwrap_or_else(|_| client.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appended_and_replaced() {
        let value = HeaderValue::from_static;
        let mut headers = HeaderMap::new();
        apply(
            &mut headers,
            &value("10.0.0.9"),
            Scheme::Http,
            Some(&value("a.example")),
        );
        assert_eq!(headers[X_FORWARDED_FOR], "10.0.0.9");
        headers.append(X_FORWARDED_FOR, value("10.1.1.1"));
        headers.insert(X_FORWARDED_PROTO, value("gopher"));
        apply(&mut headers, &value("10.0.0.8"), Scheme::Https, None);
        assert_eq!(headers[X_FORWARDED_FOR], "10.0.0.9, 10.1.1.1, 10.0.0.8");
        assert_eq!(headers.get_all(X_FORWARDED_FOR).iter().count(), 1);
        assert_eq!(
            (&headers[X_FORWARDED_PROTO], headers.get(X_FORWARDED_HOST)),
            (&value("https"), None)
        );
    }
}
