//! What is done to a request on its way through, one step per file. A step knows headers and nothing of where they go.

pub mod forwarded;
pub mod modify;
pub mod request_id;
