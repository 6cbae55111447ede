//! Explains where a request goes: the match that takes it, and for every other that could have, why it did not.
//!
//! For people (`sluice explain`), through the slow matcher, so that it cannot disagree with the rules.

use std::fmt;

use serde::Serialize;

use crate::header_changes::HeaderChanges;
use crate::matcher::{Found, find, for_host};
use crate::matching::RouteMatch;
use crate::names::ObjectKey;
use crate::precedence::Criterion;
use crate::request::{RequestFacts, Unmet};
use crate::snapshot::Snapshot;
use crate::target::PathChange;
use crate::unit::{Action, PlainHttp, RouteUnit, Rule, RuleClientAuth};
use crate::upgrade::UpgradeToken;

/// Where a request goes and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explanation {
    /// What takes it; `None`: nothing does, the answer is `no_route`.
    pub winner: Option<Candidate>,
    /// The other matches of routes for this host, the most precedent first.
    pub others: Vec<Loser>,
    /// Routes that are for other hosts.
    pub routes_for_other_hosts: usize,
}

/// One match of a rule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Candidate {
    /// Whose.
    pub route: ObjectKey,
    /// Which rule, from 0.
    pub rule: usize,
    /// What the rule is called.
    pub rule_name: Option<String>,
    /// Which of its matches, from 0.
    pub matched: usize,
    /// Under which host of the route, for people.
    pub host: String,
    /// What it demands, for people.
    pub demands: String,
    /// The pool that its requests go to, if they do.
    pub pool: Option<ObjectKey>,
    /// The redirect that its clients get instead, for people.
    pub redirect: Option<String>,
    /// What else is done to them and to their answers, for people.
    pub changes: Vec<String>,
}

/// A match that did not take the request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Loser {
    /// Which.
    pub candidate: Candidate,
    /// Why not.
    pub because: Because,
}

/// Why a match did not take a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub enum Because {
    /// The path is another; holds the demand.
    Path(String),
    /// The method is another; holds those it takes.
    Method(String),
    /// A header is not as demanded; holds the demand.
    Header(String),
    /// A query parameter is not as demanded; holds the demand.
    Query(String),
    /// It is met, and the winner stands before it.
    Precedence(Criterion),
}

/// Says which match takes `request` and why the others do not.
pub fn explain(snapshot: &Snapshot, request: &RequestFacts<'_>) -> Explanation {
    let winner = find(snapshot, request);
    let mut rest: Vec<_> = for_host(snapshot, request)
        .filter(|(found, _)| Some(found) != winner.as_ref())
        .collect();
    rest.sort_by(|(one, _), (other, _)| other.rank.cmp(&one.rank));
    let others = rest
        .into_iter()
        .filter_map(|(found, matched)| {
            let because = why_not(&found, matched, winner.as_ref(), request)?;
            Some(Loser {
                candidate: candidate(&found, matched, request),
                because,
            })
        })
        .collect();
    let for_others = |hosts: &[crate::host::HostPattern]| !hosts.iter().any(|host| host.matches(request.host));
    Explanation {
        winner: winner.and_then(|found| Some(candidate(&found, found.rule_unit.matches.get(found.matched)?, request))),
        others,
        routes_for_other_hosts: snapshot.routes().filter(|(_, route)| for_others(&route.hosts)).count(),
    }
}

fn candidate(found: &Found<'_>, matched: &RouteMatch, request: &RequestFacts<'_>) -> Candidate {
    Candidate {
        route: found.route.clone(),
        rule: found.rule,
        rule_name: found.rule_unit.name.as_deref().map(str::to_owned),
        matched: found.matched,
        host: found.host.to_string(),
        demands: matched.to_string(),
        pool: found.rule_unit.pool().cloned(),
        redirect: match &found.rule_unit.action {
            Action::Forward(_) => None,
            Action::Redirect(redirect) => Some(redirect.to_string()),
        },
        changes: changes(found.unit, found.rule_unit, matched, request),
    }
}

/// What a rule does besides choosing where a request goes, one line each.
fn changes(route: &RouteUnit, rule: &Rule, matched: &RouteMatch, request: &RequestFacts<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    lines.push(match route.plain_http {
        PlainHttp::Allow => String::new(),
        PlainHttp::Redirect => "in the clear: redirected to https".to_owned(),
        PlainHttp::Reject => "in the clear: refused with tls_required".to_owned(),
    });
    if rule.client_auth == RuleClientAuth::Required {
        lines.push("a client certificate is required".to_owned());
    }
    // What becomes of a path is only known of one that matches.
    let becomes = |change: &Option<PathChange>| match change {
        Some(change) if matched.path.matches(request.path) => {
            format!(
                "the path becomes {}",
                change.apply(request.path, matched.path.as_prefix())
            )
        }
        Some(_) | None => String::new(),
    };
    match &rule.action {
        Action::Forward(forward) => {
            if !forward.rewrite.is_empty() {
                lines.push(format!("rewritten: {}", forward.rewrite));
                lines.push(becomes(&forward.rewrite.path));
            }
            let tokens: Vec<&str> = forward.upgrades.iter().map(UpgradeToken::as_str).collect();
            if !tokens.is_empty() {
                lines.push(format!("clients may go over to {}", tokens.join(", ")));
            }
            lines.push(of_headers("request", &forward.request_headers));
        }
        Action::Redirect(redirect) => lines.push(becomes(&redirect.path)),
    }
    lines.push(of_headers("response", &rule.response_headers));
    lines.retain(|line| !line.is_empty());
    lines
}

fn of_headers(of: &str, changes: &HeaderChanges) -> String {
    match changes.is_empty() {
        true => String::new(),
        false => format!("{of} headers: {changes}"),
    }
}

fn why_not(
    found: &Found<'_>,
    matched: &RouteMatch,
    winner: Option<&Found<'_>>,
    request: &RequestFacts<'_>,
) -> Option<Because> {
    let because = match matched.first_unmet(request) {
        Some(Unmet::Path) => Because::Path(matched.path.to_string()),
        Some(Unmet::Method) => {
            let methods: Vec<_> = matched.methods.iter().map(http::Method::as_str).collect();
            Because::Method(methods.join(", "))
        }
        Some(Unmet::Header(index)) => {
            let header = matched.headers.get(index)?;
            Because::Header(format!("{}{}", header.name, header.value))
        }
        Some(Unmet::Query(index)) => {
            let query = matched.query.get(index)?;
            Because::Query(format!("{}{}", query.name, query.value))
        }
        None => Because::Precedence(winner?.rank.decided_by(&found.rank)?),
    };
    Some(because)
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rules[{}]", self.route, self.rule)?;
        if let Some(name) = &self.rule_name {
            write!(f, " ({name})")?;
        }
        write!(f, " matches[{}]: host {}, {}", self.matched, self.host, self.demands)
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(demand) => write!(f, "the path is not {demand}"),
            Self::Method(methods) => write!(f, "the method is not one of {methods}"),
            Self::Header(demand) => write!(f, "header not as demanded: {demand}"),
            Self::Query(demand) => write!(f, "query parameter not as demanded: {demand}"),
            Self::Precedence(criterion) => write!(f, "the winner stands before it: {}", criterion.winner_has()),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.winner {
            Some(winner) => {
                match (&winner.pool, &winner.redirect) {
                    (Some(pool), _) => writeln!(f, "goes to {pool}")?,
                    (None, Some(redirect)) => writeln!(f, "is redirected: {redirect}")?,
                    (None, None) => {} // a rule does the one or the other
                }
                writeln!(f, "  by {winner}")?;
                for change in &winner.changes {
                    writeln!(f, "  {change}")?;
                }
            }
            None => writeln!(f, "goes nowhere: 404 no_route")?,
        }
        for Loser { candidate, because } in &self.others {
            writeln!(f, "not by {candidate}\n  {because}")?;
        }
        match self.routes_for_other_hosts {
            0 => Ok(()),
            1 => writeln!(f, "1 route is for other hosts"),
            count => writeln!(f, "{count} routes are for other hosts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary;
    use crate::config::Config;
    use crate::header_changes::FieldName;
    use crate::host::HostPattern;
    use crate::matching::{HeaderMatch, PathMatch, QueryMatch, ValueMatch};
    use crate::target::{Redirect, RedirectStatus, Rewrite, Scheme};
    use crate::unit::{DataPlaneUnit, Forward, Listener, PoolUnit, RouteUnit, Rule, Unit};
    use http::{HeaderMap, Method};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn rule(name: &str, one: RouteMatch) -> Rule {
        Rule {
            name: Some(name.into()),
            matches: vec![one],
            ..Rule::to("Pool shop/api".parse().unwrap())
        }
    }

    fn route(host: &str, rules: Vec<Rule>) -> Unit {
        let hosts = vec![HostPattern::hostname(host).unwrap()];
        Unit::Route(RouteUnit::of(hosts, rules))
    }

    fn snapshot() -> Snapshot {
        let prefix = |path: &str| RouteMatch {
            path: PathMatch::prefix(path).unwrap(),
            ..RouteMatch::default()
        };
        let one = ValueMatch::exact("1").unwrap();
        let rules = vec![
            rule("other-path", prefix("/z")),
            rule(
                "posts",
                RouteMatch {
                    methods: vec![Method::POST, Method::PUT],
                    ..prefix("/a")
                },
            ),
            rule(
                "header",
                RouteMatch {
                    headers: vec![HeaderMatch::new("x-v", one.clone()).unwrap()],
                    ..prefix("/a")
                },
            ),
            rule(
                "query",
                RouteMatch {
                    query: vec![QueryMatch::new("q", one).unwrap()],
                    ..prefix("/a")
                },
            ),
            rule("winner", prefix("/a")),
            rule("shorter", prefix("/")),
        ];
        let listener = Listener {
            name: "http".parse().unwrap(),
            port: 80,
            tls: None,
            http2: crate::unit::Http2::default(),
            proxy_protocol_from: vec![],
        };
        let config = Config::from_iter([
            ("ProxyRoute shop/api".parse().unwrap(), route("a.test", rules)),
            (
                "ProxyRoute shop/wide".parse().unwrap(),
                route("*.test", vec![rule("wide", prefix("/a/b"))]),
            ),
            (
                "ProxyRoute shop/else".parse().unwrap(),
                route("b.test", vec![rule("else", prefix("/"))]),
            ),
            (
                "Pool shop/api".parse().unwrap(),
                Unit::Pool(PoolUnit::of_endpoints(vec![])),
            ),
            (
                "Rollout ops/edge".parse().unwrap(),
                Unit::DataPlane(DataPlaneUnit::of(vec![listener])),
            ),
        ]);
        Snapshot::check(config).unwrap()
    }

    #[test]
    fn says_who_won_and_why_each_other_lost() {
        let headers = HeaderMap::new();
        let request = RequestFacts {
            host: Some("a.test"),
            path: "/a/b",
            method: &Method::GET,
            headers: &headers,
            query: None,
        };
        let expected = "\
goes to Pool shop/api
  by ProxyRoute shop/api rules[4] (winner) matches[0]: host a.test, /a (PathPrefix)
not by ProxyRoute shop/api rules[1] (posts) matches[0]: host a.test, POST|PUT /a (PathPrefix)
  the method is not one of POST, PUT
not by ProxyRoute shop/api rules[2] (header) matches[0]: host a.test, /a (PathPrefix) header x-v=1
  header not as demanded: x-v=1
not by ProxyRoute shop/api rules[3] (query) matches[0]: host a.test, /a (PathPrefix) query q=1
  query parameter not as demanded: q=1
not by ProxyRoute shop/api rules[0] (other-path) matches[0]: host a.test, /z (PathPrefix)
  the path is not /z (PathPrefix)
not by ProxyRoute shop/api rules[5] (shorter) matches[0]: host a.test, / (PathPrefix)
  the winner stands before it: its path is more specific
not by ProxyRoute shop/wide rules[0] (wide) matches[0]: host *.test, /a/b (PathPrefix)
  the winner stands before it: its host is more specific
1 route is for other hosts
";
        assert_eq!(explain(&snapshot(), &request).to_string(), expected);
    }

    #[test]
    fn says_what_else_is_done() {
        let headers = HeaderMap::new();
        let request = RequestFacts {
            host: Some("a.test"),
            path: "/a/b",
            method: &Method::GET,
            headers: &headers,
            query: None,
        };
        let prefix = |text: &str| RouteMatch {
            path: PathMatch::prefix(text).unwrap(),
            ..RouteMatch::default()
        };
        let explained = |action: Action| {
            let changes = HeaderChanges {
                remove: vec![FieldName::new("server").unwrap()],
                ..HeaderChanges::default()
            };
            let rule = Rule {
                action,
                response_headers: Arc::new(changes),
                ..rule("one", prefix("/a"))
            };
            let mut config = snapshot().into_config();
            config.insert("ProxyRoute shop/api".parse().unwrap(), route("a.test", vec![rule]));
            let text = explain(&Snapshot::check(config).unwrap(), &request).to_string();
            text.lines().take(5).map(str::trim).collect::<Vec<_>>().join("; ")
        };
        let path = Some(PathChange::prefix("/x").unwrap());
        let host = Some("in.test".parse().unwrap());
        let rewrite = Arc::new(Rewrite {
            host,
            path: path.clone(),
        });
        let forward = Forward {
            rewrite,
            ..Forward::to("Pool shop/api".parse().unwrap())
        };
        let by = "by ProxyRoute shop/api rules[0] (one) matches[0]: host a.test, /a (PathPrefix)";
        assert_eq!(
            explained(Action::Forward(forward)),
            format!(
                "goes to Pool shop/api; {by}; rewritten: host in.test, prefix /x; the path becomes /x/b; response headers: remove server"
            )
        );
        let redirect = Redirect {
            scheme: Some(Scheme::Https),
            host: None,
            port: None,
            path,
            status: RedirectStatus::Found,
        };
        let text = explained(Action::Redirect(Arc::new(redirect)));
        let expected = format!(
            "is redirected: 302 to https, prefix /x; {by}; the path becomes /x/b; response headers: remove server"
        );
        assert!(text.starts_with(&expected), "{text}");
    }

    #[test]
    fn nobody_may_win() {
        let headers = HeaderMap::new();
        let request = RequestFacts {
            host: Some("example.org"),
            path: "/",
            method: &Method::GET,
            headers: &headers,
            query: None,
        };
        let text = explain(&snapshot(), &request).to_string();
        assert_eq!(text, "goes nowhere: 404 no_route\n3 routes are for other hosts\n");
    }

    proptest! {
        #[test]
        fn agrees_with_the_matcher_and_accounts_for_every_match(
            snapshot in arbitrary::snapshots(5),
            request in arbitrary::requests(),
        ) {
            let facts = request.facts();
            let explanation = explain(&snapshot, &facts);
            let found = find(&snapshot, &facts);
            let won = |winner: &Candidate| (winner.route.clone(), winner.rule, winner.matched);
            prop_assert_eq!(explanation.winner.as_ref().map(won), found.map(|f| (f.route.clone(), f.rule, f.matched)));
            let shown = explanation.others.len() + usize::from(explanation.winner.is_some());
            prop_assert_eq!(shown, for_host(&snapshot, &facts).count());
        }
    }
}
