//! Scenarios: what the promises say, played out on a fleet. Each returns a report; what must hold is asserted inside,
//! so that the short form (`tests/`) and the long form (`src/bin/proof`) demand the same.

pub mod change;
pub mod chaos;
pub mod storm;
