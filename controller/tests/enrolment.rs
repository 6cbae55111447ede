//! Who may join and who may connect, over real sockets and real TLS. Tokens are reviewed by somebody made up, who says
//! whatever a case needs; with a real API server the check `identity` does the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "enrolment/world.rs"]
mod world;

use sluice_controller::keyring::Keyring;
use sluice_controller::pki::{Authority, Peer};
use sluice_controller::register::{Belonging, Existence};
use sluice_controller::stream::{Post, StreamEvent};
use sluice_proto::pb;
use tonic::Code;
use world::{Shown, World, der, request, request_for, subject};

/// What a refusal says.
fn says(answer: Result<pb::EnrolResponse, tonic::Status>, code: Code, text: &str) {
    let status = answer.expect_err("refused");
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(text), "{status:?}");
}

#[tokio::test]
async fn a_pod_gets_a_certificate_for_who_it_is_and_connects_with_it() {
    let mut world = World::start().await;
    let given = world.enrol(Shown::Nothing, request("good")).await.unwrap();
    assert_eq!(
        (given.fleet.as_str(), given.instance.as_str()),
        ("edge", "edge-7d9c.0a1b2c3d")
    );
    let peer = Peer::of_certificate(&der(&given.certificate_pem)).unwrap();
    assert_eq!(peer.identity.instance.as_str(), given.instance);
    assert_eq!(
        peer.workload.unwrap().uri(),
        "k8s://shop/sluice-dataplane/0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
    );
    assert_eq!(given.ca_pem, world.ca());
    assert!(given.trusted_json.contains("publicKey"));

    let shown = world.shown(&given);
    let _stream = world.connect(&shown, &given.instance).await.unwrap();
    let opened = world.heard.recv().await.unwrap();
    assert!(matches!(opened, StreamEvent::Opened { fleet, .. } if fleet.as_str() == "edge"));
}

#[tokio::test]
async fn what_a_signing_request_asks_for_is_not_given() {
    let world = World::start().await;
    let (greedy, _) = request_for("good", |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.subject_alt_names = vec![
            rcgen::SanType::URI("sluice://c/other/somebody".try_into().unwrap()),
            rcgen::SanType::DnsName("sluice-controller".try_into().unwrap()),
        ];
        params.not_after = rcgen::date_time_ymd(2999, 1, 1);
    });
    let given = world.enrol(Shown::Nothing, greedy).await.unwrap();
    let subject = subject(&given.certificate_pem);
    assert!(!subject.is_ca && subject.is_client && !subject.is_server, "{subject:?}");
    assert_eq!(subject.names.len(), 2, "{subject:?}");
    assert!(subject.lasts_seconds <= 25 * 3_600, "{subject:?}");
    assert_eq!(
        Peer::of_certificate(&der(&given.certificate_pem))
            .unwrap()
            .identity
            .fleet
            .as_str(),
        "edge"
    );
}

#[tokio::test]
async fn no_other_token_is_good_for_anything() {
    let world = World::start().await;
    let enrol = async |token: &str| world.enrol(Shown::Nothing, request(token)).await;
    says(
        enrol("").await,
        Code::Unauthenticated,
        "neither a token nor a client certificate",
    );
    says(enrol("expired").await, Code::Unauthenticated, "it has ended");
    says(enrol("other-audience").await, Code::Unauthenticated, "audience");
    says(enrol("deleted-pod").await, Code::Unauthenticated, "deleted");
    says(enrol("api-server-away").await, Code::Unavailable, "could not be asked");
    says(enrol(&"x".repeat(20_000)).await, Code::InvalidArgument, "too long");
    says(enrol("long-name").await, Code::FailedPrecondition, "too long to name");
    says(
        enrol("stranger").await,
        Code::PermissionDenied,
        "no Rollout has the service account other/default",
    );
    world.register.belongs(Belonging::Unknown);
    says(enrol("good").await, Code::Unavailable, "not read yet");
    world.register.belongs(Belonging::Nowhere);
    says(enrol("good").await, Code::PermissionDenied, "spec.members");
}

#[tokio::test]
async fn a_signing_request_has_to_be_signed_by_its_own_key() {
    let world = World::start().await;
    let reviews = world.reviews();
    for spoil in [
        (|request: &mut Vec<u8>| request.clear()) as fn(&mut Vec<u8>),
        |request| request.truncate(40),
        |request| *request.last_mut().unwrap() ^= 1,
        |request| request.extend([0; 8_000]),
    ] {
        let mut bad = request("good");
        let mut bytes = bad.signing_request.to_vec();
        spoil(&mut bytes);
        bad.signing_request = bytes.into();
        says(world.enrol(Shown::Nothing, bad).await, Code::InvalidArgument, "signing");
    }
    assert_eq!(world.reviews(), reviews, "nobody was asked about its token");
}

#[tokio::test]
async fn a_certificate_renews_itself_while_its_pod_and_its_membership_last() {
    let world = World::start().await;
    let first = world.enrol(Shown::Nothing, request("good")).await.unwrap();
    let shown = world.shown(&first);
    let reviews = world.reviews();
    let second = world.enrol(shown.clone(), request("")).await.unwrap();
    assert_eq!(second.instance, first.instance);
    assert_ne!(second.certificate_pem, first.certificate_pem);
    assert_eq!(
        Peer::of_certificate(&der(&second.certificate_pem)),
        Peer::of_certificate(&der(&first.certificate_pem))
    );
    assert_eq!(world.reviews(), reviews, "the API server was not needed");

    let renew = async || world.enrol(shown.clone(), request("")).await;
    world.register.belongs(Belonging::To("other".parse().unwrap()));
    says(renew().await, Code::PermissionDenied, "belongs to fleet other now");
    world.register.belongs(Belonging::Nowhere);
    says(renew().await, Code::PermissionDenied, "no Rollout");
    world.register.belongs(Belonging::To("edge".parse().unwrap()));
    world.register.exists(Existence::Gone);
    says(renew().await, Code::PermissionDenied, "is deleted");
    world.register.exists(Existence::Presumed);
    renew().await.unwrap();
}

#[tokio::test]
async fn no_rpc_takes_the_certificate_of_a_stranger() {
    let world = World::start().await;
    let given = world.enrol(Shown::Nothing, request("good")).await.unwrap();
    let peer = Peer::of_certificate(&der(&given.certificate_pem)).unwrap();
    let of_another_cluster = {
        let mut peer = peer.clone();
        peer.identity.cluster = "elsewhere".parse().unwrap();
        peer
    };
    let without_pod = Peer {
        workload: None,
        ..peer.clone()
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = Authority::open(elsewhere.path()).unwrap();
    let now = world.now();
    let cases = [
        ("of another authority", world.certify_by(&foreign, &peer, now), None),
        ("that has ended", world.certify(&peer, now - 3 * 24 * 3_600), None),
        (
            "of another cluster",
            world.certify(&of_another_cluster, now),
            Some(Code::PermissionDenied),
        ),
        (
            "that names no pod",
            world.certify(&without_pod, now),
            Some(Code::PermissionDenied),
        ),
        ("that is none", Shown::Nothing, Some(Code::Unauthenticated)),
        ("of the server", world.servers(), None),
    ];
    for (what, shown, code) in cases {
        let renewed = world.enrol(shown.clone(), request("")).await.unwrap_err();
        let connected = world.connect(&shown, &given.instance).await.unwrap_err();
        for refused in [renewed, connected] {
            // TLS itself refuses those without a code, which gRPC knows only as a broken connection.
            assert!(
                code.is_none_or(|code| refused.code() == code),
                "a certificate {what}: {refused:?}"
            );
        }
    }
    let impostor = world.connect(&world.shown(&given), "somebody-else").await.unwrap();
    let ended = world::ended(impostor).await;
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended:?}");
}

#[tokio::test]
async fn who_loses_its_membership_or_its_pod_loses_its_stream() {
    let world = World::start().await;
    let given = world.enrol(Shown::Nothing, request("good")).await.unwrap();
    let shown = world.shown(&given);
    let mut stream = world.connect(&shown, &given.instance).await.unwrap();
    stream.report().await;
    world.register.belongs(Belonging::To("other".parse().unwrap()));
    stream.report().await;
    let ended = world::ended(stream).await;
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended:?}");
    let refused = world.connect(&shown, &given.instance).await.unwrap_err();
    assert!(refused.message().contains("belongs to fleet other now"), "{refused:?}");

    world.register.belongs(Belonging::To("edge".parse().unwrap()));
    world.register.exists(Existence::Gone);
    let refused = world.connect(&shown, &given.instance).await.unwrap_err();
    assert!(refused.message().contains("is deleted"), "{refused:?}");
}

#[tokio::test]
async fn a_controller_that_does_not_lead_says_who_does_and_enrols_all_the_same() {
    let world = World::start().await;
    let leads = world.post.borrow().clone();
    let follows = |leader: Option<&str>| Post::Follows {
        leader: leader.map(str::to_owned),
    };
    world.post.send_replace(follows(Some("10.0.0.2:9900")));
    let given = world.enrol(Shown::Nothing, request("good")).await.unwrap();
    let shown = world.shown(&given);
    let stream = world.connect(&shown, &given.instance).await.unwrap();
    assert_eq!(stream.hint().await.as_deref(), Some("10.0.0.2:9900"));
    world.post.send_replace(follows(None));
    let stream = world.connect(&shown, &given.instance).await.unwrap();
    assert_eq!(stream.hint().await, None);

    world.post.send_replace(leads);
    let mut stream = world.connect(&shown, &given.instance).await.unwrap();
    stream.report().await;
    world.post.send_replace(follows(Some("10.0.0.3:9900")));
    assert_eq!(
        stream.hint().await.as_deref(),
        Some("10.0.0.3:9900"),
        "it lost the lead"
    );
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_to_wait() {
    let world = World::start().await;
    let mut throttled = 0;
    for _ in 0..100 {
        match world.enrol(Shown::Nothing, request("expired")).await {
            Err(status) if status.code() == Code::ResourceExhausted => throttled += 1,
            Err(status) => assert_eq!(status.code(), Code::Unauthenticated),
            Ok(_) => panic!("enrolled"),
        }
    }
    assert!(throttled > 20, "{throttled}");
    assert!(world.reviews() < 100);
}

#[tokio::test]
async fn authorities_are_replaced_while_instances_connect() {
    let world = World::start().await;
    let before = Keyring::read(world.state()).unwrap();
    let old = world.enrol(Shown::Nothing, request("good")).await.unwrap();
    let old_ca = world.ca();
    let announced = before.begin("test", 1).unwrap();
    world.replace_keys(&announced);
    let shown = world.shown(&old);
    world
        .connect(&shown, &old.instance)
        .await
        .expect("one that has not heard of the next authority");
    let told = world.enrol(Shown::Nothing, request("good")).await.unwrap();
    assert_eq!(told.ca_pem, announced.ca_bundle());

    let signing = announced.next_phase(2);
    world.replace_keys(&signing);
    let heard = world.shown(&old); // the certificate of before, and both authorities
    world
        .connect(&heard, &old.instance)
        .await
        .expect("its certificate is of the last authority");
    let new = world
        .enrol_believing(&told.ca_pem, Shown::Nothing, request("good"))
        .await
        .unwrap();
    world
        .enrol_believing(&old_ca, Shown::Nothing, request("good"))
        .await
        .expect_err("not heard of the new authority");

    world.replace_keys(&signing.next_phase(3));
    let shown = world.shown(&new);
    world.connect(&shown, &new.instance).await.expect("only of the new one");
    world
        .connect(&heard, &old.instance)
        .await
        .expect_err("the last authority is gone");
}

/// As a sidecar that outlived its installation: it cannot say so to anybody, so the controller tells of it.
#[tokio::test]
async fn who_does_not_believe_the_controller_is_counted_apart() {
    let world = World::start().await;
    let before = World::start().await;
    world
        .enrol_believing(&before.ca(), Shown::Nothing, request("good"))
        .await
        .expect_err("of another installation");
    world.told_of_tls_failure("distrust").await;
    assert_eq!(world.tls_failures("untrusted"), 0);
    let given = before.enrol(Shown::Nothing, request("good")).await.unwrap();
    world
        .connect(&before.shown(&given), &given.instance)
        .await
        .expect_err("a certificate of another installation");
    world.told_of_tls_failure("untrusted").await;
}

#[tokio::test]
async fn standalone_nobody_enrols_by_token() {
    let world = World::start_standalone().await;
    says(
        world.enrol(Shown::Nothing, request("good")).await,
        Code::Unimplemented,
        "sluice-controller enroll",
    );
}
