//! `sluice bundle inspect`: what a signed manifest or order says, and whether it is signed by whom you trust.
//!
//! Without `--keys` nothing is believed, and the answer says so.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sluice_model::limits::MAX_MANIFEST_BYTES;
use sluice_proto::signed::ENVELOPE_OVERHEAD_BYTES;
use sluice_proto::{
    Candidate, EndpointState, Envelope, KeySet, LiveEndpoint, LiveStamp, LiveUpdate, LiveValue, Manifest, Members,
    ObjectChange, Order, OriginsRef, PayloadType, Provenance, SectionRef, strict_decode, verify,
};

use crate::failure::{Exit, Failure};
use crate::output::{self, TextFormat};

/// Arguments of `sluice bundle`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with a bundle.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Action {
    /// Print what a signed manifest, provenance or order (a .dsse file of a state folder) says.
    ///
    /// Ends with 1 if --keys is given and none of them signed it.
    Inspect(Inspect),
}

/// Arguments of `sluice bundle inspect`.
#[derive(Clone, Debug, clap::Args)]
pub struct Inspect {
    /// The file: `fleets/FLEET/manifests/*.dsse` or `fleets/FLEET/provenance/*.dsse` of a controller, or
    /// `last-good/order.dsse` of an instance.
    pub file: PathBuf,
    /// Keys to verify with: a `trusted.json`, as in the controller's state folder under `keys/`.
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TextFormat::Yaml)]
    pub output: TextFormat,
}

/// No set of keys is longer.
const KEYS_MAX_BYTES: u64 = 1 << 20;

/// Runs `sluice bundle …`.
///
/// # Errors
/// When a file cannot be read or is not what it should be.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let Action::Inspect(inspect) = &args.action;
    let bytes = read(&inspect.file, (MAX_MANIFEST_BYTES + ENVELOPE_OVERHEAD_BYTES) as u64)?;
    let keys = inspect.keys.as_deref().map(read_keys).transpose()?;
    let wrong = |reason: String| Failure::usage(format!("{}: {reason}", inspect.file.display()));
    let (verdict, exit) = signature(keys.as_ref(), &bytes).map_err(wrong)?;
    let envelope = open(&bytes).map_err(wrong)?;
    let value = json!({
        "payloadType": envelope.payload_type,
        "signature": verdict,
        "keyIds": envelope.signatures.iter().map(|signature| &signature.key_id).collect::<Vec<_>>(),
        "payload": payload(&envelope).map_err(wrong)?,
    });
    output::print(&match inspect.output {
        TextFormat::Json => output::json(&value)?,
        TextFormat::Text | TextFormat::Yaml => output::yaml(&value)?,
    });
    Ok(exit)
}

fn read(file: &Path, max_bytes: u64) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("{}: {error}", file.display()));
    let mut bytes = Vec::new();
    let open = std::fs::File::open(file).map_err(failed)?;
    // One more than allowed, so that a longer file is refused and not cut.
    open.take(max_bytes + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn read_keys(file: &Path) -> Result<KeySet, Failure> {
    let text = String::from_utf8_lossy(&read(file, KEYS_MAX_BYTES)?).into_owned();
    KeySet::from_json(&text).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
}

fn open(bytes: &[u8]) -> Result<Envelope, String> {
    Envelope::open(bytes, MAX_MANIFEST_BYTES + ENVELOPE_OVERHEAD_BYTES).map_err(|error| error.to_string())
}

fn kind(envelope: &Envelope) -> Result<PayloadType, String> {
    [
        PayloadType::Manifest,
        PayloadType::Order,
        PayloadType::Live,
        PayloadType::Provenance,
    ]
    .into_iter()
    .find(|kind| kind.as_str() == envelope.payload_type)
    .ok_or_else(|| {
        format!(
            "holds {:?}, which is neither a manifest, a provenance, an order nor a live value",
            envelope.payload_type
        )
    })
}

/// Whether it is signed by whom we trust, in words.
fn signature(keys: Option<&KeySet>, bytes: &[u8]) -> Result<(String, Exit), String> {
    let Some(keys) = keys else {
        return Ok((
            "not checked: give --keys, such as keys/trusted.json of the controller's state".to_owned(),
            Exit::Done,
        ));
    };
    let kind = kind(&open(bytes)?)?;
    Ok(
        match verify(keys, kind, bytes, MAX_MANIFEST_BYTES + ENVELOPE_OVERHEAD_BYTES) {
            Ok(verified) => {
                let ids: Vec<_> = verified.key_ids.iter().map(ToString::to_string).collect();
                (format!("verified, by {}", ids.join(", ")), Exit::Done)
            }
            Err(error) => (format!("NOT VERIFIED: {error}"), Exit::Failed),
        },
    )
}

fn payload(envelope: &Envelope) -> Result<Value, String> {
    let said = |error: sluice_proto::DecodeError| format!("the payload is {error}");
    Ok(match kind(envelope)? {
        PayloadType::Manifest => manifest(&strict_decode(&envelope.payload, MAX_MANIFEST_BYTES).map_err(said)?),
        PayloadType::Order => order(&strict_decode(&envelope.payload, MAX_MANIFEST_BYTES).map_err(said)?),
        PayloadType::Live => live(&strict_decode(&envelope.payload, MAX_MANIFEST_BYTES).map_err(said)?),
        PayloadType::Provenance => provenance(&strict_decode(&envelope.payload, MAX_MANIFEST_BYTES).map_err(said)?),
    })
}

/// A live value, without the private key that a certificate's has.
fn live(update: &LiveUpdate) -> Value {
    let LiveUpdate {
        audience,
        stamp: LiveStamp { term, sequence },
        value,
    } = update;
    let endpoint = |endpoint: &LiveEndpoint| {
        let LiveEndpoint { address, state, zone } = endpoint;
        let state = match state {
            EndpointState::Ready => "ready",
            EndpointState::Draining => "draining",
        };
        json!({"address": address, "state": state, "zone": zone})
    };
    let content = match value {
        LiveValue::Endpoints { service: _, endpoints } => endpoints.iter().map(endpoint).collect::<Vec<_>>().into(),
        LiveValue::Authorities {
            secret: _,
            certificates,
        } => json!({ "certificates": certificates.len() }),
        LiveValue::Certificate {
            certificate: _,
            chain,
            key: _,
        } => json!({"certificatesInChain": chain.len(), "privateKey": "not shown"}),
    };
    json!({
        "cluster": audience.cluster.to_string(),
        "fleet": audience.fleet,
        "term": term,
        "sequence": sequence,
        "subject": value.subject(),
        "digest": value.digest(),
        "value": content,
    })
}

fn manifest(manifest: &Manifest) -> Value {
    let Manifest {
        cluster,
        fleet,
        revision,
        sections,
        features,
        controller_build,
        created_at_unix_ms,
        quarantined,
    } = manifest;
    json!({
        "cluster": cluster.to_string(),
        "fleet": fleet,
        "revision": revision.to_string(),
        "digest": revision.digest,
        "createdAt": moment(*created_at_unix_ms),
        "controllerBuild": controller_build,
        "features": features,
        "quarantined": quarantined,
        "sections": sections.iter().map(section).collect::<Vec<_>>(),
    })
}

/// Where the objects came from stands beside it, in the files that it names.
fn provenance(provenance: &Provenance) -> Value {
    let Provenance {
        cluster,
        fleet,
        revision,
        changed,
        unlisted,
        origins,
    } = provenance;
    json!({
        "cluster": cluster.to_string(),
        "fleet": fleet,
        "revision": revision.to_string(),
        "changed": changed.iter().map(change).collect::<Vec<_>>(),
        "changedAndNotListed": unlisted,
        "origins": origins.iter().map(origin).collect::<Vec<_>>(),
    })
}

fn change(change: &ObjectChange) -> Value {
    let ObjectChange { object, old, new } = change;
    json!({"object": object, "old": old, "new": new})
}

fn origin(reference: &OriginsRef) -> Value {
    let OriginsRef { bucket, digest } = reference;
    json!({"bucket": bucket, "digest": digest})
}

fn section(section: &SectionRef) -> Value {
    let SectionRef {
        bucket,
        digest,
        raw_bytes,
        wire_digest,
        wire_bytes,
    } = section;
    json!({
        "bucket": bucket, "digest": digest, "rawBytes": raw_bytes, "wireDigest": wire_digest, "wireBytes": wire_bytes,
    })
}

fn order(order: &Order) -> Value {
    let Order {
        cluster,
        fleet,
        epoch,
        stable,
        candidate,
        counted,
    } = order;
    json!({
        "cluster": cluster.to_string(),
        "fleet": fleet,
        "epoch": epoch,
        "stable": stable.to_string(),
        "candidate": candidate.as_ref().map(tried),
        "counted": counted,
    })
}

fn tried(candidate: &Candidate) -> Value {
    let Candidate {
        revision,
        members,
        share_millionths,
    } = candidate;
    let members = match members {
        Members::All => json!("all"),
        Members::Only(instances) => json!(instances),
    };
    json!({"revision": revision.to_string(), "members": members, "shareMillionths": share_millionths})
}

/// RFC 3339, or the number if it is no moment.
fn moment(unix_ms: u64) -> Value {
    let moment = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(|| json!(unix_ms), |moment| json!(moment.to_string()))
}

#[cfg(test)]
mod tests {
    use sluice_proto::{Role, Signer, seal_order};

    use super::*;

    fn sealed(signer: &Signer) -> Vec<u8> {
        let order = Order {
            cluster: "c0ffee".parse().unwrap(),
            fleet: "edge".parse().unwrap(),
            epoch: 7,
            stable: sluice_model::RevisionId {
                number: 1,
                digest: sluice_model::Digest([1; 32]),
            },
            candidate: Some(Candidate {
                revision: sluice_model::RevisionId {
                    number: 2,
                    digest: sluice_model::Digest([2; 32]),
                },
                members: Members::only(["edge-1".parse().unwrap()]),
                share_millionths: 1_000_000,
            }),
            counted: vec!["ProxyRoute a/b".parse().unwrap()],
        };
        seal_order(&[signer], &order).to_vec()
    }

    #[test]
    fn an_order_is_shown_whole() {
        let shown = payload(&open(&sealed(&Signer::from_seed(&[7; 32], Role::Order))).unwrap()).unwrap();
        assert_eq!(shown["candidate"]["members"], json!(["edge-1"]));
        assert_eq!(shown["stable"], json!("1-01010101"));
        assert_eq!(shown["counted"], json!(["ProxyRoute a/b"]));
    }

    #[test]
    fn the_verdict_is_plain() {
        let signer = Signer::from_seed(&[7; 32], Role::Order);
        let bytes = sealed(&signer);
        let trusting = |signer: &Signer| KeySet::new([signer.trusted()]).unwrap();
        assert!(signature(None, &bytes).unwrap().0.starts_with("not checked"));
        let (verdict, exit) = signature(Some(&trusting(&signer)), &bytes).unwrap();
        assert!(verdict.starts_with("verified, by "), "{verdict}");
        assert_eq!(exit, Exit::Done);
        let (verdict, exit) = signature(Some(&trusting(&Signer::from_seed(&[8; 32], Role::Order))), &bytes).unwrap();
        assert!(verdict.starts_with("NOT VERIFIED"), "{verdict}");
        assert_eq!(exit, Exit::Failed);
    }
}
