//! Bounds and patterns of the API, as written into the CRD schemas.
//!
//! Generous for people, small enough that the API server's CEL cost estimate (which multiplies the bounds of nested
//! lists) stays within its budget and that one object fits etcd many times over. Where the model has a limit too, it is
//! the same one; `sluice-controller` tests that.

/// Host names of one route. Gateway API has 16; platform teams with many brands need more.
pub const HOSTNAMES_MAX_ITEMS: u32 = 64;
/// Host regexes of one route. Each costs a regex match for hosts that nothing else matches.
pub const HOSTNAME_REGEXES_MAX_ITEMS: u32 = 8;
/// A DNS name (RFC 1035 §2.3.4), or an RFC 1123 subdomain as an object name.
pub const NAME_MAX_BYTES: u32 = 253;
/// A DNS label (RFC 1035 §2.3.4): names of rules, stages, listeners and fleets, which become metric labels.
pub const LABEL_MAX_BYTES: u32 = 63;
/// One regular expression. Longer ones are programs, not patterns.
pub const REGEX_MAX_BYTES: u32 = 1024;
/// Rules of one route.
pub const RULES_MAX_ITEMS: u32 = 64;
/// Matches of one rule.
pub const MATCHES_MAX_ITEMS: u32 = 64;
/// Methods of one match.
pub const METHODS_MAX_ITEMS: u32 = 16;
/// One method name. The longest registered one (UPDATEREDIRECTREF) has 17.
pub const METHOD_MAX_BYTES: u32 = 32;
/// Protocols that clients of one rule may go over to.
pub const UPGRADES_MAX_ITEMS: u32 = 4;
/// The name of one.
pub const UPGRADE_MAX_BYTES: u32 = 32;
/// Header matches of one match, as in Gateway API.
pub const HEADERS_MAX_ITEMS: u32 = 16;
/// Query parameter matches of one match, as in Gateway API.
pub const QUERY_PARAMS_MAX_ITEMS: u32 = 16;
/// A header or parameter name, as in Gateway API.
pub const HEADER_NAME_MAX_BYTES: u32 = 256;
/// A header or parameter value to compare with.
pub const HEADER_VALUE_MAX_BYTES: u32 = 4096;
/// Header fields that a rule sets, adds or removes, each, as in Gateway API.
pub const HEADER_CHANGES_MAX_ITEMS: u32 = 16;
/// A path to compare with, as in Gateway API.
pub const PATH_MAX_BYTES: u32 = 1024;
/// Static endpoints of one pool.
pub const ENDPOINTS_MAX_ITEMS: u32 = 1000;
/// Certificates of one route. Hosts that many certificates serve are many routes, or one certificate with many names.
pub const CERTIFICATES_MAX_ITEMS: u32 = 8;
/// Parts of a client's certificate that pools may be told.
pub const CERTIFICATE_PARTS_MAX_ITEMS: u32 = 4;
/// The longest text of an IPv6 address (with an embedded IPv4 address).
pub const ADDRESS_MAX_BYTES: u32 = 45;
/// Weight of one endpoint. As in Gateway API.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// Connections to one endpoint that a pool may allow an instance: more than an address has ports.
pub const PER_ENDPOINT_MAX: u32 = 1_000_000;
/// Requests of an instance that may wait for one of them: as many as there may be clients.
pub const PENDING_MAX: u32 = 1_000_000;
/// Listeners of one fleet. Each is a socket on every worker of every instance.
pub const LISTENERS_MAX_ITEMS: u32 = 16;
/// Ranges of addresses from which one listener expects the PROXY protocol: clouds publish some dozens.
pub const PROXY_PROTOCOL_SOURCES_MAX_ITEMS: u32 = 64;
/// The longest text of a range of IPv6 addresses.
pub const ADDRESS_RANGE_MAX_BYTES: u32 = 43;
/// Connections that an operator may allow, of all clients or of one: more than one process has file descriptors.
pub const CONNECTIONS_MAX: u32 = 1_000_000;
/// Streams of one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 1_000;
/// The fewest fields that a request's head may be held to: what browsers send.
pub const HEADERS_LEAST: u32 = 20;
/// The most.
pub const HEADERS_MOST: u32 = 200;
/// The highest rate that clients may be held to, in bytes a second: a slow line of a phone.
pub const MIN_BYTES_PER_SECOND_MOST: u32 = 16 << 10;
/// The text of a size.
pub const SIZE_MAX_BYTES: u32 = 16;
/// Service accounts whose pods may join one fleet: an edge has a few, a fleet of sidecars one for each workload.
pub const MEMBERS_MAX_ITEMS: u32 = 64;
/// Demands of one label selector, and values of one demand.
pub const SELECTOR_MAX_ITEMS: u32 = 16;
/// Key of a label: a DNS subdomain, a slash and a name.
pub const LABEL_KEY_MAX_BYTES: u32 = NAME_MAX_BYTES + 1 + LABEL_MAX_BYTES;
/// Stages of one Rollout.
pub const STAGES_MAX_ITEMS: u32 = 16;
/// Gates of one Rollout. Every gate is judged for the fleet and for each changed route.
pub const GATES_MAX_ITEMS: u32 = 16;
/// Requests that a gate may ask for before it judges.
pub const MIN_REQUESTS_MAX: u32 = 1_000_000_000;
/// Revisions kept in a fleet's history.
pub const HISTORY_LIMIT_MAX: u32 = 100;
/// A duration such as `1h30m15s500ms`, in the form of Gateway API's GEP-2257.
pub const DURATION_MAX_BYTES: u32 = 32;
/// Conditions of one object: ours, and room for those of others.
pub const CONDITIONS_MAX_ITEMS: u32 = 16;
/// A revision as it is shown: `42-c01d9a3f`, with room for a whole digest.
pub const REVISION_MAX_BYTES: u32 = 128;
/// A sentence for people in a status.
pub const SENTENCE_MAX_BYTES: u32 = 2048;
/// A time (RFC 3339).
pub const TIME_MAX_BYTES: u32 = 64;
/// An instance's id.
pub const INSTANCE_MAX_BYTES: u32 = 128;
/// An object as it is shown: kind, namespace and name.
pub const OBJECT_MAX_BYTES: u32 = 544;
/// Gates listed in a status, the failing ones first. A fleet with 16 gates and 100 changed routes has 1,600.
pub const STATUS_GATES_MAX_ITEMS: u32 = 32;
/// Held contents listed in a status; `heldTotal` counts all.
pub const STATUS_HELD_MAX_ITEMS: u32 = 50;
/// Blocked revisions listed in a status; a fleet remembers no more.
pub const STATUS_BLOCKED_MAX_ITEMS: u32 = 16;
/// Instances in any list of a status; a number beside it counts all.
pub const STATUS_INSTANCES_MAX_ITEMS: u32 = 50;
/// Past revisions listed in a status, the latest last.
pub const STATUS_HISTORY_MAX_ITEMS: u32 = 10;
/// The id of a command, who gave it, and its verb.
pub const COMMAND_WORD_MAX_BYTES: u32 = 256;

/// RFC 1123 subdomain: an object's name.
pub const NAME_PATTERN: &str = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// RFC 1123 label: a name inside an object.
pub const LABEL_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// The key of a label: a name, after a DNS subdomain and a slash if it has an owner.
pub const LABEL_KEY_PATTERN: &str =
    r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// The value of a label; it may be empty.
pub const LABEL_VALUE_PATTERN: &str = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";
/// The name of a Service's port: a label with a letter in it, so that a quoted number is not taken for one.
pub const PORT_NAME_PATTERN: &str = r"^([0-9][-0-9]*)?[a-z]([-a-z0-9]*[a-z0-9])?$";
/// A host name, or `*.` before one. Lower case, no port.
pub const HOSTNAME_PATTERN: &str =
    r"^(\*\.)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";
/// A host name without wildcard. Lower case, no port.
pub const PRECISE_HOSTNAME_PATTERN: &str =
    r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";
/// A method in upper case. Methods are case-sensitive (RFC 9110 §9.1): `get` would never match.
pub const METHOD_PATTERN: &str = r"^[A-Z][A-Z0-9-]*$";
/// The name of a protocol, without a version, in lower case: compared without regard to case.
pub const UPGRADE_PATTERN: &str = r"^[a-z0-9][a-z0-9._-]*$";
/// A token (RFC 9110 §5.6.2): what a header name is made of.
pub const TOKEN_PATTERN: &str = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";
/// The value of a header field that a rule sets or adds: printable ASCII, with no space at either end.
pub const FIELD_VALUE_PATTERN: &str = r"^[!-~]([ \t!-~]*[!-~])?$";
/// `5s`, `1h30m`: the form of Gateway API's GEP-2257.
pub const DURATION_PATTERN: &str = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$";
/// `0.5%`, with at most four decimals so that it is exact in integers.
pub const PERCENT_PATTERN: &str = r"^(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)%$";
/// `1.5`, with at most three decimals so that it is exact in integers.
pub const RATIO_PATTERN: &str = r"^[0-9]{1,4}(\.[0-9]{1,3})?$";
/// `32Ki`, `65536`: a size in bytes as Kubernetes writes quantities, whole ones in powers of two.
pub const SIZE_PATTERN: &str = r"^[1-9][0-9]{0,9}(Ki|Mi)?$";
/// A percentage or a duration, for a gate's `max`.
pub const LIMIT_PATTERN: &str = r"^((100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)%|([0-9]{1,5}(h|m|s|ms)){1,4})$";

/// What each pattern asks for, in words, for a reader that refuses a value itself.
pub const PATTERN_MEANINGS: &[(&str, &str)] = &[
    (
        NAME_PATTERN,
        "a name of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit",
    ),
    (
        LABEL_PATTERN,
        "a name of a-z, 0-9 and '-', beginning and ending with a letter or digit",
    ),
    (
        LABEL_KEY_PATTERN,
        "the key of a label, such as team or example.com/team",
    ),
    (
        LABEL_VALUE_PATTERN,
        "the value of a label: letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
    ),
    (
        PORT_NAME_PATTERN,
        "a port's name, such as http, or its number without quotes",
    ),
    (
        HOSTNAME_PATTERN,
        "a host name in lower case without a port, such as shop.example.com, or *.example.com for every host below it",
    ),
    (
        PRECISE_HOSTNAME_PATTERN,
        "a host name in lower case without a port, such as www.example.com",
    ),
    (
        METHOD_PATTERN,
        "a method in upper case, such as GET; methods are case-sensitive",
    ),
    (
        UPGRADE_PATTERN,
        "the name of a protocol in lower case and without a version, such as websocket",
    ),
    (
        TOKEN_PATTERN,
        "a header name, such as x-api-version: letters, digits and hyphens, no spaces or colons",
    ),
    (
        FIELD_VALUE_PATTERN,
        "a header value of printable ASCII characters, without spaces at either end",
    ),
    (DURATION_PATTERN, "a duration, such as 500ms, 5s or 1h30m"),
    (PERCENT_PATTERN, "a percentage from 0 to 100, such as 10 or \"0.5%\""),
    (SIZE_PATTERN, "a size in bytes, such as 32Ki or 32768"),
    (RATIO_PATTERN, "a ratio in quotes, such as \"1.5\""),
    (
        LIMIT_PATTERN,
        "a percentage such as \"0.5%\", or a duration such as 500ms",
    ),
];
