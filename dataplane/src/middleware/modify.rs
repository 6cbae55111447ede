//! Changes of header fields that a rule asks for: what it sets or removes, nothing that came is left of, under any
//! spelling.
//!
//! Which fields a rule may change at all is the model's to say (`header_changes`): none that this hop sets or strips, so
//! that this step may come after those without undoing them.

use http::{HeaderMap, HeaderName};
use sluice_model::header_changes::{Field, HeaderChanges};

/// Changes a head.
pub fn apply(changes: &HeaderChanges, headers: &mut HeaderMap) {
    if changes.is_empty() {
        return;
    }
    for name in changes.cleared() {
        headers.remove(name.header());
    }
    remove_spellings(changes, headers);
    for Field { name, value } in &changes.set {
        headers.insert(name.header(), value.header().clone());
    }
    for Field { name, value } in &changes.add {
        headers.append(name.header(), value.header().clone());
    }
}

/// Whether many a server takes the one name for the other: `_` and `-` are the same to CGI and what is like it.
pub fn is_same_field(one: &HeaderName, other: &HeaderName) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
    let (one, other) = (one.as_str().bytes(), other.as_str().bytes());
    one.len() == other.len() && one.map(plain).eq(other.map(plain))
}

/// What a client sends as `x_user` would be read as the `x-user` that a rule vouches for, or means to keep out.
fn remove_spellings(changes: &HeaderChanges, headers: &mut HeaderMap) {
    let odd = |name: &HeaderName| name.as_str().contains('_');
    if !headers.keys().any(odd) && !changes.cleared().any(|name| odd(name.header())) {
        return;
    }
    let taken = |name: &&HeaderName| changes.cleared().any(|cleared| is_same_field(cleared.header(), name));
    let names: Vec<HeaderName> = headers.keys().filter(taken).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use sluice_model::header_changes::FieldName;

    #[test]
    fn set_add_and_remove_under_any_spelling() {
        let changes = HeaderChanges {
            set: vec![
                Field::new("X-User", "me").unwrap(),
                Field::new("x_env", "prod").unwrap(),
            ],
            add: vec![Field::new("accept", "text/html").unwrap()],
            remove: vec![FieldName::new("x-secret").unwrap()],
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-user", "you"),
            ("x-user", "them"),
            ("x_user", "root"),
            ("x-env", "test"),
            ("accept", "*/*"),
            ("x_secret", "1"),
            ("x-secret", "2"),
            ("x_other", "3"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        apply(&changes, &mut headers);
        let mut left: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        left.sort_unstable();
        let expected = [
            ("accept", "*/*"),
            ("accept", "text/html"),
            ("x-user", "me"),
            ("x_env", "prod"),
            ("x_other", "3"),
        ];
        assert_eq!(left, expected);
    }
}
