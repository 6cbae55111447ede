//! File descriptors: as many as the system lets this process have at all. The number that it begins with is for programs of
//! another age, which looked at each of them in turn; an instance needs one for each connection.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit that holds to the one that may hold.
pub(super) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => tracing::debug!(?current, ?maximum, "the limit of file descriptors is raised"),
        Err(error) => tracing::warn!(?current, ?maximum, %error, "the limit of file descriptors cannot be raised"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_may_be_had() {
        let limit = getrlimit(Resource::Nofile);
        // One less takes nothing from the tests beside this one.
        let less = Rlimit {
            current: limit.current.map(|current| current - 1),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, less).unwrap();
        raise();
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }
}
