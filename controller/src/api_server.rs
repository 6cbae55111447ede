//! Asks the API server on behalf of those who cannot wait for long: the pipeline is one task, and while it waits nobody
//! is heard and nothing is sent.
//!
//! A question may take a bounded time. After one that was not answered, the next fails at once until a while has passed;
//! then one is tried that may take less. So an API server that is frozen costs the pipeline one long wait and, from then
//! on, a short one now and then.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Client;
use sluice_model::limits::{
    API_ANSWER_WAIT_MS, API_PROBE_WAIT_MS, API_QUESTIONS_AT_ONCE, API_RETRY_FIRST_MS, API_RETRY_MAX_MS,
};
use tokio::runtime::Handle;
use tokio::time::{timeout, timeout_at};

/// The same words each time: what goes on is told once.
pub(crate) const NO_ANSWER: &str = "no answer in time";

/// Why the API server did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ApiError {
    /// It may do so later.
    #[error("the API server does not answer ({0}); it is asked again soon")]
    Unavailable(String),
    /// It will not, until somebody does something.
    #[error("the API server refuses: {0}")]
    Refused(String),
}

/// The API server, as somebody sees it who may block.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
    runtime: Handle,
    patience: Arc<Mutex<Patience>>,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiServer")
    }
}

impl ApiServer {
    /// The one that `client` speaks to. To be called on the runtime, of several threads, whose tasks will ask.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            runtime: Handle::current(),
            patience: Arc::default(),
        }
    }

    /// What it is asked with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Waits for the answer to one question, however long that takes within bounds.
    ///
    /// # Errors
    /// When there is none in time, or when lately there was none.
    pub fn ask<T>(&self, question: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
        let mut answers = self.ask_all([question]);
        let none = || Err(ApiError::Unavailable("nothing was asked".to_owned()));
        answers.pop().unwrap_or_else(none)
    }

    /// The same for several questions at a time, which have the same bound together. Their answers are in their order.
    pub fn ask_all<T, F>(&self, questions: impl IntoIterator<Item = F>) -> Vec<Result<T, ApiError>>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let wait = match self.patience().admit(Instant::now()) {
            Ok(wait) => wait,
            Err(why) => return questions.into_iter().map(|_| Err(why.clone())).collect(),
        };
        let deadline = tokio::time::Instant::now() + wait;
        let bounded = questions.into_iter().map(|question| async move {
            match timeout_at(deadline, question).await {
                Ok(answer) => answer.map_err(|error| explain(&error)),
                Err(_) => Err(ApiError::Unavailable(NO_ANSWER.to_owned())),
            }
        });
        let all = futures::stream::iter(bounded).buffered(API_QUESTIONS_AT_ONCE).collect();
        let answers: Vec<_> = tokio::task::block_in_place(|| self.runtime.block_on(all));
        let unanswered = answers.iter().find_map(|answer| match answer {
            Err(error @ ApiError::Unavailable(_)) => Some(error.clone()),
            Ok(_) | Err(ApiError::Refused(_)) => None,
        });
        match unanswered {
            Some(error) => self.patience().lose(error, Instant::now()),
            None => self.patience().regain(),
        }
        answers
    }

    fn patience(&self) -> MutexGuard<'_, Patience> {
        // It is whole after every line that touches it.
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One question by whoever need not block: the answer, if it comes in time.
///
/// # Errors
/// When it does not, or is none.
pub(crate) async fn in_time<T>(question: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    match timeout(Duration::from_millis(API_ANSWER_WAIT_MS), question).await {
        Ok(answer) => answer.map_err(|error| explain(&error)),
        Err(_) => Err(ApiError::Unavailable(NO_ANSWER.to_owned())),
    }
}

/// What the API server said, for people, and whether it may say something else later.
// An enum of kube's: whatever else goes wrong between here and there may not do so again.
#[allow(clippy::wildcard_enum_match_arm)]
pub(crate) fn explain(error: &kube::Error) -> ApiError {
    match error {
        kube::Error::Api(status) if status.code == 429 || status.code >= 500 => {
            ApiError::Unavailable(format!("{} {}", status.code, status.message))
        }
        kube::Error::Api(status) if status.code == 403 => ApiError::Refused(format!(
            "{}; grant it in the Role of the controller's service account",
            status.message
        )),
        kube::Error::Api(status) => ApiError::Refused(status.message.clone()),
        other => ApiError::Unavailable(chain(other)),
    }
}

/// An error with its causes: the first line alone says "service error".
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut said: Vec<String> = causes.map(ToString::to_string).collect();
    // Some repeat their cause in their own words.
    said.dedup_by(|next, one| one.contains(next.as_str()));
    said.join(": ")
}

/// How long the next question may take.
#[derive(Debug, Default)]
struct Patience {
    lost: Option<Lost>,
}

/// Lately there was no answer.
#[derive(Debug)]
struct Lost {
    error: ApiError,
    /// Before this nothing is asked.
    until: Instant,
    pause: Duration,
}

impl Patience {
    /// How long a question that is asked now may take.
    ///
    /// # Errors
    /// Why it is not asked.
    fn admit(&self, now: Instant) -> Result<Duration, ApiError> {
        match &self.lost {
            None => Ok(Duration::from_millis(API_ANSWER_WAIT_MS)),
            Some(lost) if lost.until <= now => Ok(Duration::from_millis(API_PROBE_WAIT_MS)),
            Some(lost) => Err(lost.error.clone()),
        }
    }

    fn lose(&mut self, error: ApiError, now: Instant) {
        let longest = Duration::from_millis(API_RETRY_MAX_MS);
        let pause = match &self.lost {
            None => Duration::from_millis(API_RETRY_FIRST_MS),
            Some(lost) => lost.pause.saturating_mul(2).min(longest),
        };
        let until = now + pause;
        self.lost = Some(Lost { error, until, pause });
    }

    fn regain(&mut self) {
        self.lost = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that never answers costs one long wait, and then a short one now and then.
    #[test]
    fn patience_is_lost_at_once_and_regained_at_once() {
        let mut patience = Patience::default();
        let began = Instant::now();
        let (mut waited, mut now) = (Duration::ZERO, began);
        while now - began < Duration::from_secs(300) {
            match patience.admit(now) {
                Ok(wait) => {
                    waited += wait;
                    now += wait;
                    patience.lose(ApiError::Unavailable("silence".to_owned()), now);
                }
                Err(error) => {
                    assert_eq!(error, ApiError::Unavailable("silence".to_owned()));
                    now += Duration::from_secs(1); // the next tick
                }
            }
        }
        assert!(waited <= Duration::from_secs(5 + 25), "{waited:?} of 300 s");
        patience.regain();
        assert_eq!(patience.admit(now), Ok(Duration::from_millis(API_ANSWER_WAIT_MS)));
    }

    #[test]
    fn what_is_refused_is_told_apart_from_what_may_work_later() {
        let api = |code: u16, message: &str| {
            let status = serde_json::json!({"status": "Failure", "code": code, "message": message});
            explain(&kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())))
        };
        for code in [429, 500, 503, 504] {
            assert!(matches!(api(code, "later"), ApiError::Unavailable(_)), "{code}");
        }
        assert_eq!(api(422, "too long"), ApiError::Refused("too long".to_owned()));
        let forbidden = api(403, "configmaps is forbidden").to_string();
        assert!(forbidden.contains("grant it in the Role"), "{forbidden}");
    }
}
