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
/// Protocols that a rule lets clients go over to: there are hardly four in use beside WebSocket.
pub const MAX_UPGRADES_PER_RULE: usize = 4;
/// Length of the name of such a protocol: the longest registered one (`websocket`) has 9.
pub const MAX_UPGRADE_TOKEN_BYTES: usize = 32;
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
/// Header fields that one rule sets, adds or removes, each (Gateway API: 16).
pub const MAX_HEADER_CHANGES: usize = 16;
/// Length of a rule's name (a DNS label, as in Gateway API).
pub const MAX_RULE_NAME_BYTES: usize = 63;
/// Static endpoints in one pool.
pub const MAX_ENDPOINTS_PER_POOL: usize = 1000;
/// Certificates of one route: hosts that many certificates serve are many routes.
pub const MAX_CERTIFICATES_PER_ROUTE: usize = 8;
/// Services and certificates that one fleet's configuration refers to, together: twice the routes that we are measured
/// with. Bounds what an instance keeps of the live lane, and says in a hello.
pub const MAX_LIVE_SUBJECTS: usize = 20_000;
/// The largest weight of an endpoint (Gateway API: 1,000,000).
pub const MAX_WEIGHT: u32 = 1_000_000;
/// Listeners of a fleet (Gateway API: 64).
pub const MAX_LISTENERS: usize = 16;
/// Ranges of addresses from which one listener expects the PROXY protocol: clouds publish some dozens for their load
/// balancers. They are looked through one after the other, once per connection.
pub const MAX_PROXY_PROTOCOL_SOURCES: usize = 64;
/// The longest timeout that can be asked for: a day; longer is "none", which has its own spelling.
pub const MAX_TIMEOUT_MILLIS: u64 = 24 * 60 * 60 * 1000;

// --- the sluice command --------------------------------------------------------------------------------------

/// How long the command waits for a connection: everything it talks to is near.
pub const CLIENT_CONNECT_TIMEOUT_MS: u64 = 2_000;
/// How long the command waits for an answer; longer than the controller's long poll for events.
pub const CLIENT_EXCHANGE_TIMEOUT_MS: u64 = 30_000;
/// The largest answer of an admin port that the command reads: a fleet's status with every object held.
pub const CLIENT_ANSWER_MAX_BYTES: usize = 64 << 20;
/// Manifests that `sluice inject` takes at once: far more than a repository keeps in one file.
pub const INJECT_INPUT_MAX_BYTES: u64 = 8 << 20;
/// How long the command waits for a connection to an API server, which may be a continent away.
pub const COMMAND_CONNECT_WAIT_MS: u64 = 10_000;
/// How long it waits for an answer of an API server: a chunk of a long list takes seconds on a busy one.
pub const KUBE_ANSWER_WAIT_MS: u64 = 20_000;
/// Objects that are asked for at a time, as kubectl does.
pub const KUBE_LIST_CHUNK: u32 = 500;
/// How long the command waits for the controller's answer to a command given by annotation, unless told otherwise. It
/// watches Rollouts and answers within a second; longer than a lease, so that a change of leaders is waited out.
pub const COMMAND_ANSWER_WAIT_SECONDS: u64 = 30;
/// The longest that it can be told to wait: whoever waits longer has forgotten that something waits.
pub const COMMAND_ANSWER_WAIT_MAX_SECONDS: u64 = 3_600;
/// The longest that nobody leads after a leader dies, in milliseconds: its lease ends, and the next one notices and reads
/// what is recorded.
pub const TAKEOVER_MS: u64 = LEASE_MS + 5_000;
/// How often the command looks meanwhile whether somebody does, in milliseconds.
pub const TAKEOVER_LOOK_MS: u64 = 500;
/// How often it looks for that answer.
pub const COMMAND_ANSWER_LOOK_MS: u64 = 300;
/// How long one watch of the command lasts; then it is begun anew, so that one that is half open is noticed.
pub const KUBE_WATCH_SECONDS: u32 = 60;
/// Pods whose admin port is asked at the same time: each is a connection through the API server.
pub const FORWARDS_AT_A_TIME: usize = 8;
/// Pods that are asked about one pool: more than a person reads.
pub const FORWARDED_PODS_MAX: usize = 200;
/// Instances of one `up`: a laptop has tens of cores, not hundreds.
pub const UP_INSTANCES_MAX: u16 = 64;
/// How long `up` waits for its instances to be ready before it says which are not, and goes on waiting.
pub const UP_READY_WARNING_MS: u64 = 20_000;
/// How long `up` waits for an instance to drain before it kills it: the instance's own grace and a little.
pub const UP_DRAIN_MAX_MS: u64 = 35_000;
/// First wait before a crashed instance is started again; doubles up to `UP_RESTART_WAIT_MAX_MS`.
pub const UP_RESTART_WAIT_MIN_MS: u64 = 200;
/// Longest wait before a crashed instance is started again.
pub const UP_RESTART_WAIT_MAX_MS: u64 = 10_000;
/// An instance that ran this long has recovered: its next crash waits the shortest time again.
pub const UP_RESTART_FORGIVEN_AFTER_MS: u64 = 30_000;
/// One log file of an instance before it is rotated; one older file is kept. Twice this bounds what a log takes.
pub const UP_LOG_FILE_MAX_BYTES: u64 = 64 << 20;
/// Requests in a second that demo traffic may ask for.
pub const DEMO_REQUESTS_PER_SECOND_MAX: u32 = 2_000;
/// A `demo.json`; ours has a few hundred bytes.
pub const DEMO_FILE_MAX_BYTES: u64 = 64 << 10;
/// How long a demo upstream waits for a request's header: a demo too is reachable by whoever is on the machine.
pub const DEMO_UPSTREAM_HEADER_TIMEOUT_MS: u64 = 30_000;
/// Requests on one connection of the demo traffic; new connections spread it over the instances.
pub const DEMO_REQUESTS_PER_CONNECTION: u32 = 5;
/// How long a demo request may take before it counts as failed.
pub const DEMO_REQUEST_TIMEOUT_MS: u64 = 5_000;

// --- how it travels ------------------------------------------------------------------------------------------

/// Buckets that the units of a fleet are spread over; one-object changes touch one section.
pub const SECTION_BUCKETS: u32 = 256;
/// One section as encoded, before compression. 100,000 units in 256 buckets are 400 a section; 8 KiB each fit.
pub const MAX_SECTION_BYTES: usize = 4 << 20;
/// Buckets that the origins of a revision's objects are spread over: with ten thousand objects, what a one-object change
/// adds (one bucket, and the names of all of them) is smallest near this number.
pub const ORIGIN_BUCKETS: u32 = 64;
/// The origins in one bucket as encoded. 100,000 objects in 64 buckets are 1,600 a bucket; 2 KiB each fit.
pub const MAX_ORIGINS_BYTES: usize = 4 << 20;
/// A provenance: the names of its buckets of origins, and at most `HELD_CONTENTS_MAX` changed objects.
pub const MAX_PROVENANCE_BYTES: usize = 1 << 20;
/// A manifest: 256 section references, and the names of what is quarantined, which may be most of `MAX_UNITS` objects.
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
/// What an envelope adds to its payload: 8 signatures of less than 128 bytes each, the type and framing.
pub const MAX_ENVELOPE_OVERHEAD_BYTES: usize = 2048;
/// Section digests in one message: an instance holds, or lacks, stable, candidate and last good at most.
pub const MAX_SECTIONS_IN_MESSAGE: usize = 4 * SECTION_BUCKETS as usize;
/// Features in one message: far more than there will be, far fewer than hurt.
pub const MAX_FEATURES_IN_MESSAGE: usize = 1024;
/// Latency buckets in one reported scope: the histogram has fewer, with room to grow.
pub const MAX_LATENCY_BUCKETS: usize = 256;
/// Text that people read, in one message: a reason, a build, a boot id. Longer ones are refused.
pub const MAX_MESSAGE_TEXT_BYTES: usize = 16 << 10;
/// How far apart honest clocks may be (B in the decision on lost records). Bounds the jump ahead of a controller that
/// lost its record; instances follow up to twice this ahead of their own clock. NTP keeps milliseconds; five minutes
/// is what Kerberos tolerates.
pub const MAX_CLOCK_SKEW_SECONDS: u64 = 300;

// --- the live lane (proto/src/live.rs) -------------------------------------------------------------------------

/// Endpoints of one service: one on every node of the largest cluster that Kubernetes is made for.
pub const MAX_LIVE_ENDPOINTS: usize = 5_000;
/// Certificates in one chain, the leaf included; public ones have two or three.
pub const MAX_CHAIN_CERTIFICATES: usize = 10;
/// One certificate of a chain (DER). One with a hundred names has some KiB.
pub const MAX_CERTIFICATE_BYTES: usize = 64 << 10;
/// A private key (PKCS#8 DER). RSA with 8192 bits has 4.7 KiB.
pub const MAX_PRIVATE_KEY_BYTES: usize = 16 << 10;
/// Certificates of those who sign clients' certificates, in one Secret: a few generations of a few authorities.
pub const MAX_CLIENT_AUTHORITIES: usize = 64;
/// One of them (DER).
pub const MAX_AUTHORITY_BYTES: usize = 8 << 10;
/// For how long a connection's client certificate is believed without looking again whether it has ended, in seconds.
pub const CLIENT_CERTIFICATE_BELIEVED_SECONDS: u64 = 60;
/// A live update: the endpoints of one service, at most 130 bytes each, or one certificate with its chain.
pub const MAX_LIVE_UPDATE_BYTES: usize = 1 << 20;
/// How long a new revision waits for what a source knows of the services and certificates that it refers to for the first
/// time, in milliseconds: a folder answers at once, an API server within a second.
pub const LIVE_ANSWER_WAIT_MS: u64 = 2_000;
/// The share of a service's endpoints that may leave at once before it is doubted, in percent, unless a pool says
/// otherwise: a rolling update takes a quarter, a lost zone a third or a half.
pub const REMOVAL_BRAKE_PERCENT: u8 = 80;
/// How long such a removal is doubted, in milliseconds: a restarting endpoint controller has caught up by then.
pub const REMOVAL_BRAKE_HOLD_MS: u64 = 30_000;
/// Services with fewer endpoints in rotation are followed at once: scaling a small Deployment to zero is meant.
pub const REMOVAL_BRAKE_FROM_ENDPOINTS: usize = 5;
/// The longest that a pool may ask for: addresses are given to others in time.
pub const REMOVAL_BRAKE_HOLD_MAX_MS: u64 = 3_600_000;
/// Values that a hello says it holds: those of stable and of a candidate.
pub const MAX_LIVE_HELD: usize = 2 * MAX_LIVE_SUBJECTS;
/// The same in bytes of their names and digests, so that a hello fits its message whatever the names. What is left out is sent again, no more.
pub const MAX_LIVE_HELD_BYTES: usize = 8 << 20;

// --- what the data plane lets in and keeps -------------------------------------------------------------------

/// A request head, all lines together (nginx 32 KiB, HAProxy 16 KiB, Envoy 60 KiB): 431 beyond.
pub const MAX_REQUEST_HEAD_BYTES: usize = 64 << 10;
/// The least that an operator may make of it, and of one field (`limits.maxHeaderBytes`, `maxHeaderFieldBytes`): the cookies that
/// a browser may keep of one host fit.
pub const REQUEST_HEAD_BYTES_LEAST: u64 = 4 << 10;
/// The most: the codecs' buffers are made for it.
pub const REQUEST_HEAD_BYTES_MOST: u64 = 64 << 10;
/// One field of a request head, name and value: 431 beyond. Cookies of 8 KiB exist, of 16 KiB hardly.
pub const MAX_REQUEST_FIELD_BYTES: usize = 16 << 10;
/// A request target: 414 beyond (RFC 9112 §3 wants 8000 at least).
pub const MAX_REQUEST_TARGET_BYTES: usize = 8 << 10;
/// The least that an operator may make of it (`limits.maxUriBytes`).
pub const REQUEST_TARGET_BYTES_LEAST: u64 = 1 << 10;
/// The most: requests of SAML have some 10 KiB.
pub const REQUEST_TARGET_BYTES_MOST: u64 = 16 << 10;
/// The most that a request's body may be held to (`maxRequestBody`): so much is no limit.
pub const REQUEST_BODY_BYTES_MOST: u64 = 1 << 40;
/// A method. The longest that is registered has 17 (`UPDATEREDIRECTREF`).
pub const MAX_REQUEST_METHOD_BYTES: usize = 32;
/// Fields of one request head, or of its trailers: 431 beyond. A head of many small fields costs more memory than its bytes
/// say; browsers send some 20, proxies in a row some 40.
pub const MAX_REQUEST_FIELDS: usize = 100;
/// The fewest that an operator may make of it (`limits.maxHeaders`): what browsers send.
pub const REQUEST_FIELDS_LEAST: u64 = 20;
/// The most: cookies in crumbs, as HTTP/2 may send them, are a field each.
pub const REQUEST_FIELDS_MOST: u64 = 200;
/// All trailers of one request together. gRPC and checksums need a few hundred bytes.
pub const MAX_REQUEST_TRAILER_BYTES: usize = 8 << 10;
/// The size line of one chunk with its extensions, which are dropped: nobody is known to use them but to confuse parsers.
pub const MAX_CHUNK_LINE_BYTES: usize = 256;
/// Bytes that a client connection is read by at a time while heads or chunks are looked at.
pub const GUARD_READ_BYTES: usize = 16 << 10;
/// The buffer of the HTTP/1.1 codec of a client connection: twice a head, so that the guard's bound is met first.
pub const CLIENT_BUFFER_BYTES: usize = 2 * MAX_REQUEST_HEAD_BYTES;
/// The rate below which a client is not sending a body or taking a response but holding a connection, in bytes a second:
/// Kestrel's figure; a modem of 1990 is ten times faster. Time in which it is us who do not read is not counted.
pub const CLIENT_MIN_BYTES_PER_SECOND: u64 = 240;
/// The least that an operator may make of it (`limits.minBytesPerSecond`): who sends nothing at all is never waited for.
pub const BODY_RATE_LEAST: u64 = 1;
/// The most: a slow line of a phone.
pub const BODY_RATE_MOST: u64 = 16 << 10;
/// The shortest time that an operator may set for a client: deadlines are looked at once a second.
pub const SETTABLE_TIME_LEAST_MS: u64 = 1_000;
/// The longest for a head or a handshake (`limits.headerTimeout`, `handshakeTimeout`): an attacker holds each of his
/// connections for as long.
pub const INTAKE_MOST_MS: u64 = 60_000;
/// The longest for a connection at rest and a response that nobody takes (`limits.idleTimeout`, `http2IdleTimeout`,
/// `responseTimeout`).
pub const IDLE_MOST_MS: u64 = 3_600_000;
/// How long a client may send nothing of a body at its start, in milliseconds: a slow start of TCP, a lost packet or two.
pub const BODY_GRACE_MS: u64 = 5_000;
/// How much patience a body can earn by being faster than the least, in milliseconds: a tunnel or a change of cells. Not
/// more, or a fast megabyte would buy an hour of silence.
pub const BODY_PATIENCE_MAX_MS: u64 = 30_000;
/// How long a client may take nothing of a response that waits to be written, in milliseconds; what it takes earns it
/// patience up to this again.
pub const RESPONSE_PATIENCE_MS: u64 = 30_000;
/// From the head of a request to the end of its response. As the longest timeout that can be asked for; a connection that
/// is in use for longer is a tunnel, or leaked.
pub const REQUEST_TOTAL_SECONDS: u64 = MAX_TIMEOUT_MILLIS / 1000;
/// What is read and dropped of a request that is answered before all of it came: less than a round trip costs, and the
/// connection can be kept, or closed without the answer being lost.
pub const DRAIN_BYTES: usize = 64 << 10;
/// How long that may take, in milliseconds.
pub const DRAIN_MS: u64 = 1_000;
/// What an upstream may send before and with the head of one response, interim responses included. The largest heads seen
/// have 32 KiB of cookies; endless `100 Continue`s are an attack.
pub const MAX_RESPONSE_HEAD_BYTES: usize = 128 << 10;
/// The buffer of the HTTP/1.1 codec of an upstream connection: a head, and room to read on while a client takes the response.
/// What a client that takes nothing pins, beside what its own connection holds.
pub const UPSTREAM_BUFFER_BYTES: usize = 160 << 10;
/// How long who waits in the queue of a listener that is closed is waited for, in milliseconds, when there are no file
/// descriptors to let them in with. Changes of listeners wait as long.
pub const LISTENER_DRAIN_MS: u64 = 1_000;
/// Interim responses (103 Early Hints) of one request that its client is told of; there is one as a rule, and what is more is
/// dropped.
pub const INTERIM_RESPONSES_MAX: usize = 32;
/// Requests under way on one HTTP/2 connection: what RFC 9113 §6.5.2 recommends at least, and browsers ask for at a time.
pub const HTTP2_STREAMS_MAX: u32 = 100;
/// The most that an operator may make of it (`limits.maxStreamsPerConnection`): calls of gRPC between services.
pub const HTTP2_STREAMS_MOST: u64 = 1_000;
/// What a client may send of one body before it is taken: the protocol's default, and Envoy's figure for edges.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// The same of all bodies of one connection together; bounds what a connection pins while upstreams are slow.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// The largest frame that is taken: the least that the protocol allows to say.
pub const HTTP2_FRAME_BYTES: u32 = 16 << 10;
/// The table by which header fields are compressed, in each direction: the protocol's default. A larger one multiplies what
/// a byte on the wire can stand for.
pub const HTTP2_HEADER_TABLE_BYTES: u32 = 4096;
/// The head of one request as HTTP/2 counts it, 32 bytes for each field included, beyond which the codec itself refuses it:
/// twice ours, so that our own bounds are met first and say what was wrong.
pub const HTTP2_HEADER_LIST_BYTES: u32 = 2 * MAX_REQUEST_HEAD_BYTES as u32;
/// Fields in one header block beyond which a connection ends instead of a request: nobody sends four times what is allowed
/// without wanting to hurt, and the memory that they take is known only when they are decoded.
pub const HTTP2_BLOCK_FIELDS_MAX: usize = 4 * MAX_REQUEST_FIELDS;
/// Fields that a connection may have decoded in one turn; what more came waits until the requests they belong to were looked at.
pub const HTTP2_FIELDS_AT_A_TIME: usize = 1_000;
/// Bytes that are read at a time where they are not data of a body: decoded, they are at most some 400 KiB of fields.
pub const HTTP2_READ_BYTES: usize = 4 << 10;
/// Heads of requests of one connection that no upstream has answered yet, counted as HTTP/2 does: a hundred browser
/// requests with large cookies. With what is being decoded, a connection holds at most 1 MiB of fields.
pub const HTTP2_HEADS_MAX_BYTES: usize = 768 << 10;
/// The same for each stream that a connection may have, if that is more: a call of gRPC with a token. At 1,000 streams,
/// 2,000 KiB.
pub const HTTP2_HEADS_STREAM_BYTES: usize = 2 << 10;
/// What of one response may wait in the codec to be written, where a connection may have 100 streams. Where it may have
/// more it is less, so that all of them hold the same together, but never less than a frame.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 64 << 10;
/// Streams that a client resets before they were looked at (Rapid Reset, CVE-2023-44487); the codec's own default.
pub const HTTP2_PENDING_RESETS_MAX: usize = 20;
/// Streams that a client makes the codec reset (MadeYouReset, CVE-2025-8671).
pub const HTTP2_CAUSED_RESETS_MAX: usize = 100;
/// Frames of which a connection needs few are counted over so long, in milliseconds.
pub const HTTP2_RATE_WINDOW_MS: u64 = 10_000;
/// `PING`s in that time, and one more for each piece of a response: clients that measure their bandwidth ping while they
/// receive. (The figures here are Sozu's.)
pub const HTTP2_PINGS_MAX: u32 = 100;
/// `SETTINGS` in that time: a client sends one, and one more if it changes its mind.
pub const HTTP2_SETTINGS_MAX: u32 = 50;
/// `DATA` without data that does not end a body, in that time.
pub const HTTP2_EMPTY_DATA_MAX: u32 = 100;
/// `RST_STREAM` in that time, or as many as a connection may have streams, if that is more: who has 1,000 calls may give
/// them all up. And one more for each request that was answered in full: who cancels much also uses much.
pub const HTTP2_RESETS_MAX: u32 = 100;
/// `PRIORITY` in that time, and one more for each request.
pub const HTTP2_PRIORITIES_MAX: u32 = 100;
/// `WINDOW_UPDATE` in that time, and three more for each request and each piece of a response that the window did not cut short: a client
/// that gives a byte at a time makes us send frames of a byte.
pub const HTTP2_WINDOW_UPDATES_MAX: u32 = 100;
/// `CONTINUATION` in that time; in one head the codec bounds them.
pub const HTTP2_CONTINUATIONS_MAX: u32 = 100;
/// Frames of unknown types in that time, and one more for each request (browsers send the priorities of RFC 9218 so).
pub const HTTP2_OTHER_FRAMES_MAX: u32 = 100;
/// Responses of one connection that were broken off because the client took nothing; one may be a paused video.
pub const HTTP2_STALLED_STREAMS_MAX: u32 = 8;
/// How long a stream that is let be silent (gRPC) may be so in both directions, in seconds: Envoy's figure.
pub const HTTP2_STREAM_IDLE_SECONDS: u64 = 300;
/// How long an HTTP/2 connection may rest. Longer than HTTP/1.1's, since one stands for six; it ends without a race.
pub const HTTP2_IDLE_TIMEOUT_SECONDS: u64 = 300;
/// How long a client that was told to leave may take to say that it heard, in seconds, when nothing is under way: a few
/// round trips.
pub const HTTP2_GOAWAY_WAIT_SECONDS: u64 = 2;
/// From the first byte of a request head, or from accepting, to its last. Coarse: checked once a second.
pub const HEADER_READ_TIMEOUT_SECONDS: u64 = 10;
/// How long a client connection may rest between requests; longer than the 60 s of common load balancers, so that
/// they close first.
pub const CLIENT_IDLE_TIMEOUT_SECONDS: u64 = 75;
/// What the kernel takes of what is said to a client, beyond what is on its way, before it asks to be waited for. It says that a
/// client takes something when half of this has gone: so one that takes 1.1 KB/s or more is not mistaken for one that takes
/// nothing within `RESPONSE_PATIENCE_MS`. Less would cost bulk transfers a system call for each few packets.
pub const CLIENT_UNSENT_BYTES: u32 = 64 << 10;
/// A client connection of HTTP/1.1 that has rested for so long gives up its codec, whose buffers are most of what it costs; the
/// next request pays for another, which a client that asks again at once is not to.
pub const CODEC_REST_MS: u64 = 1_000;
/// How long neither side of a tunnel (a connection that has gone over to another protocol) may send a byte. WebSockets that
/// mean to stay say so with pings, every 20 to 60 s as a rule. Coarse: checked once a second.
pub const TUNNEL_IDLE_TIMEOUT_SECONDS: u64 = 300;
/// The longest that an operator may make of it (`limits.tunnelIdleTimeout`): a day, as of any timeout.
pub const TUNNEL_IDLE_MOST_MS: u64 = MAX_TIMEOUT_MILLIS;
/// The part of the grace time of an instance that ends, in percent, over which its tunnels are ended one after the other. All at
/// once, at its end, their clients would come back in the same instant to those that are left. The rest is for what goes
/// over late, and for connections to close.
pub const TUNNEL_DRAIN_PERCENT: u32 = 80;
/// What a tunnel holds of each direction while the receiver does not take it; no more is read meanwhile.
pub const TUNNEL_BUFFER_BYTES: usize = 16 << 10;
/// Client connections of an instance for each of its workers, unless an operator says how many (`limits.maxConnections`): 15 KiB
/// each are 240 MiB. Beyond, a connection is closed as it comes; in the kernel's queue it would wait and know nothing.
pub const MAX_CONNECTIONS_PER_WORKER: usize = 16_384;
/// Tables in which connections are counted by client: workers of the largest machines seldom meet at the same.
pub const CLIENT_TABLES: usize = 256;
/// Access-log lines about connections that are refused as they come, for each worker and second; all are counted. A flood of
/// them must not become one of lines.
pub const REFUSED_CONNECTION_LINES: u32 = 10;
/// The most that an operator may allow, of all clients or of one (`limits.maxConnections`, `maxConnectionsPerClient`): more than one
/// process has file descriptors.
pub const CONNECTIONS_MOST: u64 = 1_000_000;
/// From accepting a TLS connection to the end of its handshake: two round trips and a signature. A phone on a bad line
/// fits in; one that sends a byte a second does not.
pub const TLS_HANDSHAKE_TIMEOUT_SECONDS: u64 = 5;
/// What is read and thrown away of a client that is refused before TLS, so that it sees why.
pub const TLS_REFUSAL_LINGER_BYTES: usize = 64 << 10;
/// What an upstream is told of a client's certificate, in one header field: half of what common servers take for all fields. A
/// longer one is not told at all: a part of a name is another name.
pub const CLIENT_DETAILS_MAX_BYTES: usize = 4 << 10;
/// From accepting a connection from where the PROXY protocol is spoken to the end of its header: load balancers send it with
/// their first packet, and the specification asks for at least 3 s.
pub const PROXY_HEADER_TIMEOUT_SECONDS: u64 = 5;
/// A PROXY header of version 2 with all that it carries: nginx's figure. The specification wants senders to stay below 536.
pub const PROXY_HEADER_MAX_BYTES: usize = 4096;
/// Endpoints that left their services and whose idle connections workers may not have closed yet: a second's worth of
/// the largest service. What is forgotten ages out.
pub const MAX_DEPARTED_ENDPOINTS: usize = 8192;
/// Connections that the kernel accepts before we do.
pub const LISTEN_BACKLOG: i32 = 4096;
/// From SYN to ACK of an upstream connection. Upstreams are near; a second is three SYN retries short of hopeless.
pub const UPSTREAM_CONNECT_TIMEOUT_MILLIS: u64 = 1000;
/// The least that an operator may make of it (`Pool.spec.connections.connectTimeout`): a busy machine is late by as much, and
/// endpoints would be taken for gone that are not.
pub const UPSTREAM_CONNECT_LEAST_MS: u64 = 10;
/// The most: the fifth SYN is sent after 31 s, and nobody is there who has not answered that.
pub const UPSTREAM_CONNECT_MOST_MS: u64 = 60_000;
/// The most connections of an instance to one endpoint that an operator may allow (`Pool.spec.connections.maxPerEndpoint`):
/// more than an address has ports.
pub const UPSTREAM_CONNECTIONS_MOST: u64 = 1_000_000;
/// Requests of an instance that wait for a connection to one endpoint where their number is bounded, unless an operator says
/// how many (`Pool.spec.connections.maxPending`): Envoy's figure. They are gone within the time to connect.
pub const UPSTREAM_PENDING_MAX: usize = 1024;
/// The most that an operator may allow: as many as there may be clients.
pub const UPSTREAM_PENDING_MOST: u64 = 1_000_000;
/// Endpoints with as many connections as they may have that a request passes by before it waits at all of them: of nine in a
/// row the tenth is seldom the one with room, and each look takes a lock.
pub const UPSTREAM_FULL_PASSED_MAX: usize = 8;
/// Connections that a worker hands over to its own requests before it closes one for those who wait in other workers. More
/// would let these wait; fewer would open a connection for each few requests, and leave as many behind in `TIME_WAIT`.
pub const UPSTREAM_HAND_OVERS_MAX: usize = 8;
/// Endpoints that one request tries to reach. One or two that are gone are a moment of every deployment; of three in a
/// row, a fourth is seldom the one that lives, and each may cost the time above.
pub const MAX_CONNECT_ATTEMPTS: usize = 3;
/// From the first byte of TLS to an upstream that may be asked, and in HTTP/2 from the preface to its first `SETTINGS`: three
/// round trips and a signature, also on a machine that just started.
pub const UPSTREAM_HANDSHAKE_TIMEOUT_MS: u64 = 3_000;
/// Requests under way on one HTTP/2 connection to an upstream, if the upstream allows as many: the most that common servers
/// do (100 to 250). A loss of the connection is a loss of all of them.
pub const UPSTREAM_HTTP2_STREAMS_MAX: usize = 128;
/// HTTP/2 connections of one worker to one endpoint. When all are full, requests wait for a stream to end; 2,048 at a time
/// and core are more than one endpoint answers. (Where a pool bounds connections, that bound counts too.)
pub const UPSTREAM_HTTP2_CONNECTIONS_MAX: usize = 16;
/// What an upstream may send of one response before its client takes it: with the clients' own, the protocol's default.
pub const UPSTREAM_HTTP2_STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// The same of all responses of a connection: as much as its streams together, so that clients who take nothing never stop
/// the responses of others.
pub const UPSTREAM_HTTP2_CONNECTION_WINDOW_BYTES: u32 =
    UPSTREAM_HTTP2_STREAMS_MAX as u32 * UPSTREAM_HTTP2_STREAM_WINDOW_BYTES;
/// How often a request that an upstream says it did not process is sent to the same endpoint over another connection.
/// Two goodbyes in a row are a restart of many; more is a server that takes nothing.
pub const UPSTREAM_UNPROCESSED_ATTEMPTS: usize = 3;
/// What of a request body is remembered in case that the upstream says it did not process the request: what HTTP/2 lets out
/// before the upstream has said anything. Longer bodies are not sent again.
pub const UPSTREAM_REPLAY_BYTES: usize = 64 << 10;
/// How long an HTTP/2 connection with requests under way may bring nothing before it is pinged, in seconds.
pub const UPSTREAM_PING_AFTER_SECONDS: u64 = 30;
/// How long the answer may take, in seconds; without one the connection is dead.
pub const UPSTREAM_PING_WAIT_SECONDS: u64 = 10;
/// The least time between two pings while nothing else comes, in seconds. gRPC's servers end connections that ping more
/// often than every five minutes.
pub const UPSTREAM_PING_EVERY_SECONDS: u64 = 310;
/// How long it is remembered that an endpoint that may choose has chosen HTTP/1.1, in seconds.
pub const UPSTREAM_CHOICE_SECONDS: u64 = 60;
/// How long an upstream connection may rest in a worker's pool, unless an operator says otherwise
/// (`Pool.spec.connections.idleTimeout`, 1 s to 1 h).
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
pub const DEFAULT_METRIC_NAMES: u16 = 24;
/// The most that can be asked for: each costs 5 KiB a worker.
pub const MAX_METRIC_NAMES: u16 = 200;
/// Access-log lines that a worker gathers before it hands them over, in bytes.
pub const ACCESS_LOG_CHUNK_BYTES: usize = 32 << 10;
/// Chunks that wait for a slow sink; lines beyond are dropped and counted.
pub const ACCESS_LOG_QUEUE_CHUNKS: usize = 256;
/// How long access-log lines wait in a worker at most.
pub const ACCESS_LOG_FLUSH_MILLIS: u64 = 200;
/// Commands that wait for a worker; it answers within one turn of its loop.
pub const WORKER_COMMANDS: usize = 64;

// --- rollouts (controller/src/rollout.rs) ----------------------------------------------------------------------

/// Stages of one plan. More than this is not a plan that a person can follow.
pub const ROLLOUT_STAGES_MAX: usize = 16;
/// Gates of one plan. Every gate looks at every scope each second.
pub const ROLLOUT_GATES_MAX: usize = 16;
/// Changed routes that are counted on their own during one rollout; each costs a histogram per role in every report
/// and in the record. Further ones are seen through the fleet's figures alone.
pub const ROLLOUT_SCOPES_MAX: usize = MAX_COUNTED_SCOPES;
/// Contents held back in one fleet. A revision that would hold more is blocked as a whole and freezes the fleet.
pub const HELD_CONTENTS_MAX: usize = 1_024;
/// Digests that a fleet remembers as blocked; the oldest is forgotten first.
pub const BLOCKED_DIGESTS_MAX: usize = 16;
/// Past rollouts kept in the record. `historyLimit` bounds the revisions that are kept, this bounds the story.
pub const ROLLOUT_HISTORY_MAX: usize = 32;
/// Commands whose ids a record remembers, so that none is carried out twice: several for each person that steers at once.
pub const COMMAND_IDS_MAX: usize = 16;
/// Characters of a reason that an instance or a person gave, as kept in the record.
pub const REASON_CHARS_MAX: usize = 300;
/// The controller's clock is asked every second; a step longer than this is a sleeping machine or a jumping clock,
/// and counts as this much.
pub const ROLLOUT_TICK_MAX_MS: u64 = 5_000;
/// How much observed time one report may vouch for. Candidates report every second; a longer gap was not watched.
pub const REPORT_CREDIT_MAX_MS: u64 = 3_000;
/// A member that has said nothing for so long, in milliseconds, is named in status: it is due to report every second.
pub const MEMBER_QUIET_MS: u64 = 3_000;
/// A member that has not acknowledged, or has said nothing, for so long has failed: a bundle that makes an instance
/// unable to speak must not bake.
pub const MEMBER_SILENCE_MAX_MS: u64 = 60_000;
/// Members of a stage that may be silent without condemning the change, in percent and rounded down: a lost node in
/// a large stage is not the change's fault, a lost canary may be.
pub const SILENT_MEMBERS_MAX_PERCENT: usize = 10;
/// An instance without a stream for so long is unreachable: a rollback no longer waits for it, but lists it.
pub const UNREACHABLE_AFTER_MS: u64 = 30_000;
/// How long a controller that just started waits for the instances it knew before it sizes a stage by those present.
/// Covers the longest reconnect backoff of an instance.
pub const FLEET_SETTLE_MS: u64 = 15_000;
/// How long a controller without a record listens to instances before it concludes that none of them holds anything.
pub const ADOPTION_WAIT_MS: u64 = 15_000;
/// An order that was not acknowledged is sent again after this long.
pub const ORDER_RESEND_MS: u64 = 5_000;
/// Stable traffic counted while nothing is rolled out is kept for one to two of these, as a baseline for fleets
/// without a stable cohort.
pub const BASELINE_SLOT_MS: u64 = 300_000;

// --- the controller's delivery (controller/src/{pki,stream,pipeline,admin}) ---------------------------------------

/// How long the controller's own authority lasts, in days. Replacing it means enrolling every instance again.
pub const CA_DAYS: i64 = 3650;
/// How long certificates last, in days: a forgotten instance is shut out within a year.
pub const CERTIFICATE_DAYS: i64 = 365;
/// Certificates with fewer days left are renewed when they are looked at: a long holiday fits in.
pub const CERTIFICATE_RENEWAL_DAYS: i64 = 30;
/// How long the next keys are believed before they sign, in seconds: kubelets bring a changed ConfigMap to their pods within
/// two minutes, instances look every few seconds, and a node may have a bad quarter of an hour.
pub const ROTATION_ANNOUNCED_SECONDS: u64 = 900;
/// How long the last keys sign along and are believed, in seconds: every certificate of the last authority has ended by
/// then, and an instance that was there within the day holds what the new keys have signed.
pub const ROTATION_SIGNING_SECONDS: u64 = ENROLLED_CERTIFICATE_SECONDS + 3_600;
/// How old the certificate of a running server gets, in seconds, of the year that it lasts.
pub const SERVER_CERTIFICATE_RENEWAL_SECONDS: u64 = 30 * 24 * 3_600;
/// How often the Secret of keys is looked at, in milliseconds: what others changed is known well before it matters.
pub const KEYS_LOOK_MS: u64 = 10_000;
/// How often a replica looks whether its installation is still there, in milliseconds: what it writes in between, while
/// Sluice is being uninstalled, is deleted right away.
pub const INSTALLATION_LOOK_MS: u64 = 2_000;
/// Before a replica tries again to read its keys, or to begin to lead: soon enough for people who watch, seldom enough
/// for an API server that comes back, in milliseconds.
pub const KUBERNETES_RETRY_MS: u64 = 2_000;
/// The authority of a cluster is replaced with so many days left to it: a year of controllers that nobody looks at.
pub const CA_ROTATION_DAYS: i64 = 365;
/// Pods that the API server is asked about at a time.
pub const POD_LOOKUPS: usize = 16;
/// How long an answer about one pod may take, in milliseconds: whoever waits for it may serve on meanwhile.
pub const POD_LOOKUP_WAIT_MS: u64 = 2_000;
/// How often somebody is asked about again whose pod is not in view, in milliseconds.
pub const POD_SUSPICION_MS: u64 = 5_000;
/// Instances remembered as gone, so that nobody has to ask about them again: a day's worth in a busy cluster.
pub const GONE_PODS_REMEMBERED: usize = 10_000;
/// How often the ConfigMaps of trust are looked at when nothing is known to have changed, in milliseconds: one that
/// somebody deleted or edited is put back within that.
pub const TRUST_LOOK_MS: u64 = 30_000;
/// Messages that wait for one instance: an order with its two manifests many times over. More: it does not read.
pub const STREAM_QUEUE_MESSAGES: usize = 64;
/// Messages of all instances that wait for the controller; then instances are read more slowly.
pub const STREAM_EVENTS: usize = 1_024;
/// From the first byte of a connection to its hello, in milliseconds; TLS has as long again.
pub const STREAM_HELLO_WAIT_MS: u64 = 10_000;
/// Connections to the port of the stream at a time: every instance of the largest fleets, and as many again that have
/// not noticed yet that they are cut off.
pub const STREAM_CONNECTIONS: usize = 2 * MAX_MEMBERS;
/// Connections that have not shown a certificate at a time, those in the middle of their handshake included: a large
/// fleet that comes back at once.
pub const STREAM_GUESTS: usize = 1_024;
/// The same from one address: a node's worth of pods behind one, not all places for one pod.
pub const STREAM_GUESTS_PER_ADDRESS: usize = 128;
/// How long a connection without a certificate may last, in milliseconds: an enrolment and the slowest review of a token.
pub const STREAM_GUEST_MS: u64 = 30_000;
/// How long a section may wait for an instance to read what it asked for, in milliseconds.
pub const STREAM_SEND_WAIT_MS: u64 = 30_000;
/// A connection without a sign of life for this long is asked for one, and has as long again, in milliseconds.
pub const STREAM_KEEPALIVE_MS: u64 = 10_000;
/// Sections asked back from an instance at a time, when the controller has lost them: what waits in memory at both
/// ends is at most so many times `MAX_SECTION_BYTES`, and fewer than the answers that may wait for an instance's stream.
pub const HAND_BACK_SECTIONS_AT_ONCE: usize = 16;
/// How long an instance may take to hand back what it was asked for, in milliseconds; then the next one is asked.
pub const HAND_BACK_WAIT_MS: u64 = 10_000;
/// How often the controller looks at its clock, in milliseconds: as often as reports come.
pub const PIPELINE_TICK_MS: u64 = 1_000;
/// Observed bake is written at most so often when nothing else is, in milliseconds: what a crash may cost.
pub const RECORD_PROGRESS_MS: u64 = 1_000;
/// The same where every write is one of the API server's, in milliseconds: a few a minute for each fleet that bakes.
pub const REMOTE_PROGRESS_MS: u64 = 5_000;
/// For how long a lease that nobody renews is held: the time after which a dead leader is replaced.
pub const LEASE_MS: u64 = 10_000;
/// How often the leader renews it, in milliseconds.
pub const LEASE_RENEW_MS: u64 = 2_000;
/// From its last renewal that was answered, in milliseconds: then the leader leads no more, whatever else it hears. Less
/// than `LEASE_MS` by what clocks of different speed and a process that is not scheduled make up.
pub const LEASE_DEADLINE_MS: u64 = 7_000;
/// How often the others look at it, in milliseconds: a lease that was given back is taken within this.
pub const LEASE_LOOK_MS: u64 = 1_000;
/// How long after a request about it that was not answered the next one follows, in milliseconds.
pub const LEASE_RETRY_MS: u64 = 500;
/// How long one request about the lease may take, in milliseconds: two attempts fit before the deadline.
pub const LEASE_REQUEST_WAIT_MS: u64 = 3_000;
/// How long the pipeline may wait for an answer of the API server, in milliseconds: meanwhile nobody is heard. Longer than a
/// busy one takes; shorter than the lease, so that a leader does not outlive it waiting.
pub const API_ANSWER_WAIT_MS: u64 = 5_000;
/// The same after one that was not answered, in milliseconds.
pub const API_PROBE_WAIT_MS: u64 = 1_000;
/// For how long nothing is asked after that, in milliseconds; doubles each time, up to `API_RETRY_MAX_MS`.
pub const API_RETRY_FIRST_MS: u64 = 1_000;
/// The longest of these pauses, in milliseconds.
pub const API_RETRY_MAX_MS: u64 = 16_000;
/// Requests to the API server at a time, when there are many: a first revision is some hundred objects.
pub const API_QUESTIONS_AT_ONCE: usize = 16;
/// Pieces of old revisions that are removed at once, each second, while the pipeline waits: an API server deletes so many
/// objects in some 50 ms. One change leaves three or four; ten thousand routes that came in one by one leave some
/// thousands, which go within minutes.
pub const REMOVED_AT_ONCE: usize = 32;
/// Objects in one page of a list.
pub const API_PAGE_OBJECTS: u32 = 500;
/// How often a list is begun anew because the API server has forgotten where it was.
pub const API_LIST_ATTEMPTS: usize = 3;
/// What the data of one ConfigMap may add up to, as the API server checks it.
pub const MAX_CONFIG_MAP_BYTES: usize = 1 << 20;
/// A record as text: a fleet of `MAX_MEMBERS` instances in all its lists is a few MiB.
pub const MAX_RECORD_BYTES: usize = 32 << 20;
/// Lines of the story that are kept for whoever asks later.
pub const STORY_LINES: usize = 1_000;
/// For how long an instance that was not let in is shown after it asked last, in milliseconds; several times the longest
/// backoff of an instance.
pub const TURNED_AWAY_KEPT_MS: u64 = 300_000;
/// Instances of a fleet that are shown as not let in.
pub const TURNED_AWAY_MAX: usize = 1_000;
/// Lines of the story that a slow listener may be behind.
pub const STORY_BEHIND_LINES: usize = 256;
/// A trouble that was not met for so long is news when it is met again, in milliseconds; several times the longest
/// interval of any retry.
pub const TROUBLE_QUIET_MS: u64 = 60_000;
/// Commands that wait for the controller; further ones are answered "busy".
pub const COMMANDS_WAITING: usize = 16;
/// Body of a command.
pub const ADMIN_BODY_BYTES: usize = 16 << 10;
/// From the first byte of a request on the admin port to its last, in milliseconds.
pub const ADMIN_READ_WAIT_MS: u64 = 5_000;
/// Connections to the admin port at a time.
pub const ADMIN_CONNECTIONS: usize = 64;
/// How long a request for events waits for one, in milliseconds.
pub const ADMIN_EVENTS_WAIT_MS: u64 = 25_000;
/// How long a start waits for the first look at the objects, in milliseconds. A folder takes a fraction of it.
pub const FIRST_VIEW_WAIT_MS: u64 = 20_000;

// --- enrolment (proto/src/enrol.rs, controller/src/enrol.rs, dataplane/src/enrol.rs) ------------------------------

/// How long the certificate of an instance in a pod lasts, in seconds: a day. Short, since nothing revokes it but its end;
/// long enough that a controller which is away for a night shuts nobody out. Renewed after two thirds.
pub const ENROLLED_CERTIFICATE_SECONDS: u64 = 24 * 3600;
/// A service-account token. Kubernetes' have 1 to 2 KiB; those of the largest claims stay below 8.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;
/// A signing request. One with an EC key has some 200 bytes, one with RSA and names 2 KiB.
pub const MAX_SIGNING_REQUEST_BYTES: usize = 4 << 10;
/// Token reviews that the API server is asked for at a time, and how long one may take, in milliseconds.
pub const TOKEN_REVIEWS: usize = 16;
/// See [`TOKEN_REVIEWS`]. Below what an instance waits for its answer.
pub const TOKEN_REVIEW_WAIT_MS: u64 = 8_000;
/// Enrolments in a second: a thousand pods are in within twenty, and an API server does not notice.
pub const ENROLMENTS_PER_SECOND: u64 = 50;
/// Enrolments at once, after a rest.
pub const ENROLMENTS_AT_ONCE: u64 = 256;
/// Enrolments in a second from one address, which may be a node with a hundred pods behind it.
pub const ENROLMENTS_PER_SECOND_PER_ADDRESS: u64 = 4;
/// The same at once, after a rest.
pub const ENROLMENTS_AT_ONCE_PER_ADDRESS: u64 = 64;
/// Addresses that are remembered as having asked.
pub const ENROLMENT_ADDRESSES: usize = 4_096;
/// A question about enrolment: the two above, and a line of text.
pub const MAX_ENROL_REQUEST_BYTES: usize = 32 << 10;
/// The answer: a certificate, two authorities, and the keys of two rotations, with plenty of room.
pub const MAX_ENROL_RESPONSE_BYTES: usize = 1 << 20;
// --- the Kubernetes source (controller/src/source/kubernetes) -----------------------------------------------------

/// How long one watch lasts before it is begun anew where it was, in seconds. A connection that is half open is noticed
/// within this and five seconds more: the API server ends a watch, or says something on it, earlier.
pub const SOURCE_WATCH_SECONDS: u32 = 60;
/// How long the API server may say nothing on a connection, in milliseconds; longer than a watch.
pub const SOURCE_READ_WAIT_MS: u64 = 75_000;
/// Opening a connection to the API server, TLS included, in milliseconds.
pub const SOURCE_CONNECT_WAIT_MS: u64 = 5_000;
/// The longest wait before a watch is tried again, in milliseconds: what an API server that is back has waited for us at
/// most. There are a dozen watches, so this is no crowd. (Those of single Secrets wait longer, up to 30 s.)
pub const SOURCE_RETRY_WAIT_MAX_MS: u64 = 5_000;
/// Objects in one page of a list.
pub const SOURCE_PAGE_OBJECTS: u32 = 500;
/// Sightings of all watches that wait to be taken in; then watches are read more slowly.
pub const SOURCE_SIGHTINGS: usize = 1_024;
/// How long the first view waits for kinds that the API server does not answer about, in milliseconds.
pub const SOURCE_FIRST_SIGHT_WAIT_MS: u64 = 10_000;
/// How long the first view, or one with new references, waits to know whether Secrets of other namespaces are shared, in
/// milliseconds.
pub const SOURCE_SHARES_WAIT_MS: u64 = 2_000;
/// A kind whose watch fails for so long is out of sight, in milliseconds: an API server that restarts is back earlier.
pub const SOURCE_FAILING_MAX_MS: u64 = 30_000;
/// How long an object that is said to be deleted is still shown, in milliseconds. Long enough to see whether its whole kind
/// is being deleted, or whether the list that lacked it was an old one.
pub const SOURCE_REMOVAL_HOLD_MS: u64 = 2_000;
/// How long objects that went with their CRD are still shown once the CRD is back, in milliseconds: GitOps tools apply them
/// again within minutes.
pub const SOURCE_LOST_KEEP_MS: u64 = 15 * 60_000;
/// How often it is asked whether the API server's history was set back (restored from a copy), in milliseconds.
pub const SOURCE_HISTORY_LOOK_MS: u64 = 15_000;
/// How often a namespace is looked at that may not be watched, in milliseconds.
pub const SOURCE_NAMESPACE_LOOK_MS: u64 = 15_000;
/// How long objects must be at rest before they are shown, in milliseconds, so that a list is one view; ten times that for
/// objects that never are.
pub const SOURCE_VIEW_QUIET_MS: u64 = 25;
/// UIDs of deleted objects that are remembered by each watch. What is forgotten is compared by version.
pub const SOURCE_DELETED_UIDS: usize = 10_000;
/// Secrets whose watch may begin at a time.
pub const SOURCE_SECRETS_BEGINNING: usize = 16;

// --- the instance's intake (dataplane/src/{config,identity}) -------------------------------------------------------

/// Manifests held at once: stable, candidate, what is pending, and room to roll back without asking again.
pub const MAX_HELD_MANIFESTS: usize = 6;
/// Deliveries waiting for the intake: few, since each may be a manifest of some MiB.
pub const MAX_WAITING_DELIVERIES: usize = 8;
/// Answers waiting for the stream to take them: more means that it is stuck, and it is given up.
pub const MAX_WAITING_ANSWERS: usize = 64;
/// Messages on their way to the controller.
pub const MAX_WAITING_UPWARD: usize = 16;
/// Check errors told in a nack; the controller can find them all.
pub const MAX_TOLD_ERRORS: usize = 5;
/// Characters of a nack's text: at four bytes each, well below what one message may carry.
pub const MAX_NACK_CHARS: usize = 2_000;
/// How often an instance looks at the files that say whom it trusts, in milliseconds: a kubelet takes a minute to bring a
/// new one, so this adds little.
pub const IDENTITY_LOOK_MS: u64 = 3_000;
/// How long an instance waits for the answer to an enrolment: longer than the API server may take to review a token.
pub const ENROL_WAIT_MS: u64 = 15_000;
/// The longest wait before asking again after a refusal, in milliseconds: somebody has to change something first, and a
/// large fleet that nobody lets in must not keep those out who may.
pub const ENROL_REFUSED_LONGEST_STEP_MS: u64 = 30_000;
/// Over how long the renewals of a fleet that began together are spread, in seconds.
pub const ENROL_SPREAD_SECONDS: u64 = 3_600;
/// A file of an identity: a chain of a few certificates, or a few dozen keys.
pub const MAX_IDENTITY_FILE_BYTES: u64 = 1 << 20;
/// Opening a connection to the controller, TLS included.
pub const CONTROLLER_CONNECT_WAIT_MS: u64 = 3_000;
/// A stream that is silent for so long is asked whether it is there, and given up after as long again: one that is
/// half open is noticed within 10 s.
pub const CONTROLLER_KEEPALIVE_MS: u64 = 5_000;
/// How long the controller may take to take a message, or to answer a hello.
pub const CONTROLLER_SEND_WAIT_MS: u64 = 10_000;
/// The first wait before connecting again: what a person does not notice.
pub const RECONNECT_FIRST_STEP_MS: u64 = 100;
/// The longest: an instance is back at most this long after its controller. Well below `FLEET_SETTLE_MS`.
pub const RECONNECT_LONGEST_STEP_MS: u64 = 5_000;
/// The longest while a controller answers that another leads, or will: a leader is elected within ten seconds, and nobody
/// shall notice it much later. A thousand instances ask the others some 600 times a second then.
pub const RECONNECT_ELSEWHERE_LONGEST_STEP_MS: u64 = 2_000;
/// A stream that lived so long was of use: the next attempt comes soon.
pub const USEFUL_STREAM_MS: u64 = 5_000;
/// Hints to another leader followed in a row; then the configured address is asked again, after a wait.
pub const MAX_LEADER_HINTS: u32 = 3;
/// Between reports while a candidate is out, here or elsewhere in the fleet: gates are judged by them.
pub const REPORT_ON_TRIAL_MS: u64 = 1_000;
/// Between reports otherwise: enough to see that an instance lives and what its fleet's normal is.
pub const REPORT_AT_REST_MS: u64 = 5_000;
/// How often a process that shall not outlive its parent looks for it.
pub const PARENT_WATCH_MS: u64 = 200;

/// How long after a revision could not be kept it is tried again: soon after somebody made room, seldom enough to be cheap.
pub const REVISION_RETRY_MS: u64 = 5_000;

// --- status, Events and commands on an API server (controller/src/{status,events,annotations}) ---------------------

/// Status writes a second, of all objects together: a thousand new routes are told within 20 s, and an API server is not
/// busy with it.
pub const STATUS_WRITES_PER_SECOND: u64 = 50;
/// Status writes at once after a quiet time: as many as in a second.
pub const STATUS_WRITES_BURST: u64 = 50;
/// Status writes on their way at a time.
pub const STATUS_WRITES_IN_FLIGHT: usize = 8;
/// How long an API server may take for one write, in milliseconds.
pub const STATUS_WRITE_WAIT_MS: u64 = 10_000;
/// The stage that tries an object is written into its status while a revision changes at most so many; of larger ones the
/// Rollout speaks for all. A thousand new routes cost one write each, not one for every stage.
pub const STATUS_PASSING_OBJECTS: usize = 20;
/// How long something that passes (a stage, a wait) has lasted before it is written, in milliseconds: most changes are over by then.
pub const STATUS_PASSING_SETTLE_MS: u64 = 5_000;
/// How long an object has been in error before that is written, in milliseconds: what it refers to may come a moment later.
pub const STATUS_FAILING_SETTLE_MS: u64 = 2_000;
/// Between two writes of one object, in milliseconds.
pub const STATUS_OBJECT_SPACING_MS: u64 = 2_000;
/// How long a pool's endpoints have been others than written before they are written, in milliseconds: one that comes and
/// goes is not news.
pub const STATUS_COUNTS_SETTLE_MS: u64 = 10_000;
/// Between two writes of a pool's endpoints, in milliseconds.
pub const STATUS_COUNTS_SPACING_MS: u64 = 30_000;
/// Between two writes of a Rollout in which nothing but its stage or its instances moved, in milliseconds: a busy
/// repository begins a revision a second.
pub const STATUS_MOVING_SPACING_MS: u64 = 5_000;
/// How long such a move waits for others to go with it, in milliseconds.
pub const STATUS_MOVING_SETTLE_MS: u64 = 1_000;
/// Between two writes of a Rollout whatever the news, commands' answers excepted, in milliseconds.
pub const STATUS_ROLLOUT_SPACING_MS: u64 = 1_000;
/// Between two writes of a Rollout in which only figures and words moved, in milliseconds.
pub const STATUS_FIGURES_SPACING_MS: u64 = 60_000;
/// By how much the end of a bake has to move to be news, in milliseconds: reports jitter by a second.
pub const STATUS_BAKE_UNTIL_TOLERANCE_MS: u64 = 10_000;
/// How often the statuses that an API server shows are compared with what was written, in milliseconds: somebody may have
/// changed one.
pub const STATUS_SWEEP_MS: u64 = 10_000;
/// At most so often the situation is looked at, in milliseconds.
pub const STATUS_LOOK_MS: u64 = 200;
/// A status that somebody else owns a part of, or that the API server calls invalid, is tried again after so long, in
/// milliseconds.
pub const STATUS_REFUSED_RETRY_MS: u64 = 300_000;
/// Where status may not be written, that is tried again after so long, in milliseconds: somebody may have granted it.
pub const STATUS_FORBIDDEN_RETRY_MS: u64 = 60_000;
/// The longest wait after an API server did not answer, in milliseconds; the first is a second, each twice the one before.
pub const STATUS_BACKOFF_MAX_MS: u64 = 30_000;
/// Characters of a sentence in a status or an Event. An Event's note may have 1,024 bytes.
pub const STATUS_SENTENCE_CHARS: usize = 900;

/// Within this long the same happening to the same object adds to an Event that is there, in milliseconds; as in kubectl's
/// own clients.
pub const EVENT_SERIES_MS: u64 = 360_000;
/// Between two writes of one Event, in milliseconds: a flapping object costs a write a minute.
pub const EVENT_REPEAT_MS: u64 = 60_000;
/// Events about one object at once; then as many as `EVENT_OBJECT_REFILL_MS` says.
pub const EVENT_OBJECT_BURST: u64 = 25;
/// One more Event about one object in so many milliseconds: the figures of client-go.
pub const EVENT_OBJECT_REFILL_MS: u64 = 300_000;
/// Events a second, of all objects together.
pub const EVENT_WRITES_PER_SECOND: u64 = 5;
/// Events at once after a quiet time.
pub const EVENT_WRITES_BURST: u64 = 50;
/// Happenings that wait to become Events; further ones are counted and dropped.
pub const EVENTS_WAITING: usize = 1_024;
/// Objects named in Events about what several of them refer to, such as a certificate.
pub const EVENT_OBJECTS_MAX: usize = 5;

/// Characters of a command's id, verb, revision or giver in annotations: longer ones are refused.
pub const COMMAND_WORD_CHARS: usize = 256;
