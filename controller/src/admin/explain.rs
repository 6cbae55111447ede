//! Which route takes a request, by what a fleet serves: its stable revision, with whatever serves in its last good form.

use http::StatusCode;
use serde_json::json;
use sluice_model::FleetName;
use sluice_model::question::Question;

use super::{Answer, error, json};
use crate::pipeline::Board;

/// What stands after the fleet in the path.
pub(super) const EXPLAIN: &str = "explain";

/// Answers a question about `fleet`; `None` if there is no such fleet here.
pub(super) fn answer(board: &Board, fleet: &FleetName, body: &[u8]) -> Option<Answer> {
    let question: Question = match serde_json::from_slice(body) {
        Ok(question) => question,
        Err(wrong) => {
            let shape = format!("the body is {{host?, path, method, headers?}}: {wrong}");
            return Some(error(StatusCode::BAD_REQUEST, &shape));
        }
    };
    let situation = board.situation().borrow().clone();
    let stable = situation.fleets.get(fleet)?.served.stable.clone();
    let Some((revision, snapshot)) = stable.and_then(|stable| Some((stable.revision, stable.snapshot?))) else {
        let nothing = format!("fleet {fleet} has no revision here yet that could be explained");
        return Some(error(StatusCode::SERVICE_UNAVAILABLE, &nothing));
    };
    Some(match question.explained(&snapshot) {
        Ok(explanation) => json(
            StatusCode::OK,
            &json!({"revision": revision.to_string(), "explanation": explanation, "text": explanation.to_string()}),
        ),
        Err(wrong) => error(StatusCode::BAD_REQUEST, &wrong.to_string()),
    })
}
