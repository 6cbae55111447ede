//! Whose token is it? The API server knows, and asks that the pod it was made for still exists.

use std::fmt;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use sluice_model::Name;
use sluice_model::limits::REASON_CHARS_MAX;
use sluice_proto::Token;

use super::TOKEN_AUDIENCE;
use crate::pki::PodUid;

/// Who a token belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reviewed {
    /// The namespace of the pod and its service account.
    pub namespace: Name,
    /// The service account.
    pub service_account: Name,
    /// The pod's name.
    pub pod_name: Name,
    /// The pod's UID.
    pub pod: PodUid,
}

/// Why a token says nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReviewError {
    /// It is not good.
    #[error("{0}")]
    Refused(String),
    /// Nobody could be asked.
    #[error("{0}")]
    Unavailable(String),
}

/// Reviews tokens.
#[tonic::async_trait]
pub trait Review: Send + Sync + fmt::Debug {
    /// Who `token` belongs to, if it is good.
    async fn review(&self, token: &Token) -> Result<Reviewed, ReviewError>;
}

/// Has tokens reviewed by the API server.
#[derive(Clone)]
pub struct TokenReviews {
    api: Api<TokenReview>,
}

impl fmt::Debug for TokenReviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenReviews")
    }
}

impl TokenReviews {
    /// By this API server. Needs `create` on `tokenreviews.authentication.k8s.io`.
    pub fn new(client: Client) -> Self {
        Self { api: Api::all(client) }
    }
}

#[tonic::async_trait]
impl Review for TokenReviews {
    async fn review(&self, token: &Token) -> Result<Reviewed, ReviewError> {
        let question = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.expose().to_owned()),
                audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        match self.api.create(&PostParams::default(), &question).await {
            Ok(TokenReview { status, .. }) => read(status.unwrap_or_default()),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Err(ReviewError::Unavailable(
                "this controller may not have tokens reviewed; grant it `create` on tokenreviews.authentication.k8s.io"
                    .to_owned(),
            )),
            Err(error) => Err(ReviewError::Unavailable(format!(
                "the API server could not be asked about the token: {}",
                bounded(&error.to_string())
            ))),
        }
    }
}

/// What a review says.
fn read(status: TokenReviewStatus) -> Result<Reviewed, ReviewError> {
    let TokenReviewStatus {
        audiences,
        authenticated,
        error,
        user,
    } = status;
    if authenticated != Some(true) {
        let why = error.map_or_else(String::new, |error| format!(" ({})", bounded(&error)));
        return Err(refused(&format!(
            "the token is not good{why}: it has ended, is not for the audience {TOKEN_AUDIENCE}, or its pod or service \
             account is deleted; mount a projected token with that audience"
        )));
    }
    // An API server that knows nothing of audiences says nothing of them.
    if !audiences
        .unwrap_or_default()
        .iter()
        .any(|audience| audience == TOKEN_AUDIENCE)
    {
        return Err(refused(&format!(
            "the token is not for the audience {TOKEN_AUDIENCE}; mount a projected token with that audience"
        )));
    }
    of_user(&user.unwrap_or_default())
}

fn of_user(user: &UserInfo) -> Result<Reviewed, ReviewError> {
    let account = user
        .username
        .as_deref()
        .and_then(|name| name.strip_prefix("system:serviceaccount:"));
    let account = account.and_then(|account| account.split_once(':'));
    let (namespace, service_account) =
        account.ok_or_else(|| refused("the token is not that of a service account; pods have such tokens"))?;
    let (Some(pod_name), Some(pod)) = (extra(user, "pod-name"), extra(user, "pod-uid")) else {
        return Err(refused(
            "the token is not bound to a pod; mount a projected token in the pod instead of one made by hand or of a Secret",
        ));
    };
    Ok(Reviewed {
        namespace: checked(namespace)?,
        service_account: checked(service_account)?,
        pod_name: checked(pod_name)?,
        pod: checked(pod)?,
    })
}

/// The one value of a claim about the pod.
fn extra<'a>(user: &'a UserInfo, claim: &str) -> Option<&'a str> {
    let values = user
        .extra
        .as_ref()?
        .get(&format!("authentication.kubernetes.io/{claim}"))?;
    match values.as_slice() {
        [value] => Some(value),
        _ => None,
    }
}

fn checked<T: std::str::FromStr<Err: fmt::Display>>(text: &str) -> Result<T, ReviewError> {
    text.parse().map_err(|error: T::Err| refused(&error.to_string()))
}

fn refused(why: &str) -> ReviewError {
    ReviewError::Refused(why.to_owned())
}

fn bounded(text: &str) -> String {
    text.chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn good() -> TokenReviewStatus {
        let claim = |name: &str, value: &str| (format!("authentication.kubernetes.io/{name}"), vec![value.to_owned()]);
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]),
            error: None,
            user: Some(UserInfo {
                username: Some("system:serviceaccount:shop:sidecar".to_owned()),
                extra: Some(BTreeMap::from([
                    claim("pod-name", "shop-7d9c"),
                    claim("pod-uid", "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"),
                    claim("node-name", "n1"),
                ])),
                ..UserInfo::default()
            }),
        }
    }

    #[test]
    fn a_good_token_names_its_pod() {
        let reviewed = read(good()).unwrap();
        assert_eq!(
            (reviewed.namespace.as_str(), reviewed.service_account.as_str()),
            ("shop", "sidecar")
        );
        assert_eq!(
            (reviewed.pod_name.as_str(), reviewed.pod.short()),
            ("shop-7d9c", "0a1b2c3d")
        );
    }

    #[test]
    fn every_other_token_is_refused_with_a_reason() {
        type Spoil = fn(&mut TokenReviewStatus);
        let user =
            |spoil: fn(&mut UserInfo)| move |status: &mut TokenReviewStatus| spoil(status.user.as_mut().unwrap());
        let check = |spoil: &dyn Fn(&mut TokenReviewStatus), says: &str| {
            let mut status = good();
            spoil(&mut status);
            let error = read(status).unwrap_err();
            assert!(
                matches!(&error, ReviewError::Refused(why) if why.contains(says)),
                "{error}"
            );
        };
        let unauthenticated: [(Spoil, &str); 3] = [
            (|status| status.authenticated = None, "not good"),
            (|status| status.authenticated = Some(false), "not good"),
            (
                |status| {
                    status.authenticated = Some(false);
                    status.error = Some("token has been invalidated".to_owned());
                },
                "(token has been invalidated)",
            ),
        ];
        unauthenticated.iter().for_each(|(spoil, says)| check(spoil, says));
        check(&|status| status.audiences = None, "audience sluice-controller");
        check(&|status| status.audiences = Some(vec!["api".to_owned()]), "audience");
        check(&|status| status.user = None, "service account");
        check(
            &user(|user| user.username = Some("admin".to_owned())),
            "service account",
        );
        check(
            &user(|user| user.username = Some("system:serviceaccount:a".to_owned())),
            "service account",
        );
        check(
            &user(|user| user.username = Some("system:serviceaccount:A/B:x".to_owned())),
            "A/B",
        );
        check(&user(|user| user.extra = None), "not bound to a pod");
        let two = user(|user| {
            let extra = user.extra.as_mut().unwrap();
            extra
                .get_mut("authentication.kubernetes.io/pod-uid")
                .unwrap()
                .push("b".to_owned());
        });
        check(&two, "not bound to a pod");
        let strange = user(|user| {
            let extra = user.extra.as_mut().unwrap();
            extra.insert(
                "authentication.kubernetes.io/pod-uid".to_owned(),
                vec!["../..".to_owned()],
            );
        });
        check(&strange, "UID");
    }
}
