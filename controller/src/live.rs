//! The live lane's controller side: endpoints of services and certificates, sent at once and beside revisions.
//!
//! ```text
//!  source ─► Values ─► Lane (one per fleet: what changed, the brake) ─► sign ─► instances that need it
//!     ▲                  └─► problems
//!   Wanted ◄── what objects and revisions refer to
//! ```

pub mod brake;
pub mod lane;
pub mod material;
pub mod problems;
pub mod resolve;
pub mod values;

pub use brake::RemovalBrake;
pub use lane::{Lane, News, Rotation};
pub use material::Material;
pub use values::{CertificateState, Feed, Lack, Presence, ServiceState, Values, Wanted};
