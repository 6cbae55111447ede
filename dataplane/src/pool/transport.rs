//! `Transport`: how the endpoints of a pool are spoken to, under an id by which connections are kept. Pools that say the same
//! have the same id, in every generation: so connections survive swaps, and none is used for what it was not opened for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sluice_model::unit;

/// Tells one way of speaking from every other in this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TransportId(u64);

/// How endpoints are spoken to.
#[derive(Debug)]
pub struct Transport {
    id: TransportId,
    settings: Arc<unit::Transport>,
}

impl Transport {
    /// Its id.
    pub fn id(&self) -> TransportId {
        self.id
    }

    /// What was configured.
    pub fn settings(&self) -> &unit::Transport {
        &self.settings
    }
}

/// Where connections lead: an endpoint, and how it is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// The endpoint.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub transport: TransportId,
}

/// All that are in use.
#[derive(Debug, Default)]
pub struct Transports {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_settings: HashMap<Arc<unit::Transport>, Weak<Transport>>,
    last: u64,
}

impl Transports {
    /// The one of these settings: that which there is, or a new one.
    pub fn get(&self, settings: &Arc<unit::Transport>) -> Arc<Transport> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transport) = known.by_settings.get(settings).and_then(Weak::upgrade) {
            return transport;
        }
        known.by_settings.retain(|_, transport| transport.strong_count() > 0);
        known.last = known.last.saturating_add(1);
        let transport = Arc::new(Transport {
            id: TransportId(known.last),
            settings: settings.clone(),
        });
        known.by_settings.insert(settings.clone(), Arc::downgrade(&transport));
        transport
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::unit::UpstreamProtocol;

    #[test]
    fn the_same_settings_have_the_same_id_while_they_are_used() {
        let transports = Transports::default();
        let get = |protocol| {
            let settings = unit::Transport {
                protocol,
                ..unit::Transport::default()
            };
            transports.get(&Arc::new(settings))
        };
        let (one, same) = (get(UpstreamProtocol::Http1), get(UpstreamProtocol::Http1));
        let other = get(UpstreamProtocol::Http2);
        assert!(one.id() == same.id() && one.id() != other.id());
        let before = one.id();
        drop((one, same));
        assert_ne!(
            get(UpstreamProtocol::Http1).id(),
            before,
            "connections of the old one may be anything"
        );
    }
}
