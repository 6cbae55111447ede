//! Pool → its unit.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sluice_crds::PoolSpec;
use sluice_model::limits::MAX_WEIGHT;
use sluice_model::unit::{Endpoint, PoolUnit, Unit, Weight};

use super::{Findings, Meaning};
use crate::problem::FieldPath;

pub(super) fn translate(spec: &PoolSpec, findings: &mut Findings<'_>) -> Option<Meaning> {
    let PoolSpec { endpoints } = spec;
    let field = FieldPath::root("spec").field("endpoints");
    let mut units = Vec::with_capacity(endpoints.len());
    let mut seen: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for (index, written) in endpoints.iter().enumerate() {
        let Some(unit) = endpoint(&field.index(index), written, findings) else {
            continue;
        };
        // Two spellings of one IPv6 address pass the schema's uniqueness.
        match seen.get(&unit.address) {
            Some(first) => findings.error(
                &field.index(index),
                format!("{} is also {}", unit.address, field.index(*first)),
                "remove one of the two, or give one the sum of the weights",
            ),
            None => drop(seen.insert(unit.address, index)),
        }
        units.push(unit);
    }
    if !units.is_empty() && units.iter().all(|unit| unit.weight.get() == 0) {
        findings.error(
            &field,
            "every endpoint has weight 0, so none gets a request",
            "give one a weight above 0",
        );
    }
    Some(Meaning::Pool {
        unit: Arc::new(Unit::Pool(PoolUnit { endpoints: units })),
    })
}

fn endpoint(field: &FieldPath, spec: &sluice_crds::Endpoint, findings: &mut Findings<'_>) -> Option<Endpoint> {
    let sluice_crds::Endpoint { address, port, weight } = spec;
    let ip = address
        .parse::<IpAddr>()
        .map_err(|_| format!("{address:?} is not an IP address"));
    let ip = findings.ok(
        &field.field("address"),
        ip,
        "write an IPv4 or IPv6 address; host names are not looked up, since what they mean may change unseen",
    )?;
    let weight = weight
        .map_or(Some(Weight::ONE), Weight::new)
        .ok_or("the weight is out of range");
    let weight = findings.ok(&field.field("weight"), weight, &format!("use 0 to {MAX_WEIGHT}"))?;
    Some(Endpoint {
        address: SocketAddr::new(ip, *port),
        weight,
    })
}
