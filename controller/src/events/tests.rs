//! Which happenings become which Events, and how many.

use super::series::{Ended, EventWrite, Moment, Series};
use super::{Note, Occasion};
use crate::rollout::Millis;

fn note(object: &str, occasion: Occasion, subject: &str) -> Note {
    let key = object.parse().unwrap();
    Note::new(&key, object, occasion, "text").about(subject)
}

struct Bench {
    series: Series,
    now: u64,
    made: usize,
    written: Vec<(u64, EventWrite)>,
}

impl Bench {
    fn new() -> Self {
        Self {
            series: Series::new(Millis(0)),
            now: 0,
            made: 0,
            written: vec![],
        }
    }

    fn happens(&mut self, object: &str, occasion: Occasion, subject: &str) {
        let at = Moment {
            steady: Millis(self.now),
            wall: Millis(self.now),
        };
        self.series.note(note(object, occasion, subject), at);
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now += 100;
            while let Some(write) = self.series.due(Millis(self.now)) {
                let ended = match &write.name {
                    Some(name) => Ended::Written(name.clone()),
                    None => {
                        self.made += 1;
                        Ended::Written(format!("event-{}", self.made))
                    }
                };
                self.series.ended(&write, ended);
                self.written.push((self.now, write));
            }
        }
    }

    fn counts(&self) -> Vec<u64> {
        self.written.iter().map(|(_, write)| write.count).collect()
    }
}

const SHOP: &str = "ProxyRoute shop/shop";

#[test]
fn the_same_once_more_is_counted_and_not_told_again() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        bench.happens(SHOP, Occasion::Quarantined, "");
        bench.pass(1_000);
    }
    assert_eq!((bench.made, bench.counts()), (1, vec![1]));
    bench.pass(60_000);
    assert_eq!(
        (bench.made, bench.counts()),
        (1, vec![1, 50]),
        "a minute later, together"
    );
    bench.pass(600_000);
    assert_eq!(bench.written.len(), 2, "and nothing while nothing happens");
    bench.happens(SHOP, Occasion::Quarantined, "");
    bench.pass(1_000);
    assert_eq!(
        (bench.made, bench.counts()),
        (2, vec![1, 50, 1]),
        "after some minutes it is news"
    );
}

#[test]
fn another_trouble_of_the_same_object_is_another_event() {
    let mut bench = Bench::new();
    let trouble = |bench: &mut Bench, text: &str| {
        let rollout = "Rollout sluice-system/edge".parse().unwrap();
        let at = Moment {
            steady: Millis(bench.now),
            wall: Millis(bench.now),
        };
        let note = Note::new(&rollout, "uid", Occasion::ControllerTrouble, text);
        bench.series.note(note, at);
        bench.pass(1_000);
    };
    trouble(&mut bench, "its record could not be written for 5s");
    trouble(&mut bench, "its record could not be written for 6s");
    trouble(&mut bench, "the keys are new");
    let texts = bench.written.iter().map(|(_, write)| write.note.text.as_str());
    let expected = ["its record could not be written for 5s", "the keys are new"];
    assert_eq!(texts.collect::<Vec<_>>(), expected);
}

#[test]
fn an_object_that_flaps_all_day_costs_a_write_a_minute() {
    let mut bench = Bench::new();
    for _ in 0..3_600 {
        bench.happens(SHOP, Occasion::Quarantined, "");
        bench.pass(500);
        bench.happens(SHOP, Occasion::Mended, "");
        bench.pass(500);
    }
    assert_eq!(bench.made, 2);
    assert!(bench.written.len() <= 2 * 61, "{}", bench.written.len());
}

#[test]
fn what_differs_is_told_apart_up_to_a_bound() {
    let mut bench = Bench::new();
    for stage in ["canary", "half", "all"] {
        bench.happens("Rollout sluice-system/edge", Occasion::StageReached, stage);
    }
    bench.pass(1_000);
    assert_eq!(bench.made, 3);
    for revision in 0..500 {
        bench.happens("Rollout sluice-system/edge", Occasion::Promoted, &revision.to_string());
        bench.pass(1_000);
    }
    assert!(bench.made <= 25 + 2, "{}", bench.made);
    bench.happens(SHOP, Occasion::RolledBack, "");
    bench.pass(1_000);
    assert_eq!(
        bench.written.last().unwrap().1.note.object.to_string(),
        SHOP,
        "others are not held up"
    );
}

#[test]
fn a_great_many_objects_at_once_are_told_slowly_and_in_order() {
    let mut bench = Bench::new();
    for number in 0..2_000 {
        bench.happens(&format!("ProxyRoute shop/r-{number}"), Occasion::Quarantined, "");
    }
    bench.pass(10_000);
    assert!((90..=110).contains(&bench.made), "{}", bench.made);
    assert_eq!(bench.series.dropped(), 2_000 - 1_024);
    bench.pass(300_000);
    assert_eq!(bench.made, 1_024);
}

#[test]
fn what_fails_is_tried_again_and_given_up() {
    let mut bench = Bench::new();
    bench.happens(SHOP, Occasion::Quarantined, "");
    let mut tries = 0;
    for _ in 0..10_000 {
        bench.now += 100;
        while let Some(write) = bench.series.due(Millis(bench.now)) {
            tries += 1;
            bench.series.ended(&write, Ended::Later);
        }
    }
    assert_eq!(tries, 6);
    // One that somebody removed is made anew.
    let mut bench = Bench::new();
    bench.happens(SHOP, Occasion::Quarantined, "");
    bench.pass(1_000);
    bench.happens(SHOP, Occasion::Quarantined, "");
    bench.now += 70_000;
    let write = bench.series.due(Millis(bench.now)).unwrap();
    assert_eq!(write.name.as_deref(), Some("event-1"));
    bench.series.ended(&write, Ended::Gone);
    let write = bench.series.due(Millis(bench.now + 70_000)).unwrap();
    assert_eq!((write.name, write.count), (None, 2));
}

#[test]
fn names_are_those_of_their_objects_as_far_as_they_fit() {
    let key = format!("ProxyRoute shop/{}", "a".repeat(250)).parse().unwrap();
    let name = super::series::name(&key, "0123456789abcdef");
    assert_eq!(name.len(), 217);
    assert!(name.parse::<sluice_model::Name>().is_ok());
}

#[test]
fn what_a_rollout_is_warned_of_is_told_once_and_when_it_is_over() {
    use crate::status::tests::{Bench as Objects, GOOD};
    let rollout = "Rollout sluice-system/edge";
    let mut warned = vec![];
    let mut told = |objects: &Objects| {
        let mut notes = vec![];
        super::warn(&mut warned, &mut notes, &objects.situation());
        let told = notes
            .iter()
            .map(|note| format!("{} {}", note.occasion.as_str(), note.text));
        told.collect::<Vec<_>>()
    };
    let mut objects = Objects::serving(GOOD);
    assert_eq!(told(&objects), [""; 0]);
    objects.warn(rollout, "spec.members", "no trust in shop");
    objects.warn(rollout, "spec.members", "no trust in blog");
    objects.warn(rollout, "spec.dataPlane.listeners[0].tls", "there is no Secret");
    objects.warn(rollout, "", "the keys are new");
    objects.warn(rollout, "spec.stages", "is odd");
    let expected = [
        "ControllerTrouble no trust in shop; mend it",
        "ControllerTrouble no trust in blog; mend it",
        "ReferenceMissing there is no Secret; mend it",
        "ControllerTrouble the keys are new; mend it",
    ];
    assert_eq!(told(&objects), expected);
    assert_eq!(told(&objects), [""; 0], "it is known");
    let mut mended = Objects::serving(GOOD);
    mended.warn(rollout, "spec.members", "no trust in blog");
    mended.warn(rollout, "", "instances of an earlier release ask");
    let expected = [
        "ControllerTrouble instances of an earlier release ask; mend it",
        "ControllerMended no more: no trust in shop; mend it",
        "ReferenceFound no more: there is no Secret; mend it",
        "ControllerMended no more: the keys are new; mend it",
    ];
    assert_eq!(told(&mended), expected);
}
