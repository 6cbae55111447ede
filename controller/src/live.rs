//! The live lane's controller side: endpoints of services and certificates, sent at once and beside revisions.

pub mod brake;

pub use brake::RemovalBrake;
