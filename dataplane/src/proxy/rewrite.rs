//! The host and path that an upstream gets in place of the request's own.
//!
//! The path goes through the one normaliser again, although what it is made of is normal already: an upstream must never
//! see a path that the guard would refuse.

use http::header::HOST;
use http::{Request, Uri};
use hyper::body::Body;
use sluice_model::path;

use super::admit::join;
use super::exchange::Exchange;
use super::failure::Failure;
use crate::guard::rule::Rule;

/// Rewrites a request as its rule wants it. What logs and metrics say of it stays what the client asked for.
pub(super) fn apply<B: Body>(exchange: &mut Exchange, request: &mut Request<B>) -> Result<(), Failure> {
    let Some(forward) = exchange.forward_entry() else {
        return Ok(());
    };
    if let Some(host) = &forward.host {
        request.headers_mut().insert(HOST, host.clone());
    }
    let Some(change) = &forward.rewrite.path else {
        return Ok(());
    };
    let changed = change.apply(request.uri().path(), exchange.prefix());
    let most = exchange.connection.gate.bounds().target_bytes;
    match target(&changed, request.uri().query(), most) {
        Ok(uri) => *request.uri_mut() = uri,
        Err(rule) => return Err(exchange.broke_rule(rule)),
    }
    Ok(())
}

fn target(path: &str, query: Option<&str>, most_bytes: usize) -> Result<Uri, Rule> {
    let normal = path::normalize(path).map_err(|_| Rule::Path)?;
    let target = join(&normal, query)?;
    if target.as_str().len() > most_bytes {
        return Err(Rule::TargetSize);
    }
    Ok(Uri::from(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_normal_and_bounded() {
        let check = |path: &str, query, expected: Result<&str, Rule>| {
            let target = target(path, query, 1024).map(|uri| uri.to_string());
            assert_eq!(target, expected.map(str::to_owned), "{path}");
        };
        check("/a%2Fb", Some("c=%2f"), Ok("/a%2Fb?c=%2f"));
        check("/a", None, Ok("/a"));
        check("/a/../b", None, Ok("/b"));
        check("/a\\b", None, Err(Rule::Path));
        let long = "a".repeat(1024);
        check("/a", Some(&long), Err(Rule::TargetSize));
    }
}
