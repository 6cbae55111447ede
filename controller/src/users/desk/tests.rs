//! Commands on Rollouts, a pipeline that says yes, and who is asked how often.

use super::*;
use crate::rollout::{Beginning, Core, Millis, Plan};
use crate::status::tests::{Bench, GOOD, key};

const EDGE: &str = "Rollout sluice-system/edge";

fn commanded(verb: &str, id: &str) -> String {
    let annotations = format!(
        "annotations: {{sluice.dev/command: {verb}, sluice.dev/command-revision: 1-01010101, sluice.dev/command-by: ada, sluice.dev/command-id: {id}}}"
    );
    GOOD.replace(
        "{name: edge, namespace: sluice-system}",
        &format!("{{name: edge, namespace: sluice-system, {annotations}}}"),
    )
}

/// Lets a desk look at `bench` for a while. What the pipeline was asked, what was answered, and the Events.
async fn look(bench: &Bench, proof: Proof) -> (Vec<Asked>, Option<CommandStatus>, Vec<Note>) {
    let (_situations, situation) = watch::channel(Arc::new(bench.situation()));
    let (pipeline, mut asked) = mpsc::channel::<Asked>(4);
    let (answers, answered) = watch::channel(bench.commands.clone());
    let (notes, mut noted) = mpsc::channel(4);
    let desk = Desk {
        situation,
        watched: Arc::new(bench.watched.clone()),
        pipeline,
        answers,
        notes,
        proof,
        clock: Arc::new(|| Millis(1_795_000_000_000)),
    };
    let stop = CancellationToken::new();
    let working = tokio::spawn(desk.run(stop.clone()));
    let mut all = Vec::new();
    while let Ok(Some(asked)) = tokio::time::timeout(Duration::from_millis(300), asked.recv()).await {
        let core = Core::begin("edge".parse().unwrap(), Plan::built_in(), Beginning::NewFleet);
        let Asked {
            answer,
            fleet,
            wish,
            actor,
            proof,
            reason,
            id,
        } = asked;
        answer.send(Answer::Done(Box::new(core.status(Millis(0))))).unwrap();
        let (answer, _) = oneshot::channel();
        all.push(Asked {
            answer,
            fleet,
            wish,
            actor,
            proof,
            reason,
            id,
        });
    }
    stop.cancel();
    working.await.unwrap();
    let answer = answered.borrow().get(&key(EDGE)).cloned();
    (all, answer, std::iter::from_fn(|| noted.try_recv().ok()).collect())
}

/// A Rollout with this command, and the status that a controller wrote before.
fn bench(text: &str) -> Bench {
    let mut bench = Bench::serving(GOOD);
    bench.write_and_restart();
    bench.write(text, 1);
    bench
}

#[tokio::test(start_paused = true)]
async fn a_command_is_asked_once_and_answered() {
    let mut bench = bench(&commanded("pause", "a"));
    let (asked, answer, _) = look(&bench, Proof::Admission).await;
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (asked[0].actor.as_str(), asked[0].id.as_deref()),
        ("ada", Some("Rollout sluice-system/edge a"))
    );
    let answer = answer.unwrap();
    assert_eq!((answer.id.as_str(), answer.result), ("a", CommandResult::Done));
    // The answer is on its way, or in the status: nobody asks again.
    bench.commands.insert(key(EDGE), answer);
    assert_eq!(look(&bench, Proof::Admission).await.0.len(), 0);
    bench.write_and_restart();
    bench.commands.clear();
    assert_eq!(look(&bench, Proof::Admission).await.0.len(), 0);
    // Another one is another one.
    bench.write(&commanded("resume", "b"), 1);
    assert_eq!(look(&bench, Proof::Admission).await.0.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_vouches_for_is_told_as_such() {
    let (asked, ..) = look(&bench(&commanded("abort", "a")), Proof::Claimed).await;
    assert_eq!(
        (asked[0].actor.as_str(), asked[0].proof),
        ("ada (not proven)", Proof::Claimed)
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_understood_is_refused_without_asking() {
    let (asked, answer, notes) = look(&bench(&commanded("explode", "a")), Proof::Admission).await;
    assert_eq!(asked.len(), 0);
    let answer = answer.unwrap();
    assert_eq!(answer.result, CommandResult::Refused);
    assert!(answer.message.contains("there is no command \"explode\""), "{answer:?}");
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].occasion, Occasion::CommandRefused);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_governs_nothing_takes_no_command() {
    let second = commanded("pause", "a").replace("{name: edge,", "{name: second,");
    let second = second.split("---").next().unwrap();
    let mut bench = bench(&format!("{GOOD}\n---{second}"));
    bench.write_and_restart();
    let (asked, answer, notes) = look(&bench, Proof::Admission).await;
    assert_eq!((asked.len(), answer), (0, None));
    assert!(notes[0].text.contains("Rollout sluice-system/edge does"), "{notes:?}");
}

#[test]
fn before_anything_is_known_of_fleets_nothing_is_said() {
    let mut bench = bench(&commanded("pause", "a"));
    let mut situation = bench.situation();
    assert_eq!(open(&situation, &bench.watched, &BTreeMap::new()).len(), 1);
    situation.fleets.clear();
    assert_eq!(open(&situation, &bench.watched, &BTreeMap::new()), []);
    bench.watched.clear();
    assert_eq!(open(&bench.situation(), &bench.watched, &BTreeMap::new()), []);
}
