//! `Names`: which certificates the routes of one generation offer for a host. Compiled with the generation, immutable.
//!
//! It holds references, in the order in which they are tried: routes that name the host, then wildcards from the longest
//! suffix on, regular expressions, and routes for any host; of equals the oldest route first, as everywhere. So a route
//! cannot take a host's handshakes from one that names it more exactly, whatever its certificate claims.

use std::collections::HashMap;

use sluice_model::CertificateRef;
use sluice_model::host::HostPattern;
use sluice_model::pattern::Pattern;
use sluice_model::unit::RouteUnit;

type References = Vec<CertificateRef>;

/// References to certificates, by host.
#[derive(Debug, Default)]
pub struct Names {
    exact: HashMap<Box<str>, References>,
    /// By suffix, without the `*.`.
    wildcards: HashMap<Box<str>, References>,
    /// The longest first.
    regexes: Vec<(Pattern, References)>,
    any: References,
}

impl Names {
    /// Of these routes.
    pub fn compile<'a>(routes: impl Iterator<Item = &'a RouteUnit>) -> Self {
        let mut routes: Vec<&RouteUnit> = routes.filter(|route| !route.certificates.is_empty()).collect();
        routes.sort_by_key(|route| route.created_at_seconds.unwrap_or(u64::MAX));
        let mut names = Self::default();
        for route in routes {
            for host in &route.hosts {
                names.add(host, &route.certificates);
            }
        }
        names
            .regexes
            .sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.as_str().len()));
        names
    }

    fn add(&mut self, host: &HostPattern, certificates: &[CertificateRef]) {
        let known = match host {
            HostPattern::Exact(host) => self.exact.entry(host.as_str().into()).or_default(),
            HostPattern::Wildcard(suffix) => self.wildcards.entry(suffix.as_str().into()).or_default(),
            HostPattern::Regex(pattern) => {
                self.regexes.push((pattern.clone(), certificates.to_vec()));
                return;
            }
            HostPattern::Any => &mut self.any,
        };
        for certificate in certificates {
            if !known.contains(certificate) {
                known.push(certificate.clone());
            }
        }
    }

    /// What is offered for `host`, which is in lower case; the best first. Whether it names the host is not looked at.
    pub fn candidates<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a CertificateRef> {
        let exact = self.exact.get(host).into_iter().flatten();
        let suffixes = host
            .match_indices('.')
            .filter(|(dot, _)| *dot > 0)
            .filter_map(|(dot, _)| host.get(dot.saturating_add(1)..));
        let wildcards = suffixes.filter_map(|suffix| self.wildcards.get(suffix)).flatten();
        let matching = self.regexes.iter().filter(|(pattern, _)| pattern.matches(host));
        let regexes = matching.flat_map(|(_, references)| references);
        exact.chain(wildcards).chain(regexes).chain(&self.any)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A route for these hosts (`~` before a regular expression; none: for any) with these certificates.
    pub(crate) fn route(hosts: &[&str], certificates: &[&str]) -> RouteUnit {
        let host = |text: &&str| match text.strip_prefix('~') {
            Some(pattern) => HostPattern::regex(pattern).unwrap(),
            None => HostPattern::hostname(text).unwrap(),
        };
        let mut hosts: Vec<HostPattern> = hosts.iter().map(host).collect();
        if hosts.is_empty() {
            hosts.push(HostPattern::Any);
        }
        RouteUnit {
            certificates: certificates.iter().map(|text| text.parse().unwrap()).collect(),
            ..RouteUnit::of(hosts, Vec::new())
        }
    }

    fn check(routes: &[RouteUnit], host: &str, expected: &[&str]) {
        let names = Names::compile(routes.iter());
        let found: Vec<String> = names.candidates(host).map(ToString::to_string).collect();
        assert_eq!(found, expected, "{host}");
    }

    #[test]
    fn the_most_specific_comes_first() {
        let routes = [
            route(&[], &["t/any"]),
            route(&["~.*[.]test"], &["t/long-regex"]),
            route(&["~.*"], &["t/regex"]),
            route(&["*.test"], &["t/wide"]),
            route(&["*.a.test"], &["t/narrow"]),
            route(&["x.a.test"], &["t/exact", "t/exact-2"]),
            route(&["y.a.test"], &[]),
        ];
        let rest = ["t/narrow", "t/wide", "t/long-regex", "t/regex", "t/any"];
        let all: Vec<&str> = ["t/exact", "t/exact-2"].into_iter().chain(rest).collect();
        check(&routes, "x.a.test", &all);
        check(&routes, "y.a.test", &rest);
        check(&routes, "a.test", &rest[1..]);
        check(&routes, "test", &rest[3..]);
    }

    #[test]
    fn of_equals_the_oldest_route_comes_first_and_nothing_twice() {
        let mut routes = [
            route(&["a.test"], &["t/young", "t/both"]),
            route(&["a.test"], &["t/both", "t/old"]),
        ];
        routes[1].created_at_seconds = Some(5);
        check(&routes, "a.test", &["t/both", "t/old", "t/young"]);
    }
}
