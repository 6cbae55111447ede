//! What an instance says about itself: metrics and the access log. Both are functions of a finished exchange;
//! recording takes no lock that workers share and never blocks.

pub mod access_log;
pub mod counters;
pub mod metrics;
pub mod names;
