//! Every bound in Sluice that is not a user's setting, with its unit in the name and its reason beside it.
//!
//! A queue, table, loop, header, body or timeout without an entry here has no bound, which is a bug.

// Rollouts (controller/src/rollout.rs).

/// Low bits of an epoch below the unix second that made it: about a million orders fit into one second.
pub const EPOCH_BITS_BELOW_SECOND: u32 = 20;
/// How far apart honest clocks may be. Bounds the jump ahead of a controller that lost its record; instances follow
/// up to twice this ahead of their own clock. NTP keeps milliseconds; five minutes is what Kerberos tolerates.
pub const CLOCK_DIFFERENCE_MAX_SECONDS: u64 = 300;
/// Stages of one plan. More than this is not a plan that a person can follow.
pub const ROLLOUT_STAGES_MAX: usize = 16;
/// Gates of one plan. Every gate looks at every scope each second.
pub const ROLLOUT_GATES_MAX: usize = 16;
/// Changed routes that are counted on their own during one rollout; each costs a histogram per role in every report
/// and in the record. Further ones are seen through the fleet's figures alone.
pub const ROLLOUT_SCOPES_MAX: usize = 64;
/// Contents held back in one fleet. A revision that would hold more is blocked as a whole and freezes the fleet.
pub const HELD_CONTENTS_MAX: usize = 1_024;
/// Digests that a fleet remembers as blocked; the oldest is forgotten first.
pub const BLOCKED_DIGESTS_MAX: usize = 16;
/// Past rollouts kept in the record. `historyLimit` bounds the revisions that are kept, this bounds the story.
pub const ROLLOUT_HISTORY_MAX: usize = 32;
/// Characters of a reason that an instance or a person gave, as kept in the record.
pub const REASON_CHARS_MAX: usize = 300;
/// The controller's clock is asked every second; a step longer than this is a sleeping machine or a jumping clock,
/// and counts as this much.
pub const ROLLOUT_TICK_MAX_MS: u64 = 5_000;
/// How much observed time one report may vouch for. Candidates report every second; a longer gap was not watched.
pub const REPORT_CREDIT_MAX_MS: u64 = 3_000;
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
