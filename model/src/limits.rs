//! Every bound in Sluice that is not a user's setting, with its unit in the name and its reason beside it.
//!
//! A queue, table, loop, header, body or timeout without an entry here has no bound, which is a bug.

// --- what a configuration may hold ---------------------------------------------------------------------------

/// Units in one fleet's configuration: 20 times the largest ingress we know of, and a bound for every loop over units.
pub const MAX_UNITS: usize = 100_000;
/// Hostnames in one route (Gateway API allows 16; wildcard certificates make a few dozen common).
pub const MAX_HOSTNAMES_PER_ROUTE: usize = 64;
/// Regular expressions for hosts in one route: each is tried in turn, so they are few.
pub const MAX_HOST_REGEXES_PER_ROUTE: usize = 8;
/// Rules in one route (Gateway API: 16, raised since `pool` takes one backend).
pub const MAX_RULES_PER_ROUTE: usize = 64;
/// Matches in one rule (Gateway API: 64).
pub const MAX_MATCHES_PER_RULE: usize = 64;
/// Header predicates in one match (Gateway API: 16).
pub const MAX_HEADER_MATCHES: usize = 16;
/// Query predicates in one match (Gateway API: 16).
pub const MAX_QUERY_MATCHES: usize = 16;
/// Methods in one match: all registered ones fit.
pub const MAX_METHODS: usize = 16;
/// Length of a path in a match (Gateway API: 1024).
pub const MAX_PATH_MATCH_BYTES: usize = 1024;
/// Length of a regular expression as written.
pub const MAX_REGEX_BYTES: usize = 1024;
/// Size of one compiled regular expression: a bound on memory per pattern, the regex crate's own default is 10 MiB.
pub const MAX_REGEX_COMPILED_BYTES: usize = 1 << 20;
/// Length of a header or query value in a match (Gateway API: 4096).
pub const MAX_VALUE_MATCH_BYTES: usize = 4096;
/// Length of a header name or query parameter name in a match (Gateway API: 256).
pub const MAX_NAME_MATCH_BYTES: usize = 256;
/// Length of a rule's name (a DNS label, as in Gateway API).
pub const MAX_RULE_NAME_BYTES: usize = 63;
/// Static endpoints in one pool.
pub const MAX_ENDPOINTS_PER_POOL: usize = 1000;
/// The largest weight of an endpoint (Gateway API: 1,000,000).
pub const MAX_WEIGHT: u32 = 1_000_000;
/// Listeners of a fleet (Gateway API: 64).
pub const MAX_LISTENERS: usize = 16;
/// The longest timeout that can be asked for: a day; longer is "none", which has its own spelling.
pub const MAX_TIMEOUT_MILLIS: u64 = 24 * 60 * 60 * 1000;

// --- how it travels ------------------------------------------------------------------------------------------

/// Buckets that the units of a fleet are spread over; one-object changes touch one section.
pub const SECTION_BUCKETS: u32 = 256;
/// One section as encoded, before compression. 100,000 units in 256 buckets are 400 a section; 8 KiB each fit.
pub const MAX_SECTION_BYTES: usize = 4 << 20;
/// A manifest: 256 section references, the changed objects and the provenance of `MAX_UNITS` objects.
pub const MAX_MANIFEST_BYTES: usize = 16 << 20;
/// An order: explicit members are the bulk, 10,000 instances of 128 bytes.
pub const MAX_ORDER_BYTES: usize = 2 << 20;
/// All sections of one revision together, uncompressed.
pub const MAX_REVISION_BYTES: usize = 256 << 20;
/// Members that one order names.
pub const MAX_MEMBERS: usize = 10_000;
/// Routes whose traffic is counted separately during a rollout; the changes beyond share the fleet's gates.
pub const MAX_COUNTED_SCOPES: usize = 64;
/// Signatures looked at in one envelope: enough for rotation with several signers.
pub const MAX_SIGNATURES: usize = 8;
/// One gRPC message on the delivery stream: a manifest or a section and its framing.
pub const MAX_STREAM_MESSAGE_BYTES: usize = MAX_MANIFEST_BYTES + (64 << 10);
/// How far a clock of the fleet may differ from the controller's: B in `docs/decisions`, the lost-record jump.
pub const MAX_CLOCK_SKEW_SECONDS: u64 = 300;

// --- what the data plane lets in and keeps -------------------------------------------------------------------

/// A request head, all lines together (nginx 32 KiB, HAProxy 16 KiB, Envoy 60 KiB): 431 beyond.
pub const MAX_REQUEST_HEAD_BYTES: usize = 64 << 10;
/// One field of a request head, name and value: 431 beyond. Cookies of 8 KiB exist, of 16 KiB hardly.
pub const MAX_REQUEST_FIELD_BYTES: usize = 16 << 10;
/// A request target: 414 beyond (RFC 9112 §3 wants 8000 at least).
pub const MAX_REQUEST_TARGET_BYTES: usize = 8 << 10;
/// From the first byte of a request head, or from accepting, to its last. Coarse: checked once a second.
pub const HEADER_READ_TIMEOUT_SECONDS: u64 = 10;
/// How long a client connection may rest between requests; longer than the 60 s of common load balancers, so that
/// they close first.
pub const CLIENT_IDLE_TIMEOUT_SECONDS: u64 = 75;
/// Client connections of one worker; beyond, accepting waits and the kernel's queue does what queues do.
pub const MAX_CONNECTIONS_PER_WORKER: usize = 16_384;
/// Connections that the kernel accepts before we do.
pub const LISTEN_BACKLOG: i32 = 4096;
/// From SYN to ACK of an upstream connection. Upstreams are near; a second is three SYN retries short of hopeless.
pub const UPSTREAM_CONNECT_TIMEOUT_MILLIS: u64 = 1000;
/// How long an upstream connection may rest in a worker's pool.
pub const UPSTREAM_IDLE_TIMEOUT_SECONDS: u64 = 30;
/// How long one may have rested to be trusted with a request that must not be sent twice. Common servers close idle
/// connections after 5 s and more, so a connection used within the last second is not about to be closed.
pub const UPSTREAM_TRUSTED_IDLE_MILLIS: u64 = 1000;
/// Idle upstream connections that one worker keeps per endpoint.
pub const MAX_IDLE_PER_ENDPOINT: usize = 128;
/// Idle upstream connections that one worker keeps in all.
pub const MAX_IDLE_PER_WORKER: usize = 4096;
/// Turns of a pool's weighted round robin that are written out; pools of finer weights spread by a sequence instead.
pub const MAX_SCHEDULE_TURNS: usize = 1024;
/// A request id from a client that is kept.
pub const MAX_REQUEST_ID_BYTES: usize = 128;
/// Routes and endpoints that keep their names in metrics unless told otherwise: with 24 there are fewer than 1,000
/// series whatever the configuration.
pub const DEFAULT_METRIC_NAMES: usize = 24;
/// The most that can be asked for: each costs 5 KiB a worker.
pub const MAX_METRIC_NAMES: usize = 200;
/// Access-log lines that a worker gathers before it hands them over, in bytes.
pub const ACCESS_LOG_CHUNK_BYTES: usize = 32 << 10;
/// Chunks that wait for a slow sink; lines beyond are dropped and counted.
pub const ACCESS_LOG_QUEUE_CHUNKS: usize = 256;
/// How long access-log lines wait in a worker at most.
pub const ACCESS_LOG_FLUSH_MILLIS: u64 = 200;
/// Commands that wait for a worker; it answers within one turn of its loop.
pub const WORKER_COMMANDS: usize = 64;
