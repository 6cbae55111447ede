//! Every bound in Sluice that is not a user's setting, with its unit in the name and its reason beside it.
//!
//! A queue, table, loop, header, body or timeout without an entry here has no bound, which is a bug.
