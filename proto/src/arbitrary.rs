//! Random manifests, orders and stream messages for the tests of this crate.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use sluice_model::arbitrary::{addresses, certificates, keys, services, snapshots};
use sluice_model::{Digest, Feature, InstanceId, Kind, LiveSubject, ObjectKey, RevisionId, Zone};

use crate::delivery::{Ack, Downward, Hello, LastEnd, LiveRefused, Nack, Refusal, Upward, UpwardMessage};
use crate::live::{
    EndpointState, HeldValue, LiveEndpoint, LiveStamp, LiveUpdate, LiveValue, PrivateKeyBytes, SealedLive,
};
use crate::manifest::Manifest;
use crate::order::{Candidate, Members, Order};
use crate::provenance::{ObjectChange, Provenance, pack_origins};
use crate::report::{Report, RoleReport, ScopeReport, ServedRole};
use crate::sections::{self, revision_digest};
use crate::signed::Audience;

pub(crate) fn digests() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

pub(crate) fn revisions() -> impl Strategy<Value = RevisionId> {
    (1_u64.., digests()).prop_map(|(number, digest)| RevisionId { number, digest })
}

fn any_keys() -> impl Strategy<Value = ObjectKey> {
    select(&Kind::ALL[..]).prop_flat_map(keys)
}

fn instances() -> impl Strategy<Value = InstanceId> {
    "[a-z][a-z0-9-]{0,6}[a-z0-9]".prop_map(|text| text.parse().unwrap())
}

pub(crate) fn manifests() -> impl Strategy<Value = Manifest> {
    (snapshots(3), 1_u64.., btree_set(any_keys(), 0..3), any::<u64>()).prop_map(
        |(snapshot, number, quarantined, created_at_unix_ms)| {
            let packed = sections::encode(&snapshot).unwrap();
            let sections: Vec<_> = packed.iter().map(|section| sections::pack(section).reference).collect();
            let digest = revision_digest(&sections);
            Manifest {
                cluster: "c-1".parse().unwrap(),
                fleet: "edge".parse().unwrap(),
                revision: RevisionId { number, digest },
                sections,
                features: snapshot.features().iter().map(Feature::to_string).collect(),
                controller_build: "0.1.0".to_owned(),
                created_at_unix_ms,
                quarantined: quarantined.into_iter().collect(),
            }
        },
    )
}

/// With the origins that it refers to.
pub(crate) fn provenances() -> impl Strategy<Value = (Provenance, BTreeMap<ObjectKey, String>)> {
    let change = (option::of(digests()), digests()).prop_map(|(old, new)| (old, Some(new)));
    let origins = btree_map(any_keys(), "\\PC{0,12}", 0..5);
    (revisions(), btree_map(any_keys(), change, 0..3), any::<u64>(), origins).prop_map(
        |(revision, changed, unlisted, origins)| {
            let changed = changed.into_iter().filter(|(_, (old, new))| old != new);
            let packed = pack_origins(origins.clone());
            let provenance = Provenance {
                cluster: "c-1".parse().unwrap(),
                fleet: "edge".parse().unwrap(),
                revision,
                changed: changed
                    .map(|(object, (old, new))| ObjectChange { object, old, new })
                    .collect(),
                unlisted,
                origins: packed.iter().map(|packed| packed.reference).collect(),
            };
            (provenance, origins)
        },
    )
}

pub(crate) fn orders() -> impl Strategy<Value = Order> {
    let members = prop_oneof![Just(Members::All), btree_set(instances(), 1..5).prop_map(Members::only),];
    let candidate = (revisions(), members, 1_u32..=1_000_000);
    let candidate = candidate.prop_map(|(revision, members, share_millionths)| Candidate {
        revision,
        members,
        share_millionths,
    });
    let counted = btree_set(keys(Kind::ProxyRoute), 0..4);
    (1_u64.., revisions(), option::of(candidate), counted).prop_map(|(epoch, stable, candidate, counted)| Order {
        cluster: "c-1".parse().unwrap(),
        fleet: "edge".parse().unwrap(),
        epoch,
        stable,
        candidate,
        counted: counted.into_iter().collect(),
    })
}

fn scopes() -> impl Strategy<Value = Vec<ScopeReport>> {
    let counts = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    let latency = btree_map(any::<u32>(), any::<u64>(), 0..4);
    btree_map(option::of(keys(Kind::ProxyRoute)), (counts, latency), 0..4).prop_map(|scopes| {
        let scope = |(route, ((requests, failures, client_failures, no_route), latency))| ScopeReport {
            route,
            requests,
            failures,
            client_failures,
            no_route,
            latency_buckets: BTreeMap::into_iter(latency).collect(),
        };
        scopes.into_iter().map(scope).collect()
    })
}

fn reports() -> impl Strategy<Value = Report> {
    let role = (revisions(), scopes());
    let roles = (option::of(role.boxed()), option::of((revisions(), scopes()).boxed()));
    (any::<[u64; 6]>(), roles).prop_map(
        |([epoch, sequence, interval_ms, inflight, uptime_ms, rss_bytes], roles)| {
            let role = |role, served: Option<(RevisionId, Vec<ScopeReport>)>| {
                served.map(|(revision, scopes)| RoleReport { role, revision, scopes })
            };
            let roles = [role(ServedRole::Stable, roles.0), role(ServedRole::Candidate, roles.1)];
            Report {
                epoch,
                sequence,
                interval_ms,
                roles: roles.into_iter().flatten().collect(),
                inflight,
                uptime_ms,
                rss_bytes,
            }
        },
    )
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn hellos() -> impl Strategy<Value = Hello> {
    let held = (
        option::of(revisions()),
        option::of(revisions()),
        vec(digests(), 0..4),
        option::of(bytes()),
        select(&[LastEnd::Unknown, LastEnd::Harmless, LastEnd::Crash][..]),
    );
    (
        "\\PC{0,9}",
        "[a-f0-9]{8}",
        vec("[a-z]{1,5}/v[0-9]", 0..3),
        any::<[u64; 3]>(),
        held,
        vec(held_values(), 0..4),
    )
        .prop_map(
            |(build, boot_id, features, [epoch, booted_epoch, live_term], held, live_held)| {
                let (stable, candidate, held_sections, order, last_end) = held;
                Hello {
                    build,
                    boot_id,
                    features,
                    epoch,
                    stable,
                    candidate,
                    held_sections,
                    order,
                    booted_epoch,
                    live_term,
                    live_held,
                    last_end,
                }
            },
        )
}

fn subjects() -> impl Strategy<Value = LiveSubject> {
    prop_oneof![
        services().prop_map(LiveSubject::Service),
        certificates().prop_map(LiveSubject::Certificate),
        certificates().prop_map(LiveSubject::Authorities),
    ]
}

fn held_values() -> impl Strategy<Value = HeldValue> {
    (subjects(), digests()).prop_map(|(subject, digest)| HeldValue { subject, digest })
}

fn live_values() -> impl Strategy<Value = LiveValue> {
    let state = select(vec![EndpointState::Ready, EndpointState::Draining]);
    let zone = option::of("[A-Za-z][a-z0-9._-]{0,5}[a-z]".prop_map(|text| text.parse::<Zone>().unwrap()));
    let endpoints = btree_map(addresses(), (state, zone), 0..5);
    let endpoints = (services(), endpoints).prop_map(|(service, endpoints)| {
        let endpoint = |(address, (state, zone))| LiveEndpoint { address, state, zone };
        LiveValue::Endpoints {
            service,
            endpoints: BTreeMap::into_iter(endpoints).map(endpoint).collect(),
        }
    });
    let der = || vec(any::<u8>(), 1..20);
    let material = (certificates(), vec(der().prop_map(Bytes::from), 1..4), der());
    let material = material.prop_map(|(certificate, chain, key)| LiveValue::Certificate {
        certificate,
        chain,
        key: PrivateKeyBytes::new(key),
    });
    let authorities = (certificates(), vec(der().prop_map(Bytes::from), 1..4));
    let authorities = authorities.prop_map(|(secret, certificates)| LiveValue::Authorities { secret, certificates });
    prop_oneof![endpoints, material, authorities]
}

pub(crate) fn live_updates() -> impl Strategy<Value = LiveUpdate> {
    (1_u64.., 1_u64.., live_values()).prop_map(|(term, sequence, value)| LiveUpdate {
        audience: Audience {
            cluster: "c-1".parse().unwrap(),
            fleet: "edge".parse().unwrap(),
        },
        stamp: LiveStamp { term, sequence },
        value,
    })
}

pub(crate) fn upwards() -> impl Strategy<Value = Upward> {
    let ack = (any::<u64>(), option::of(revisions()), option::of(revisions()));
    let ack = ack.prop_map(|(epoch, stable, candidate)| Ack {
        epoch,
        stable,
        candidate,
    });
    let nack = (any::<u64>(), select(&Refusal::ALL[..]), "\\PC{0,20}");
    let nack = nack.prop_map(|(epoch, reason, detail)| Nack { epoch, reason, detail });
    let refused = (option::of(subjects()), select(&Refusal::ALL[..]), "\\PC{0,20}");
    let refused = refused.prop_map(|(subject, reason, detail)| LiveRefused {
        subject,
        reason,
        detail,
    });
    let message = prop_oneof![
        refused.prop_map(UpwardMessage::LiveRefused),
        hellos().prop_map(UpwardMessage::Hello),
        ack.prop_map(UpwardMessage::Ack),
        nack.prop_map(UpwardMessage::Nack),
        vec(digests(), 0..4).prop_map(UpwardMessage::Want),
        reports().prop_map(UpwardMessage::Report),
        (revisions(), option::of(bytes()))
            .prop_map(|(revision, envelope)| UpwardMessage::Manifest { revision, envelope }),
        (digests(), option::of(bytes())).prop_map(|(digest, wire)| UpwardMessage::Section { digest, wire }),
    ];
    (instances(), message).prop_map(|(instance, message)| Upward { instance, message })
}

pub(crate) fn downwards() -> impl Strategy<Value = Downward> {
    prop_oneof![
        bytes().prop_map(Downward::Order),
        bytes().prop_map(Downward::Manifest),
        bytes().prop_map(|envelope| Downward::Live(SealedLive(envelope))),
        (digests(), bytes()).prop_map(|(digest, wire)| Downward::Section { digest, wire }),
        option::of("[a-z]{1,9}:[0-9]{2}").prop_map(|address| Downward::NotLeader { address }),
        revisions().prop_map(Downward::LostManifest),
        vec(digests(), 0..4).prop_map(Downward::LostSections),
    ]
}
