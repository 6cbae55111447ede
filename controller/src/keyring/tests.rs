//! Keyrings through a replacement, and damaged ones.

use super::*;

#[test]
fn its_parts_are_it() {
    let keyring = Keyring::draw().unwrap();
    assert_eq!(Keyring::of_parts(keyring.parts().unwrap()).unwrap(), keyring);
    let printed = format!("{keyring:?}");
    assert!(printed.contains("redacted") && printed.len() < 100, "{printed}");
    assert_ne!(Keyring::draw().unwrap(), keyring);
}

#[test]
fn keys_are_believed_before_they_sign_and_sign_along_before_they_go() {
    let pace = Pace {
        announced_seconds: 10,
        signing_seconds: 100,
    };
    let before = Keyring::draw().unwrap();
    assert_eq!((before.phase(), before.due(pace)), (Phase::Resting, None));
    let announced = before.begin("june", 1_000).unwrap();
    assert_eq!(announced.now, before.now, "what signs is what signed");
    assert_eq!(announced.due(pace), Some(1_010));
    let signing = announced.next_phase(1_010);
    assert_ne!(signing.now, before.now);
    assert_eq!(signing.due(pace), Some(1_110));
    assert_eq!(
        signing.trusted(),
        announced.trusted(),
        "nothing new to believe when they sign"
    );
    assert_eq!(signing.trusted().unwrap().iter().count(), 6);
    let after = signing.next_phase(1_110);
    assert_eq!((after.phase(), after.rotation()), (Phase::Resting, Some("june")));
    assert_eq!(after.now, signing.now);
    assert_eq!(after.trusted().unwrap().iter().count(), 3);
    assert_eq!(after.cluster(), before.cluster());
    assert_eq!(after.next_phase(9_999), after);

    for keyring in [&announced, &signing, &after] {
        assert_eq!(Keyring::of_parts(keyring.parts().unwrap()).unwrap(), *keyring);
    }
    for busy in [announced, signing] {
        let error = busy.begin("july", 2_000).unwrap_err().to_string();
        assert!(error.contains("already (june)"), "{error}");
    }
    assert!(after.begin("july", 2_000).is_ok());
}

#[test]
fn authorities_are_believed_in_the_same_way() {
    let count = |keyring: &Keyring| keyring.ca_bundle().matches("BEGIN CERTIFICATE").count();
    let before = Keyring::draw().unwrap();
    let announced = before.begin("june", 1).unwrap();
    let signing = announced.next_phase(2);
    let after = signing.next_phase(3);
    assert_eq!([&before, &announced, &signing, &after].map(count), [1, 2, 2, 1]);
    assert!(announced.ca_bundle().starts_with(&before.ca_bundle()));
    assert!(signing.ca_bundle().starts_with(&after.ca_bundle()));
    assert!(signing.ca_bundle().ends_with(&before.ca_bundle()));
}

#[test]
fn whatever_is_missing_or_damaged_is_named() {
    let at_rest = Keyring::draw().unwrap();
    let announced = at_rest.begin("june", 1).unwrap();
    for keyring in [&at_rest, &announced, &announced.next_phase(2)] {
        let parts = keyring.parts().unwrap();
        for part in parts.keys() {
            let mut without = parts.clone();
            without.remove(part);
            let missing = Keyring::of_parts(without).unwrap_err();
            let mut spoilt = parts.clone();
            spoilt.insert(part.clone(), Zeroizing::new(b"NONSENSE".to_vec()));
            let damaged = Keyring::of_parts(spoilt).unwrap_err();
            // Without its file, what a replacement left is something that nobody knows.
            let by_rotation = part == ROTATION;
            let key_of_authority = part.ends_with("ca.key");
            assert!(missing.part == *part || by_rotation, "{part}: {missing}");
            assert!(damaged.part == *part || key_of_authority, "{part}: {damaged}");
            assert!(!damaged.to_string().contains("private-key-v1 "), "{damaged}");
        }
    }
}

#[test]
fn parts_that_do_not_fit_together_are_no_keyring() {
    let (one, other) = (Keyring::draw().unwrap(), Keyring::draw().unwrap());
    let others = other.parts().unwrap();
    let swapped = |parts: &[&str]| {
        let mut mixed = one.parts().unwrap();
        for part in parts {
            mixed.insert((*part).to_owned(), others.get(*part).unwrap().clone());
        }
        Keyring::of_parts(mixed).map(drop).map_err(|error| error.to_string())
    };
    assert!(swapped(&["ca.pem"]).unwrap_err().contains("ca.key"));
    assert!(swapped(&["order.key"]).unwrap_err().contains("trusted.json"));
    assert!(swapped(&["trusted.json"]).unwrap_err().contains("other keys"));
    assert_eq!(swapped(&["ca.pem", "ca.key"]), Ok(()));
    let mut strange = one.parts().unwrap();
    strange.insert("extra".to_owned(), Zeroizing::default());
    assert!(Keyring::of_parts(strange).unwrap_err().to_string().contains("newer"));
}

#[test]
fn people_are_told_how_far_it_is() {
    let pace = Pace::default();
    let announced = Keyring::draw().unwrap().begin("june", 1_800_000_000).unwrap();
    let told = announced.story(pace);
    assert!(
        told.starts_with("june: the next keys are announced since 2027-01-15T08:00:00Z; they sign from 2027-01-15T08:"),
        "{told}"
    );
}
